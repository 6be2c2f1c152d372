/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces: CloudPhysics vscsi v1, MSR Cambridge CSV, and time_us,op,offset,length CSV; split into partitions by
 * region.
 */
#ifndef SIM_TRACE_H
#define SIM_TRACE_H

#include "load.h"

enum sim_trace_format { SIM_VSCSI, SIM_MSR, SIM_CSV };

struct sim_trace;

/*
 * Every region of split_blocks becomes a tenant; its volume holds the blocks ever touched, in the order of their
 * addresses. NULL, with a message, if there is nothing in the file, or no time passes; what is left out of it is
 * told, too.
 */
struct sim_trace *sim_trace_load(const char *path, enum sim_trace_format format, uint64_t split_blocks);
void sim_trace_free(struct sim_trace *trace);
struct sim_tenant *sim_trace_tenants(const struct sim_trace *trace, uint32_t *count); /* the caller frees */
uint64_t sim_trace_length_us(const struct sim_trace *trace); /* of one pass; below 2^63 + 1 */
uint64_t sim_trace_written_blocks(const struct sim_trace *trace); /* in one pass */
/* Operation `index` of all passes, in order of time. */
bool sim_trace_next(const struct sim_trace *trace, uint32_t repeat, uint64_t index, struct sim_op *op);

#endif
