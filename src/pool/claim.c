/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/claim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/error.h"

enum {
	LATE_US = (CLAIM_TAKE_PERIODS - 1) * CLAIM_PERIOD_MS *
		  1000, /* since a renewal began: nobody has taken it yet */
	QUICK_US = CLAIM_SETTLE_MS * 1000 / 2,
};
enum { MS = 1000, LOOKS_PER_PERIOD = 8, SLOW_TRIES = 10, PERIOD_MS_LEAST = 500, PERIOD_MS_MOST = 10000 };

struct claim {
	_Alignas(BLOCK_SIZE) struct fmt_lease ours; /* under lock */
	struct vdev *vdev;
	const struct layout *layout;
	struct claim_world world;
	pthread_mutex_t lock;
	atomic_uint_fast64_t renewed_us; /* when the last renewal that succeeded began */
	bool is_local;                   /* one file of this machine, by whatever names */
	atomic_bool is_lost;
};

struct look { /* at both copies */
	_Alignas(BLOCK_SIZE) struct fmt_lease copy[COPIES];
	bool good[COPIES];
	bool unread;                   /* the device gave back neither */
	bool damaged;                  /* neither is whole, and not for having never been written */
	const struct fmt_lease *newer; /* NULL: none is whole */
};

static bool has_owner(const struct fmt_lease *lease)
{
	static const uint8_t nobody[sizeof(lease->owner)];
	return memcmp(lease->owner, nobody, sizeof(nobody)) != 0;
}

static bool same_owner(const struct fmt_lease *a, const struct fmt_lease *b)
{
	return memcmp(a->owner, b->owner, sizeof(a->owner)) == 0;
}

/* -- reading and writing -- */

static uint64_t copy_offset(const struct layout *layout, unsigned copy)
{
	return layout_area_block(layout, copy, AREA_LEASE) * BLOCK_SIZE;
}

/* The first copy is written first, so it is the newer one unless both are of one owner. */
static const struct fmt_lease *newer_of(const struct look *look)
{
	const struct fmt_lease *a = look->copy, *b = look->copy + 1;
	if (look->good[0] && look->good[1] && same_owner(a, b) && le64_get(b->count) > le64_get(a->count))
		return b;
	return look->good[0] ? a : look->good[1] ? b : NULL;
}

static void look_at(struct vdev *vdev, const struct layout *layout, struct look *look)
{
	look->unread = true;
	look->damaged = true;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		struct fmt_lease *lease = &look->copy[copy];
		bool failed = vdev_read_direct(vdev, copy_offset(layout, copy), lease, sizeof(*lease)) != 0;
		if (failed)
			memset(lease, 0xff, sizeof(*lease)); /* neither whole nor blank */
		enum fmt_verdict verdict = fmt_verify(lease, FMT_LEASE, layout->guid, 0);
		look->good[copy] = verdict == FMT_GOOD && memchr(lease->host, 0, sizeof(lease->host)) &&
				   memchr(lease->control_path, 0, sizeof(lease->control_path)) &&
				   memchr(lease->nbd_path, 0, sizeof(lease->nbd_path));
		look->unread &= failed;
		look->damaged &= verdict != FMT_BLANK && !look->good[copy];
	}
	look->newer = newer_of(look);
}

static int write_copy(struct claim *claim, unsigned copy)
{
	return vdev_write_direct(claim->vdev, copy_offset(claim->layout, copy), &claim->ours, sizeof(claim->ours));
}

/* With the lock. As the first copy, which is durable before the second is written, so that a crash leaves one
 * whole. */
static int write_second(struct claim *claim)
{
	int error = vdev_flush(claim->vdev);
	if (!error)
		error = write_copy(claim, 1);
	return error ? error : vdev_flush(claim->vdev);
}

/* -- others -- */

/* "process 123 on host". */
static void owner_text(const struct fmt_lease *lease, char *text, size_t room)
{
	snprintf(text, room, "process %llu on %.63s", (unsigned long long)le64_get(lease->process),
		 lease->host[0] ? (const char *)lease->host : "a machine without a name");
}

static bool same_place(const struct fmt_lease *lease, const struct vdev_place *place)
{
	return le64_get(lease->device) == place->device && le64_get(lease->inode) == place->inode &&
	       le64_get(lease->offset) == place->offset;
}

/*
 * Is the owner of a claim that is found alive, by what can be known at once? Who asks holds the locks of the way
 * that it came.
 */
static enum claim_life life_of(const struct fmt_lease *lease, const struct claim_options *options)
{
	const struct claim_world *world = options->world;
	/* Only this machine reaches these bytes, and under the lock that we have: it wrote them elsewhere, or is
	 * gone. */
	if (options->place->is_ours_alone && le32_get(lease->is_local) == 1)
		return CLAIM_GONE;
	if (memcmp(lease->boot, world->boot, sizeof(world->boot)) != 0)
		return CLAIM_UNKNOWN;
	if (same_place(lease, options->place))
		return CLAIM_GONE;
	if (le64_get(lease->pid_namespace) != world->pid_namespace)
		return CLAIM_UNKNOWN;
	return world->life_of(world->context, le64_get(lease->process), le64_get(lease->start));
}

static unsigned period_ms_of(const struct fmt_lease *lease)
{
	uint32_t ms = lease ? le32_get(lease->renew_ms) : CLAIM_PERIOD_MS;
	return ms < PERIOD_MS_LEAST ? PERIOD_MS_LEAST : MIN_OF(ms, (uint32_t)PERIOD_MS_MOST);
}

static int busy(const struct vdev *vdev, const struct fmt_lease *lease, const char *why,
		struct lcpfs_failure *failure)
{
	char owner[160] = "somebody";
	if (lease)
		owner_text(lease, owner, sizeof(owner));
	return failure_set(failure, LCPFS_E_BUSY, "%s is in use by %s%s%.108s, %s; stop it there first",
			   vdev->name, owner, lease && lease->nbd_path[0] ? ", served at " : "",
			   lease ? (const char *)lease->nbd_path : "", why);
}

static bool has_moved(const struct look *before, const struct look *now)
{
	return memcmp(before->copy, now->copy, sizeof(now->copy)) != 0;
}

/* Looks on for as long as the owner may take to renew it. 0: it did not. */
static int watch(struct vdev *vdev, const struct layout *layout, const struct claim_options *options,
		 const struct look *first, struct look *now, struct lcpfs_failure *failure)
{
	const struct claim_world *world = options->world;
	unsigned period_ms = period_ms_of(first->newer);
	char owner[160] = "somebody";
	if (first->newer)
		owner_text(first->newer, owner, sizeof(owner));
	if (options->waiting)
		options->waiting(options->context, owner, CLAIM_TAKE_PERIODS * period_ms / 1000);
	for (unsigned i = 0; i < CLAIM_TAKE_PERIODS * LOOKS_PER_PERIOD; i++) {
		world->sleep_us(world->context, period_ms * (uint64_t)MS / LOOKS_PER_PERIOD);
		look_at(vdev, layout, now);
		if (has_moved(first, now) && now->newer && has_owner(now->newer))
			return busy(vdev, now->newer, "which renews its claim", failure);
		if (now->newer && !has_owner(now->newer))
			return 0; /* given up meanwhile */
	}
	if (!has_moved(first, now))
		return 0;
	return busy(vdev, NULL, "who writes where its claim lies", failure);
}

/*
 * 0: free, or its owner is gone. looks[0] is then what was seen last; *waited says whether that took waiting.
 * `looks`: room for two.
 */
static int look_for_owner(struct vdev *vdev, const struct layout *layout, const struct claim_options *options,
			  struct look *looks, bool *waited, struct lcpfs_failure *failure)
{
	look_at(vdev, layout, &looks[0]);
	const struct fmt_lease *lease = looks[0].newer;
	bool claimed = lease && has_owner(lease);
	enum claim_life life = claimed ? life_of(lease, options) : CLAIM_UNKNOWN;
	*waited = claimed ? life != CLAIM_GONE : looks[0].damaged && !options->place->is_ours_alone;
	if (looks[0].unread)
		return failure_set(failure, LCPFS_E_IO, "%s: both copies of the lease cannot be read", vdev->name);
	if (!*waited)
		return 0;
	int error = watch(vdev, layout, options, &looks[0], &looks[1], failure);
	if (error)
		return error;
	/* Standing still it cannot renew. Were it running, it renews something else: this is a copy of that. */
	if (life == CLAIM_STOPPED && looks[1].newer && has_owner(looks[1].newer))
		return busy(vdev, lease, "which stands still (stopped, or waiting for a device)", failure);
	looks[0] = looks[1];
	looks[0].newer = newer_of(&looks[0]);
	return 0;
}

static struct look *looks_new(const struct vdev *vdev, struct lcpfs_failure *failure)
{
	struct look *looks = aligned_alloc(BLOCK_SIZE, 2 * sizeof(*looks));
	if (!looks)
		failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", vdev->name);
	return looks;
}

int claim_look(struct vdev *vdev, const struct layout *layout, const struct claim_options *options,
	       struct lcpfs_failure *failure)
{
	bool waited;
	struct look *looks = looks_new(vdev, failure);
	int error = looks ? look_for_owner(vdev, layout, options, looks, &waited, failure) : -LCPFS_E_NOMEM;
	free(looks);
	return error;
}

/* -- our own -- */

static void lose(struct claim *claim)
{
	atomic_store(&claim->is_lost, true);
}

typedef int read_function(struct vdev *vdev, uint64_t offset, void *buffer, size_t length);

/*
 * With the lock. Is it still there? What cannot be read is no proof of the contrary: then the age of the last
 * renewal decides.
 */
static int look_at_ours(struct claim *claim, read_function *read)
{
	_Alignas(BLOCK_SIZE) struct fmt_lease found;
	bool answered = false;
	int error = 0;
	if (claim_is_lost(claim))
		return -LCPFS_E_TAKEN_OVER;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		int failed = read(claim->vdev, copy_offset(claim->layout, copy), &found, sizeof(found));
		error = failed ? failed : error;
		if (failed)
			continue;
		answered = true;
		if (fmt_verify(&found, FMT_LEASE, claim->layout->guid, 0) != FMT_GOOD)
			continue; /* rot: the other copy tells */
		if (same_owner(&found, &claim->ours))
			return 0;
		break; /* somebody else's, in the copy that is written first */
	}
	if (!answered)
		return error;
	lose(claim);
	return -LCPFS_E_TAKEN_OVER;
}

static int look_again(struct claim *claim)
{
	return look_at_ours(claim, vdev_read_direct);
}

static uint64_t now_us(const struct claim *claim)
{
	return claim->world.now_us(claim->world.context);
}

static bool is_trusted(const struct claim *claim)
{
	uint64_t age_us = now_us(claim) - atomic_load(&claim->renewed_us);
	return age_us < CLAIM_TRUST_PERIODS * CLAIM_PERIOD_MS * (uint64_t)MS;
}

/* One bad block is no reason to stop. */
static int write_renewal(struct claim *claim)
{
	claim->ours.count = le64_of(le64_get(claim->ours.count) + 1);
	fmt_seal(&claim->ours, FMT_LEASE, claim->layout->guid, 0, 0);
	int error = write_copy(claim, 0);
	return error ? write_copy(claim, 1) : 0;
}

/*
 * With the lock. Look, then write: in between somebody who watched for long enough may have claimed it, and what
 * is written goes over that. In good time nobody can have. Else it has to be quick, so that the other sees it
 * while he settles, and we look once more for what he may have written after us. Standing still between look and
 * write we look again; in the write itself nobody can tell, and it counts as lost.
 */
static int renew_locked(struct claim *claim)
{
	uint64_t last_us = atomic_load(&claim->renewed_us), began_us;
	bool is_late;
	int error;
	do {
		began_us = now_us(claim);
		error = look_again(claim);
		is_late = now_us(claim) - last_us >= LATE_US;
	} while (!error && is_late && now_us(claim) - began_us >= QUICK_US);
	if (!error)
		error = write_renewal(claim);
	if (error)
		return error;
	is_late = now_us(claim) - last_us >= LATE_US;
	if (is_late && now_us(claim) - began_us >= CLAIM_SETTLE_MS * (uint64_t)MS) {
		lose(claim);
		return -LCPFS_E_TAKEN_OVER;
	}
	if (is_late) {
		claim->world.sleep_us(claim->world.context, CLAIM_SETTLE_MS * MS);
		error = look_again(claim);
	}
	if (!error)
		atomic_store(&claim->renewed_us, began_us);
	return error;
}

int claim_renew(struct claim *claim)
{
	pthread_mutex_lock(&claim->lock);
	int error = renew_locked(claim);
	pthread_mutex_unlock(&claim->lock);
	return error;
}

int claim_may_write(struct claim *claim)
{
	if (claim_is_lost(claim))
		return -LCPFS_E_TAKEN_OVER;
	if (is_trusted(claim))
		return 0;
	int error = 0;
	pthread_mutex_lock(&claim->lock);
	while (!error && !is_trusted(claim)) /* again, where renewing it took too long */
		error = renew_locked(claim);
	pthread_mutex_unlock(&claim->lock);
	return error;
}

/* A flush is not made to wait for the device again where the system's cache shows what all others wrote. */
int claim_confirm(struct claim *claim)
{
	pthread_mutex_lock(&claim->lock);
	int error = look_at_ours(claim, claim->is_local ? vdev_read : vdev_read_direct);
	if (error && error != -LCPFS_E_TAKEN_OVER && is_trusted(claim))
		error = 0;
	pthread_mutex_unlock(&claim->lock);
	return error;
}

bool claim_is_lost(const struct claim *claim)
{
	return atomic_load(&claim->is_lost);
}

int claim_rewrite(struct claim *claim)
{
	pthread_mutex_lock(&claim->lock);
	int error = renew_locked(claim);
	if (!error)
		error = write_second(claim);
	pthread_mutex_unlock(&claim->lock);
	return error;
}

int claim_set_server(struct claim *claim, uint64_t pid, const char *control_path, const char *nbd_path)
{
	struct fmt_lease *ours = &claim->ours;
	if (strlen(control_path) >= sizeof(ours->control_path) || strlen(nbd_path) >= sizeof(ours->nbd_path))
		return -LCPFS_E_INVALID;
	pthread_mutex_lock(&claim->lock);
	ours->pid = le64_of(pid);
	memset(ours->control_path, 0, sizeof(ours->control_path));
	memset(ours->nbd_path, 0, sizeof(ours->nbd_path));
	memcpy(ours->control_path, control_path, strlen(control_path));
	memcpy(ours->nbd_path, nbd_path, strlen(nbd_path));
	pthread_mutex_unlock(&claim->lock);
	return claim_rewrite(claim);
}

void claim_copy(struct claim *claim, struct fmt_lease *lease)
{
	pthread_mutex_lock(&claim->lock);
	*lease = claim->ours;
	pthread_mutex_unlock(&claim->lock);
}

void claim_lock(struct claim *claim)
{
	pthread_mutex_lock(&claim->lock);
}

void claim_unlock(struct claim *claim)
{
	pthread_mutex_unlock(&claim->lock);
}

/* -- taking and giving up -- */

static struct claim *claim_new(struct vdev *vdev, const struct layout *layout, const struct claim_options *options)
{
	struct claim *claim = aligned_alloc(BLOCK_SIZE, sizeof(*claim));
	if (!claim)
		return NULL;
	memset(claim, 0, sizeof(*claim));
	claim->vdev = vdev;
	claim->layout = layout;
	claim->world = *options->world;
	claim->is_local = options->place->is_ours_alone;
	pthread_mutex_init(&claim->lock, NULL);
	return claim;
}

static void fill(struct claim *claim, const struct vdev_place *place)
{
	const struct claim_world *world = &claim->world;
	struct fmt_lease *ours = &claim->ours;
	world->random(world->context, ours->owner);
	ours->owner[0] |= 1; /* not all zero */
	ours->count = le64_of(1);
	ours->renew_ms = le32_of(CLAIM_PERIOD_MS);
	ours->is_local = le32_of(place->is_ours_alone);
	memcpy(ours->boot, world->boot, sizeof(ours->boot));
	ours->pid_namespace = le64_of(world->pid_namespace);
	ours->process = le64_of(world->process);
	ours->start = le64_of(world->start);
	ours->device = le64_of(place->device);
	ours->inode = le64_of(place->inode);
	ours->offset = le64_of(place->offset);
	memcpy(ours->host, world->host, strnlen(world->host, sizeof(ours->host) - 1));
}

/*
 * Looks, and writes the first copy unless that took too long (RANGE). *settle_ms is then how long to wait: until
 * everybody who looked before has written, and, if the write was slow and may have gone over the claim of an owner
 * who is alive, until he has found that out.
 */
static int write_quickly(struct claim *claim, const struct look *last, struct look *now, unsigned *settle_ms)
{
	uint64_t began_us = now_us(claim), quick_us = *settle_ms * (uint64_t)MS;
	look_at(claim->vdev, claim->layout, now);
	if (has_moved(last, now))
		return -LCPFS_E_BUSY;
	if (now_us(claim) - began_us >= quick_us / 2)
		return -LCPFS_E_RANGE;
	int error = write_renewal(claim);
	if (now_us(claim) - began_us >= quick_us)
		*settle_ms += CLAIM_TRUST_PERIODS * CLAIM_PERIOD_MS;
	return error;
}

static int establish(struct claim *claim, struct look *looks, unsigned settle_ms, struct lcpfs_failure *failure)
{
	uint64_t began_us = 0;
	int error = -LCPFS_E_RANGE;
	for (unsigned i = 0; error == -LCPFS_E_RANGE && i < SLOW_TRIES; i++) {
		began_us = now_us(claim);
		error = write_quickly(claim, &looks[0], &looks[1], &settle_ms);
	}
	if (!error) {
		claim->world.sleep_us(claim->world.context, settle_ms * (uint64_t)MS);
		error = look_again(claim);
	}
	if (!error) {
		atomic_store(&claim->renewed_us, began_us);
		return 0;
	}
	if (error == -LCPFS_E_BUSY || error == -LCPFS_E_TAKEN_OVER)
		return failure_set(failure, LCPFS_E_BUSY,
				   "%s was opened by somebody else at the same moment; try again",
				   claim->vdev->name);
	if (error == -LCPFS_E_RANGE)
		return failure_set(failure, LCPFS_E_BUSY,
				   "%s: the device is too slow at the moment to claim it safely",
				   claim->vdev->name);
	return failure_set(failure, (enum lcpfs_error) - error, "%s: the lease cannot be written: %s",
			   claim->vdev->name, lcpfs_error_sentence(error));
}

/*
 * The owner before us may have made the pool larger after we had read its label: the second copy lies elsewhere
 * now.
 */
static bool has_grown(const struct claim *claim, struct look *look)
{
	struct fmt_label *label = (struct fmt_label *)&look->copy[0];
	return vdev_read_direct(claim->vdev, layout_area_block(claim->layout, 0, AREA_LABEL) * BLOCK_SIZE, label,
				sizeof(*label)) == 0 &&
	       fmt_verify(label, FMT_LABEL, claim->layout->guid, 0) == FMT_GOOD &&
	       le64_get(label->device_blocks) != claim->layout->device_blocks;
}

static int take(struct claim *claim, const struct claim_options *options, struct look *looks,
		struct lcpfs_failure *failure)
{
	bool waited;
	int error = look_for_owner(claim->vdev, claim->layout, options, looks, &waited, failure);
	if (error)
		return error;
	fill(claim, options->place);
	if (options->place->is_ours_alone) {
		atomic_store(&claim->renewed_us, now_us(claim));
		error = write_renewal(claim);
	} else {
		error = establish(claim, looks, waited ? CLAIM_SETTLE_MS : CLAIM_SETTLE_FREE_MS, failure);
		if (error)
			return error;
	}
	if (!error && has_grown(claim, looks))
		return failure_set(failure, LCPFS_E_BUSY, "%s has grown just now; try again", claim->vdev->name);
	if (!error)
		error = write_second(claim);
	return error ? failure_set(failure, (enum lcpfs_error) - error, "%s: the lease cannot be written: %s",
				   claim->vdev->name, lcpfs_error_sentence(error))
		     : 0;
}

int claim_take(struct vdev *vdev, const struct layout *layout, const struct claim_options *options,
	       struct claim **result, struct lcpfs_failure *failure)
{
	struct claim *claim = claim_new(vdev, layout, options);
	struct look *looks = claim ? looks_new(vdev, failure) : NULL;
	*result = NULL;
	int error = looks ? take(claim, options, looks, failure)
			  : failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", vdev->name);
	free(looks);
	if (error)
		claim_abandon(claim);
	else
		*result = claim;
	return error;
}

void claim_abandon(struct claim *claim)
{
	if (!claim)
		return;
	pthread_mutex_destroy(&claim->lock);
	free(claim);
}

/*
 * The second copy first and with a count, the first then without: so a copy that a crash tore is told from one
 * that is damaged by the other having a count.
 */
static int write_released(struct claim *claim)
{
	uint64_t count = le64_get(claim->ours.count) + 1;
	claim->ours = (struct fmt_lease){.count = le64_of(count)};
	fmt_seal(&claim->ours, FMT_LEASE, claim->layout->guid, 0, 0);
	int error = write_copy(claim, 1);
	if (!error)
		error = vdev_flush(claim->vdev);
	if (!error && !is_trusted(claim)) /* it took long: somebody else's may lie there by now */
		error = -LCPFS_E_TAKEN_OVER;
	claim->ours.count = le64_of(0);
	fmt_seal(&claim->ours, FMT_LEASE, claim->layout->guid, 0, 0);
	if (!error)
		error = write_copy(claim, 0);
	return error ? error : vdev_flush(claim->vdev);
}

void claim_release(struct claim *claim)
{
	if (!claim)
		return;
	pthread_mutex_lock(&claim->lock);
	if (!look_again(claim))
		(void)!write_released(claim); /* failing, whoever comes next finds out that we are gone */
	pthread_mutex_unlock(&claim->lock);
	claim_abandon(claim);
}
