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
	char from_room[NAME_ROOM], to_room[NAME_ROOM], size[WORDS_ROOM], clients[NAME_ROOM + 16];
	const char *from, *to;
};

static struct names *names_of(const struct engine_core *core, const struct lcpfs_engine_decision *d,
			      struct names *n)
{
	n->from = name_of(core, d->from_id, n->from_room);
	n->to = name_of(core, d->to_id, n->to_room);
	words_blocks(n->size, (double)d->blocks);
	snprintf(n->clients, sizeof(n->clients), "clients of %s",
		 d->from_id == LCPFS_ENGINE_FREE ? n->to : "the two");
	return n;
}

/* Of what clients of the two wait. */
static double share_of_waiting(const struct lcpfs_engine_decision *d, double epsilon)
{
	double both = d->from.epsilon + d->to.epsilon;
	return both > 0 ? 100 * epsilon / both : 0;
}

static void say_waiting(struct line *line, double percent, double error, const char *word)
{
	char text[WORDS_ROOM];
	say(line, "%s %%", words_number(text, percent));
	if (error > 0)
		say(line, " ± %s %%", words_number(text, error));
	say(line, " %s", word);
}

/* At its pace since its size changed; INFINITY: it writes nothing. */
static double seconds_for(const struct engine_core *core, const struct engine_partition *p, double blocks)
{
	double seconds = (double)(core->now_us - p->changed_us) / 1e6;
	return p->since_blocks > 0 && seconds > 0 ? fmax(blocks, 0) * seconds / p->since_blocks : INFINITY;
}

static void say_about(struct line *line, const char *before, double seconds, const char *after)
{
	char text[WORDS_ROOM];
	if (isfinite(seconds))
		say(line, "%sabout %s%s", before, words_duration(text, seconds), after);
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
	say(line, "%s has written %s of the %s that fill its space once", name_of(core, p->id, name), written,
	    size);
	say_about(line, ", ", seconds_for(core, p, (double)p->size - p->since_blocks), " more");
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
	say(line, "too early to know what space is worth: ");
	if (!p || p->side.measured)
		say(line, "what %s got last is not judged yet", p ? name_of(core, p->id, name) : "somebody");
	else if (p->since_blocks <= 0 && !d->to_id && !d->from_id)
		say(line, "nothing was written since the pool was opened, or since sizes changed");
	else if (engine_core_settled(core, p))
		say(line, "%s has filled its space once and is being measured", name_of(core, p->id, name));
	else
		say_round(line, core, p);
}

/* ---- what is awaited ---- */

/* By when its effect must have been measured, or is given up (judge.c). */
static void say_measured_when(struct line *line, const struct engine_core *core, const struct engine_partition *to)
{
	double left = (double)to->size - engine_window_sum(&to->window).work;
	double waited_s = (double)(core->now_us - to->changed_us) / 1e6;
	if (to->since_blocks > 0)
		say_about(line, ", at most ", seconds_for(core, to, left), " more");
	else
		say_about(line, "; without writing that is given up in ",
			  fmax(2 * core->cooldown_s.value - waited_s, 0), "");
}

/* The first of those whose gifts are judged as one, and how many more. */
static void say_givers(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
		       const struct names *n)
{
	size_t moves = 0;
	for (size_t i = 0; i < core->pending_count; i++)
		moves += core->pending[i].outcome.to_id == d->to_id;
	say(line, "%s from %s", n->size, n->from);
	if (moves > 1)
		say(line, " and, in %zu more move%s, others", moves - 1, moves > 2 ? "s" : "");
	say(line, " to %s", n->to);
}

static void say_wait(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
		     const struct names *n)
{
	const struct engine_partition *to = engine_core_find(core, d->to_id);
	char text[WORDS_ROOM];
	if (d->reason == LCPFS_ENGINE_WAIT_REPORT) {
		say(line, "%s from %s to %s are being moved", n->size, n->from, n->to);
	} else if (d->reason == LCPFS_ENGINE_WAIT_MEASURE) {
		say(line, "measuring what ");
		say_givers(line, core, d, n);
		say(line, " brought: %s should wait ", n->clients);
		say_waiting(line, share_of_waiting(d, d->expected_gain), 0, "less");
		if (to)
			say_measured_when(line, core, to);
	} else {
		say(line, "waiting for the effect of ");
		say_givers(line, core, d, n);
		say(line, ": ");
		if (to && to->since_blocks > 0) {
			say_round(line, core, to);
		} else if (to) {
			say(line, "%s has written nothing since", n->to);
			say_measured_when(line, core, to);
		}
		if (d->outcomes)
			say(line, " (effects took about %s so far)", words_duration(text, d->cooldown_s));
	}
}

/* ---- what was weighed ---- */

static void say_effects(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char saved[WORDS_ROOM], cost[WORDS_ROOM];
	double saving = d->expected_saving_blocks_s;
	say(line, ": %s should wait ", n->clients);
	say_waiting(line, share_of_waiting(d, d->expected_gain), share_of_waiting(d, d->expected_error), "less");
	if (fabs(saving) < 1)
		say(line, ", and the device write as much as now");
	else
		say(line, ", and the device write %s/s %s", words_blocks(saved, fabs(saving)),
		    saving < 0 ? "more" : "less");
	if (!(d->cost_blocks > 0))
		return;
	say(line, "; %s are copied for it", words_blocks(cost, d->cost_blocks));
	say_about(line, ", saved again in ", saving > 0 ? d->cost_blocks / saving : INFINITY, "");
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
	say_effects(line, d, n);
}

static void say_balance(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char gain[WORDS_ROOM], loss[WORDS_ROOM];
	if (!(d->to.gain_per_block > 0)) {
		say(line, "in balance: %s would not gain from more space", n->to);
		return;
	}
	words_two_numbers(gain, share_of_waiting(d, d->to.gain_per_block * PER_M), loss,
			  share_of_waiting(d, d->from.gain_per_block * PER_M));
	say(line,
	    "in balance: of what clients of the two wait, 1M more for %s would save %s %%, and 1M less for %s "
	    "cost %s %%",
	    n->to, gain, n->from, loss);
}

/* What it is held against changes with time: when. */
static void say_noise(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
		      const struct names *n)
{
	const struct engine_partition *to = engine_core_find(core, d->to_id);
	double quantile = engine_t_quantile(d->significance, ENGINE_CERTAIN);
	char gain[WORDS_ROOM], noise[WORDS_ROOM];
	words_two_numbers(gain, share_of_waiting(d, d->expected_gain), noise,
			  share_of_waiting(d, quantile * d->measurement_error));
	say(line, "not sure enough: with %s from %s to %s, %s should wait %s %% less, but as measured %s %% may "
	    "be chance", n->size, n->from, n->to, n->clients, gain, noise);
	if (to)
		say_about(line, "; it is measured anew within ", seconds_for(core, to, (double)to->size), "");
}

static void say_no_payback(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char saved[WORDS_ROOM], cost[WORDS_ROOM], left[WORDS_ROOM], known[WORDS_ROOM], share[WORDS_ROOM];
	say(line, "%s from %s to %s ", n->size, n->from, n->to);
	if (!engine_weigh_repays(d) && !(d->expected_saving_blocks_s > 0)) {
		say(line, "would make %s wait ", n->clients);
		say_waiting(line, share_of_waiting(d, d->expected_gain), 0, "less");
		say(line, ", but save no writing to make up for the %s to be copied",
		    words_blocks(cost, d->cost_blocks));
	} else if (!engine_weigh_repays(d)) {
		words_two_blocks(saved, engine_weigh_saved(d), cost, d->cost_blocks);
		say(line,
		    "would save %s of writing in the %s that the load is known for, less than the %s to be copied",
		    saved, words_duration(known, d->horizon_s), cost);
	} else {
		words_two_blocks(cost, engine_weigh_there_and_back(d), left, d->copying_budget);
		say(line,
		    "would pay, but may copy up to %s, there and back; moves may add %s %% to all writing, and of "
		    "that %s are left now",
		    cost, words_number(share, 100 * d->harm), left);
	}
}

/* Where blocks were counted, and not latency measured, there is no error (judge.c). */
static void say_undo(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
		     const struct names *n)
{
	double before = core->undo.epsilon_before;
	say(line, "%s %s from %s to %s%s: the move hurt, ",
	    d->action == LCPFS_ENGINE_MOVE ? "taking back" : "would take back", n->size, n->from, n->to,
	    d->action == LCPFS_ENGINE_WOULD_MOVE ? ", if this were not mode observe" : "");
	if (!(d->expected_error > 0) || !(before > 0)) {
		say(line, "more was copied since than it saves");
		return;
	}
	say(line, "clients wait ");
	say_waiting(line, 100 * d->expected_gain / before, 100 * d->expected_error / before, "longer");
}

static void say_retreat(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	char lately[WORDS_ROOM], lost[WORDS_ROOM], left[WORDS_ROOM], back[WORDS_ROOM];
	say(line,
	    "%s towards the sizes that were set, %s from %s to %s: of the last %s written, %s would not have been "
	    "there; moves may cost %s now, beyond the %s that going back copies",
	    d->action == LCPFS_ENGINE_MOVE ? "going back" : "in mode on would go back", n->size, n->from, n->to,
	    words_blocks(lately, d->lately_blocks), words_blocks(lost, d->lost_blocks),
	    words_blocks(left, d->copying_budget), words_blocks(back, d->return_blocks));
}

static void say_call_back(struct line *line, const struct lcpfs_engine_decision *d, const struct names *n)
{
	say(line, "free space is wanted: %s loses least by giving %s, its clients wait ", n->from, n->size);
	say_waiting(line, share_of_waiting(d, d->from.gain_per_block * (double)d->blocks), 0, "longer");
}

/* ---- what a person could do ---- */

static void advise_room(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d)
{
	const struct engine_partition *to = engine_core_find(core, d->to_id), *from = NULL;
	char name[NAME_ROOM];
	if (!to)
		to = gains_most(core, true);
	if (!to)
		to = gains_most(core, false);
	if (to && is_at_max(core, to)) {
		say(line, "lcpfs set POOL %s max=SIZE lets it grow further", name_of(core, to->id, name));
		return;
	}
	for (size_t i = 0; i < core->count && !from; i++)
		if (core->partitions[i] != to && is_at_min(core, core->partitions[i]))
			from = core->partitions[i];
	if (to && from)
		say(line, "lcpfs set POOL %s min=SIZE lets it give; ", name_of(core, from->id, name));
	say(line, to ? "lcpfs grow POOL adds space" : "nothing");
}

static void say_advice(struct line *line, const struct engine_core *core, const struct lcpfs_engine_decision *d,
		       const struct names *n)
{
	if (d->action == LCPFS_ENGINE_WOULD_MOVE)
		say(line, "lcpfs tune POOL on lets it move");
	else if (d->action == LCPFS_ENGINE_MOVE)
		say(line, "nothing; lcpfs tune POOL observe would stop it");
	else if (d->reason == LCPFS_ENGINE_MODE_OFF)
		say(line, "lcpfs tune POOL observe lets it say what it would move, on lets it move");
	else if (d->reason == LCPFS_ENGINE_FEW_PARTITIONS)
		say(line, core->count ? "lcpfs grow POOL adds space, lcpfs add POOL NAME a partition"
				      : "lcpfs add POOL NAME makes a partition");
	else if (d->reason == LCPFS_ENGINE_NOT_MEASURED)
		say(line, "nothing; it learns from what clients write");
	else if (d->reason == LCPFS_ENGINE_NO_ROOM)
		advise_room(line, core, d);
	else if (d->reason == LCPFS_ENGINE_IN_BALANCE)
		say(line, "nothing; no better sizes are known");
	else if (d->reason == LCPFS_ENGINE_WITHIN_NOISE || d->reason == LCPFS_ENGINE_NO_PAYBACK)
		say(line, "nothing; who knows better says so: lcpfs resize POOL %s SIZE", n->to);
	else
		say(line, "nothing; it goes on by itself");
}

/* ---- the three lines ---- */

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
		say_noise(&line, core, d, n);
		break;
	case LCPFS_ENGINE_NO_PAYBACK:
		say_no_payback(&line, d, n);
		break;
	case LCPFS_ENGINE_EXPLORE:
	case LCPFS_ENGINE_GAIN:
		say_move(&line, d, n);
		break;
	case LCPFS_ENGINE_UNDO:
		say_undo(&line, core, d, n);
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
	line = (struct line){d->advice, sizeof(d->advice), 0};
	d->advice[0] = '\0';
	say_advice(&line, core, d, n);
}

/* A change of epsilon by 1M of space, of what clients of the two at the ends of the ranking wait. */
static const char *worth(const struct engine_core *core, const struct lcpfs_engine_decision *d, double per_block,
			 char text[WORDS_ROOM])
{
	const struct engine_partition *most = engine_core_find(core, d->gains_most_id);
	const struct engine_partition *least = engine_core_find(core, d->loses_least_id);
	double both = (most ? most->side.epsilon : 0) + (least ? least->side.epsilon : 0);
	return words_number(text, both > 0 ? 100 * PER_M * per_block / both : 0);
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
	say(line, "%s gains most from more space (1M saves %s %% of the waiting)%s%s",
	    name_of(core, most->id, name), worth(core, d, d->gains_most, number), reason ? " but is " : "",
	    reason ? reason : "");
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
		say(line, ", %s loses least by giving some (1M costs %s %%)%s%s", name_of(core, least->id, name),
		    worth(core, d, d->loses_least, number), reason ? " but is " : "", reason ? reason : "");
	else
		say(line, ", and nobody else could give it");
}

void engine_explain_ranking(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	const struct engine_partition *most = engine_core_find(core, d->gains_most_id);
	struct line line = {d->ranking, sizeof(d->ranking), 0};
	char text[WORDS_ROOM];
	d->ranking[0] = '\0';
	say_most(&line, core, d);
	say_least(&line, core, d);
	if (most)
		say(&line, "; the load is that of about the last %s, which foretold it best",
		    words_duration(text, engine_demand_seconds(&most->demand, core->foresight.best)));
	if (d->outcomes)
		say(&line, "; expectations are trusted by %.0f %% after %llu verdict%s", 100 * d->trust,
		    (unsigned long long)d->outcomes, d->outcomes == 1 ? "" : "s");
	else
		say(&line, "; no move has been judged yet");
	if (d->sequence)
		say(&line, "; this answer has stood for %s",
		    words_duration(text, (double)(d->now_us - d->since_us) / 1e6));
}
