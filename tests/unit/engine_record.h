/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each decision once more, from its record alone, by the formulae of docs/engine.md; nothing of the engine's is
 * called.
 */
#ifndef TESTS_UNIT_ENGINE_RECORD_H
#define TESTS_UNIT_ENGINE_RECORD_H

#include <lcpfs/engine.h>

void record_recompute(const struct lcpfs_engine_decision *d); /* fails the test where it does not follow */

void record_near(double a, double b, double scale);
double record_fall(const struct lcpfs_engine_side *s, double blocks);   /* of ε, if it gets so many */
double record_way_back(const struct lcpfs_engine_side *s, double size); /* blocks copied to its base size */

#endif
