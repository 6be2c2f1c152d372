/* SPDX-License-Identifier: Apache-2.0 */
/* `lcpfs simulate`: policies against synthetic load and traces, with the real engine and a model of the store. */
#ifndef SIM_SIMULATE_H
#define SIM_SIMULATE_H

int simulate_main(int argc, char **argv); /* argv[0] is "simulate"; returns the exit code: 0, 1 failed, 2 usage */

#endif
