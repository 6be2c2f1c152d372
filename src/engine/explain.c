/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decision in one English sentence with its numbers, and who gains most and loses least in another.
 *
 * A sentence says what was compared, with the numbers that were compared (weigh.c). It says "moving" only of what
 * is being done: where nothing is handed out, as in mode observe, it says "would". Sizes are in the units of the
 * command line, and so are rates of writing; epsilon is told per M of space.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "engine/core.h"
#include "engine/formula.h"

enum { NAME_ROOM = 80, PER_M = 256 /* blocks */ };

static const char *const reason_names[LCPFS_ENGINE_REASON_END] = {
	"mode_off",   "few_partitions", "not_measured", "wait_report", "wait_effect", "wait_measure", "no_room",
	"in_balance", "within_noise",   "no_payback",   "explore",     "gain",        "undo",         "call_back",
	"retreat",
};

const char *lcpfs_engine_reason_name(enum lcpfs_engine_reason reason)
{
	return (unsigned)reason < LCPFS_ENGINE_REASON_END ? reason_names[reason] : "unknown";
}

const char *lcpfs_engine_verdict_name(enum lcpfs_engine_verdict verdict)
{
	static const char *const names[] = {"inconclusive", "improved", "hurt", "not_judged"};

	return (unsigned)verdict < ARRAY_LENGTH(names) ? names[verdict] : "unknown";
}

/* ---- parts of sentences ---- */

struct line { /* being filled; what does not fit is left out */
	char *text;
	size_t room, length;
};

static void PRINTF_LIKE(2, 3) say(struct line *line, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line->text + line->length, line->room - line->length, format, arguments);
	va_end(arguments);
	if (length > 0)
		line->length = MIN_OF(line->length + (size_t)length, line->room - 1);
}

static const char *name_of(const struct engine_core *core, uint32_t id, char room[NAME_ROOM])
{
	const struct engine_partition *p = engine_core_find(core, id);
	if (id == LCPFS_ENGINE_FREE)
		return "free space";
	if (p && p->name[0])
		return p->name;
	snprintf(room, NAME_ROOM, "partition %u", id);
	return room;
}

struct names {
	char from_room[NAME_ROOM], to_room[NAME_ROOM], size[WORDS_ROOM];
	const char *from, *to;
};

static struct names *names_of(const struct engine_core *core, const struct lcpfs_engine_decision *d,
			      struct names *n)
{
	n->from = name_of(core, d->from_id, n->from_room);
	n->to = name_of(core, d->to_id, n->to_room);
	words_blocks(n->size, (double)d->blocks);
	return n;
}

/* ± where there is an error to tell. */
static void say_with_error(struct line *line, double value, double error)
{
	char text[WORDS_ROOM];
	say(line, "%s", words_number(text, value));
	if (error > 0)
		say(line, " ± %s", words_number(text, error));
}

/* ---- who cannot, and why ---- */

static bool is_at_max(const struct engine_core *core, const struct engine_partition *p)
{
	return p->size + core->options.step_blocks > p->max;
}

/* Why it can get nothing now, after "NAME is "; NULL: it can. */
static const char *why_gets_nothing(const struct engine_core *core, const struct engine_partition *p,
				    char room[NAME_ROOM])
{
	char max[WORDS_ROOM];
	if (is_at_max(core, p)) {
		snprintf(room, NAME_ROOM, "at its max (%s)", words_blocks(max, (double)p->max));
		return room;
	}
	if (p->awaited)
		return "waited for: what it got last is not judged yet";
	return p->side.measured ? NULL : "not measured at its present size yet";
}

/* Why it can give nothing now, likewise. */
static const char *why_gives_nothing(const struct engine_core *core, const struct engine_partition *p,
				     char room[NAME_ROOM])
{
	uint64_t step = core->options.step_blocks;
	char size[WORDS_ROOM];
	words_blocks(size, (double)p->size);
	if (p->size < p->min + step)
		snprintf(room, NAME_ROOM, "at its min (%s)", size);
	else if (p->size < engine_core_least(core, p) + step)
		snprintf(room, NAME_ROOM, "as small as its data allow (%s)", size);
	else if (p->size < p->side.floor_blocks + step)
		snprintf(room, NAME_ROOM, "left alone at %s: less failed, or hurt, lately", size);
	else if (p->awaited && engine_core_held(core, p))
		return "waited for: what it got last is not judged yet";
	else if (engine_core_held(core, p))
		return "not measured at its present size yet";
	else
		return NULL;
	return room;
}

static void say_free_is_kept(struct line *line, uint64_t free_blocks)
{
	char text[WORDS_ROOM];
	if (free_blocks)
		say(line, "the %s that are free are kept back for full writers",
		    words_blocks(text, (double)free_blocks));
	else
		say(line, "no space is free");
}

/* ---- nothing can move ---- */

static const struct engine_partition *gains_most(const struct engine_core *core, bool only_who_can)
{
	const struct engine_partition *best = NULL;
	for (size_t i = 0; i < core->count; i++) {
		const struct engine_rank *r = &core->ranks[i];
		if (r->gain_step > (best ? best->gain_step : 0) && (r->can_get || !only_who_can))
			best = core->partitions[i];
	}
	return best;
}

static void say_nobody_gets(struct line *line, const struct engine_core *core)
{
	const struct engine_partition *most = gains_most(core, false);
	size_t gain = 0, at_max = 0;
	char why[NAME_ROOM], name[NAME_ROOM];
	for (size_t i = 0; i < core->count; i++) {
		gain += core->ranks[i].gain_step > 0;
		at_max += core->ranks[i].gain_step > 0 && is_at_max(core, core->partitions[i]);
	}
	if (!most) {
		say(line, "nothing to move: no partition is known to gain from more space");
		return;
	}
	if (at_max == gain && gain > 1) {
		say(line, "nothing to move: all %zu partitions that would gain from more space are at their max",
		    gain);
		return;
	}
	say(line, "nothing to move: %s would gain most from more space, but is %s", name_of(core, most->id, name),
	    why_gets_nothing(core, most, why));
	if (gain > 1)
		say(line, "; of %zu more that would gain, %zu at their max, %zu still to be measured or judged",
		    gain - 1, at_max - is_at_max(core, most), gain - at_max - !is_at_max(core, most));
}

/* The first two, and how many more. */
static void say_nobody_gives(struct line *line, const struct engine_core *core, const struct engine_partition *to,
			     const struct lcpfs_engine_decision *d)
{
	char why[NAME_ROOM], name[NAME_ROOM];
	size_t told = 0;
	say(line, "nothing can move: %s would gain from more space, but ", name_of(core, to->id, name));
	say_free_is_kept(line, d->free_blocks);
	for (size_t i = 0; i < core->count; i++) {
		const struct engine_partition *p = core->partitions[i];
		const char *reason = p == to ? NULL : why_gives_nothing(core, p, why);
		if (reason && ++told <= 2)
			say(line, ", %s is %s", name_of(core, p->id, name), reason);
	}
	if (told > 2)
		say(line, ", and %zu more can give nothing either", told - 2);
}

static void say_no_pair(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d)
{
	const struct engine_partition *to = gains_most(core, true);
	if (to)
		say_nobody_gives(line, core, to, d);
	else
		say_nobody_gets(line, core);
}

/* Of two that were weighed. */
static void say_no_room(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
			const struct names *n)
{
	const struct engine_partition *from = engine_core_find(core, d->from_id);
	const struct engine_partition *to = engine_core_find(core, d->to_id);
	char why[NAME_ROOM];
	const char *reason = from ? why_gives_nothing(core, from, why) : NULL;
	say(line, "no room: ");
	if (to && is_at_max(core, to))
		say(line, "%s is %s", n->to, why_gets_nothing(core, to, why));
	else if (!from)
		say_free_is_kept(line, d->free_blocks);
	else if (reason)
		say(line, "%s, which loses least by giving, is %s", n->from, reason);
	else
		say(line, "%s is tried with what it gave last, before it gives more", n->from);
}

static void say_few(struct line *line, const struct engine_core *core)
{
	if (!core->count)
		say(line, "there are no partitions yet");
	else if (core->count == 1)
		say(line, "there is one partition only, and no free space that it could get");
	else
		say(line, "there is nobody to move anything to or from");
}

/* ---- not known yet ---- */

static double share_written(const struct engine_partition *p)
{
	return p->size ? p->since_blocks / (double)p->size : 0;
}

static const struct engine_partition *nearest_to_measured(const struct engine_core *core)
{
	const struct engine_partition *best = NULL;
	for (size_t i = 0; i < core->count; i++) {
		const struct engine_partition *p = core->partitions[i];
		if (!p->side.measured && (!best || share_written(p) > share_written(best)))
			best = p;
	}
	return best;
}

static void say_round(struct line *line, const struct engine_core *core, const struct engine_partition *p)
{
	char name[NAME_ROOM], written[WORDS_ROOM], size[WORDS_ROOM];
	words_two_blocks(written, p->since_blocks, size, (double)p->size);
	say(line, "%s has written %s of the %s that take its log round once", name_of(core, p->id, name), written,
	    size);
}

/* Of those in the decision, or of all who is nearest. */
static void say_not_measured(struct line *line, const struct engine_core *core,
			     const struct lcpfs_engine_decision *d)
{
	const struct engine_partition *p = engine_core_find(core, d->to_id);
	const struct engine_partition *from = engine_core_find(core, d->from_id);
	char name[NAME_ROOM];
	if (!p || p->side.measured)
		p = from ? from : nearest_to_measured(core);
	say(line, "not enough traffic yet to know what space is worth: ");
	if (!p || p->side.measured)
		say(line, "what %s got last is not judged yet", p ? name_of(core, p->id, name) : "somebody");
	else if (p->since_blocks <= 0 && !d->to_id && !d->from_id)
		say(line, "nothing was written since the pool was opened, or since sizes changed");
	else if (engine_core_settled(core, p))
		say(line, "%s is being measured, now that its log has gone round", name_of(core, p->id, name));
	else
		say_round(line, core, p);
}

/* ---- what is awaited ---- */

static void say_wait(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
		     const struct names *n)
{
	const struct engine_partition *to = engine_core_find(core, d->to_id);
	char text[WORDS_ROOM];
	if (d->reason == LCPFS_ENGINE_WAIT_REPORT) {
		say(line, "the move of %s from %s to %s is being carried out", n->size, n->from, n->to);
	} else if (d->reason == LCPFS_ENGINE_WAIT_MEASURE) {
		say(line,
		    "the effect of %s from %s to %s has arrived; measuring until a fall of epsilon by %s could be "
		    "told from the noise",
		    n->size, n->from, n->to, words_number(text, d->expected_gain));
	} else {
		say(line, "waiting for the effect of %s from %s to %s", n->size, n->from, n->to);
		if (to && to->since_blocks > 0) {
			say(line, ": ");
			say_round(line, core, to);
		} else {
			say(line, ": %s has written nothing since", n->to);
		}
		if (d->outcomes)
			say(line, " (effects took about %s s so far)", words_number(text, d->cooldown_s));
	}
}

/* ---- what was weighed ---- */

static double percent_of_epsilon(const struct lcpfs_engine_decision *d)
{
	double epsilon = d->from.epsilon + d->to.epsilon;
	return epsilon > 0 ? 100 * d->expected_gain / epsilon : 0;
}

static void say_effects(struct line *line, const struct lcpfs_engine_decision *d)
{
	char saved[WORDS_ROOM], cost[WORDS_ROOM], seconds[WORDS_ROOM], percent[WORDS_ROOM];
	say(line, ": epsilon of the two should fall by ");
	say_with_error(line, d->expected_gain, d->expected_error);
	say(line, " (%s %%), and writing by %s/s", words_number(percent, percent_of_epsilon(d)),
	    words_blocks(saved, d->expected_saving_blocks_s));
	if (d->cost_blocks > 0)
		say(line, "; copying %s for it is to be repaid within the %s s that demand is known for",
		    words_blocks(cost, d->cost_blocks), words_number(seconds, d->horizon_s));
}

static void say_move(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	const char *why = d->reason == LCPFS_ENGINE_EXPLORE ? "to learn, " : "";
	if (d->action == LCPFS_ENGINE_MOVE)
		say(line, "%smoving %s from %s to %s", why, n->size, n->from, n->to);
	else if (d->action == LCPFS_ENGINE_WOULD_MOVE)
		say(line, "%swould move %s from %s to %s, if this were not mode observe", why, n->size, n->from,
		    n->to);
	else
		say(line, "%s could get %s from %s (what is done next is decided among all partitions)", n->to,
		    n->size, n->from);
	say_effects(line, d);
}

static void say_balance(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char gain[WORDS_ROOM], loss[WORDS_ROOM];
	words_two_numbers(gain, d->to.gain_per_block * PER_M, loss, d->from.gain_per_block * PER_M);
	say(line, "in balance: epsilon would fall by %s per M that %s got, and rise by %s per M that %s gave",
	    gain, n->to, loss, n->from);
}

static void say_noise(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	double quantile = engine_t_quantile(d->significance, ENGINE_CERTAIN);
	char gain[WORDS_ROOM], noise[WORDS_ROOM], percent[WORDS_ROOM], error[WORDS_ROOM];
	words_two_numbers(gain, d->expected_gain, noise, quantile * d->measurement_error);
	if (d->expected_gain > quantile * d->measurement_error)
		say(line,
		    "%s from %s to %s should lower epsilon by %s, but moves like it brought %s %% ± %s %% of "
		    "what was expected of them",
		    n->size, n->from, n->to, gain, words_number(percent, 100 * d->past_ratio),
		    words_number(error, 100 * d->past_error));
	else
		say(line,
		    "%s from %s to %s should lower epsilon by %s, but as measured up to %s of that may be noise",
		    n->size, n->from, n->to, gain, noise);
}

static void say_no_payback(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char saved[WORDS_ROOM], cost[WORDS_ROOM], left[WORDS_ROOM], seconds[WORDS_ROOM];
	say(line, "%s from %s to %s ", n->size, n->from, n->to);
	if (!engine_weigh_repays(d) && !(d->expected_saving_blocks_s > 0)) {
		say(line,
		    "should lower epsilon by %s, but would save no writing that could repay the %s to be copied",
		    words_number(saved, d->expected_gain), words_blocks(cost, d->cost_blocks));
	} else if (!engine_weigh_repays(d)) {
		words_two_blocks(saved, engine_weigh_saved(d), cost, d->cost_blocks);
		say(line,
		    "would save %s of writing within the %s s that demand is known for, less than the %s to be "
		    "copied for it",
		    saved, words_number(seconds, d->horizon_s), cost);
	} else {
		words_two_blocks(cost, engine_weigh_there_and_back(d), left, d->copying_budget);
		say(line, "would pay, but may copy up to %s, there and back, and the harm bound leaves %s now",
		    cost, left);
	}
}

static void say_undo(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	say(line, "%s %s from %s to %s%s: the move hurt, epsilon rose by ",
	    d->action == LCPFS_ENGINE_MOVE ? "taking back" : "would take back", n->size, n->from, n->to,
	    d->action == LCPFS_ENGINE_WOULD_MOVE ? ", if this were not mode observe" : "");
	say_with_error(line, d->expected_gain, d->expected_error);
}

static void say_retreat(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char lately[WORDS_ROOM], lost[WORDS_ROOM], left[WORDS_ROOM], back[WORDS_ROOM];
	say(line,
	    "%s towards base sizes, %s from %s to %s: of the last %s written, %s were more than at base sizes; "
	    "the harm bound leaves %s beyond the %s that going back copies",
	    d->action == LCPFS_ENGINE_MOVE ? "going back" : "in mode on would go back", n->size, n->from, n->to,
	    words_blocks(lately, d->lately_blocks), words_blocks(lost, d->lost_blocks),
	    words_blocks(left, d->copying_budget), words_blocks(back, d->return_blocks));
}

static void say_call_back(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char loss[WORDS_ROOM];
	say(line, "free space is wanted: %s loses least by giving %s (epsilon rises by %s per M)", n->from,
	    n->size, words_number(loss, d->from.gain_per_block * PER_M));
}

/* ---- the two lines ---- */

void engine_explain_sentence(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	struct line line = {d->sentence, sizeof(d->sentence), 0};
	struct names room, *n = names_of(core, d, &room);
	d->sentence[0] = '\0';
	switch (d->reason) {
	case LCPFS_ENGINE_MODE_OFF:
		say(&line, "the engine is switched off (mode off): it measures, but decides and moves nothing");
		break;
	case LCPFS_ENGINE_FEW_PARTITIONS:
		say_few(&line, core);
		break;
	case LCPFS_ENGINE_NOT_MEASURED:
		say_not_measured(&line, core, d);
		break;
	case LCPFS_ENGINE_WAIT_REPORT:
	case LCPFS_ENGINE_WAIT_EFFECT:
	case LCPFS_ENGINE_WAIT_MEASURE:
		say_wait(&line, core, d, n);
		break;
	case LCPFS_ENGINE_NO_ROOM:
		if (d->from_id || d->to_id)
			say_no_room(&line, core, d, n);
		else
			say_no_pair(&line, core, d);
		break;
	case LCPFS_ENGINE_IN_BALANCE:
		say_balance(&line, d, n);
		break;
	case LCPFS_ENGINE_WITHIN_NOISE:
		say_noise(&line, d, n);
		break;
	case LCPFS_ENGINE_NO_PAYBACK:
		say_no_payback(&line, d, n);
		break;
	case LCPFS_ENGINE_EXPLORE:
	case LCPFS_ENGINE_GAIN:
		say_move(&line, d, n);
		break;
	case LCPFS_ENGINE_UNDO:
		say_undo(&line, d, n);
		break;
	case LCPFS_ENGINE_CALL_BACK:
		say_call_back(&line, d, n);
		break;
	case LCPFS_ENGINE_RETREAT:
		say_retreat(&line, d, n);
		break;
	case LCPFS_ENGINE_REASON_END:
		break;
	}
}

static void say_most(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d)
{
	const struct engine_partition *most = engine_core_find(core, d->gains_most_id);
	char name[NAME_ROOM], number[WORDS_ROOM], why[NAME_ROOM];
	const char *reason = most ? why_gets_nothing(core, most, why) : NULL;
	if (!most) {
		say(line, "no partition is known to gain from more space");
		return;
	}
	say(line, "%s gains most from more space (epsilon falls by %s per M)%s%s", name_of(core, most->id, name),
	    words_number(number, d->gains_most * PER_M), reason ? " but is " : "", reason ? reason : "");
}

static void say_least(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d)
{
	const struct engine_partition *least = engine_core_find(core, d->loses_least_id);
	char name[NAME_ROOM], number[WORDS_ROOM], why[NAME_ROOM];
	const char *reason = least ? why_gives_nothing(core, least, why) : NULL;
	if (engine_weigh_free_can_give(d))
		say(line, ", %s are free to give",
		    words_blocks(number, (double)(d->free_blocks - d->reserve_blocks)));
	else if (least)
		say(line, ", %s loses least by giving some (it rises by %s per M)%s%s",
		    name_of(core, least->id, name), words_number(number, d->loses_least * PER_M),
		    reason ? " but is " : "", reason ? reason : "");
	else
		say(line, ", and nobody else could give it");
}

void engine_explain_ranking(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	struct line line = {d->ranking, sizeof(d->ranking), 0};
	d->ranking[0] = '\0';
	say_most(&line, core, d);
	say_least(&line, core, d);
	say(&line, "; demand is that of the last %.0f turnover%s of the pool, which foretold it best; ",
	    d->demand_turnovers, d->demand_turnovers > 1 ? "s" : "");
	if (d->outcomes)
		say(&line, "expectations are trusted by %.0f %% after %llu outcome%s", 100 * d->trust,
		    (unsigned long long)d->outcomes, d->outcomes == 1 ? "" : "s");
	else
		say(&line, "no move has been judged yet");
	if (d->sequence)
		say(&line, "; this answer has stood for %.0f s", (double)(d->now_us - d->since_us) / 1e6);
}
