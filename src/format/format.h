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
 *   0                label: fixed when the pool is created
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
	FMT_VERSION = 1,

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

struct fmt_label {
	struct fmt_head head;
	le64 features; /* bits; an unknown one is refused */
	le64 device_blocks;
	le64 area_blocks;
	le64 metaslab_base; /* block number of metaslab 0 */
	le32 metaslab_blocks;
	le32 metaslab_count;
	le32 partition_slots;
	le32 map_pages;
	le32 engine_pages;
	le32 history_pages;
	le64 created_s; /* seconds since 1970 */
	le32 vdev_count; /* 1 */
	uint8_t zero[4096 - 32 - 72 + 4];
};
static_assert(sizeof(struct fmt_label) == BLOCK_SIZE, "label");

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
	le64 history_next; /* how many entries the decision log ever got; entry n lies in ring place n % capacity */
	le32 tune_mode;    /* enum lcpfs_engine_mode */
	le32 open;         /* 1 while a process has the pool open for writing: rewritten in place, see docs/format.md */
	le64 scrub_s;        /* when the last scrub ended, 0: never */
	le64 scrub_found;  /* places that it found damaged */
	le64 scrub_repaired; /* of these */
	le64 read_errors;    /* users' reads that failed since */
	uint8_t zero[2048 - 32 - 72];
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
	uint8_t zero[4096 - 64 - 64 - 32 - 28];
};
static_assert(sizeof(struct fmt_partition) == BLOCK_SIZE, "partition");

enum { BLOB_BYTES = 4096 - 64 };

struct fmt_blob { /* FMT_ENGINE: head.count bytes in use of this page */
	struct fmt_pool_page page;
	uint8_t bytes[BLOB_BYTES];
};
static_assert(sizeof(struct fmt_blob) == BLOCK_SIZE, "blob");

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

struct fmt_history {
	struct fmt_pool_page page;
	struct fmt_history_entry entry[HISTORY_ENTRIES];
};
static_assert(sizeof(struct fmt_history) == BLOCK_SIZE, "history");

/* --- a partition's store --- */

/* Where a tree page lies: twice, with its checksum. place 0: no such page, all its entries are zero. */
struct fmt_pointer {
	le64 place[2];
	le64 checksum; /* the page's head.checksum */
};

enum { PAGE_SLOTS = 168 };

enum fmt_tree { TREE_TABLE = 1, TREE_VOLUME, TREE_SPACE };

/* Block table, one per block id. All zero: the id is free. */
struct fmt_block {
	le64 place;    /* 512-byte sector on the device */
	le64 checksum; /* hash64 of the stored bytes */
	le32 references;
	le16 length;   /* stored sectors; 8 */
	uint8_t compression; /* 0 */
	uint8_t flags; /* 0 */
};

enum { VOLUME_SLOTS = 504 }; /* ids per leaf of the volume tree; an entry is id + 1, 0 = hole */

struct fmt_space { /* one per metaslab that is not empty */
	le32 metaslab;
	le32 live;     /* blocks; those of the space tree itself are not counted */
	le64 age;      /* sequence number of the youngest record in it */
	le64 zero;
};

static_assert(sizeof(struct fmt_pointer) == 24 && sizeof(struct fmt_block) == 24 && sizeof(struct fmt_space) == 24,
	      "tree slots");

struct fmt_page {
	struct fmt_head head;
	le64 generation; /* of the checkpoint that wrote it */
	uint8_t tree;    /* enum fmt_tree */
	uint8_t level;   /* 0 = leaf */
	uint8_t zero[6];
	le64 index;      /* among the pages of its level */
	le64 zero1;
	union {
		struct fmt_pointer child[PAGE_SLOTS]; /* level > 0 */
		struct fmt_block block[PAGE_SLOTS];   /* TREE_TABLE leaf */
		le64 id[VOLUME_SLOTS];                /* TREE_VOLUME leaf */
		struct fmt_space space[PAGE_SLOTS];   /* TREE_SPACE leaf */
		uint8_t bytes[4032];
	};
};
static_assert(sizeof(struct fmt_page) == BLOCK_SIZE, "page");

/*
 * Log record: header, the same header again, then `blocks` blocks. Entries stand in the order in which things
 * happened; those of a kind that has a block describe the blocks in the order in which they lie.
 */
enum fmt_entry_kind {
	ENTRY_WRITE = 1, /* address now refers to id, id lies in this block */
	ENTRY_MOVE,      /* id lies in this block; who refers to it is unchanged */
	ENTRY_PAGE,      /* a tree page of a checkpoint; roll-forward skips it */
	ENTRY_TRIM,      /* addresses [address, address + id) refer to nothing; no block */
	ENTRY_LOST,      /* a MOVE of a block that fails its checksum already: carried along so that reads go on failing */
};

enum { RECORD_ENTRIES = 167, RECORD_HEADERS = 2 };

struct fmt_entry {
	le64 address;  /* kind << 56 | volume << 40 | block address; for a PAGE: kind << 56 | tree << 8 | level */
	le64 id;       /* block id; for a TRIM: length in blocks; for a PAGE: index */
	le64 checksum; /* of the block */
};

struct fmt_record {
	struct fmt_head head;
	le64 seq;      /* counts by one over all heads of the partition */
	le64 previous; /* checksum of record seq - 1's header: the chain */
	le64 durable;  /* every record up to this one was flushed when this header was made */
	le64 place;    /* this record's first header's block number */
	le32 next;     /* the metaslab where this head goes on; NO_METASLAB: right behind this record */
	le16 blocks;
	uint8_t log_head;
	uint8_t zero;
	le64 epoch;    /* of the opening that wrote it */
	struct fmt_entry entry[RECORD_ENTRIES];
	uint8_t zero1[8];
};
static_assert(sizeof(struct fmt_record) == BLOCK_SIZE, "record");

struct fmt_position {
	le32 metaslab; /* NO_METASLAB: this head is not in use */
	le32 offset;   /* blocks from the metaslab's start */
};

struct fmt_tree_root {
	struct fmt_pointer top;
	le32 levels; /* 0: empty tree; 1: top is a leaf */
	le32 zero;
};

struct fmt_root {
	struct fmt_head head;
	le64 generation;
	le64 epoch;
	le64 seq;   /* records up to this one are in the trees */
	le64 chain; /* checksum of that record's header */
	struct fmt_position position[LOG_HEADS]; /* where record seq + 1 may lie */
	struct fmt_tree_root table;
	struct fmt_tree_root volume;
	struct fmt_tree_root space;
	le64 volume_blocks;
	le64 id_end;        /* ids at or above were never used */
	le64 data_blocks;   /* live data blocks = ids in use */
	le64 page_count;    /* tree pages, space tree left out; each lies there twice */
	le64 durable;       /* records up to this one were flushed before this root was written */
	le64 counter[16];   /* lifetime totals, see store_counters */
	uint8_t zero[4096 - 32 - 32 - 24 - 96 - 40 - 128];
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

static inline struct fmt_entry fmt_entry_of(enum fmt_entry_kind kind, uint64_t address, uint64_t id, uint64_t checksum)
{
	return (struct fmt_entry){le64_of((uint64_t)kind << 56 | address), le64_of(id), le64_of(checksum)};
}

static inline unsigned fmt_entry_kind(const struct fmt_entry *e) { return (unsigned)(le64_get(e->address) >> 56); }
static inline uint64_t fmt_entry_address(const struct fmt_entry *e) { return le64_get(e->address) & 0xffffffffff; }

#endif
