/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The claim: one pool has one writer, whatever names or machines lead to it.
 *
 * Locks of files and devices end at the machine, and at a name that they do not know (device mapper, FUSE, NFS).
 * So whoever opens a pool for writing also writes a claim into it, and goes on renewing it; who comes second reads
 * it, past all caches. docs/design.md argues why it holds, and says what it cannot promise.
 *
 *  1. A claim is taken only if nobody has one, if its owner is known to be gone, or if it was not renewed for
 *     CLAIM_TAKE_PERIODS of its periods. After writing one's own one waits and looks whether it is still there.
 *  2. The owner writes to the device only while its last renewal is younger than CLAIM_TRUST_PERIODS, by a clock
 * that goes on while the machine sleeps. Else it first looks, renews and waits.
 *  3. A flush is acknowledged only if the claim is still there after the device was flushed. Where only this
 *     machine reaches the file, that is read through the system's cache: there, everybody's writes are seen.
 *  4. An owner that finds another claim in its place writes nothing any more, and never gets it back.
 *
 * Thread-safe. Lock: `lock` guards the block and is held while it is read and written.
 */
#ifndef POOL_CLAIM_H
#define POOL_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include <lcpfs/pool.h>

#include "pool/layout.h"
#include "vdev/vdev.h"

enum {
	CLAIM_PERIOD_MS = 2000,
	CLAIM_TRUST_PERIODS = 2,
	CLAIM_TAKE_PERIODS = 5,
	CLAIM_SETTLE_MS = 500,      /* after taking one over by time: longer than a write of 4 KiB takes */
	CLAIM_SETTLE_FREE_MS = 200, /* after taking a free one where others than this machine may do the same */
};

enum claim_life { CLAIM_GONE, CLAIM_STOPPED, CLAIM_ALIVE, CLAIM_UNKNOWN };

/* Who claims, and how it tells time and others: the real one, or a test's. */
struct claim_world {
	uint8_t boot[16];
	uint64_t pid_namespace, process, start;
	char host[64];
	uint64_t (*now_us)(void *context); /* goes on while the machine sleeps */
	void (*sleep_us)(void *context, uint64_t us);
	/* Of a process of this boot and pid namespace. */
	enum claim_life (*life_of)(void *context, uint64_t process, uint64_t start);
	void (*random)(void *context, uint8_t bytes[16]);
	void *context;
};

void claim_world_system(struct claim_world *world);

struct claim;

/* Called where waiting is needed to tell whether an owner is alive: with who it is, and for how long at most. */
typedef void claim_waiting(void *context, const char *owner, unsigned seconds);

struct claim_options {
	const struct claim_world *world;
	const struct vdev_place *place;
	claim_waiting *waiting; /* may be NULL */
	void *context;
};

/* 0: nobody has it now. BUSY: somebody has. Writes nothing. */
int claim_look(struct vdev *vdev, const struct layout *layout, const struct claim_options *options,
	       struct lcpfs_failure *failure) MUST_CHECK;
/* Claims it. `vdev` and `layout` must outlive the claim. BUSY: somebody has it, or was faster. */
int claim_take(struct vdev *vdev, const struct layout *layout, const struct claim_options *options,
	       struct claim **claim, struct lcpfs_failure *failure) MUST_CHECK;
/* Gives it up, as the last thing that is written, and frees it; NULL is allowed. */
void claim_release(struct claim *claim);
void claim_abandon(struct claim *claim); /* frees it and writes nothing, as a crash */

/* Before writing anything: 0, or TAKEN_OVER. Cheap as long as the last renewal is young. */
int claim_may_write(struct claim *claim) MUST_CHECK;
/* After the device was flushed, before anybody is told. 0, TAKEN_OVER, or why it could not be looked at. */
int claim_confirm(struct claim *claim) MUST_CHECK;
/* Every CLAIM_PERIOD_MS. 0, TAKEN_OVER, or why it could not be renewed. */
int claim_renew(struct claim *claim) MUST_CHECK;
bool claim_is_lost(const struct claim *claim);

/* Says in it who serves the pool, both copies; pid 0: nobody. */
int claim_set_server(struct claim *claim, uint64_t pid, const char *control_path, const char *nbd_path) MUST_CHECK;
/* Both copies anew as they should be. */
int claim_rewrite(struct claim *claim) MUST_CHECK;
void claim_copy(struct claim *claim, struct fmt_lease *lease); /* as it was written last */
/* For who looks at the copies meanwhile. */
void claim_lock(struct claim *claim);
void claim_unlock(struct claim *claim);

#endif
