/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: files given to `lcpfs simulate --trace`, in each of the formats; the first byte says which. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "fuzz.h"
#include "sim/trace.h"

enum { OPS_MAX = 1000, REPEAT = 2 };

static const uint64_t splits[] = {1, 256, 262144, UINT64_C(1) << 38};

static void use(const struct sim_trace *trace)
{
	uint32_t count;
	struct sim_tenant *tenants = sim_trace_tenants(trace, &count);
	uint64_t time_us = 0;
	struct sim_op op;
	for (uint64_t i = 0; i < OPS_MAX && sim_trace_next(trace, REPEAT, i, &op); i++) {
		CHECK(op.tenant < count && op.blocks &&
		      (uint64_t)op.block + op.blocks <= tenants[op.tenant].live_blocks);
		CHECK(op.time_us >= time_us);
		time_us = op.time_us;
	}
	free(tenants);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	char path[32];
	if (length < 1)
		return 0;
	int fd = memfd_create("trace", MFD_CLOEXEC);
	CHECK(fd >= 0 && write(fd, bytes + 1, length - 1) == (ssize_t)length - 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	struct sim_trace *trace = sim_trace_load(path, (enum sim_trace_format)(bytes[0] % 3),
						 splits[bytes[0] / 3u % ARRAY_LENGTH(splits)]);

	if (trace)
		use(trace);
	sim_trace_free(trace);
	close(fd);
	return 0;
}
