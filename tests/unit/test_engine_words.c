/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine says of its decisions is true: of each, whatever the load, every number and every reason in the
 * sentence is held against the decision's own fields and the partitions; and ten situations are told as they are.
 * (An eleventh, a partition that cannot be used, only the pool knows: test_pool_crash.)
 */
#include <math.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/words.h"
#include "engine_world.h"

enum { EVENT_TEXT_MAX = 367, M = 256 /* blocks */ };

/* ---- numbers in words ---- */

static void numbers_have_three_digits_and_no_exponents(void **state)
{
	static const struct {
		double number;
		const char *text;
	} numbers[] = {
		{0, "0"},	      {1e-7, "0"},	{0.00412, "0.00412"},
		{0.9996, "1.00"},     {12.34, "12.3"},	{99.96, "100"},
		{999.6, "1,000"},     {1234, "1,230"},	{699200, "699,000"},
		{-1234567, "-1,230,000"}, {1e300, "more than a million billions"}, {-0.5, "-0.500"},
	};
	static const struct {
		double bytes;
		const char *text;
	} sizes[] = {
		{0, "0"},	       {100, "0.10K"},	      {4096, "4.00K"},
		{61865984, "59.0M"}, {1610612736, "1.50G"}, {-4096, "-4.00K"},
	};
	char text[WORDS_ROOM], other[WORDS_ROOM];
	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		assert_string_equal(words_number(text, numbers[i].number), numbers[i].text);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_string_equal(words_bytes(text, sizes[i].bytes), sizes[i].text);
	words_two_numbers(text, 421.1, other, 421.3);
	assert_string_equal(text, "421.1");
	assert_string_equal(other, "421.3");
	words_two_blocks(text, 256000, other, 256001);
	assert_string_not_equal(text, other);
	words_two_numbers(text, 5, other, 5);
	assert_string_equal(text, "5.00");
}

static void times_are_told_in_the_unit_that_people_think_in(void **state)
{
	static const struct {
		double seconds;
		const char *text;
	} times[] = {
		{0, "1 s"},    {14.4, "14 s"},   {99, "99 s"},       {100, "2 min"},    {5940, "99 min"},
		{6000, "2 h"}, {172800, "48 h"}, {180000, "2 days"}, {1e7, "116 days"}, {1e12, "years"},
	};
	char text[WORDS_ROOM];
	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		assert_string_equal(words_duration(text, times[i].seconds), times[i].text);
}

/* ---- an oracle ---- */

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The number after `before`: "1,230", "59.0M". Sizes as blocks. */
static double number_after(const char *text, const char *before)
{
	const char *at = strstr(text, before);
	char digits[64];
	size_t n = 0;
	if (!at)
		fail_msg("\"%s\" lacks \"%s\"", text, before);
	for (at += strlen(before); *at == ',' || *at == '.' || *at == '-' || is_digit(*at); at++)
		if (*at != ',')
			digits[n++] = *at;
	digits[n] = '\0';
	double value = atof(digits);
	return *at == 'K' ? value / 4 : *at == 'M' ? value * M : *at == 'G' ? value * M * 1024 : value;
}

static bool matches(const char *text, const char *pattern)
{
	regex_t regex;
	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	bool found = regexec(&regex, text, 0, NULL, 0) == 0;
	regfree(&regex);
	return found;
}

static bool has_exponent(const char *text)
{
	for (const char *c = text; *c; c++)
		if (is_digit(*c) && c[1] == 'e' && (is_digit(c[2]) || c[2] == '+' || c[2] == '-'))
			return true;
	return false;
}

static void check_style(const char *text, size_t most)
{
	static const char *const no_words[] = {"epsilon", "turnover", "nan", "inf ", " blocks", "  "};
	bool bad = has_exponent(text) || strlen(text) > most;
	for (size_t i = 0; i < sizeof(no_words) / sizeof(no_words[0]); i++)
		bad |= strstr(text, no_words[i]) != NULL;
	if (bad)
		fail_msg("bad words: %s", text);
}

/* Of what is being done it says "…ing", of what is not it does not. */
static void check_verb(const struct lcpfs_engine_decision *d)
{
	bool says = begins(d->sentence, "moving") || begins(d->sentence, "to learn, moving") ||
		    begins(d->sentence, "taking back") || begins(d->sentence, "going back");
	bool does = d->action == LCPFS_ENGINE_MOVE && d->reason != LCPFS_ENGINE_CALL_BACK;
	if (says != does || (d->action == LCPFS_ENGINE_WOULD_MOVE && !strstr(d->sentence, "would")))
		fail_msg("action %d: %s", (int)d->action, d->sentence);
}

struct known { /* of one partition, asked from the engine */
	struct lcpfs_engine_partition p;
	struct lcpfs_engine_side side;
};

static struct known known_of(const struct world *w, const char *name)
{
	struct lcpfs_engine_decision d;
	struct known k;
	for (size_t i = 0; i < w->count; i++) {
		if (lcpfs_engine_get_partition(w->engine, w->id[i], &k.p) || strcmp(k.p.name, name))
			continue;
		assert_int_equal(lcpfs_engine_explain(w->engine, k.p.id, &d), 0);
		k.side = d.to_id == k.p.id ? d.to : d.from;
		return k;
	}
	fail_msg("who is \"%s\"?", name);
	return k;
}

/* Every "NAME is at its max (…)", "NAME … but is at its max (…)", and so for min, is so. */
static void check_limits(const struct world *w, const char *text, const char *what, bool max)
{
	for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) {
		uint64_t limit = 0;
		char size[WORDS_ROOM], told[WORDS_ROOM + 2];
		bool found = false;
		for (size_t i = 0; i < w->count; i++) {
			struct lcpfs_engine_partition p;
			if (lcpfs_engine_get_partition(w->engine, w->id[i], &p))
				continue;
			limit = max ? p.max_size_blocks : p.size_blocks;
			snprintf(told, sizeof(told), "(%s)", words_blocks(size, (double)limit));
			found |= begins(at + strlen(what), told) && strstr(text, p.name) &&
				 (max ? p.size_blocks + STEP > p.max_size_blocks
				      : p.size_blocks < p.min_size_blocks + STEP);
		}
		if (!found)
			fail_msg("nobody is: %s", text);
	}
}

/* What is told of `epsilon` after `before`, as a share of what clients of the two wait. */
static void check_share(const struct lcpfs_engine_decision *d, const char *before, double epsilon)
{
	double both = d->from.epsilon + d->to.epsilon, share = both > 0 ? 100 * epsilon / both : 0;
	double told = number_after(d->sentence, before);
	if (fabs(told - share) > 0.006 * fabs(share) + 1e-6)
		fail_msg("%g, and not %g: %s", share, told, d->sentence);
}

static void check_balance(const struct lcpfs_engine_decision *d)
{
	if (strstr(d->sentence, "would not gain")) {
		assert_true(!(d->to.gain_per_block > 0));
		return;
	}
	check_share(d, "would save ", d->to.gain_per_block * M);
	assert_true(number_after(d->sentence, "would save ") <= number_after(d->sentence, " cost "));
}

static void check_noise(const struct lcpfs_engine_decision *d)
{
	check_share(d, "should wait ", d->expected_gain);
	assert_true(number_after(d->sentence, "should wait ") <= number_after(d->sentence, "as measured "));
}

static void check_payback(const struct lcpfs_engine_decision *d)
{
	if (strstr(d->sentence, "may copy"))
		assert_true(number_after(d->sentence, "copy up to ") > number_after(d->sentence, "of that "));
	else if (strstr(d->sentence, "save no writing"))
		assert_true(!(d->expected_saving_blocks_s > 0));
	else
		assert_true(number_after(d->sentence, "would save ") <
			    number_after(d->sentence, "less than the "));
}

/* What it brings, and when its copying has come back. */
static void check_move(const struct lcpfs_engine_decision *d)
{
	double saving = d->expected_saving_blocks_s;
	char time[WORDS_ROOM], told[64];
	check_share(d, "should wait ", d->expected_gain);
	if (strstr(d->sentence, "as much as now"))
		assert_true(fabs(saving) < 1);
	else
		assert_true(fabs(number_after(d->sentence, "device write ") - fabs(saving)) <=
			    0.006 * fabs(saving) + 0.01);
	if (!(d->cost_blocks > 0) || !(saving > 0))
		return;
	snprintf(told, sizeof(told), "saved again in about %s", words_duration(time, d->cost_blocks / saving));
	assert_non_null(strstr(d->sentence, told));
}

static void check_nobody_gets(const struct world *w, const struct lcpfs_engine_decision *d)
{
	unsigned at_max = 0, told = 0;
	for (size_t i = 0; i < w->count; i++) {
		struct lcpfs_engine_partition p;
		if (lcpfs_engine_get_partition(w->engine, w->id[i], &p) == 0)
			at_max += p.size_blocks + STEP > p.max_size_blocks;
	}
	if (sscanf(d->sentence, "nothing to move: all %u partitions", &told) == 1)
		assert_true(told > 1 && told <= at_max);
}

static void check_nobody_gives(const struct lcpfs_engine_decision *d)
{
	assert_true(d->free_blocks < d->reserve_blocks + STEP);
	assert_int_equal(strstr(d->sentence, "no space is free") != NULL, d->free_blocks == 0);
}

static void check_waiting(const struct world *w, const struct lcpfs_engine_decision *d)
{
	const char *name = NULL;
	for (size_t i = 0; i < w->count && d->reason == LCPFS_ENGINE_WAIT_EFFECT; i++)
		name = w->id[i] == d->to_id ? "to" : name;
	if (name && strstr(d->sentence, "has written ") && !strstr(d->sentence, "nothing since"))
		assert_true(number_after(d->sentence, "has written ") <= number_after(d->sentence, " of the "));
	if (d->reason == LCPFS_ENGINE_WAIT_EFFECT)
		assert_int_equal(strstr(d->sentence, "so far") != NULL, d->outcomes > 0);
	if (name && d->to.since_change_blocks > 0 && d->to.since_change_s > 0) {
		double left = (double)d->to.size_blocks - d->to.since_change_blocks;
		char time[WORDS_ROOM], told[64];
		snprintf(told, sizeof(told), ", about %s more",
			 words_duration(time, left * d->to.since_change_s / d->to.since_change_blocks));
		if (!strstr(d->sentence, told))
			fail_msg("not \"%s\": %s", told, d->sentence);
	}
}

static void check_words(const struct world *w, const struct lcpfs_engine_decision *d)
{
	check_style(d->sentence, EVENT_TEXT_MAX);
	check_style(d->ranking, LCPFS_ENGINE_RANKING_MAX - 2);
	check_style(d->advice, LCPFS_ENGINE_ADVICE_MAX - 2);
	assert_true(*d->advice);
	check_verb(d);
	check_limits(w, d->sentence, "at its max ", true);
	check_limits(w, d->ranking, "at its max ", true);
	check_limits(w, d->sentence, "at its min ", false);
	check_limits(w, d->ranking, "at its min ", false);
	if (d->reason == LCPFS_ENGINE_EXPLORE || d->reason == LCPFS_ENGINE_GAIN)
		check_move(d);
	if (d->reason == LCPFS_ENGINE_IN_BALANCE)
		check_balance(d);
	if (d->reason == LCPFS_ENGINE_WITHIN_NOISE)
		check_noise(d);
	if (d->reason == LCPFS_ENGINE_NO_PAYBACK)
		check_payback(d);
	if (begins(d->sentence, "nothing to move"))
		check_nobody_gets(w, d);
	if (begins(d->sentence, "nothing can move"))
		check_nobody_gives(d);
	if (begins(d->sentence, "waiting"))
		check_waiting(w, d);
	assert_true(d->now_us - d->since_us <= w->now_us);
	assert_int_equal(strstr(d->ranking, "has stood for") != NULL, d->sequence > 0);
	assert_int_equal(strstr(d->ranking, "no move has been judged") != NULL, d->outcomes == 0);
}

/* ---- worlds ---- */

struct limits {
	const char *name;
	uint64_t min, size, max;
};

static void add(struct world *w, struct limits limits, struct load load)
{
	struct lcpfs_engine_spec spec = {.name = limits.name,
					 .size_blocks = limits.size,
					 .min_size_blocks = limits.min,
					 .max_size_blocks = limits.max};
	w->load[w->count] = load;
	w->size[w->count] = limits.size;
	assert_int_equal(lcpfs_engine_add(w->engine, &spec, &w->id[w->count]), 0);
	w->count++;
}

/* Every eighth second each partition is asked for, too. */
static struct lcpfs_engine_decision second(struct world *w)
{
	struct lcpfs_engine_decision d, e;
	world_second(w);
	assert_int_equal(lcpfs_engine_step(w->engine, w->now_us, world_move, w, &d), 0);
	check_words(w, &d);
	for (size_t i = 0; w->now_us / 1000000 % 8 == 0 && i <= w->count; i++) {
		assert_int_equal(lcpfs_engine_explain(w->engine, i ? w->id[i - 1] : 0, &e), 0);
		if (i)
			check_words(w, &e);
	}
	return d;
}

static const struct load idle = {.live = 4000};

static struct load busy(double live)
{
	return (struct load){.live = live, .writes_s = 4000, .reads_s = 500, .copies = 1, .noise = 0.05};
}

static struct load slow(double live)
{
	return (struct load){.live = live, .writes_s = 1000, .copies = 1, .noise = 0.05};
}

static void expect_within(struct world *w, unsigned seconds, const char *pattern)
{
	struct lcpfs_engine_decision d = {0};
	for (unsigned i = 0; i < seconds; i++) {
		d = second(w);
		if (matches(d.sentence, pattern))
			return;
	}
	fail_msg("it does not say \"%s\" but: %s", pattern, d.sentence);
}

/* What a person could do, as of the last second. */
static void expect_advice(struct world *w, const char *advice)
{
	struct lcpfs_engine_decision d;
	assert_int_equal(lcpfs_engine_explain(w->engine, 0, &d), 0);
	assert_string_equal(d.advice, advice);
}

/* ---- situations ---- */

static void idle_partitions_are_not_measured(void **state)
{
	struct world w;
	(void)state;
	world_init(&w, 20000, LCPFS_ENGINE_ON, 1);
	w.now_us = UINT64_C(5000000) * 1000000; /* the clock has run for two months */
	add(&w, (struct limits){"db", STEP, 6400, 12800}, idle);
	add(&w, (struct limits){"log", STEP, 6400, 12800}, idle);
	for (int i = 0; i < 20; i++) {
		struct lcpfs_engine_decision d = second(&w);
		assert_non_null(strstr(d.sentence, "nothing was written since the pool was opened"));
		assert_non_null(strstr(d.ranking, "no partition is known to gain"));
		assert_true(d.now_us - d.since_us <= 20 * 1000000); /* not since the clock began */
		assert_int_equal(lcpfs_engine_explain(w.engine, w.id[0], &d), 0);
		assert_true(d.to.since_change_s <= 20 && d.from.since_change_s <= 20);
	}
	expect_advice(&w, "nothing; it learns from what clients write");
	world_done(&w);
}

static void all_at_their_max_is_said(void **state)
{
	struct world w;
	(void)state;
	world_init(&w, 40000, LCPFS_ENGINE_ON, 2);
	add(&w, (struct limits){"db", STEP, 6400, 6400}, busy(5000));
	add(&w, (struct limits){"log", STEP, 6400, 6400}, busy(5000));
	expect_within(&w, 60, "^nothing to move: all 2 partitions that would gain .* are at their max$");
	expect_advice(&w, "lcpfs set POOL db max=SIZE lets it grow further");
	world_done(&w);
}

static void a_writer_at_its_max_is_named(void **state)
{
	struct world w;
	(void)state;
	world_init(&w, 40000, LCPFS_ENGINE_ON, 3);
	add(&w, (struct limits){"db", STEP, 6400, 6400}, busy(5000));
	add(&w, (struct limits){"log", STEP, 6400, 12800}, idle);
	expect_within(&w, 60, "^nothing to move: db would gain most .*, but is at its max \\(25.0M\\)$");
	expect_advice(&w, "lcpfs set POOL db max=SIZE lets it grow further");
	world_done(&w);
}

static void givers_at_their_min_are_named(void **state)
{
	struct world w;
	(void)state;
	world_init(&w, 12800 + STEP, LCPFS_ENGINE_ON, 4);
	add(&w, (struct limits){"db", STEP, 6400, 12800}, busy(5000));
	add(&w, (struct limits){"log", 6400, 6400, 12800}, idle);
	expect_within(&w, 60,
		      "^nothing can move: db would gain from more space, but the 256K that are free are kept "
		      "back for full writers, log is at its min \\(25.0M\\)$");
	expect_advice(&w, "lcpfs set POOL log min=SIZE lets it give; lcpfs grow POOL adds space");
	world_done(&w);
}

static void observing_says_would(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_OBSERVE, 5);
	expect_within(&w, 60,
		      "^(to learn, )?would move .* if this were not mode observe: clients of .* should wait "
		      "[0-9.]+ % ± [0-9.]+ % less, and the device write [0-9.]+[KM]/s less");
	expect_advice(&w, "lcpfs tune POOL on lets it move");
	for (int i = 0; i < 30; i++)
		d = second(&w);
	assert_int_equal(w.moves, 0);
	assert_int_equal(lcpfs_engine_explain(w.engine, 0, &d), 0);
	check_words(&w, &d);
	world_done(&w);
}

static void off_says_off(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_OFF, 6);
	expect_within(&w, 30, "^the engine is switched off \\(mode off\\)");
	expect_advice(&w, "lcpfs tune POOL observe lets it say what it would move, on lets it move");
	assert_int_equal(lcpfs_engine_explain(w.engine, w.id[0], &d), 0);
	assert_int_equal(d.reason, LCPFS_ENGINE_MODE_OFF);
	world_done(&w);
}

static void noise_says_what_it_was_held_against(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	(void)state;
	world_init(&w, 40000, LCPFS_ENGINE_ON, 7);
	for (int i = 0; i < 3; i++) {
		struct load load = busy(10000);
		load.noise = 0.8;
		load.size_blind = i == 1;
		add(&w, (struct limits){(char *[]){"a", "b", "c"}[i], STEP, 13000, 40000}, load);
	}
	expect_within(
		&w, 400,
		"^not sure enough: with .* clients of .* should wait [0-9.]+ % less, but as measured [0-9.]+ % "
		"may be chance; it is measured anew within about [0-9]+ (s|min)$");
	assert_int_equal(lcpfs_engine_explain(w.engine, 0, &d), 0);
	assert_true(begins(d.advice, "nothing; who knows better says so: lcpfs resize POOL "));
	world_done(&w);
}

static void just_moved_says_what_is_awaited(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	struct known hot;
	(void)state;
	world_init(&w, 46000, LCPFS_ENGINE_ON, 8);
	add(&w, (struct limits){"hot", STEP, 11000, 40000}, slow(10000));
	add(&w, (struct limits){"cold", STEP, 34000, 40000}, slow(15000));
	expect_within(&w, 100, "^(to learn, )?moving 256K from ");
	assert_int_equal(w.moves, 1);
	expect_within(&w, 3,
		      "^waiting for the effect of 256K from .*: .* has written [0-9.]+M of the [0-9.]+M that fill "
		      "its space once, about [0-9]+ s more$");
	expect_advice(&w, "nothing; it goes on by itself");
	assert_int_equal(lcpfs_engine_explain(w.engine, 0, &d), 0);
	/* of the one that got it the same is said, not what it could get next */
	hot = known_of(&w, d.to_id == w.id[0] ? "hot" : "cold");
	assert_int_equal(hot.p.id, d.to_id);
	assert_int_equal(lcpfs_engine_explain(w.engine, d.to_id, &d), 0);
	assert_true(begins(d.sentence, "waiting for the effect of 256K from "));
	world_done(&w);
}

static void just_started_waits_for_a_round(void **state)
{
	struct world w;
	uint8_t saved[64 * 1024];
	(void)state;
	world_init(&w, 40000, LCPFS_ENGINE_ON, 9);
	add(&w, (struct limits){"hot", STEP, 11000, 40000}, slow(10000));
	world_run(&w, 60);
	size_t length = lcpfs_engine_save(w.engine, saved, sizeof(saved));
	assert_true(length && length <= sizeof(saved));
	world_done(&w);

	world_init(&w, 40000, LCPFS_ENGINE_ON, 9);
	add(&w, (struct limits){"hot", STEP, 11000, 40000}, slow(10000));
	assert_int_equal(lcpfs_engine_load(w.engine, saved, length), 0);
	w.now_us = UINT64_C(3) * 86400 * 1000000;
	expect_within(&w, 1, "^too early to know what space is worth: ");
	expect_within(&w, 5, ": hot has written .*M of the 43.0M that fill its space once, about [0-9]+ s more$");
	world_done(&w);
}

static void there_may_be_nobody_to_move_to(void **state)
{
	struct world w;
	(void)state;
	world_init(&w, 6400 + STEP, LCPFS_ENGINE_ON, 10);
	expect_within(&w, 1, "^there are no partitions yet$");
	expect_advice(&w, "lcpfs add POOL NAME makes a partition");
	add(&w, (struct limits){"db", STEP, 6400, 12800}, busy(5000));
	expect_within(&w, 1, "^there is one partition only, and no free space");
	expect_advice(&w, "lcpfs grow POOL adds space, lcpfs add POOL NAME a partition");
	world_done(&w);
}

/* ---- whatever the load ---- */

static double drawn(struct world *w, double low, double high)
{
	return low * pow(high / low, uniform01(w));
}

static void add_drawn(struct world *w, uint64_t size)
{
	static const char *const names[WORLD_MAX] = {"a", "b", "db", "log", "mail", "vm", "www", "x"};
	struct load load = {
		.live = (double)size * drawn(w, 0.2, 0.95),
		.writes_s = uniform01(w) < 0.2 ? 0 : drawn(w, 10, 8000),
		.reads_s = uniform01(w) < 0.5 ? 0 : drawn(w, 10, 8000),
		.copies = uniform01(w) < 0.2 ? 0 : drawn(w, 0.2, 2),
		.noise = drawn(w, 0.01, 1),
		.size_blind = uniform01(w) < 0.2,
		.buffered = uniform01(w) < 0.1,
	};
	add(w,
	    (struct limits){names[w->count], uniform01(w) < 0.3 ? size : STEP, size,
			    uniform01(w) < 0.3 ? size : 2 * size},
	    load);
}

static void change_something(struct world *w)
{
	size_t i = (size_t)(uniform01(w) * (double)w->count);
	double what = uniform01(w);
	if (what < 0.5)
		w->load[i].writes_s = uniform01(w) < 0.3 ? 0 : drawn(w, 10, 8000);
	else if (what < 0.6)
		assert_int_equal(lcpfs_engine_set_mode(w->engine, (int)(uniform01(w) * 3)), 0);
	else if (what < 0.8)
		w->load[i].noise = drawn(w, 0.01, 1);
}

static void whatever_the_load_the_words_are_true(void **state)
{
	unsigned seen[LCPFS_ENGINE_REASON_END] = {0};
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct world w;
		unsigned count = 1 + seed % 6;
		world_init(&w, 60000, seed % 8 ? LCPFS_ENGINE_ON : LCPFS_ENGINE_OBSERVE, seed);
		for (unsigned i = 0; i < count; i++)
			add_drawn(&w, 60000 / count / STEP * STEP);
		for (int t = 0; t < 400; t++) {
			if (uniform01(&w) < 0.03)
				change_something(&w);
			seen[second(&w).reason]++;
		}
		world_done(&w);
	}
	for (int r = 0; r < LCPFS_ENGINE_REASON_END; r++)
		print_message("# %s: %u\n", lcpfs_engine_reason_name((enum lcpfs_engine_reason)r), seen[r]);
	assert_true(seen[LCPFS_ENGINE_NO_ROOM] && seen[LCPFS_ENGINE_WITHIN_NOISE] &&
		    seen[LCPFS_ENGINE_NO_PAYBACK] && seen[LCPFS_ENGINE_IN_BALANCE] &&
		    seen[LCPFS_ENGINE_UNDO] && seen[LCPFS_ENGINE_WAIT_MEASURE]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_have_three_digits_and_no_exponents),
		cmocka_unit_test(times_are_told_in_the_unit_that_people_think_in),
		cmocka_unit_test(idle_partitions_are_not_measured),
		cmocka_unit_test(all_at_their_max_is_said),
		cmocka_unit_test(a_writer_at_its_max_is_named),
		cmocka_unit_test(givers_at_their_min_are_named),
		cmocka_unit_test(observing_says_would),
		cmocka_unit_test(off_says_off),
		cmocka_unit_test(noise_says_what_it_was_held_against),
		cmocka_unit_test(just_moved_says_what_is_awaited),
		cmocka_unit_test(just_started_waits_for_a_round),
		cmocka_unit_test(there_may_be_nobody_to_move_to),
		cmocka_unit_test(whatever_the_load_the_words_are_true),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
