/* SPDX-License-Identifier: Apache-2.0 */
/* A decision in one English sentence with its numbers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core.h"

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

static const char *name_of(const struct engine_core *core, uint32_t id, char room[80])
{
	const struct engine_partition *p = engine_core_find(core, id);

	if (id == LCPFS_ENGINE_FREE)
		return "free space";
	if (p && p->name[0])
		return p->name;
	snprintf(room, 80, "partition %u", id);
	return room;
}

struct names {
	char from_room[80], to_room[80];
	const char *from, *to;
};

static double percent_of_epsilon(const struct lcpfs_engine_decision *d, double gain)
{
	double epsilon = d->from.epsilon + d->to.epsilon;

	return epsilon > 0 ? 100 * gain / epsilon : 0;
}

#define SAY(...) snprintf(d->sentence, sizeof(d->sentence), __VA_ARGS__)

static void say_move(struct lcpfs_engine_decision *d, const struct names *n)
{
	const char *why = d->reason == LCPFS_ENGINE_EXPLORE ? "to learn, moving" : "moving";

	SAY("%s %llu blocks from %s to %s: epsilon of the two should fall by %.3g ± %.2g (%.2g %%), writing %.3g "
	    "blocks/s "
	    "less; the copying of about %.0f blocks is repaid within the %.0f s that demand is known for; trust "
	    "%.2f",
	    why, (unsigned long long)d->blocks, n->from, n->to, d->expected_gain, d->expected_error,
	    percent_of_epsilon(d, d->expected_gain), d->expected_saving_blocks_s, d->cost_blocks, d->horizon_s,
	    d->trust);
}

static void say_weighed(struct lcpfs_engine_decision *d, const struct names *n)
{
	const char *blocks = "blocks";
	unsigned long long count = d->blocks;

	if (d->reason == LCPFS_ENGINE_IN_BALANCE)
		SAY("in balance: %s gains most (%.3g per block) and %s loses least (%.3g per block); %llu more %s "
		    "would "
		    "change epsilon by %.3g ± %.2g",
		    n->to, d->to.gain_per_block, n->from, d->from.gain_per_block, count, blocks, -d->expected_gain,
		    d->expected_error);
	else if (d->reason == LCPFS_ENGINE_WITHIN_NOISE)
		SAY("%llu %s from %s to %s would lower epsilon by %.3g, which does not beat the noise of "
		    "measurement, %.2g",
		    count, blocks, n->from, n->to, d->expected_gain, d->measurement_error);
	else if (d->reason == LCPFS_ENGINE_NO_PAYBACK && !(d->expected_saving_blocks_s > 0))
		SAY("%llu %s from %s to %s would lower epsilon by %.3g, but save no writing (%.3g blocks/s), and "
		    "copying has to be repaid",
		    count, blocks, n->from, n->to, d->expected_gain, d->expected_saving_blocks_s);
	else if (d->reason == LCPFS_ENGINE_NO_PAYBACK && engine_weigh_saved(d) >= d->cost_blocks)
		SAY("%llu %s from %s to %s would repay the copying, but might copy more, there and back, than "
		    "the %.0f blocks that the harm bound leaves now",
		    count, blocks, n->from, n->to, d->copying_budget);
	else if (d->reason == LCPFS_ENGINE_NO_PAYBACK)
		SAY("%llu %s from %s to %s would save %.3g blocks/s, which does not repay about %.0f blocks of "
		    "copying "
		    "within the %.0f s that demand is known for",
		    count, blocks, n->from, n->to, d->expected_saving_blocks_s, d->cost_blocks, d->horizon_s);
	else if (!d->to_id && !d->from_id)
		SAY("nothing can move now: whoever could give has nothing above its floor, or has to be measured at "
		    "its present size first, and free space is kept back for full writers");
	else
		SAY("no room: %s could gain %.3g per block, but it is at its max (%llu blocks) or %s can give no "
		    "more "
		    "(floor %llu of %llu blocks)",
		    n->to, d->to.gain_per_block, (unsigned long long)d->to.ceiling_blocks, n->from,
		    (unsigned long long)d->from.floor_blocks, (unsigned long long)d->from.size_blocks);
}

static void say_wait(const struct engine_core *core, struct lcpfs_engine_decision *d, const struct names *n)
{
	const struct engine_partition *to = engine_core_find(core, d->to_id);

	if (d->reason == LCPFS_ENGINE_WAIT_REPORT)
		SAY("the move of %llu blocks from %s to %s is being carried out", (unsigned long long)d->blocks,
		    n->from, n->to);
	else if (d->reason == LCPFS_ENGINE_WAIT_MEASURE)
		SAY("the effect of %llu blocks from %s to %s has arrived; measuring until a fall of epsilon by "
		    "%.3g could be told from the noise",
		    (unsigned long long)d->blocks, n->from, n->to, d->expected_gain);
	else
		SAY("waiting for the effect of %llu blocks from %s to %s: %s has written %.0f of the %.0f blocks "
		    "that take "
		    "its log round once (effects took about %.3g s so far)",
		    (unsigned long long)d->blocks, n->from, n->to, n->to, to ? to->since_blocks : 0,
		    to ? (double)to->size : 0, d->cooldown_s);
}

static void say_retreat(struct lcpfs_engine_decision *d, const struct names *n)
{
	SAY("going back: %llu blocks from %s to %s; of the last %.0f blocks written %.0f were more than at base "
	    "sizes, and the harm bound leaves only %.0f beyond the %.0f that the way back copies",
	    (unsigned long long)d->blocks, n->from, n->to, d->lately_blocks, d->lost_blocks, d->copying_budget,
	    d->return_blocks);
}

/* ε per block, or what is known instead. */
static void say_most_and_least(const struct engine_core *core, const struct lcpfs_engine_decision *d, char *text,
			       size_t room)
{
	const struct engine_partition *giver = engine_core_find(core, d->loses_least_id);
	char most[80], least[80];
	int length;

	if (!d->gains_most_id) {
		snprintf(text, room, "no partition would gain from a block: none is known to be used");
		return;
	}
	length = snprintf(text, room, "%s gains most from another block (epsilon falls by %.3g)",
			  name_of(core, d->gains_most_id, most), d->gains_most);
	if (d->free_blocks >= d->reserve_blocks + d->step_blocks)
		snprintf(text + length, room - (size_t)length, ", %llu blocks are free to give",
			 (unsigned long long)(d->free_blocks - d->reserve_blocks));
	else if (d->loses_least_id)
		snprintf(text + length, room - (size_t)length,
			 ", %s loses least by giving one (it rises by %.3g)%s",
			 name_of(core, d->loses_least_id, least), d->loses_least,
			 giver && engine_core_held(core, giver) ? " but has to be measured at its size first"
								: "");
	else
		snprintf(text + length, room - (size_t)length, ", and nobody else could give it");
}

void engine_explain_ranking(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	char most_and_least[LCPFS_ENGINE_RANKING_MAX - 200];

	say_most_and_least(core, d, most_and_least, sizeof(most_and_least));
	snprintf(d->ranking, sizeof(d->ranking),
		 "%s; demand is that of the last %.0f turnover%s of the pool, which foretold it best; "
		 "expectations are trusted by %.0f %% after %llu outcomes; this answer has stood for %.0f s",
		 most_and_least, d->demand_turnovers, d->demand_turnovers > 1 ? "s" : "", 100 * d->trust,
		 (unsigned long long)d->outcomes,
		 (double)(d->now_us - d->since_us) / 1e6);
}

void engine_explain_sentence(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	struct names n;

	n.from = name_of(core, d->from_id, n.from_room);
	n.to = name_of(core, d->to_id, n.to_room);
	switch (d->reason) {
	case LCPFS_ENGINE_MODE_OFF:
		SAY("the engine is switched off: it measures and decides nothing");
		break;
	case LCPFS_ENGINE_FEW_PARTITIONS:
		SAY("there is nothing to move between");
		break;
	case LCPFS_ENGINE_NOT_MEASURED:
		SAY("not enough traffic yet to know what a block is worth: %s",
		    d->to_id || d->from_id
			    ? "its log, or that of who would give, has not gone round once since its size last changed"
			    : "no log has gone round once since its size last changed");
		break;
	case LCPFS_ENGINE_WAIT_REPORT:
	case LCPFS_ENGINE_WAIT_EFFECT:
	case LCPFS_ENGINE_WAIT_MEASURE:
		say_wait(core, d, &n);
		break;
	case LCPFS_ENGINE_UNDO:
		SAY("taking back %llu blocks from %s to %s: the move hurt, epsilon rose by %.3g ± %.2g",
		    (unsigned long long)d->blocks, n.from, n.to, d->expected_gain, d->expected_error);
		break;
	case LCPFS_ENGINE_CALL_BACK:
		SAY("free space is wanted: %s loses least by giving %llu blocks (%.3g per block)", n.from,
		    (unsigned long long)d->blocks, d->from.gain_per_block);
		break;
	case LCPFS_ENGINE_RETREAT:
		say_retreat(d, &n);
		break;
	case LCPFS_ENGINE_EXPLORE:
	case LCPFS_ENGINE_GAIN:
		say_move(d, &n);
		break;
	default:
		say_weighed(d, &n);
	}
}
