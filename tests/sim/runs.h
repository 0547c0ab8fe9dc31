/* SPDX-License-Identifier: Apache-2.0 */
/* Runs, each in a process of its own, and what comes out of them. */
#ifndef SIM_RUNS_H
#define SIM_RUNS_H

#include "run.h"

/* Once, before the first run: what all runs would do for themselves otherwise. */
void runs_setup(void);

/* One run in this very process, for debuggers and profilers: 0 or 1. */
int runs_here(const struct run_config *config);

/* One run in another process. False: it failed, or crashed (then ret_result says so). */
bool runs_one(const struct run_config *config, struct run_result *ret_result);

struct runs_plan {
	uint64_t first, last; /* seeds */
	const char *const *settings;
	size_t settings_count;
	const char *skip; /* seeds that are left out: "3,17"; may be NULL */
	unsigned jobs;
	unsigned minutes; /* no new run after that; 0: all seeds */
	unsigned twice_ppm; /* so many of the runs are repeated, and the traces compared */
	unsigned failures_max; /* no new run after so many failures */
};
/* Prints how it goes on, the counters and the failures. 0, or 1 when a run failed or none was made. */
int runs_many(const struct runs_plan *plan);

/* How a run is called again, as a shell command without newline. */
void runs_print_command(FILE *out, const struct sim_options *o);

/* shrink.c: the least options with which the same thing fails. 0 when it does not fail any more. */
int runs_shrink(const struct run_config *config);

#endif
