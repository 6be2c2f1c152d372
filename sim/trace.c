/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace is read once into operations on dense block numbers: what was never touched takes no space. An operation
 * that crosses a region or a gap in the dense numbers becomes several.
 */
#include "trace.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "memory.h"

#define BLOCK_BYTES 4096u
#define REQUEST_BYTES_MAX (16u << 20) /* no device takes more at once; each block that it touches takes memory */
#define VSCSI_WRITE 0x2a
#define VSCSI_READ 0x28

struct request {
	uint64_t time_us, block;
	size_t order; /* in the file */
	uint32_t blocks;
	bool write;
};

struct region {
	uint64_t number;
	uint32_t first, blocks; /* into `touched` */
};

struct sim_trace {
	struct sim_op *ops;
	size_t count, room;
	struct region *regions;
	uint32_t region_count;
	uint64_t split_blocks, length_us, written;
};

struct requests {
	struct request *list;
	size_t count, room;
	bool shuffled; /* by time */
	uint64_t lines; /* or records: read so far */
	uint64_t left_out, first; /* how many of them, and which was the first */
	const char *why; /* the first was */
};

static void *grown(void *array, size_t *room, size_t count, size_t size)
{
	if (count < *room)
		return array;
	*room = *room ? *room * 2 : 1024;
	return sim_resized(array, *room, size);
}

/* NULL, or why it is left out. */
static const char *add_request(struct requests *r, uint64_t time_us, bool write, uint64_t offset, uint64_t length)
{
	uint64_t first = offset / BLOCK_BYTES;
	if (!length)
		return "it has no length";
	if (length > REQUEST_BYTES_MAX)
		return "it is longer than 16 MiB";
	if (offset > INT64_MAX || time_us > INT64_MAX)
		return "its offset or time is too large";
	uint64_t end = DIV_UP(offset + length, BLOCK_BYTES);
	r->list = grown(r->list, &r->room, r->count, sizeof(r->list[0]));
	r->shuffled |= r->count && time_us < r->list[r->count - 1].time_us;
	r->list[r->count] = (struct request){time_us, first, r->count, (uint32_t)(end - first), write};
	r->count++;
	return NULL;
}

static void note(struct requests *r, const char *why)
{
	if (!why || r->left_out++)
		return;
	r->first = r->lines;
	r->why = why;
}

static uint64_t le(const uint8_t *bytes, int width)
{
	uint64_t n = 0;
	while (width--)
		n = n << 8 | bytes[width];
	return n;
}

/* 32 bytes: u32 sn, u32 length, u32 nSG, u16 command, u16 version, u64 LBN of 512 bytes, u64 µs */
static const char *add_record(struct requests *requests, const uint8_t *r)
{
	uint64_t command = le(r + 12, 2), lbn = le(r + 16, 8);
	if (command != VSCSI_WRITE && command != VSCSI_READ)
		return "neither a read nor a write";
	return add_request(requests, le(r + 24, 8), command == VSCSI_WRITE, MIN_OF(lbn, UINT64_MAX / 512) * 512,
			   le(r + 4, 4));
}

static void read_vscsi(FILE *file, struct requests *requests)
{
	uint8_t r[32];
	size_t length;
	while ((length = fread(r, 1, sizeof(r), file))) {
		requests->lines++;
		note(requests, length == sizeof(r) ? add_record(requests, r) : "the file ends within it");
	}
}

/* ---- text: fields between commas, with or without blanks around them ---- */

struct columns {
	unsigned time, op, offset, length; /* which field, counted from 0; length is the last */
	unsigned per_us; /* units of time */
};

enum { FIELDS_MAX = 6 };

static unsigned split(char *line, char **fields)
{
	unsigned count = 0;
	while (line && count < FIELDS_MAX) {
		char *field = strsep(&line, ","), *end;
		field += strspn(field, " \t\r\n");
		for (end = field + strlen(field); end > field && strchr(" \t\r\n", end[-1]); end--)
			;
		*end = 0;
		fields[count++] = field;
	}
	return count;
}

static bool parse_whole(const char *text, uint64_t *value)
{
	errno = 0;
	*value = strtoull(text, NULL, 10);
	return *text && !errno && strspn(text, "0123456789") == strlen(text);
}

static const char *add_line(struct requests *requests, char *line, const struct columns *at)
{
	char *fields[FIELDS_MAX] = {line};
	uint64_t time, offset, length;
	unsigned count = split(line, fields);
	bool write;
	if (!*fields[0] && count == 1)
		return NULL; /* blank */
	if (requests->lines == 1 && (isalpha((unsigned char)*fields[0]) || *fields[0] == '#' || *fields[0] == '"'))
		return NULL; /* a heading */
	if (count <= at->length)
		return "too few fields";
	if (!parse_whole(fields[at->time], &time))
		return "its time is not a whole number";
	write = !strcasecmp(fields[at->op], "w") || !strcasecmp(fields[at->op], "write");
	if (!write && strcasecmp(fields[at->op], "r") && strcasecmp(fields[at->op], "read"))
		return "neither a read nor a write";
	if (!parse_whole(fields[at->offset], &offset) || !parse_whole(fields[at->length], &length))
		return "its offset or length is not a whole number";
	return add_request(requests, time / at->per_us, write, offset, length);
}

static void read_text(FILE *file, struct requests *requests, const struct columns *at)
{
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, file) >= 0) {
		requests->lines++;
		note(requests, add_line(requests, line, at));
	}
	free(line);
}

/* Timestamp (100 ns since 1601), host, disk, Read|Write, offset, size, response time */
static void read_msr(FILE *file, struct requests *requests)
{
	read_text(file, requests, &(struct columns){.op = 3, .offset = 4, .length = 5, .per_us = 10});
}

/* time_us, r|w|read|write, offset, length */
static void read_csv(FILE *file, struct requests *requests)
{
	read_text(file, requests, &(struct columns){.op = 1, .offset = 2, .length = 3, .per_us = 1});
}

/* ---- dense numbers ---- */

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

struct touched {
	uint64_t *blocks; /* sorted, unique */
	size_t count, room;
};

static void find_touched(const struct requests *requests, struct touched *t)
{
	size_t unique = 0;
	for (size_t i = 0; i < requests->count; i++)
		for (uint32_t k = 0; k < requests->list[i].blocks; k++) {
			t->blocks = grown(t->blocks, &t->room, t->count, sizeof(t->blocks[0]));
			t->blocks[t->count++] = requests->list[i].block + k;
		}
	qsort(t->blocks, t->count, sizeof(t->blocks[0]), by_number);
	for (size_t i = 0; i < t->count; i++)
		if (!i || t->blocks[i] != t->blocks[i - 1])
			t->blocks[unique++] = t->blocks[i];
	t->count = unique;
}

static void find_regions(struct sim_trace *trace, const struct touched *t)
{
	size_t room = 0;
	for (size_t i = 0; i < t->count; i++) {
		uint64_t number = t->blocks[i] / trace->split_blocks;
		struct region *last = trace->region_count ? &trace->regions[trace->region_count - 1] : NULL;
		if (last && last->number == number) {
			last->blocks++;
			continue;
		}
		trace->regions = grown(trace->regions, &room, trace->region_count, sizeof(trace->regions[0]));
		trace->regions[trace->region_count++] = (struct region){number, (uint32_t)i, 1};
	}
}

static size_t position(const struct touched *t, uint64_t block)
{
	uint64_t *found = bsearch(&block, t->blocks, t->count, sizeof(block), by_number);
	CHECK(found);
	return (size_t)(found - t->blocks);
}

static uint32_t region_of(const struct sim_trace *trace, size_t at)
{
	uint32_t low = 0, high = trace->region_count - 1;
	while (low < high) {
		uint32_t middle = (low + high + 1) / 2;
		if (trace->regions[middle].first <= at)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Touched blocks that follow each other have numbers that do, so only region borders cut a request. */
static void add_ops(struct sim_trace *trace, const struct touched *t, const struct request *r, uint64_t start_us)
{
	size_t at = position(t, r->block);
	uint32_t left = r->blocks;
	while (left) {
		uint32_t region = region_of(trace, at);
		const struct region *where = &trace->regions[region];
		uint32_t block = (uint32_t)(at - where->first), n = MIN_OF(left, where->blocks - block);
		trace->ops = grown(trace->ops, &trace->room, trace->count, sizeof(trace->ops[0]));
		trace->ops[trace->count++] = (struct sim_op){region, block, n, r->write, r->time_us - start_us};
		trace->written += r->write ? n : 0;
		at += n;
		left -= n;
	}
}

static void make_ops(struct sim_trace *trace, const struct requests *requests)
{
	struct touched touched = {0};
	uint64_t start = requests->list[0].time_us;
	find_touched(requests, &touched);
	find_regions(trace, &touched);
	for (size_t i = 0; i < requests->count; i++)
		add_ops(trace, &touched, &requests->list[i], start);
	trace->length_us = requests->list[requests->count - 1].time_us - start + 1;
	free(touched.blocks);
}

static int by_time(const void *a, const void *b)
{
	const struct request *x = a, *y = b;
	if (x->time_us != y->time_us)
		return x->time_us < y->time_us ? -1 : 1;
	return (x->order > y->order) - (x->order < y->order);
}

/* The simulator's clock is that of the requests: it must not go back, and it must go. */
static bool order_requests(const char *path, struct requests *requests)
{
	if (requests->shuffled)
		qsort(requests->list, requests->count, sizeof(requests->list[0]), by_time);
	if (requests->list[0].time_us < requests->list[requests->count - 1].time_us)
		return true;
	fprintf(stderr, "lcpfs simulate: no time passes in %s\n", path);
	return false;
}

static bool read_requests(const char *path, enum sim_trace_format format, struct requests *requests)
{
	static void (*const readers[])(FILE *, struct requests *) = {read_vscsi, read_msr, read_csv};
	const char *unit = format == SIM_VSCSI ? "record" : "line";
	FILE *file = fopen(path, "rb");

	if (!file) {
		fprintf(stderr, "lcpfs simulate: cannot open the trace %s\n", path);
		return false;
	}
	readers[format](file, requests);
	bool failed = ferror(file);
	fclose(file);
	if (failed)
		fprintf(stderr, "lcpfs simulate: cannot read the trace %s\n", path);
	else if (!requests->count)
		fprintf(stderr, "lcpfs simulate: %s holds no request in that format (see --format)\n", path);
	else if (requests->left_out)
		fprintf(stderr, "lcpfs simulate: %s: %ju of %ju %ss left out (first: %s %ju: %s)\n", path,
			(uintmax_t)requests->left_out, (uintmax_t)requests->lines, unit, unit,
			(uintmax_t)requests->first, requests->why);
	return !failed && requests->count;
}

struct sim_trace *sim_trace_load(const char *path, enum sim_trace_format format, uint64_t split_blocks)
{
	struct requests requests = {0};
	struct sim_trace *trace = NULL;
	if (read_requests(path, format, &requests) && order_requests(path, &requests)) {
		trace = sim_zeroed(1, sizeof(*trace));
		trace->split_blocks = split_blocks;
		make_ops(trace, &requests);
	}
	free(requests.list);
	return trace;
}

void sim_trace_free(struct sim_trace *trace)
{
	if (!trace)
		return;
	free(trace->ops);
	free(trace->regions);
	free(trace);
}

struct sim_tenant *sim_trace_tenants(const struct sim_trace *trace, uint32_t *count)
{
	struct sim_tenant *tenants = sim_zeroed(trace->region_count, sizeof(*tenants));
	for (uint32_t i = 0; i < trace->region_count; i++) {
		snprintf(tenants[i].name, sizeof(tenants[i].name), "region%" PRIu64, trace->regions[i].number);
		tenants[i].live_blocks = trace->regions[i].blocks;
	}
	for (size_t i = 0; i < trace->count; i++) {
		if (trace->ops[i].write)
			tenants[trace->ops[i].tenant].writes += trace->ops[i].blocks;
		else
			tenants[trace->ops[i].tenant].reads++;
	}
	*count = trace->region_count;
	return tenants;
}

uint64_t sim_trace_length_us(const struct sim_trace *trace)
{
	return trace->length_us;
}

uint64_t sim_trace_written_blocks(const struct sim_trace *trace)
{
	return trace->written;
}

bool sim_trace_next(const struct sim_trace *trace, uint32_t repeat, uint64_t index, struct sim_op *op)
{
	uint64_t pass = index / trace->count;
	if (pass >= repeat)
		return false;
	*op = trace->ops[index % trace->count];
	op->time_us += pass * trace->length_us;
	return true;
}
