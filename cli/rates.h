/* SPDX-License-Identifier: Apache-2.0 */
/* What happened in partitions between two answers of the command `iostat` (docs/control.md). */
#ifndef CLI_RATES_H
#define CLI_RATES_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

struct rates_row {
	const char *name;
	uint64_t id, size_data_blocks, data_blocks, written_blocks, device_blocks, since_us;
	double seconds; /* that it is about */
	struct lcpfs_operation_stats operation[LCPFS_OPERATIONS];
};

struct rates {
	struct rates_row *list;
	size_t count;
	struct json_object *result; /* has the names */
};

/* Takes `result` over. */
void rates_read(struct rates *rates, struct json_object *result);
void rates_free(struct rates *rates);

/*
 * A row of now without what was there before. Counters begin anew where the pool was opened anew: then all of them
 * are new, as they are where `before` is empty.
 */
struct rates_row rates_since(const struct rates_row *now, const struct rates *before);
void rates_add(struct rates_row *total, const struct rates_row *row);

double rates_per_second(const struct rates_row *row, double count);
/* How many operations were under way at a time, by Little's law. */
double rates_queue(const struct rates_row *row);
double rates_amplification(const struct rates_row *row); /* NaN where nothing was written */
double rates_mean_us(const struct lcpfs_operation_stats *stats); /* NaN where there was none */

#endif
