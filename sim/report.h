/* SPDX-License-Identifier: Apache-2.0 */
/* The results of a simulation: JSON, a table for people, an SVG through gnuplot. */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include "policy.h"

void sim_report_json(const struct sim_config *config, const struct sim_result *results, int count);
void sim_report_table(const struct sim_config *config, const struct sim_result *results, int count);
/* False, with a message, if gnuplot is missing or the file cannot be written: better known before the run. */
bool sim_report_plot_possible(const char *path);
bool sim_report_plot(const struct sim_config *config, const struct sim_result *results, int count,
		     const char *path);

#endif
