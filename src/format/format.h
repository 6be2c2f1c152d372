/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The on-disk structs of lcpfs, all of them. docs/format.md describes the same bytes in words.
 *
 * Everything is made of 4 KiB blocks, addressed by block number from the start of the device. Fields are
 * little-endian. Every structure is one whole block that starts with struct fmt_head: magic, version, kind, pool
 * guid and a checksum over the block. Nothing here does I/O or allocates.
 *
 *   | front area | metaslab 0 | metaslab 1 | ... | back area |
 *
 * The two areas hold the same blocks (copy 0 and copy 1):
 *   0                label: fixed when the pool is created, or has grown
 *   1                lease: who serves the pool at this moment
 *   2 .. 9           uberblock ring, slot = txg % 8
 *   10 ..            pool pages, two slots each (page p: slots 10 + 2p and 11 + 2p); the uberblock says
 *                    which is current
 *   .. end           partition roots, two slots per partition slot, the valid one with the
 *                    higher generation is current
 *
 * Inside metaslabs everything belongs to a log record: two copies of a record header, then the blocks it
 * describes.
 */
#ifndef FORMAT_FORMAT_H
#define FORMAT_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/le.h"
#include "base/text.h"

enum {
	BLOCK_SIZE = 4096,
	BLOCK_SHIFT = 12,
	BLOCK_SECTORS = 8, /* 512-byte sectors in a block */
	FMT_MAGIC = 0x7366706c, /* "lpfs" */
	FMT_VERSION = 2,

	AREA_LABEL = 0,
	AREA_LEASE = 1,
	AREA_UBERBLOCKS = 2,
	UBERBLOCK_SLOTS = 8,
	AREA_PAGES = AREA_UBERBLOCKS + UBERBLOCK_SLOTS,
	AREA_ALIGN_BLOCKS = 256, /* areas are whole MiB */

	METASLAB_BLOCKS_MIN = 256,    /* 1 MiB */
	METASLAB_BLOCKS_MAX = 16384,  /* 64 MiB */
	METASLABS_MAX = 1 << 20,
	PARTITION_NAME_MAX = 63,
	POOL_PAGES_MAX = 16384, /* bits in the uberblock's slot map */
	NO_METASLAB = 0xffffffff,
	NO_PARTITION = 0, /* partition ids start at 1 and are never reused */
	LOG_HEADS = 3,
};

enum fmt_kind {
	FMT_LABEL = 1,
	FMT_LEASE,
	FMT_UBERBLOCK,
	FMT_MAP,       /* pool page: owners of metaslabs */
	FMT_PARTITION, /* pool page: one partition */
	FMT_ENGINE,    /* pool page: a part of the engine's saved state */
	FMT_HISTORY,   /* pool page: a part of the decision log */
	FMT_ROOT,      /* a partition's root */
	FMT_RECORD,    /* a log record's header */
	FMT_PAGE,      /* a page of a partition's trees */
	FMT_SNAPSHOTS, /* a block of a partition's list of snapshots */
	FMT_KIND_END
};

struct fmt_head {
	le32 magic;
	le16 version;
	le16 kind;
	le64 guid;
	le32 partition; /* 0 where it belongs to the pool */
	le32 count;     /* entries in use, where the kind has entries */
	le64 checksum;  /* hash64 of the block with this field zero */
};
static_assert(sizeof(struct fmt_head) == 32, "head");

/* --- pool level --- */

/* What a reader does about a bit that it does not know: refuse; read only; ignore, and keep what it stands for. */
struct fmt_features {
	le64 incompatible, read_only, compatible;
};
static_assert(sizeof(struct fmt_features) == 24, "features");

struct fmt_device { /* all zero: there is none */
	le64 guid;
	le64 blocks;
	le32 metaslab_first, metaslab_count;
	le64 zero;
};
static_assert(sizeof(struct fmt_device) == 32, "device");

/* Whoever looks for partition tables finds one, with the whole device in one partition of a foreign kind. */
struct fmt_mbr_partition {
	uint8_t status, first_chs[3], kind, last_chs[3];
	le32 first_sector, sectors;
};
static_assert(sizeof(struct fmt_mbr_partition) == 16, "partition of a partition table");

enum { MBR_OFFSET = 446, MBR_KIND_PROTECTIVE = 0xee, LABEL_DEVICES = 64 };

/* All that growing changes lies in the first sector, so that no crash can tear it. */
struct fmt_label {
	struct fmt_head head;
	struct fmt_features features;
	le64 device_blocks;
	le64 area_blocks;
	le64 metaslab_base; /* block number of metaslab 0 */
	le32 metaslab_blocks;
	le32 metaslab_count;
	le32 partition_slots;
	le32 map_pages; /* as many as the pool can ever have metaslabs for */
	le32 engine_pages;
	le32 history_pages;
	le64 created_s; /* seconds since 1970 */
	le64 device_guid;
	le32 device_index; /* 0 */
	le32 device_count; /* 1 */
	le32 metaslab_first; /* 0; the number of the device's first one */
	uint8_t zero[MBR_OFFSET - 132];
	struct fmt_mbr_partition mbr[4];
	uint8_t mbr_magic[2]; /* 55 aa */
	struct fmt_device device[LABEL_DEVICES]; /* the other ones, by index */
	uint8_t zero1[4096 - 512 - 32 * LABEL_DEVICES];
};
static_assert(sizeof(struct fmt_label) == BLOCK_SIZE && offsetof(struct fmt_label, mbr) == MBR_OFFSET &&
		      offsetof(struct fmt_label, device) == 512,
	      "label");

struct fmt_lease {
	struct fmt_head head;
	le64 pid; /* 0: not served */
	uint8_t control_path[1024]; /* the control socket, absolute, NUL-terminated */
	uint8_t nbd_path[1024];     /* the NBD socket or "host:port" */
	/* The claim of whoever has the pool open for writing; see pool/claim.h. */
	uint8_t owner[16]; /* random, of this opening; all zero: nobody */
	le64 count;        /* goes up with every renewal */
	le32 renew_ms;     /* how often it is renewed */
	le32 is_local;     /* 1: by a file that no other machine reaches, under its lock */
	uint8_t boot[16];  /* the machine's boot id */
	le64 pid_namespace, process,
		start;              /* who: its pid there, and when it was started, in ticks since the boot */
	le64 device, inode, offset; /* of the file at the bottom; a block device's number and inode 0 */
	uint8_t host[64];           /* the machine's name, NUL-terminated */
	uint8_t zero[4096 - 32 - 8 - 2048 - 160];
};
static_assert(sizeof(struct fmt_lease) == BLOCK_SIZE, "lease");

struct fmt_uberblock {
	struct fmt_head head;
	le64 txg;
	le64 time_s;
	le32 partition_next; /* the id that the next partition gets */
	le32 page_count;
	le64 history_next; /* entries that the decision log ever got; entry n lies in ring place n % capacity */
	le32 tune_mode;    /* enum lcpfs_engine_mode */
	le32 open;         /* 1 while a process has the pool open for writing; changed in place (docs/format.md) */
	le64 scrub_s;        /* when the last scrub ended, 0: never */
	le64 scrub_found;  /* places that it found damaged */
	le64 scrub_repaired; /* of these */
	le64 read_errors;    /* users' reads that failed since */
	/* What a server goes by that was told nothing else; 0: not given. */
	le64 cache_bytes;
	le32 alarm_percent;
	uint8_t zero[2048 - 32 - 84];
	uint8_t slot_map[2048]; /* bit p: which slot of pool page p is current */
};
static_assert(sizeof(struct fmt_uberblock) == BLOCK_SIZE, "uberblock");

struct fmt_pool_page { /* what every pool page starts with */
	struct fmt_head head;
	le64 txg; /* that wrote it */
	le32 page;
	uint8_t zero[20];
};
static_assert(sizeof(struct fmt_pool_page) == 64, "pool page");

enum { MAP_ENTRIES = (4096 - 64) / 4 };

struct fmt_map {
	struct fmt_pool_page page;
	le32 owner[MAP_ENTRIES]; /* partition id, or NO_PARTITION */
};
static_assert(sizeof(struct fmt_map) == BLOCK_SIZE, "map");

/* Bits of features.incompatible in a partition's page. */
enum {
	PARTITION_SNAPSHOTS = 1 << 0, /* it has snapshots, or had some */
	PARTITION_RECEIVING = 1 << 1, /* its volume is being received into: see struct fmt_receive */
	PARTITION_CLONES = 1 << 2,    /* it has clones, or had some */
	PARTITION_BOOKMARKS = 1 << 3, /* it has bookmarks, or had some */
	PARTITION_PROMOTING = 1 << 4, /* a clone is being promoted: see struct fmt_promotion */
	PARTITION_LINES = 1 << 5,     /* a clone of it has snapshots or bookmarks, or had some */
	PARTITION_TURNS = 1 << 6,     /* a clone was promoted past snapshots, so its list may have a `turn` */
	PARTITION_INCOMPATIBLE_KNOWN = PARTITION_SNAPSHOTS | PARTITION_RECEIVING | PARTITION_CLONES |
				       PARTITION_BOOKMARKS | PARTITION_PROMOTING | PARTITION_LINES |
				       PARTITION_TURNS,
};

/* How far a stream has come that is received into the volume; guid 0: none is. */
struct fmt_receive {
	le64 guid, from; /* of the snapshot that it will be, and of the one that it goes on from; from 0: none */
	le64 records;    /* of the stream that are in the volume for certain, */
	le64 check[2];   /* and the checksum of the last one: low, high */
};
static_assert(sizeof(struct fmt_receive) == 40, "receive");

/* A partition and a clone of it exchange their names. It is done if the clone has the partition's. 0: none. */
struct fmt_promotion {
	le32 clone; /* its number */
	le32 zero;
	uint8_t partition[64], name[64]; /* the partition's and the clone's, as they were; NUL-terminated */
};
static_assert(sizeof(struct fmt_promotion) == 136, "promotion");

struct fmt_partition { /* page.head.partition is the id; 0: this partition slot is free */
	struct fmt_pool_page page;
	uint8_t name[64]; /* NUL-terminated */
	le64 min_blocks;
	le64 max_blocks;
	le64 volume_blocks;
	le64 created_s;
	/* What was asked for, before it became whole metaslabs and blocks; 0: an older partition, not known. */
	le64 min_data_blocks;
	le64 max_data_blocks;
	le64 volume_bytes;
	le32 when_full_wait_s; /* how long a writer that finds no room waits for some; 0: not at all */
	/* Snapshots that are taken by themselves: how many hourly, daily, weekly, monthly ones are kept; 0: none.
	 */
	uint8_t keep[4];
	struct fmt_features features;
	struct fmt_receive receive;
	struct fmt_promotion promotion;
	uint8_t zero1[4096 - 64 - 64 - 32 - 32 - 24 - 40 - 136];
};
static_assert(sizeof(struct fmt_partition) == BLOCK_SIZE, "partition");

enum { BLOB_BYTES = 4096 - 64 };

struct fmt_blob { /* FMT_ENGINE: head.count bytes in use of this page */
	struct fmt_pool_page page;
	uint8_t bytes[BLOB_BYTES];
};
static_assert(sizeof(struct fmt_blob) == BLOCK_SIZE, "blob");

/* What a partition did in a span of time. The last four are IEEE floats. */
struct fmt_sample {
	le64 time_s; /* the end of the span, since 1970 */
	le32 span_s;
	le32 partition;
	le32 metaslabs; /* its size at the end */
	le32 live;      /* blocks, at the end */
	le32 epsilon;   /* mean over the span */
	le32 written;   /* blocks, by users */
	le32 device;    /* blocks, of all that was written for it */
};
static_assert(sizeof(struct fmt_sample) == 36, "sample");

enum { SAMPLES = 111 };

struct fmt_samples { /* FMT_ENGINE, where head.count is 0 */
	struct fmt_pool_page page;
	le32 count; /* samples in use; 0: there are none */
	uint8_t zero[32];
	struct fmt_sample sample[SAMPLES];
};
static_assert(sizeof(struct fmt_samples) == BLOCK_SIZE, "samples");

enum { HISTORY_ENTRIES = 8, HISTORY_ENTRY_BYTES = 504 };

struct fmt_history_entry {
	le64 time_s;     /* wall clock; 0: unused entry */
	le64 number;     /* counts from 1, never reused */
	le32 kind;       /* enum lcpfs_event_kind */
	le32 from;       /* partition id or 0 = free space */
	le32 to;
	le32 metaslabs;  /* moved */
	le64 duration_us;
	le64 value[12];  /* IEEE doubles, see docs/format.md */
	uint8_t text[504 - 40 - 96]; /* the reason, UTF-8, NUL-terminated */
};
static_assert(sizeof(struct fmt_history_entry) == HISTORY_ENTRY_BYTES, "history entry");

/*
 * Of an outcome the end of the text is taken by what the engine has learned with it: value and confidence of four
 * thresholds, IEEE doubles. All zero: not known.
 */
enum {
	HISTORY_KIND_OUTCOME = 6,
	HISTORY_LEARNED = 8,
	HISTORY_LEARNED_AT = 504 - 40 - 96 - 8 * HISTORY_LEARNED, /* in `text` */
};

struct fmt_history {
	struct fmt_pool_page page;
	struct fmt_history_entry entry[HISTORY_ENTRIES];
};
static_assert(sizeof(struct fmt_history) == BLOCK_SIZE, "history");

/* --- a partition's store --- */

/*
 * Where something lies: the number of a device (bits 48 to 55) and a 512-byte sector on it (bits 0 to 47). Bits 56
 * to 63 are zero. 0: nowhere (sector 0 is in the front area).
 */
#define FMT_SECTOR_MASK ((UINT64_C(1) << 48) - 1)

/* XXH3-128 of the stored bytes; later an authentication tag in its place. */
struct fmt_check {
	le64 low, high;
};

/* A page of the block table or of the space list: twice, with its checksum. place[0] 0: there is none. */
struct fmt_pointer {
	le64 place[2];
	struct fmt_check check; /* of the whole page */
};

enum fmt_block_kind { BLOCK_FREE = 0, BLOCK_DATA, BLOCK_VOLUME_PAGE, BLOCK_KINDS };

/* Block table, one per block id. All zero: the id is free. */
struct fmt_block {
	le64 place;
	struct fmt_check check;
	le32 birth;      /* the partition's birth when it was written first: see struct fmt_root */
	le16 sectors;    /* stored length; 8 */
	uint8_t kind;    /* enum fmt_block_kind */
	uint8_t zero;    /* compression, when there is some */
};

struct fmt_space { /* one per metaslab that is not empty */
	le32 metaslab;
	le32 live; /* sectors */
	le64 last; /* sequence number of the youngest record in it; bits 56 to 63: enum space_class */
};

enum { TABLE_SLOTS = 126, SPACE_SLOTS = 252 };

static_assert(sizeof(struct fmt_pointer) == 32 && sizeof(struct fmt_block) == 32 && sizeof(struct fmt_space) == 16,
	      "slots");

enum fmt_tree { TREE_TABLE = 1, TREE_SPACE };

struct fmt_page {
	struct fmt_head head;
	le64 generation; /* of the root that it was written for */
	uint8_t tree;    /* enum fmt_tree */
	uint8_t level;   /* 0 = leaf */
	uint8_t zero[6];
	le64 index;      /* among the pages of its level */
	le64 zero1;
	union {
		struct fmt_pointer child[TABLE_SLOTS]; /* level > 0 */
		struct fmt_block block[TABLE_SLOTS];   /* TREE_TABLE leaf */
		struct fmt_space space[SPACE_SLOTS];   /* TREE_SPACE leaf */
		uint8_t bytes[4032];
	};
};
static_assert(sizeof(struct fmt_page) == BLOCK_SIZE, "page");

/*
 * A page of a volume's tree is a block like any other: it has an id, the block table has its place and checksum,
 * cleaning moves it. A slot holds a block id (bits 0 to 47), 0 = nothing there; the other bits are zero. Level 0:
 * of data; above: of the page below. It is kept twice, under an even id and the odd one that follows.
 */
enum { VOLUME_SLOTS = 512, VOLUME_LEVELS_MAX = 5 };
#define FMT_ID_MASK ((UINT64_C(1) << 48) - 1)

struct fmt_volume_page {
	le64 id[VOLUME_SLOTS];
};
static_assert(sizeof(struct fmt_volume_page) == BLOCK_SIZE, "volume page");

/*
 * Log record: header, the same header again, then the blocks that it describes, one behind the other. Entries
 * stand in the order in which things happened, those that have blocks in the order in which these lie.
 *
 * An entry is one or more 8-byte words. The first: kind (bits 0 to 7), count (8 to 15), block id (16 to 63). What
 * follows depends on the kind; entry_words() says how much.
 */
enum fmt_entry_kind {
	/*
	 * `count` ids from `id` on lie here; so many addresses from (word 1) on refer to them now; a check for
	 * each.
	 */
	ENTRY_WRITE = 1,
	/*
	 * `count` ids from `id` on lie here with new content; who refers to them is unchanged; a check for each.
	 */
	ENTRY_OVERWRITE,
	/* `count` ids from `id` on lie here, unchanged. */
	ENTRY_MOVE,
	/* As MOVE, of blocks that fail their checksum already: carried along so that reads go on failing. */
	ENTRY_LOST,
	/*
	 * Addresses from (word 1) on, (word 2) of them, all in one leaf, refer to nothing now; the ids are freed
	 * by entries of their own.
	 */
	ENTRY_TRIM,
	/* `count` ids from `id` on are free; no block. */
	ENTRY_FREE,
	/*
	 * The volume page of (word 1) and level (word 2), kept as `id`, lies here; one check. The odd id is the
	 * second copy.
	 */
	ENTRY_PAGE,
	/*
	 * The volume page of (word 1) and level (word 2) is all zero and not kept any more; `count` is 2: its ids
	 * are free.
	 */
	ENTRY_VANISH,
	/* Head (word 1) goes on at the start of metaslab `id`, or, if that is NO_METASLAB, is not in use. */
	ENTRY_HEAD,
	/* As VANISH, but the ids stay: a snapshot has them. No id. */
	ENTRY_LEAVE,
	/* The volume is, from now on, the tree with the top page `id` (0: none) and so many levels (word 2). */
	ENTRY_VOLUME,
	/* The pair of ids from `id` on, of a page that no volume has any more, is free; `count` is 2. */
	ENTRY_DROP,
	/*
	 * There is a further volume from now on, the tree with the top page `id` (0: none), so many levels (word
	 * 2) and so many blocks (word 3). Levels 0: there is no volume of that number any more.
	 */
	ENTRY_CLONE,
	ENTRY_KIND_END
};

enum { RECORD_HEADERS = 2, RECORD_WORDS = 500, RECORD_BLOCKS_MAX = 254 };

struct fmt_record {
	struct fmt_head head; /* count: words of entries in use */
	le64 seq;      /* counts by one over all heads of the partition */
	le64 previous; /* head.checksum of record seq - 1's header: the chain */
	le64 durable;  /* every record up to this one was flushed when this header was made */
	le64 place;    /* this record's first header's */
	le64 epoch;    /* of the opening that wrote it */
	le64 written;  /* blocks that users have written until then, in all */
	le32 next;     /* the metaslab where this head goes on; NO_METASLAB: right behind this record */
	le32 birth;    /* of the blocks in it that are new */
	le16 blocks;
	uint8_t log_head;
	uint8_t zero[5];
	le64 word[RECORD_WORDS];
};
static_assert(sizeof(struct fmt_record) == BLOCK_SIZE, "record");

struct fmt_position {
	le32 metaslab; /* NO_METASLAB: this head is not in use */
	le32 offset;   /* blocks from the metaslab's start */
};

/* A tree of pages with places. */
struct fmt_tree_root {
	struct fmt_pointer top;
	le32 levels; /* 0: empty; 1: top is a leaf */
	le32 zero;
};

/* One volume of a partition: a tree of volume pages. */
struct fmt_volume {
	le64 root;   /* id of its top page; 0: nothing was written yet */
	le32 levels; /* of its tree; 1: the top page is a leaf */
	le32 birth;  /* when it was made */
	le64 blocks; /* its length */
	le64 origin; /* the volume that it was cloned from; 0: none */
};
static_assert(sizeof(struct fmt_volume) == 32, "volume");

/*
 * A block of the list of snapshots: data of volume 0, kept twice, at the addresses 2 * index and 2 * index + 1. A
 * snapshot has the number birth + 2, so that it tells both.
 */
enum { SNAPSHOT_SLOTS = 31, SNAPSHOT_NAME_MAX = 63, SNAPSHOT_FIRST = 2 };
#define SNAPSHOT_LAST ((UINT32_C(1) << 24) - 1)

enum fmt_snapshot_state {
	SNAPSHOT_NONE,
	SNAPSHOT_ALIVE,
	SNAPSHOT_DYING, /* destroyed; blocks that only it has are being freed */
	SNAPSHOT_LEFT,  /* the same; what a rollback has left behind, or a clone was: no volume goes on from it */
	SNAPSHOT_CLONE, /* no snapshot: a volume that is written; where its tree is stands in the root */
	SNAPSHOT_BOOKMARK, /* what is noted of a snapshot that may be gone; it has no tree */
};

struct fmt_snapshot {
	le32 number; /* of the volume; 0: this slot is free */
	uint8_t state;
	uint8_t held; /* 1: it is not destroyed */
	uint8_t zero[2];
	/*
	 * Its origin: of what is LEFT or a CLONE the snapshot that it began as. Of a snapshot or a bookmark the
	 * clone that it is of; 0: it is of the partition's own volume.
	 */
	struct fmt_volume volume;
	le64 created_s;           /* seconds since 1970 */
	le64 guid;                /* the same wherever the snapshot is received; 0: taken before there were any */
	/*
	 * Of a clone: its line and the head's were exchanged when it was promoted, and what stands in blocks of
	 * the list with a lower turn is to be read as if it were the other line's. 0: never.
	 */
	le64 turn;
	char name[SNAPSHOT_NAME_MAX + 1];
};
static_assert(sizeof(struct fmt_snapshot) == 128, "snapshot");

struct fmt_snapshots {
	struct fmt_head head; /* count: slots in use */
	le64 index;
	le64 turn; /* the last exchange of lines that this block knows */
	uint8_t zero[80];
	struct fmt_snapshot slot[SNAPSHOT_SLOTS];
};
static_assert(sizeof(struct fmt_snapshots) == BLOCK_SIZE, "snapshots");

/*
 * The block table is written region by region. A region is a range of its level-1 pages: all of region r's leaves
 * are on the device as they were after record seq[r]. Roll-forward starts behind the lowest of them, and leaves
 * alone what a region has already.
 */
enum { REGIONS = 32, ROOT_VOLUMES = 2, CLONES_MAX = 32 };

struct fmt_region {
	le64 seq;
	le64 chain; /* checksum of that record's header */
	struct fmt_position position[LOG_HEADS]; /* where record seq + 1 may lie */
};
static_assert(sizeof(struct fmt_region) == 40, "region");

struct fmt_clone {
	le32 number; /* 0: there is none */
	le32 zero;
	struct fmt_volume volume;
};
static_assert(sizeof(struct fmt_clone) == 40, "clone");

struct fmt_root {
	struct fmt_head head;
	le64 generation;
	le64 epoch;       /* records behind epoch_seq have this one */
	le64 epoch_seq;   /* where it began; records up to here have older ones */
	le64 seq;         /* the live counts, id_end and volumes are as after this record */
	le64 durable;     /* records up to this one were flushed before this root was written */
	le64 id_end;      /* ids at or above were never used */
	le64 data_blocks; /* ids in use for data */
	le64 page_blocks; /* ids in use for volume pages */
	le64 table_pages; /* pages of the block table; each lies there twice */
	le64 written;     /* blocks that users have written, in all */
	le32 birth;       /* raised by each snapshot */
	le32 region_shift; /* level-1 page n is in region n >> shift */
	struct fmt_position table_position; /* where the next page of the block table may be written */
	struct fmt_tree_root table;
	struct fmt_tree_root space;
	struct fmt_volume volume[ROOT_VOLUMES]; /* 0: the list of further volumes; 1: the one that is exported */
	le64 counter[24]; /* lifetime totals, see store_counters */
	struct fmt_region region[REGIONS];
	struct fmt_clone clone[CLONES_MAX];
	uint8_t zero[4096 - 32 - 80 - 8 - 8 - 80 - 64 - 192 - 1280 - 1280];
};
static_assert(sizeof(struct fmt_root) == BLOCK_SIZE, "root");

/* --- functions --- */

/* Fills magic, version, kind, guid, partition and count; then the checksum over the block. */
void fmt_seal(void *block, enum fmt_kind kind, uint64_t guid, uint32_t partition, uint32_t count);

enum fmt_verdict {
	FMT_GOOD,
	FMT_BLANK,    /* all zero */
	FMT_FOREIGN,  /* no magic */
	FMT_DAMAGED,  /* checksum */
	FMT_NEWER,    /* good, but of a version that this code does not know */
	FMT_OLDER,    /* good, but of a version that this code does not read any more */
	FMT_OTHER,    /* good, but another kind, pool or partition than asked for */
};

/* guid 0 and partition UINT32_MAX match any. */
enum fmt_verdict fmt_verify(const void *block, enum fmt_kind kind, uint64_t guid, uint32_t partition);
const char *fmt_verdict_text(enum fmt_verdict verdict);
const char *fmt_kind_text(unsigned kind);

/* Any block of any kind, in lines "name: value"; damaged ones too, as far as that is safe. */
void fmt_to_text(const void *block, struct text *out);

static inline uint64_t fmt_checksum_of(const void *block)
{
	return le64_get(((const struct fmt_head *)block)->checksum);
}

/* -- entries of log records -- */

/* One entry, decoded. Checks are left where they stand. */
struct entry {
	enum fmt_entry_kind kind;
	unsigned count; /* ids; for a TRIM and a HEAD 0 */
	unsigned blocks; /* that belong to it in the record */
	uint64_t id;
	uint32_t volume;
	uint64_t address;  /* WRITE, TRIM: of a block; PAGE, VANISH, LEAVE: index in its level; HEAD: which */
	uint64_t length;   /* TRIM, CLONE: blocks */
	unsigned level;    /* PAGE, VANISH, LEAVE; VOLUME, CLONE: levels */
	const le64 *check; /* two words for each block; NULL: it has none */
};

/*
 * The entry at word *at, which is moved on. False: there is none, or it makes no sense (*at is then not `words`).
 */
bool fmt_entry_next(const struct fmt_record *record, unsigned *at, struct entry *entry);
unsigned fmt_entry_words(enum fmt_entry_kind kind, unsigned count);
/*
 * Writes entry->kind, count, id, volume, address, length, level; the checks are left to the caller: where they go.
 */
le64 *fmt_entry_put(struct fmt_record *record, unsigned at, const struct entry *entry);

/* What 128 bits say of a whole block; do they fit what it holds? */
struct fmt_check fmt_check_of(const void *block);
bool fmt_check_fits(const struct fmt_check *check, const void *block);
static inline bool fmt_check_same(const struct fmt_check *a, const struct fmt_check *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}

#endif
