/* SPDX-License-Identifier: Apache-2.0 */
/* Every field of a JSON object is that of the struct, and in its unit: a number of its own in each tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/describe.h"
#include "control/field.h"

#define PARTITION_FIELDS(X) \
	X(id) X(size_blocks) X(min_size_blocks) X(max_size_blocks) X(size_data_blocks) X(min_data_blocks) \
	X(max_data_blocks) X(volume_blocks) X(volume_bytes) X(when_full_wait_s) X(live_blocks) \
	X(data_blocks) X(least_size_blocks) X(utilization) X(access_frequency) X(avg_latency_us) \
	X(pressure) X(epsilon) X(write_amplification) X(memory_bytes) X(read_ops) X(write_ops) \
	X(trim_ops) X(flush_ops) X(read_blocks) X(written_blocks) X(trimmed_blocks) X(read_us) \
	X(write_us) X(flush_us) X(device_blocks) X(copied_blocks) X(table_blocks) X(checkpoints) \
	X(cleaned_metaslabs) X(errors) X(background_units) X(background_late_blocks) \
	X(background_busy_blocks)

#define POOL_FIELDS(X) \
	X(txg) X(created_s) X(size_blocks) X(free_blocks) X(promised_blocks) X(overcommitted_blocks) \
	X(metaslab_blocks) X(metaslabs) X(partitions) X(partitions_max) X(last_scrub_s) \
	X(last_scrub_damaged) X(last_scrub_errors) X(read_errors)

#define SIDE_FIELDS(X) \
	X(id) X(size_blocks) X(live_blocks) X(kept_blocks) X(floor_blocks) X(base_blocks) X(give_blocks) \
	X(ceiling_blocks) X(access_frequency) X(write_frequency) X(frequency_error) X(avg_latency_us) \
	X(latency_error) X(write_share) X(utilization) X(pressure) X(epsilon) X(cleaning_cost) \
	X(cleaning_error) X(uniform_copies) X(curve_power) X(power_error) X(gain_per_block) \
	X(since_change_blocks) X(since_change_s)

#define DECISION_FIELDS(X) \
	X(sequence) X(blocks) X(step_blocks) X(free_blocks) X(reserve_blocks) X(partitions) \
	X(partitions_measured) X(significance) X(pressure_threshold) X(growth_step) X(shrink_step) \
	X(cooldown_s) X(growth_rate) X(shrink_rate) X(confidence) X(trust) X(outcomes) \
	X(copying_seen) X(copying_expected) X(copying_prior) X(written_blocks) \
	X(saved_blocks) X(return_blocks) X(lately_blocks) X(lost_blocks) X(harm) X(pool_blocks) \
	X(demand_turnovers) X(horizon_s) X(expected_gain) X(expected_error) X(measurement_error) \
	X(expected_saving_blocks_s) X(cost_blocks) X(cost_limit_blocks) X(balance_blocks) X(freedom) \
	X(gains_most_id) X(gains_most) X(loses_least_id) X(loses_least)

#define SET(field) s.field = (number += 7);
#define EXPECT(field) expect(object, #field, (double)s.field);

static void expect(struct json_object *object, const char *key, double wanted)
{
	struct json_object *field = field_get(object, key);
	if (!field || json_object_get_double(field) != wanted)
		fail_msg("%s: %s, not %g", key, field ? json_object_get_string(field) : "missing", wanted);
}

static void a_partition_is_described_as_it_is(void **state)
{
	struct lcpfs_partition_info s = {.name = "db"};
	unsigned number = 0;
	(void)state;
	PARTITION_FIELDS(SET)
	struct json_object *object = describe_partition(&s);
	PARTITION_FIELDS(EXPECT)
	assert_string_equal(field_text(object, "name"), "db");
	json_object_put(object);
}

static void a_pool_is_described_as_it_is(void **state)
{
	struct lcpfs_pool_info s = {.health = LCPFS_HEALTH_DEGRADED};
	unsigned number = 0;
	(void)state;
	POOL_FIELDS(SET)
	struct json_object *object = describe_pool(&s);
	POOL_FIELDS(EXPECT)
	expect(object, "block_bytes", LCPFS_BLOCK_BYTES);
	assert_string_equal(field_text(object, "health"), "DEGRADED");
	json_object_put(object);
}

static void expect_side(struct json_object *object, const struct lcpfs_engine_side *side)
{
	const struct lcpfs_engine_side s = *side;
	SIDE_FIELDS(EXPECT)
}

static struct lcpfs_engine_side some_side(unsigned number)
{
	struct lcpfs_engine_side s = {0};
	SIDE_FIELDS(SET)
	return s;
}

static void a_decision_is_described_as_it_is(void **state)
{
	struct lcpfs_engine_decision s = {.from = some_side(1000), .to = some_side(2000)};
	unsigned number = 0;
	(void)state;
	DECISION_FIELDS(SET)
	s.copying_budget = 3000;
	s.copying_tried = 3001;
	s.now_us = 90 * 1000000;
	s.since_us = 30 * 1000000;
	struct json_object *object = describe_decision(&s, &(struct describe_partitions){0});
	DECISION_FIELDS(EXPECT)
	expect(object, "copying_budget_blocks", 3000);
	expect(object, "copying_tried_blocks", 3001);
	expect(object, "standing_s", 60);
	expect_side(field_get(object, "from"), &s.from);
	expect_side(field_get(object, "to"), &s.to);
	json_object_put(object);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_partition_is_described_as_it_is),
		cmocka_unit_test(a_pool_is_described_as_it_is),
		cmocka_unit_test(a_decision_is_described_as_it_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
