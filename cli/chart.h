/* SPDX-License-Identifier: Apache-2.0 */
/* The pictures of lcpfs report, as SVG for a page that has the style of cli/report.css. */
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include "base/text.h"
#include "past.h"

enum chart_shape { CHART_WIDE, CHART_NARROW }; /* for a desk, for a phone */

/* Appends text with what HTML gives a meaning made harmless. */
void chart_escape(struct text *out, const char *text);

/* Boundaries as a stack, with a mark for each change; below, write amplification and epsilon. */
void chart_boundaries(struct text *out, const struct past *past, enum chart_shape shape);
/* One small picture for each threshold. */
void chart_thresholds(struct text *out, const struct past *past, enum chart_shape shape);

/* The class of a mark: what came of it ("improved", "hurt", …, "waiting"), or the kind of another change. */
const char *chart_mark_class(const struct past_mark *mark);
/* Its sign alone, around 0, 0. */
void chart_sign(struct text *out, const char *class);
/* "s1" … "s8": the colour of the partition of that place in past.partitions. */
const char *chart_series(size_t index);

#endif
