/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `lcpfs simulate`. */
#include "simulate.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "format/format.h"
#include "memory.h"
#include "policy.h"
#include "pool/core.h"
#include "report.h"
#include "requests.h"
#include "trace.h"

#define BLOCK_BYTES 4096.0
#define BYTES_MAX 0x1p50
#define PERCENT_MAX 10000
#define POOL_BLOCKS_MAX (1ull << 30) /* 4 TiB: the model keeps 8 bytes for each block */
#define METASLABS_WANTED_MAX 4096
#define TENANTS_MAX 64
#define WEIGHT_MAX 1e15
#define RATE_MAX 1e9 /* operations per second */
#define REQUEST_US_MAX 1e9
#define LAG_MAX 1e6
#define READS_MAX 1e6 /* for each write: a run ends when enough is written */
#define SPARE 0.10 /* of a trace's data, if neither --pool nor --spare is given */
/* simulated seconds in which users write as much as the pool holds, if no --rate is given */
#define TICKS_PER_TURN 64

static const char usage_text[] =
	"usage: lcpfs simulate --pool SIZE --policy NAME ... --writes SIZE [OPTIONS]\n"
	"           --partition NAME:live=SIZE,writes=WEIGHT[,reads=WEIGHT]\n"
	"                [,pattern=uniform|zipf:S|sequential]\n"
	"                [,size=SIZE][,min=SIZE][,max=SIZE] ...\n"
	"       lcpfs simulate --trace FILE --format vscsi|msr|csv --policy NAME ...\n"
	"           [--split 1G] [--spare 10%] [--repeat 5] [OPTIONS]\n"
	"\n"
	"  --policy NAME            static, equal, threshold, lcpfs-rs, learned, oracle;\n"
	"                           several may be given\n"
	"  --start NAME             sizes at first: proportional (default), equal, first,\n"
	"                           last, inverse, random\n"
	"  --objective epsilon|wa   what the oracle minimises (default epsilon)\n"
	"  --shift AT:NAME=W,...    after AT bytes written, these weights hold\n"
	"  --swing PERIOD:NAME=W,.. weights swing to these and back, once per PERIOD\n"
	"                           bytes written\n"
	"  --plot FILE.svg          sizes and write amplification over time, policies\n"
	"                           side by side\n"
	"  --metaslab SIZE          default: as a pool has it, from 1M on; at least 128K\n"
	"  --spare PERCENT          instead of --pool: of the data, beyond what the\n"
	"                           partitions need at least\n"
	"  --checkpoint PERCENT     of a partition's size written between checkpoints\n"
	"                           (default 25%; 0%: no tables)\n"
	"  --flush SIZE             written between two flushes of a partition (default:\n"
	"                           it is never flushed)\n"
	"  --in-flight N            writes under way at once, 1 (default) to 64: one\n"
	"                           without room goes last\n"
	"  --lag [NAME=]LATE[+BUSY] the background is a thread, late by so many blocks\n"
	"                           that are written to that partition, or to any, on\n"
	"                           the average, and at each unit of its work for so\n"
	"                           many more (default: no thread, 1 block, 0)\n"
	"  --rate N                 operations per simulated second, 1 to 1e9 (default:\n"
	"                           the pool's size in 64 s)\n"
	"  --request-us N           fixed time of a request (default 10)\n"
	"  --random-latency         latencies are drawn at random: nothing that policies\n"
	"                           do has an effect\n"
	"  --prior NAME=VALUE       what the engine believes at first: pressure (100),\n"
	"                           cooldown (300), growth (0.1), shrink (0.05),\n"
	"                           curve-level (1), curve-power (0.25), curve-scatter\n"
	"                           (0.05), kept (0.5), copy-share (1), latency-error\n"
	"                           (1), trust (1)\n"
	"  --restart                stop and reopen the engine halfway\n"
	"  --seed N                 of the random numbers (default 1)\n"
	"  --json                   print one JSON object\n"
	"  --requests               print sizes and writes, a line each, instead of\n"
	"                           simulating\n"
	"\n"
	"Sizes take K, M, G, T (1024).\n";

struct command {
	struct sim_config config;
	struct sim_tenant tenants[TENANTS_MAX];
	struct sim_trace *trace;
	enum sim_policy_kind policies[SIM_POLICIES * 2];
	int policy_count;
	const char *trace_path, *plot;
	enum sim_trace_format format;
	uint64_t split_blocks, metaslab_blocks;
	double spare, rate; /* spare 0: not given */
	bool json, requests;
	struct {
		const char *name; /* NULL: all that are not named */
		uint32_t late, busy;
	} lags[TENANTS_MAX + 1];
	unsigned lag_count;
};

static int complain(const char *what, const char *value)
{
	fprintf(stderr, "lcpfs simulate: %s: %s (see --help)\n", what, value);
	return 2;
}

/* ---- values ---- */

static bool parse_number(const char *text, double *value, char **end)
{
	errno = 0;
	*value = strtod(text, end);
	return *end != text && !errno && isfinite(*value) && *value >= 0;
}

static bool parse_size(const char *text, uint64_t *blocks)
{
	static const char units[] = "KMGT";
	char *end;
	double value;
	if (!parse_number(text, &value, &end))
		return false;
	const char *unit = *end ? strchr(units, *end & ~32) : NULL;
	if (unit)
		value *= pow(1024, (double)(unit - units + 1));
	end += unit != NULL;
	if (*end && strcmp(end, "B") && (!unit || strcmp(end, "iB")))
		return false;
	*blocks = value <= BYTES_MAX ? (uint64_t)(value / BLOCK_BYTES) : 0;
	return *blocks > 0;
}

static bool parse_whole(const char *text, double max, uint64_t *value)
{
	double number;
	char *end;
	if (!parse_number(text, &number, &end) || *end || number != floor(number) || number > max)
		return false;
	*value = (uint64_t)number;
	return true;
}

static bool parse_share(const char *text, double *share)
{
	char *end;
	if (!parse_number(text, share, &end) || strcmp(end, "%") || *share > PERCENT_MAX)
		return false;
	*share /= 100;
	return true;
}

static bool parse_plain(const char *text, double *value)
{
	char *end;
	return parse_number(text, value, &end) && !*end;
}

static bool parse_weight(const char *text, double *value)
{
	return parse_plain(text, value) && *value <= WEIGHT_MAX;
}

static int find_name(const char *name, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(name, names[i]))
			return i;
	return -1;
}

/* ---- --partition, --shift, --swing, --prior ---- */

static bool parse_pattern(struct sim_tenant *t, const char *value)
{
	if (!strcmp(value, "uniform"))
		t->pattern = SIM_UNIFORM;
	else if (!strcmp(value, "sequential"))
		t->pattern = SIM_SEQUENTIAL;
	else if (!strncmp(value, "zipf:", 5) && parse_plain(value + 5, &t->zipf) && t->zipf > 0)
		t->pattern = SIM_ZIPF;
	else
		return false;
	return true;
}

static bool parse_property(struct sim_tenant *t, const char *key, const char *value)
{
	uint64_t live;
	if (!strcmp(key, "live")) {
		if (!parse_size(value, &live) || live > UINT32_MAX / 4)
			return false;
		t->live_blocks = (uint32_t)live;
		return true;
	}
	if (!strcmp(key, "writes"))
		return parse_weight(value, &t->writes);
	if (!strcmp(key, "reads"))
		return parse_weight(value, &t->reads);
	if (!strcmp(key, "pattern"))
		return parse_pattern(t, value);
	if (!strcmp(key, "unfilled"))
		return parse_plain(value, &t->unfilled) && t->unfilled >= 0 && t->unfilled <= 1;
	if (!strcmp(key, "snapshots"))
		return parse_size(value, &t->snapshot_blocks);
	if (!strcmp(key, "size"))
		return parse_size(value, &t->size_blocks);
	if (!strcmp(key, "min"))
		return parse_size(value, &t->min_blocks);
	return !strcmp(key, "max") && parse_size(value, &t->max_blocks);
}

static uint32_t find_tenant(const struct command *c, const char *name)
{
	const struct sim_load *load = &c->config.load;
	uint32_t i = 0;
	while (i < load->count && strcmp(load->tenants[i].name, name))
		i++;
	return i;
}

static int parse_partition(struct command *c, char *text)
{
	struct sim_tenant *t = &c->tenants[c->config.load.count];
	char *colon = strchr(text, ':'), *save, *word;
	if (c->config.load.count == TENANTS_MAX)
		return complain("too many partitions", text);
	if (!colon)
		return complain("--partition needs NAME:live=SIZE,writes=WEIGHT", text);
	*colon = 0;
	if (!part_name_is_valid(text))
		return complain("--partition: not a name that a pool takes", text);
	if (find_tenant(c, text) < c->config.load.count)
		return complain("--partition: two of the same name", text);
	strcpy(t->name, text);
	for (word = strtok_r(colon + 1, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(word, '=');
		if (!equals)
			return complain("--partition: no value", word);
		*equals = 0;
		if (!parse_property(t, word, equals + 1)) {
			*equals = '=';
			return complain("--partition: unknown property or unacceptable value", word);
		}
	}
	if (!t->live_blocks)
		return complain("--partition needs live=SIZE", t->name);
	if (t->unfilled > 0 && t->snapshot_blocks)
		return complain("--partition: unfilled and snapshots exclude each other", t->name);
	if (t->max_blocks && t->max_blocks < MAX_OF(t->min_blocks, t->live_blocks))
		return complain("--partition: max is below min or live", t->name);
	if (t->size_blocks &&
	    (t->size_blocks < t->min_blocks || (t->max_blocks && t->size_blocks > t->max_blocks)))
		return complain("--partition: size is not between min and max", t->name);
	c->config.load.tenants = c->tenants;
	c->config.load.count++;
	return 0;
}

/* SIZE:NAME=WEIGHT,... */
static int parse_weights(struct command *c, char *text, struct sim_shift *list, uint32_t *count, uint64_t *at)
{
	char *colon = strchr(text, ':'), *save, *word;
	if (!colon)
		return complain("--shift and --swing need SIZE:NAME=WEIGHT,...", text);
	*colon = 0;
	if (!parse_size(text, at))
		return complain("--shift and --swing: not a size", text);
	for (word = strtok_r(colon + 1, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(word, '=');
		struct sim_shift *shift = &list[*count];
		if (!equals || *count == SIM_SHIFTS_MAX || !parse_weight(equals + 1, &shift->writes))
			return complain("--shift and --swing need NAME=WEIGHT (16 of them, up to 1e15)", word);
		*equals = 0;
		shift->at_blocks = *at;
		shift->tenant = find_tenant(c, word);
		if (shift->tenant == c->config.load.count)
			return complain("--shift and --swing: no such partition (give --partition first)", word);
		++*count;
	}
	return 0;
}

/* Names are looked up when all partitions are known. */
static int parse_lag(struct command *c, char *text)
{
	char *equals = strchr(text, '='), *late = equals ? equals + 1 : text, *plus = strchr(late, '+');
	uint64_t late_blocks, busy_blocks = 0;
	if (plus)
		*plus = 0;
	bool good = parse_whole(late, LAG_MAX, &late_blocks) &&
		    (!plus || parse_whole(plus + 1, LAG_MAX, &busy_blocks));
	if (c->lag_count == ARRAY_LENGTH(c->lags) || !good)
		return complain("--lag needs [NAME=]LATE[+BUSY], each up to a million blocks", text);
	if (equals)
		*equals = 0;
	c->config.world.log.thread = true;
	c->lags[c->lag_count].name = equals ? text : NULL;
	c->lags[c->lag_count].late = (uint32_t)late_blocks;
	c->lags[c->lag_count++].busy = (uint32_t)busy_blocks;
	return 0;
}

static int parse_prior(struct command *c, char *text)
{
	struct lcpfs_engine_priors *p = &c->config.priors;
	static const char *const names[] = {"pressure",    "cooldown",      "growth",        "shrink",
					    "curve-level", "curve-power",   "curve-scatter", "kept",
					    "copy-share",  "latency-error", "trust"};
	double *const values[] = {&p->pressure,    &p->cooldown_s,    &p->growth_step,   &p->shrink_step,
				  &p->curve_level, &p->curve_power,   &p->curve_scatter, &p->kept,
				  &p->copy_share,  &p->latency_error, &p->trust};
	char *equals = strchr(text, '=');
	if (!equals)
		return complain("--prior needs NAME=VALUE", text);
	*equals = 0;
	int i = find_name(text, names, ARRAY_LENGTH(names));
	if (i < 0 || !parse_plain(equals + 1, values[i]) || !(*values[i] > 0))
		return complain("--prior: no such prior, or not above 0", text);
	return 0;
}

/* ---- options ---- */

enum option_code {
	O_POOL = 256,
	O_PARTITION,
	O_POLICY,
	O_WRITES,
	O_SEED,
	O_JSON,
	O_TRACE,
	O_FORMAT,
	O_SPLIT,
	O_SPARE,
	O_REPEAT,
	O_OBJECTIVE,
	O_SHIFT,
	O_SWING,
	O_PLOT,
	O_METASLAB,
	O_START,
	O_CHECKPOINT,
	O_FLUSH,
	O_IN_FLIGHT,
	O_LAG,
	O_RATE,
	O_REQUEST,
	O_RANDOM_LATENCY,
	O_PRIOR,
	O_RESTART,
	O_REQUESTS,
	O_HELP,
};

static const struct option long_options[] = {
	{"pool", 1, NULL, O_POOL},
	{"partition", 1, NULL, O_PARTITION},
	{"policy", 1, NULL, O_POLICY},
	{"writes", 1, NULL, O_WRITES},
	{"seed", 1, NULL, O_SEED},
	{"json", 0, NULL, O_JSON},
	{"trace", 1, NULL, O_TRACE},
	{"format", 1, NULL, O_FORMAT},
	{"split", 1, NULL, O_SPLIT},
	{"spare", 1, NULL, O_SPARE},
	{"repeat", 1, NULL, O_REPEAT},
	{"objective", 1, NULL, O_OBJECTIVE},
	{"shift", 1, NULL, O_SHIFT},
	{"swing", 1, NULL, O_SWING},
	{"plot", 1, NULL, O_PLOT},
	{"metaslab", 1, NULL, O_METASLAB},
	{"start", 1, NULL, O_START},
	{"checkpoint", 1, NULL, O_CHECKPOINT},
	{"flush", 1, NULL, O_FLUSH},
	{"in-flight", 1, NULL, O_IN_FLIGHT},
	{"lag", 1, NULL, O_LAG},
	{"rate", 1, NULL, O_RATE},
	{"request-us", 1, NULL, O_REQUEST},
	{"random-latency", 0, NULL, O_RANDOM_LATENCY},
	{"prior", 1, NULL, O_PRIOR},
	{"restart", 0, NULL, O_RESTART},
	{"requests", 0, NULL, O_REQUESTS},
	{"help", 0, NULL, O_HELP},
	{NULL, 0, NULL, 0},
};

static int refuse(int option, const char *what, const char *value)
{
	const struct option *o = long_options;
	char text[200];
	while (o->val != option)
		o++;
	snprintf(text, sizeof(text), "--%s: %s", o->name, what);
	return complain(text, value);
}

static int parse_choice(struct command *c, int option, const char *value)
{
	static const char *const formats[] = {"vscsi", "msr", "csv"}, *const objectives[] = {"epsilon", "wa"};
	int i;
	switch (option) {
	case O_POLICY:
		i = find_name(value, sim_policy_names, SIM_POLICIES);
		if (i < 0 || c->policy_count == ARRAY_LENGTH(c->policies))
			return complain("--policy: static, equal, threshold, lcpfs-rs, learned or oracle", value);
		c->policies[c->policy_count++] = (enum sim_policy_kind)i;
		return 0;
	case O_FORMAT:
		i = find_name(value, formats, 3);
		c->format = (enum sim_trace_format)i;
		break;
	case O_OBJECTIVE:
		i = find_name(value, objectives, 2);
		c->config.minimise_wa = i == 1;
		break;
	default:
		i = find_name(value, sim_start_names, SIM_STARTS);
		c->config.start = (enum sim_start)i;
	}
	return i < 0 ? refuse(option, "unknown choice", value) : 0;
}

static int parse_value(struct command *c, int option, const char *value)
{
	struct sim_world_options *o = &c->config.world;
	uint64_t number = 0;
	bool good;
	switch (option) {
	case O_POOL:
		good = parse_size(value, &o->pool_blocks) && o->pool_blocks <= POOL_BLOCKS_MAX;
		break;
	case O_WRITES:
		good = parse_size(value, &o->total_blocks);
		break;
	case O_SPLIT:
		good = parse_size(value, &c->split_blocks);
		break;
	case O_METASLAB:
		good = parse_size(value, &c->metaslab_blocks) && c->metaslab_blocks >= SIM_METASLAB_BLOCKS_MIN &&
		       c->metaslab_blocks <= 16384;
		break;
	case O_SPARE:
		good = parse_share(value, &c->spare) && c->spare > 0;
		break;
	case O_CHECKPOINT:
		good = parse_share(value, &o->log.checkpoint_share);
		break;
	case O_FLUSH:
		good = parse_size(value, &o->log.flush_blocks);
		break;
	case O_IN_FLIGHT:
		good = parse_whole(value, SIM_IN_FLIGHT_MAX, &number) && number >= 1;
		o->in_flight = (uint32_t)number;
		break;
	case O_RATE:
		good = parse_plain(value, &c->rate) && c->rate >= 1 && c->rate <= RATE_MAX;
		break;
	case O_REQUEST:
		good = parse_plain(value, &o->request_us) && o->request_us <= REQUEST_US_MAX;
		break;
	case O_REPEAT:
		good = parse_whole(value, 1e6, &number) && number >= 1;
		c->config.load.repeat = (uint32_t)number;
		break;
	default:
		good = parse_whole(value, 1e15, &number);
		c->config.load.seed = number;
	}
	return good ? 0 : refuse(option, "not an acceptable value", value);
}

static int parse_option(struct command *c, int option, char *value)
{
	struct sim_load *load = &c->config.load;
	uint64_t at;
	switch (option) {
	case O_PARTITION:
		return parse_partition(c, value);
	case O_SHIFT:
		return parse_weights(c, value, load->shifts, &load->shift_count, &at);
	case O_SWING:
		return parse_weights(c, value, load->swing, &load->swing_count, &load->swing_blocks);
	case O_LAG:
		return parse_lag(c, value);
	case O_PRIOR:
		return parse_prior(c, value);
	case O_POLICY:
	case O_FORMAT:
	case O_OBJECTIVE:
	case O_START:
		return parse_choice(c, option, value);
	case O_JSON:
		c->json = true;
		return 0;
	case O_TRACE:
		c->trace_path = value;
		return 0;
	case O_PLOT:
		c->plot = value;
		return 0;
	case O_RANDOM_LATENCY:
		c->config.world.random_latency = true;
		return 0;
	case O_RESTART:
		c->config.restart = true;
		return 0;
	case O_REQUESTS:
		c->requests = true;
		return 0;
	default:
		return parse_value(c, option, value);
	}
}

static void defaults(struct command *c)
{
	memset(c, 0, sizeof(*c));
	c->config.load.seed = 1;
	c->config.load.repeat = 5;
	c->split_blocks = 262144;
	c->config.world = (struct sim_world_options){
		.log = {.checkpoint_share = 0.25, .lag_blocks = 1},
		.request_us = 10,
		.write_us = 10,
		.read_us = 10,
		.series_points = 200,
		.in_flight = 1,
	};
}

/* ---- what was asked for, made complete ---- */

static int prepare_trace(struct command *c)
{
	struct sim_load *load = &c->config.load;
	if (load->count || c->config.world.total_blocks)
		return complain("--trace excludes --partition and --writes", c->trace_path);
	c->trace = sim_trace_load(c->trace_path, c->format, c->split_blocks);
	if (!c->trace)
		return 1;
	load->trace = c->trace;
	load->tenants = sim_trace_tenants(c->trace, &load->count);
	c->config.world.total_blocks = sim_trace_written_blocks(c->trace) * load->repeat;
	if (!c->config.world.total_blocks)
		return complain("the trace writes nothing", c->trace_path);
	if (sim_trace_length_us(c->trace) > UINT64_MAX / 2 / load->repeat)
		return complain("the trace takes too long to be repeated so often", c->trace_path);
	return 0;
}

/* As a pool has it. */
static uint64_t default_metaslab(uint64_t pool_blocks)
{
	uint64_t blocks = METASLAB_BLOCKS_MIN;
	while (blocks < METASLAB_BLOCKS_MAX && pool_blocks / blocks > METASLABS_WANTED_MAX)
		blocks *= 2;
	return blocks;
}

/* What the partitions need at least, and the share of their data that was asked for besides. */
static uint64_t pool_with_spare(const struct command *c)
{
	uint64_t least = 0;
	double live = 0;
	for (uint32_t i = 0; i < c->config.load.count; i++) {
		const struct sim_tenant *t = &c->config.load.tenants[i];
		least += sim_tenant_metaslabs_min(&c->config.world, t);
		live += t->live_blocks;
	}
	return least * c->metaslab_blocks + (uint64_t)(live * (c->spare > 0 ? c->spare : SPARE));
}

/* A run ends when enough is written, so something must be. */
static int check_weights(struct command *c)
{
	struct sim_load *load = &c->config.load;
	double writes = 0, reads = 0, least = sim_load_least_writes(load);
	for (uint32_t i = 0; i < load->count; i++) {
		writes += load->tenants[i].writes;
		reads += load->tenants[i].reads;
	}
	if (!(writes > 0))
		return complain("no partition writes", "give writes=WEIGHT");
	if (!(least > 0))
		return complain("no partition writes", "after --shift or --swing");
	if (!load->trace && reads > READS_MAX * least)
		return complain("hardly anything is written", "more than a million reads for a write");
	load->ops_per_s = c->rate;
	if (!(c->rate > 0))
		load->ops_per_s = (double)c->config.world.pool_blocks / TICKS_PER_TURN * (1 + reads / writes);
	else if (!load->trace && (double)c->config.world.total_blocks * (1 + reads / writes) < c->rate)
		return complain("--rate", "everything would be written within a simulated second");
	return 0;
}

static void set_lag(struct command *c, unsigned lag, struct sim_tenant *tenant)
{
	tenant->lag_blocks = c->lags[lag].late;
	tenant->busy_blocks = c->lags[lag].busy;
}

/* Those with a name win, wherever they stand. */
static int set_lags(struct command *c)
{
	struct sim_load *load = &c->config.load;
	for (uint32_t i = 0; i < load->count; i++)
		load->tenants[i].lag_blocks = c->config.world.log.lag_blocks;
	for (unsigned k = 0; k < c->lag_count; k++)
		for (uint32_t i = 0; i < load->count && !c->lags[k].name; i++)
			set_lag(c, k, &load->tenants[i]);
	for (unsigned k = 0; k < c->lag_count; k++) {
		uint32_t i = c->lags[k].name ? find_tenant(c, c->lags[k].name) : 0;
		if (i == load->count)
			return complain("--lag: no such partition", c->lags[k].name);
		if (c->lags[k].name)
			set_lag(c, k, &load->tenants[i]);
	}
	return 0;
}

static int prepare(struct command *c)
{
	struct sim_world_options *o = &c->config.world;
	struct sim_load *load = &c->config.load;
	uint64_t live = 0;
	int error = c->trace_path ? prepare_trace(c) : 0;
	if (error)
		return error;
	if (!load->count || (!o->pool_blocks && !c->trace && !(c->spare > 0)))
		return complain("nothing to simulate", "give --pool or --spare, and --partition or --trace");
	if (set_lags(c))
		return 2;
	if (o->pool_blocks && c->spare > 0)
		return complain("--pool and --spare exclude each other", "give one of them");
	if (!c->policy_count && !c->requests)
		return complain("nothing to compare", "give --policy");
	if (!o->total_blocks)
		return complain("how much is written?", "give --writes");
	if (c->plot && !sim_report_plot_possible(c->plot))
		return 1;
	for (uint32_t i = 0; i < load->count; i++)
		live += load->tenants[i].live_blocks;
	if (!c->metaslab_blocks)
		c->metaslab_blocks = default_metaslab(MAX_OF(o->pool_blocks, live));
	o->log.metaslab_blocks = (uint32_t)c->metaslab_blocks;
	if (!o->pool_blocks)
		o->pool_blocks = pool_with_spare(c);
	if (o->pool_blocks > POOL_BLOCKS_MAX)
		return complain("--spare: the pool would be larger than 4 TiB", "give less");
	o->pool_blocks -= o->pool_blocks % c->metaslab_blocks;
	return check_weights(c);
}

static int run(struct command *c)
{
	struct sim_result *results = sim_zeroed((size_t)c->policy_count, sizeof(*results));
	int done = 0, error = 0;
	while (done < c->policy_count && sim_policy_run(&c->config, c->policies[done], &results[done]))
		done++;
	error = done < c->policy_count;
	if (!error && c->json)
		sim_report_json(&c->config, results, done);
	else if (!error)
		sim_report_table(&c->config, results, done);
	if (!error && c->plot)
		error = !sim_report_plot(&c->config, results, done, c->plot);
	for (int i = 0; i < done; i++)
		sim_result_done(&results[i]);
	free(results);
	return error;
}

int simulate_main(int argc, char **argv)
{
	struct command *c = sim_zeroed(1, sizeof(*c));
	int option, error = 0;
	defaults(c);
	optind = 0; /* may be called after another getopt */
	while (!error && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == O_HELP) {
			fputs(usage_text, stdout);
			free(c);
			return 0;
		}
		error = option == '?' ? complain("unknown option, or its value is missing", argv[optind - 1])
				      : parse_option(c, option, optarg);
	}
	if (!error && optind < argc)
		error = complain("unexpected argument", argv[optind]);
	if (!error)
		error = prepare(c);
	if (!error)
		error = c->requests ? !sim_requests_print(&c->config) : run(c);
	if (c->trace)
		free(c->config.load.tenants);
	sim_trace_free(c->trace);
	free(c);
	return error;
}
