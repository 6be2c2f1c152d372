/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

static double late_wa(const struct sim_world *world)
{
	uint64_t user = 0, device = 0;
	for (uint32_t i = 0; i < world->load->count; i++) {
		user += world->members[i].late.counts.user;
		device += world->members[i].late.counts.device;
	}
	return user ? (double)device / (double)user : 1;
}

static double late_epsilon(const struct sim_world *world)
{
	double sum = 0;
	for (uint32_t i = 0; i < world->load->count; i++)
		sum += sim_world_late_epsilon(world, i);
	return sum;
}

/* User blocks after which no size was ever again further than 2 % of the pool from its final one. */
static uint64_t converged_after(const struct sim_world *world)
{
	const struct sim_point *end = &world->series[world->point_count - 1];
	double near = 0.02 * (double)world->options->pool_blocks;
	for (uint32_t p = world->point_count; p-- > 0;)
		for (uint32_t i = 0; i < world->load->count; i++)
			if (fabs((double)world->series[p].size_blocks[i] - (double)end->size_blocks[i]) > near)
				return world->series[p + 1].user_blocks;
	return 0;
}

/* ---- JSON ---- */

static void put(struct json_object *o, const char *name, double value)
{
	json_object_object_add(o, name, json_object_new_double(isfinite(value) ? value : 0));
}

static void put_int(struct json_object *o, const char *name, uint64_t value)
{
	json_object_object_add(o, name, json_object_new_int64((int64_t)value));
}

static struct json_object *json_partition(const struct sim_world *world, uint32_t i)
{
	const struct sim_late *late = &world->members[i].late;
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "name", json_object_new_string(world->load->tenants[i].name));
	put(o, "wa", late->counts.user ? (double)late->counts.device / (double)late->counts.user : 1);
	put_int(o, "size_blocks", sim_world_size_blocks(world, i));
	put_int(o, "live_blocks", sim_log_live(world->members[i].log));
	put(o, "latency_us", late->ops > 0 ? late->latency_us / late->ops : 0);
	put(o, "latency_p99_us", sim_world_late_p99_us(world, i));
	put(o, "epsilon", sim_world_late_epsilon(world, i));
	return o;
}

static struct json_object *json_series(const struct sim_world *world)
{
	struct json_object *list = json_object_new_array();
	for (uint32_t p = 0; p < world->point_count; p++) {
		const struct sim_point *point = &world->series[p];
		struct json_object *o = json_object_new_object(), *sizes = json_object_new_array();
		put_int(o, "user_blocks", point->user_blocks);
		put_int(o, "device_blocks", point->device_blocks);
		put(o, "wa", point->wa);
		put(o, "epsilon", point->epsilon);
		for (uint32_t i = 0; i < world->load->count; i++)
			json_object_array_add(sizes, json_object_new_int64((int64_t)point->size_blocks[i]));
		json_object_object_add(o, "size_blocks", sizes);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *json_outcomes(const struct sim_result *result)
{
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < result->outcome_count; i++) {
		const struct lcpfs_engine_outcome *m = &result->outcomes[i];
		struct json_object *o = json_object_new_object();
		put_int(o, "from", m->from_id);
		put_int(o, "to", m->to_id);
		put_int(o, "blocks", m->blocks);
		put_int(o, "from_old_blocks", m->from_old_blocks);
		put_int(o, "from_new_blocks", m->from_new_blocks);
		put_int(o, "to_old_blocks", m->to_old_blocks);
		put_int(o, "to_new_blocks", m->to_new_blocks);
		put(o, "expected_gain", m->expected_gain);
		put(o, "expected_error", m->expected_error);
		put(o, "epsilon_before", m->epsilon_before);
		put(o, "epsilon_after", m->epsilon_after);
		put(o, "standard_error", m->standard_error);
		put(o, "taken_s", (double)m->taken_us / 1e6);
		json_object_object_add(o, "verdict",
				       json_object_new_string(lcpfs_engine_verdict_name(m->verdict)));
		json_object_object_add(o, "reason", json_object_new_string(lcpfs_engine_reason_name(m->reason)));
		json_object_object_add(o, "joined", json_object_new_boolean(m->joined));
		json_object_array_add(list, o);
	}
	return list;
}

/* What an oracle's split costs, and its sizes. */
static struct json_object *json_objective(const struct sim_world *world)
{
	struct json_object *o = json_object_new_object(), *sizes = json_object_new_array();
	struct sim_log_counts all = sim_world_counts(world);
	put(o, "wa", late_wa(world));
	put(o, "wa_total", all.user ? (double)all.device / (double)all.user : 1);
	put(o, "epsilon", late_epsilon(world));
	for (uint32_t i = 0; i < world->load->count; i++)
		json_object_array_add(sizes, json_object_new_int64((int64_t)sim_world_size_blocks(world, i)));
	json_object_object_add(o, "size_blocks", sizes);
	return o;
}

static void put_objectives(struct json_object *o, const struct sim_result *result, bool minimise_wa)
{
	struct json_object *both = json_object_new_object();
	json_object_object_add(o, "objective", json_object_new_string(minimise_wa ? "wa" : "epsilon"));
	json_object_object_add(both, minimise_wa ? "wa" : "epsilon", json_objective(&result->world));
	json_object_object_add(both, minimise_wa ? "epsilon" : "wa", json_objective(&result->other));
	json_object_object_add(o, "objectives", both);
}

static struct json_object *json_policy(const struct sim_config *config, const struct sim_result *result)
{
	const struct sim_world *world = &result->world;
	struct json_object *o = json_object_new_object(), *partitions = json_object_new_array();
	struct sim_log_counts all = sim_world_counts(world);
	put(o, "wa", late_wa(world));
	put(o, "wa_total", all.user ? (double)all.device / (double)all.user : 1);
	put(o, "epsilon", late_epsilon(world));
	put_int(o, "moves", world->moves);
	put_int(o, "undone", world->undone);
	put_int(o, "converged_after_blocks", converged_after(world));
	for (uint32_t i = 0; i < world->load->count; i++)
		json_object_array_add(partitions, json_partition(world, i));
	json_object_object_add(o, "partitions", partitions);
	json_object_object_add(o, "series", json_series(world));
	if (result->policy == SIM_ORACLE)
		put_objectives(o, result, config->minimise_wa);
	if (result->policy != SIM_LEARNED)
		return o;
	put_int(o, "improved", result->statistics.improved);
	put_int(o, "hurt", result->statistics.hurt);
	put_int(o, "inconclusive", result->statistics.inconclusive);
	json_object_object_add(o, "outcomes", json_outcomes(result));
	return o;
}

void sim_report_json(const struct sim_config *config, const struct sim_result *results, int count)
{
	struct json_object *all = json_object_new_object(), *policies = json_object_new_object();
	put_int(all, "pool_blocks", config->world.pool_blocks);
	put_int(all, "metaslab_blocks", config->world.log.metaslab_blocks);
	put_int(all, "seed", config->load.seed);
	json_object_object_add(all, "start", json_object_new_string(sim_start_names[config->start]));
	for (int i = 0; i < count; i++)
		json_object_object_add(policies, sim_policy_names[results[i].policy],
				       json_policy(config, &results[i]));
	json_object_object_add(all, "policies", policies);
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN));
	json_object_put(all);
}

/* ---- a table ---- */

static void print_row(const struct sim_config *config, const struct sim_world *world, const char *name)
{
	struct sim_log_counts all = sim_world_counts(world);
	double epsilon = late_epsilon(world);
	printf("%-14s %8.3f %9.3f %12.*f %6llu %7llu  ", name, late_wa(world),
	       all.user ? (double)all.device / (double)all.user : 1, epsilon < 1000 ? 3 : 0, epsilon,
	       (unsigned long long)world->moves, (unsigned long long)world->undone);
	for (uint32_t k = 0; k < config->load.count && k < 8; k++) {
		const struct sim_log_counts *late = &world->members[k].late.counts;
		printf(" %s %.0f (%.2f)", config->load.tenants[k].name,
		       (double)sim_world_size_blocks(world, k) / 256,
		       late->user ? (double)late->device / (double)late->user : 1);
	}
	puts(config->load.count > 8 ? " ..." : "");
}

void sim_report_table(const struct sim_config *config, const struct sim_result *results, int count)
{
	printf("%-14s %8s %9s %12s %6s %7s   sizes in MiB (WA each)\n", "policy", "WA", "WA total", "epsilon",
	       "moves", "undone");
	for (int i = 0; i < count; i++) {
		print_row(config, &results[i].world, sim_policy_names[results[i].policy]);
		if (results[i].policy == SIM_ORACLE)
			print_row(config, &results[i].other, config->minimise_wa ? "oracle epsilon" : "oracle wa");
	}
}

/* ---- a picture ---- */

static void plot_data(FILE *gnuplot, const struct sim_world *world, uint32_t member)
{
	for (uint32_t p = 0; p < world->point_count; p++) {
		const struct sim_point *point = &world->series[p];
		double gib = (double)point->user_blocks / 262144;
		double value = member == UINT32_MAX ? point->wa : (double)point->size_blocks[member] / 262144;
		fprintf(gnuplot, "%g %g\n", gib, value);
	}
	fputs("e\n", gnuplot);
}

/* As gnuplot takes it: without commands in it. */
static void put_quoted(FILE *gnuplot, const char *text)
{
	fputc('\'', gnuplot);
	for (; *text; text++)
		fputs(*text == '\'' ? "''" : (char[]){*text, 0}, gnuplot);
	fputc('\'', gnuplot);
}

static void plot_sizes(FILE *gnuplot, const struct sim_config *config, const struct sim_result *result)
{
	uint32_t n = config->load.count;
	fprintf(gnuplot, "set title '%s: sizes'\nset ylabel 'GiB'\nset yrange [0:*]\nplot ",
		sim_policy_names[result->policy]);
	for (uint32_t i = 0; i < n; i++) {
		fprintf(gnuplot, "%s'-' with lines lw 2 title ", i ? ", " : "");
		put_quoted(gnuplot, config->load.tenants[i].name);
	}
	fputc('\n', gnuplot);
	for (uint32_t i = 0; i < n; i++)
		plot_data(gnuplot, &result->world, i);
}

static void plot_all(FILE *gnuplot, const struct sim_config *config, const struct sim_result *results, int count,
		     const char *path)
{
	fprintf(gnuplot, "set terminal svg size %d,900 dynamic noenhanced background rgb 'white'\nset output ",
		420 * count);
	put_quoted(gnuplot, path);
	fprintf(gnuplot, "\nset multiplot layout 2,%d columnsfirst\nset xlabel 'GiB written by users'\nset grid\n",
		count);
	for (int i = 0; i < count; i++) {
		plot_sizes(gnuplot, config, &results[i]);
		fprintf(gnuplot,
			"set title '%s: WA'\nset ylabel 'WA'\nset yrange [1:*]\nplot '-' with lines lw 2 "
			"notitle\n",
			sim_policy_names[results[i].policy]);
		plot_data(gnuplot, &results[i].world, UINT32_MAX);
	}
	fputs("unset multiplot\nunset output\n", gnuplot);
}

/*
 * Where the picture is made: a new file beside its own, so that half a picture never replaces a whole one, or,
 * where that is a device or a pipe, itself. With a folder in front: gnuplot has its own way with "|" and "~".
 */
struct picture {
	char path[PATH_MAX], made_at[PATH_MAX];
	bool apart;
};

static bool make_apart(struct picture *picture)
{
	int length = snprintf(picture->made_at, PATH_MAX, "%s.XXXXXX", picture->path);
	mode_t mask = umask(0);
	umask(mask);
	int fd = length < PATH_MAX ? mkstemp(picture->made_at) : -1;
	if (fd < 0)
		return false;
	(void)!fchmod(fd, 0666 & ~mask);
	close(fd);
	return true;
}

static bool begin_picture(struct picture *picture, const char *path)
{
	int length = snprintf(picture->path, PATH_MAX, "%s%s", *path == '/' ? "" : "./", path);
	struct stat status;
	bool exists = !lstat(path, &status);
	if (!*path || length >= PATH_MAX || strchr(path, '\n') || (exists && access(path, W_OK)) ||
	    (exists && S_ISDIR(status.st_mode)))
		return false;
	picture->apart = !exists || S_ISREG(status.st_mode);
	strcpy(picture->made_at, picture->path);
	return !picture->apart || make_apart(picture);
}

static bool cannot_write(const char *path)
{
	fprintf(stderr, "lcpfs simulate: --plot: cannot write %s\n", path);
	return false;
}

bool sim_report_plot_possible(const char *path)
{
	struct picture picture;
	if (system("gnuplot --version >/dev/null 2>&1")) {
		fputs("lcpfs simulate: --plot needs gnuplot (Debian: apt-get install gnuplot-nox)\n", stderr);
		return false;
	}
	if (!begin_picture(&picture, path))
		return cannot_write(path);
	if (picture.apart)
		unlink(picture.made_at);
	return true;
}

static bool draw(const struct sim_config *config, const struct sim_result *results, int count,
		 const char *made_at, const char *path)
{
	FILE *gnuplot = popen("gnuplot", "w");
	if (gnuplot) {
		signal(SIGPIPE, SIG_IGN); /* it may end before it has read everything */
		plot_all(gnuplot, config, results, count, made_at);
		if (pclose(gnuplot) == 0)
			return true;
	}
	fprintf(stderr, "lcpfs simulate: --plot: gnuplot failed on %s\n", path);
	return false;
}

bool sim_report_plot(const struct sim_config *config, const struct sim_result *results, int count,
		     const char *path)
{
	struct picture picture;
	if (!begin_picture(&picture, path))
		return cannot_write(path);
	bool good = draw(config, results, count, picture.made_at, path);
	if (good && picture.apart && rename(picture.made_at, picture.path))
		good = cannot_write(path);
	if (!good && picture.apart)
		unlink(picture.made_at);
	return good;
}
