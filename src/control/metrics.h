/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's numbers for Prometheus and its kin. Names of metrics and labels are a contract: docs/metrics.md. */
#ifndef CONTROL_METRICS_H
#define CONTROL_METRICS_H

#include <stdbool.h>

#include <lcpfs/pool.h>

#include "base/check.h"

/*
 * The two differ in how a counter's family is named, so that no text is right in both. Prometheus' own is what
 * node-exporter's textfile collector and promtool read.
 */
enum metrics_format { METRICS_PROMETHEUS, METRICS_OPENMETRICS };

/* `path` is the pool's, for a label. *text is the caller's to free, NULL on failure. */
int metrics_text(struct lcpfs_pool *pool, const char *path, enum metrics_format format, char **text,
		 struct lcpfs_failure *failure) MUST_CHECK;

#endif
