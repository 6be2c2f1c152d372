/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: lines on the control socket, parsed and run as the server does, on a small pool. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/command.h"
#include "control/field.h"
#include "control/lines.h"
#include "fuzz.h"
#include "pool/pool.h"
#include "vdev/simdisk.h"

#define MB (UINT64_C(1) << 20)

static uint64_t fuzz_now_us(void *context)
{
	static uint64_t now_us;

	(void)context;
	return now_us += 1000;
}

static uint64_t fuzz_wall_s(void *context)
{
	(void)context;
	return 1700000000;
}

static const struct clock fuzz_clock = {fuzz_now_us, fuzz_wall_s, NULL};

static struct simdisk *new_disk(void)
{
	static struct simimage *image;
	struct lcpfs_create_options create = {0};

	if (!image) {
		struct simimage *empty = simimage_new(20 * MB);
		struct simdisk *disk = simdisk_new(empty, SIMDISK_DISCARD_ZEROS);

		CHECK(!pool_create_vdev(simdisk_vdev(disk), &fuzz_clock, &create, 77, NULL));
		image = simimage_clone(simdisk_content(disk));
		simdisk_free(disk);
		simimage_free(empty);
	}
	return simdisk_new(image, SIMDISK_DISCARD_ZEROS);
}

static void run_line(struct lcpfs_pool *pool, const char *line)
{
	const char *reason, *name;
	struct lcpfs_failure failure = {0};
	struct json_object *result = NULL, *value = NULL, *request = lines_parse(line, &reason);
	const struct command *command = NULL;

	if (json_object_is_type(request, json_type_object) && json_object_object_get_ex(request, "command",
			&value) &&
	    json_object_is_type(value, json_type_string)) {
		name = json_object_get_string(value);
		command = command_find(name);
		json_object_object_del(request, "command");
	}
	if (command && !command_run(command, pool, request, NULL, NULL, &result, &failure))
		(void)json_object_to_json_string(result);
	json_object_put(result);
	json_object_put(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	struct lcpfs_open_options open = {.cache_bytes = MB};
	struct simdisk *disk = new_disk();
	char *text = malloc(length + 1), *next = text;
	struct lcpfs_pool *pool;

	CHECK(text && !pool_open_vdev(simdisk_vdev(disk), &fuzz_clock, &open, &pool, NULL));
	memcpy(text, bytes, length);
	text[length] = 0;
	for (unsigned lines = 0; next && lines < 16; lines++)
		run_line(pool, strsep(&next, "\n"));
	CHECK(!lcpfs_pool_close(pool, NULL));
	simdisk_free(disk);
	free(text);
	return 0;
}
