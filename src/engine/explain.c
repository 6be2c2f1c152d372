/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decision in one English sentence with its numbers, what a person could do about it, and who gains most and
 * loses least.
 *
 * A sentence says what was compared, with the numbers that were compared (weigh.c). It says "moving" only of what
 * is being done: where nothing is handed out, as in mode observe, it says "would". Sizes are in the units of the
 * command line, and so are rates of writing. Epsilon, which nobody thinks in, is told as a share of that of those
 * concerned: how much less their clients wait. What is awaited is told with the time that it takes at the pace of
 * the partition since its size changed.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "engine/core.h"
#include "engine/formula.h"

enum { NAME_ROOM = 80, PER_M = 256 /* blocks */ };

const char *lcpfs_engine_verdict_name(enum lcpfs_engine_verdict verdict)
{
	static const char *const names[] = {"inconclusive", "improved", "hurt", "not_judged"};
	return (unsigned)verdict < ARRAY_LENGTH(names) ? names[verdict] : "unknown";
}

/* ---- parts of sentences ---- */

struct telling {
	const struct engine_core *core;
	const struct lcpfs_engine_decision *d;
	const struct engine_partition *from, *to; /* of the decision; NULL: free space, or nobody */
	const char *from_name, *to_name;
	char size[WORDS_ROOM], clients[NAME_ROOM + 16];
	char *text; /* being filled; what does not fit is left out */
	size_t room, length;
};

static void PRINTF_LIKE(2, 3) say(struct telling *t, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(t->text + t->length, t->room - t->length, format, arguments);
	va_end(arguments);
	if (length > 0)
		t->length = MIN_OF(t->length + (size_t)length, t->room - 1);
}

static const char *name_of(uint32_t id, const struct engine_partition *p)
{
	return p ? p->name : id == LCPFS_ENGINE_FREE ? "free space" : "a partition that is gone";
}

static void begin(struct telling *t, char *text, size_t room)
{
	t->text = text;
	t->room = room;
	t->length = 0;
	text[0] = '\0';
}

static void tell_of(struct telling *t, const struct engine_core *core, const struct lcpfs_engine_decision *d)
{
	t->core = core;
	t->d = d;
	t->from = engine_core_find(core, d->from_id);
	t->to = engine_core_find(core, d->to_id);
	t->from_name = name_of(d->from_id, t->from);
	t->to_name = name_of(d->to_id, t->to);
	words_blocks(t->size, (double)d->blocks);
	snprintf(t->clients, sizeof(t->clients), "clients of %s",
		 d->from_id == LCPFS_ENGINE_FREE ? t->to_name : "the two");
}

/* Of what clients of the two wait. */
static double share_of_waiting(const struct telling *t, double epsilon)
{
	double both = t->d->from.epsilon + t->d->to.epsilon;
	return both > 0 ? 100 * epsilon / both : 0;
}

static void say_waiting(struct telling *t, double percent, double error, const char *word)
{
	char text[WORDS_ROOM];
	say(t, "%s %%", words_number(text, percent));
	if (error > 0)
		say(t, " ± %s %%", words_number(text, error));
	say(t, " %s", word);
}

/* At its pace since its size changed; INFINITY: it writes nothing. */
static double seconds_for(const struct engine_core *core, const struct engine_partition *p, double blocks)
{
	double seconds = (double)(core->now_us - p->changed_us) / 1e6;
	return p->since_blocks > 0 && seconds > 0 ? fmax(blocks, 0) * seconds / p->since_blocks : INFINITY;
}

static void say_about(struct telling *t, const char *before, double seconds, const char *after)
{
	char text[WORDS_ROOM];
	if (isfinite(seconds))
		say(t, "%sabout %s%s", before, words_duration(text, seconds), after);
}

/* ---- who cannot, and why ---- */

static bool is_at_max(const struct engine_core *core, const struct engine_partition *p)
{
	return p->size + core->options.step_blocks > p->max;
}

static bool is_at_min(const struct engine_core *core, const struct engine_partition *p)
{
	return p->size < p->min + core->options.step_blocks;
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
	if (is_at_min(core, p))
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

static void say_free_is_kept(struct telling *t)
{
	char text[WORDS_ROOM];
	if (t->d->free_blocks)
		say(t, "the %s that are free are kept back for full writers",
		    words_blocks(text, (double)t->d->free_blocks));
	else
		say(t, "no space is free");
}

/* ---- nothing can move ---- */

/* Of those that can get something now, who gains most by it; NULL: nobody can. */
static const struct engine_partition *who_can_get(const struct engine_core *core)
{
	const struct engine_partition *best = NULL;
	for (size_t i = 0; i < core->count; i++)
		if (core->ranks[i].can_get && (!best || core->ranks[i].gain_step > best->gain_step))
			best = core->partitions[i];
	return best;
}

static void say_nobody_gets(struct telling *t)
{
	const struct engine_partition *most = engine_core_find(t->core, t->d->gains_most_id);
	size_t others = 0, at_max = 0;
	char why[NAME_ROOM];
	for (size_t i = 0; i < t->core->count; i++) {
		const struct engine_partition *p = t->core->partitions[i];
		bool gains = p != most && p->gain_step > 0;
		others += gains;
		at_max += gains && is_at_max(t->core, p);
	}
	if (!most)
		say(t, "nothing to move: no partition is known to gain from more space");
	else if (others && at_max == others && is_at_max(t->core, most))
		say(t, "nothing to move: all %zu partitions that would gain from more space are at their max",
		    others + 1);
	else
		say(t, "nothing to move: %s would gain most from more space, but is %s", most->name,
		    why_gets_nothing(t->core, most, why));
	if (others && !(at_max == others && is_at_max(t->core, most)))
		say(t, "; of %zu more that would gain, %zu at their max, %zu still to be measured or judged",
		    others, at_max, others - at_max);
}

/* The first two, and how many more. */
static void say_nobody_gives(struct telling *t, const struct engine_partition *to)
{
	char why[NAME_ROOM];
	size_t told = 0;
	say(t, "nothing can move: %s would gain from more space, but ", to->name);
	say_free_is_kept(t);
	for (size_t i = 0; i < t->core->count; i++) {
		const struct engine_partition *p = t->core->partitions[i];
		const char *reason = p == to ? NULL : why_gives_nothing(t->core, p, why);
		if (reason && ++told <= 2)
			say(t, ", %s is %s", p->name, reason);
	}
	if (told > 2)
		say(t, ", and %zu more can give nothing either", told - 2);
}

static void say_no_room(struct telling *t)
{
	const struct engine_partition *to = who_can_get(t->core);
	char why[NAME_ROOM];
	const char *reason = t->from ? why_gives_nothing(t->core, t->from, why) : NULL;
	if (!t->d->from_id && !t->d->to_id) {
		to ? say_nobody_gives(t, to) : say_nobody_gets(t);
		return;
	}
	say(t, "no room: ");
	if (t->to && is_at_max(t->core, t->to))
		say(t, "%s is %s", t->to_name, why_gets_nothing(t->core, t->to, why));
	else if (!t->from)
		say_free_is_kept(t);
	else if (reason)
		say(t, "%s, which loses least by giving, is %s", t->from_name, reason);
	else
		say(t, "%s is tried with what it gave last, before it gives more", t->from_name);
}

static void say_off(struct telling *t)
{
	say(t, "the engine is switched off (mode off): it measures, but decides and moves nothing");
}

static void say_few(struct telling *t)
{
	if (!t->core->count)
		say(t, "there are no partitions yet");
	else if (t->core->count == 1)
		say(t, "there is one partition only, and no free space that it could get");
	else
		say(t, "there is nobody to move anything to or from");
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

static void say_round(struct telling *t, const struct engine_partition *p)
{
	char written[WORDS_ROOM], size[WORDS_ROOM];
	words_two_blocks(written, p->since_blocks, size, (double)p->size);
	say(t, "%s has written %s of the %s that fill its space once", p->name, written, size);
	say_about(t, ", ", seconds_for(t->core, p, (double)p->size - p->since_blocks), " more");
}

/* Of those in the decision, or of all who is nearest. */
static void say_not_measured(struct telling *t)
{
	const struct engine_partition *p = t->to;
	if (!p || p->side.measured)
		p = t->from ? t->from : nearest_to_measured(t->core);
	say(t, "too early to know what space is worth: ");
	if (!p || p->side.measured)
		say(t, "what %s got last is not judged yet", p ? p->name : "somebody");
	else if (p->since_blocks <= 0 && !t->d->to_id && !t->d->from_id)
		say(t, "nothing was written since the pool was opened, or since sizes changed");
	else if (engine_core_settled(t->core, p))
		say(t, "%s has filled its space once and is being measured", p->name);
	else
		say_round(t, p);
}

/* ---- what is awaited ---- */

/* By when its effect must have been measured, or is given up (judge.c). */
static void say_measured_when(struct telling *t, const struct engine_partition *to)
{
	double left = (double)to->size - engine_window_sum(&to->window).work;
	double waited_s = (double)(t->core->now_us - to->changed_us) / 1e6;
	if (to->since_blocks > 0)
		say_about(t, ", at most ", seconds_for(t->core, to, left), " more");
	else
		say_about(t, "; without writing that is given up in ",
			  fmax(2 * t->core->cooldown_s.value - waited_s, 0), "");
}

/* The first of those whose gifts are judged as one, and how many more. */
static void say_givers(struct telling *t)
{
	size_t moves = 0;
	for (size_t i = 0; i < t->core->pending_count; i++)
		moves += t->core->pending[i].outcome.to_id == t->d->to_id;
	say(t, "%s from %s", t->size, t->from_name);
	if (moves > 1)
		say(t, " and, in %zu more move%s, others", moves - 1, moves > 2 ? "s" : "");
	say(t, " to %s", t->to_name);
}

static void say_wait(struct telling *t)
{
	char text[WORDS_ROOM];
	if (t->d->reason == LCPFS_ENGINE_WAIT_REPORT) {
		say(t, "%s from %s to %s are being moved", t->size, t->from_name, t->to_name);
	} else if (t->d->reason == LCPFS_ENGINE_WAIT_MEASURE) {
		say(t, "measuring what ");
		say_givers(t);
		say(t, " brought: %s should wait ", t->clients);
		say_waiting(t, share_of_waiting(t, t->d->expected_gain), 0, "less");
		if (t->to)
			say_measured_when(t, t->to);
	} else {
		say(t, "waiting for the effect of ");
		say_givers(t);
		say(t, ": ");
		if (t->to && t->to->since_blocks > 0) {
			say_round(t, t->to);
		} else if (t->to) {
			say(t, "%s has written nothing since", t->to_name);
			say_measured_when(t, t->to);
		}
		if (t->d->outcomes)
			say(t, " (effects took about %s so far)", words_duration(text, t->d->cooldown_s));
	}
}

/* ---- what was weighed ---- */

static void say_effects(struct telling *t)
{
	char saved[WORDS_ROOM], cost[WORDS_ROOM];
	double saving = t->d->expected_saving_blocks_s;
	say(t, ": %s should wait ", t->clients);
	say_waiting(t, share_of_waiting(t, t->d->expected_gain), share_of_waiting(t, t->d->expected_error),
		    "less");
	if (fabs(saving) < 1)
		say(t, ", and the device write as much as now");
	else
		say(t, ", and the device write %s/s %s", words_blocks(saved, fabs(saving)),
		    saving < 0 ? "more" : "less");
	if (!(t->d->cost_blocks > 0))
		return;
	say(t, "; %s are copied for it", words_blocks(cost, t->d->cost_blocks));
	say_about(t, ", saved again in ", saving > 0 ? t->d->cost_blocks / saving : INFINITY, "");
}

static void say_move(struct telling *t)
{
	const char *why = t->d->reason == LCPFS_ENGINE_EXPLORE ? "to learn, " : "";
	if (t->d->action == LCPFS_ENGINE_MOVE)
		say(t, "%smoving %s from %s to %s", why, t->size, t->from_name, t->to_name);
	else if (t->d->action == LCPFS_ENGINE_WOULD_MOVE)
		say(t, "%swould move %s from %s to %s, if this were not mode observe", why, t->size, t->from_name,
		    t->to_name);
	else
		say(t, "%s could get %s from %s (what is done next is decided among all partitions)", t->to_name,
		    t->size, t->from_name);
	say_effects(t);
}

static void say_balance(struct telling *t)
{
	char gain[WORDS_ROOM], loss[WORDS_ROOM];
	if (!(t->d->to.gain_per_block > 0)) {
		say(t, "in balance: %s would not gain from more space", t->to_name);
		return;
	}
	words_two_numbers(gain, share_of_waiting(t, t->d->to.gain_per_block * PER_M), loss,
			  share_of_waiting(t, t->d->from.gain_per_block * PER_M));
	say(t,
	    "in balance: of what clients of the two wait, 1M more for %s would save %s %%, and 1M less for %s "
	    "cost %s %%",
	    t->to_name, gain, t->from_name, loss);
}

/* What it is held against changes with time: when. */
static void say_noise(struct telling *t)
{
	double quantile = engine_t_quantile(t->d->significance, ENGINE_CERTAIN);
	char gain[WORDS_ROOM], noise[WORDS_ROOM];
	words_two_numbers(gain, share_of_waiting(t, t->d->expected_gain), noise,
			  share_of_waiting(t, quantile * t->d->measurement_error));
	say(t,
	    "not sure enough: with %s from %s to %s, %s should wait %s %% less, but as measured %s %% may "
	    "be chance",
	    t->size, t->from_name, t->to_name, t->clients, gain, noise);
	if (t->to)
		say_about(t, "; it is measured anew within ", seconds_for(t->core, t->to, (double)t->to->size),
			  "");
}

static void say_no_payback(struct telling *t)
{
	char saved[WORDS_ROOM], cost[WORDS_ROOM], left[WORDS_ROOM], known[WORDS_ROOM], share[WORDS_ROOM];
	say(t, "%s from %s to %s ", t->size, t->from_name, t->to_name);
	if (!engine_weigh_repays(t->d) && !(t->d->expected_saving_blocks_s > 0)) {
		say(t, "would make %s wait ", t->clients);
		say_waiting(t, share_of_waiting(t, t->d->expected_gain), 0, "less");
		say(t, ", but save no writing to make up for the %s to be copied",
		    words_blocks(cost, t->d->cost_blocks));
	} else if (!engine_weigh_repays(t->d)) {
		words_two_blocks(saved, engine_weigh_saved(t->d), cost, t->d->cost_blocks);
		say(t,
		    "would save %s of writing in the %s that the load is known for, less than the %s to be copied",
		    saved, words_duration(known, t->d->horizon_s), cost);
	} else {
		words_two_blocks(cost, engine_weigh_there_and_back(t->d), left, t->d->copying_budget);
		say(t,
		    "would pay, but may copy up to %s, there and back; moves may add %s %% to all writing, and of "
		    "that %s are left now",
		    cost, words_number(share, 100 * t->d->harm), left);
	}
}

/* Where blocks were counted, and not latency measured, there is no error (judge.c). */
static void say_undo(struct telling *t)
{
	double before = t->core->undo.epsilon_before;
	say(t, "%s %s from %s to %s%s: the move hurt, ",
	    t->d->action == LCPFS_ENGINE_MOVE ? "taking back" : "would take back", t->size, t->from_name,
	    t->to_name, t->d->action == LCPFS_ENGINE_WOULD_MOVE ? ", if this were not mode observe" : "");
	if (!(t->d->expected_error > 0) || !(before > 0)) {
		say(t, "more was copied since than it saves");
		return;
	}
	say(t, "clients wait ");
	say_waiting(t, 100 * t->d->expected_gain / before, 100 * t->d->expected_error / before, "longer");
}

static void say_retreat(struct telling *t)
{
	char lately[WORDS_ROOM], lost[WORDS_ROOM], left[WORDS_ROOM], back[WORDS_ROOM];
	say(t,
	    "%s towards the sizes that were set, %s from %s to %s: of the last %s written, %s would not have been "
	    "there; moves may cost %s now, beyond the %s that going back copies",
	    t->d->action == LCPFS_ENGINE_MOVE ? "going back" : "in mode on would go back", t->size, t->from_name,
	    t->to_name, words_blocks(lately, t->d->lately_blocks), words_blocks(lost, t->d->lost_blocks),
	    words_blocks(left, t->d->copying_budget), words_blocks(back, t->d->return_blocks));
}

static void say_call_back(struct telling *t)
{
	say(t, "free space is wanted: %s loses least by giving %s, its clients wait ", t->from_name, t->size);
	say_waiting(t, share_of_waiting(t, t->d->from.gain_per_block * (double)t->d->blocks), 0, "longer");
}

/* ---- what a person could do ---- */

static void advise_room(struct telling *t)
{
	const struct engine_partition *to = t->to ? t->to : who_can_get(t->core), *from = NULL;
	if (!to)
		to = engine_core_find(t->core, t->d->gains_most_id);
	if (to && is_at_max(t->core, to)) {
		say(t, "lcpfs set POOL %s max=SIZE lets it grow further", to->name);
		return;
	}
	for (size_t i = 0; i < t->core->count && !from; i++)
		if (t->core->partitions[i] != to && is_at_min(t->core, t->core->partitions[i]))
			from = t->core->partitions[i];
	if (to && from)
		say(t, "lcpfs set POOL %s min=SIZE lets it give; ", from->name);
	say(t, to ? "lcpfs grow POOL adds space" : "nothing");
}

/* ---- who gains most and loses least ---- */

/* A change of epsilon by 1M of space, of what clients of the two at the ends of the ranking wait. */
static const char *worth(const struct engine_partition *most, const struct engine_partition *least,
			 double per_block, char text[WORDS_ROOM])
{
	double both = (most ? most->side.epsilon : 0) + (least ? least->side.epsilon : 0);
	return words_number(text, both > 0 ? 100 * PER_M * per_block / both : 0);
}

static void say_ranking(struct telling *t)
{
	const struct engine_partition *most = engine_core_find(t->core, t->d->gains_most_id);
	const struct engine_partition *least = engine_core_find(t->core, t->d->loses_least_id);
	char text[WORDS_ROOM], why[NAME_ROOM];
	const char *reason = most ? why_gets_nothing(t->core, most, why) : NULL;
	if (most)
		say(t, "%s gains most from more space (1M saves %s %% of the waiting)%s%s", most->name,
		    worth(most, least, t->d->gains_most, text), reason ? " but is " : "", reason ? reason : "");
	else
		say(t, "no partition is known to gain from more space");
	reason = least ? why_gives_nothing(t->core, least, why) : NULL;
	if (engine_weigh_free_can_give(t->d))
		say(t, ", %s are free to give",
		    words_blocks(text, (double)(t->d->free_blocks - t->d->reserve_blocks)));
	else if (least)
		say(t, ", %s loses least by giving some (1M costs %s %%)%s%s", least->name,
		    worth(most, least, t->d->loses_least, text), reason ? " but is " : "", reason ? reason : "");
	else
		say(t, ", and nobody else could give it");
	if (most)
		say(t, "; the load is that of about the last %s, which foretold it best",
		    words_duration(text, most->demand.memory[t->core->foresight.best].seconds));
}

static void say_how_sure(struct telling *t)
{
	char text[WORDS_ROOM];
	if (t->d->outcomes)
		say(t, "; expectations are trusted by %.0f %% after %llu verdict%s", 100 * t->d->trust,
		    (unsigned long long)t->d->outcomes, t->d->outcomes == 1 ? "" : "s");
	else
		say(t, "; no move has been judged yet");
	if (t->d->sequence)
		say(t, "; this answer has stood for %s",
		    words_duration(text, (double)(t->d->now_us - t->d->since_us) / 1e6));
}

/* ---- the three lines ---- */

static const struct {
	const char *name;
	void (*say)(struct telling *t);
	const char *advice; /* NULL: nothing */
} reasons[LCPFS_ENGINE_REASON_END] = {
	[LCPFS_ENGINE_MODE_OFF] = {"mode_off", say_off,
				   "lcpfs tune POOL observe lets it say what it would move, on lets it move"},
	[LCPFS_ENGINE_FEW_PARTITIONS] = {"few_partitions", say_few,
					 "lcpfs grow POOL adds space, lcpfs add POOL NAME a partition"},
	[LCPFS_ENGINE_NOT_MEASURED] = {"not_measured", say_not_measured,
				       "nothing; it learns from what clients write"},
	[LCPFS_ENGINE_WAIT_REPORT] = {"wait_report", say_wait},
	[LCPFS_ENGINE_WAIT_EFFECT] = {"wait_effect", say_wait},
	[LCPFS_ENGINE_WAIT_MEASURE] = {"wait_measure", say_wait},
	[LCPFS_ENGINE_NO_ROOM] = {"no_room", say_no_room},
	[LCPFS_ENGINE_IN_BALANCE] = {"in_balance", say_balance, "nothing; no better sizes are known"},
	[LCPFS_ENGINE_WITHIN_NOISE] = {"within_noise", say_noise},
	[LCPFS_ENGINE_NO_PAYBACK] = {"no_payback", say_no_payback},
	[LCPFS_ENGINE_EXPLORE] = {"explore", say_move},
	[LCPFS_ENGINE_GAIN] = {"gain", say_move},
	[LCPFS_ENGINE_UNDO] = {"undo", say_undo},
	[LCPFS_ENGINE_CALL_BACK] = {"call_back", say_call_back},
	[LCPFS_ENGINE_RETREAT] = {"retreat", say_retreat},
};

static void say_advice(struct telling *t)
{
	enum lcpfs_engine_reason reason = t->d->reason;
	const char *advice = reasons[reason].advice;
	if (t->d->action == LCPFS_ENGINE_WOULD_MOVE)
		say(t, "lcpfs tune POOL on lets it move");
	else if (t->d->action == LCPFS_ENGINE_MOVE)
		say(t, "nothing; lcpfs tune POOL observe would stop it");
	else if (reason == LCPFS_ENGINE_FEW_PARTITIONS && !t->core->count)
		say(t, "lcpfs add POOL NAME makes a partition");
	else if (reason == LCPFS_ENGINE_NO_ROOM)
		advise_room(t);
	else if (reason == LCPFS_ENGINE_WITHIN_NOISE || reason == LCPFS_ENGINE_NO_PAYBACK)
		say(t, "nothing; who knows better says so: lcpfs resize POOL %s SIZE", t->to_name);
	else
		say(t, "%s", advice ? advice : "nothing; it goes on by itself");
}

const char *lcpfs_engine_reason_name(enum lcpfs_engine_reason reason)
{
	return (unsigned)reason < LCPFS_ENGINE_REASON_END ? reasons[reason].name : "unknown";
}

void engine_explain(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	struct telling t;
	tell_of(&t, core, d);
	begin(&t, d->sentence, sizeof(d->sentence));
	reasons[d->reason].say(&t);
	begin(&t, d->advice, sizeof(d->advice));
	say_advice(&t);
	begin(&t, d->ranking, sizeof(d->ranking));
	say_ranking(&t);
	say_how_sure(&t);
}
