/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool, used by a C program: makes one, adds a partition, writes to its volume, and reads that back.
 *
 *     cc volume.c $(pkg-config --cflags --libs lcpfs) -o volume && ./volume /tmp/example.lcpfs
 */
#include <lcpfs/pool.h>
#include <stdio.h>
#include <string.h>

static int complain(const struct lcpfs_failure *failure)
{
	fprintf(stderr, "%s\n", failure->message);
	return 1;
}

/* What is written is durable when the flush has come back, and not before. */
static int write_and_flush(struct lcpfs_partition *db, const char *text, struct lcpfs_failure *failure)
{
	int error = lcpfs_volume_write(db, 0, text, strlen(text) + 1, false, failure);
	return error ? error : lcpfs_volume_flush(db, failure);
}

static int use(struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	const struct lcpfs_partition_spec spec = {.name = "db", .min_bytes = 16 << 20, .max_bytes = 32 << 20};
	struct lcpfs_partition *db;
	char text[64] = "";
	int error = lcpfs_partition_add(pool, &spec, failure);
	if (!error)
		error = lcpfs_partition_open(pool, "db", &db, failure);
	if (error)
		return error;
	error = write_and_flush(db, "what was flushed is never lost", failure);
	if (!error)
		error = lcpfs_volume_read(db, 0, text, sizeof(text), failure);
	if (!error)
		printf("%s: %.*s\n", spec.name, (int)sizeof(text), text);
	lcpfs_partition_close(db);
	return error;
}

int main(int argc, char **argv)
{
	const struct lcpfs_create_options create = {.size_bytes = 64 << 20};
	const struct lcpfs_open_options open = {.background = true};
	struct lcpfs_failure failure;
	struct lcpfs_pool *pool;
	if (argc != 2) {
		fprintf(stderr, "usage: volume FILE\n");
		return 2;
	}
	if (lcpfs_pool_create(argv[1], &create, &failure) || lcpfs_pool_open(argv[1], &open, &pool, &failure))
		return complain(&failure);
	int error = use(pool, &failure);
	if (lcpfs_pool_close(pool, error ? NULL : &failure))
		error = -1;
	return error ? complain(&failure) : 0;
}
