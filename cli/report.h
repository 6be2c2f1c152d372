/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

extern const char report_style[]; /* cli/report.css */

#endif
