/* SPDX-License-Identifier: Apache-2.0 */
/* What main.c (the command line, a process for each run) has to do with sim.c and options.c (inside of it).
 */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sim.h"

#define RUN_COUNTERS_MAX 512

struct run_counter {
	char name[56];
	uint64_t count;
};

/* In memory that parent and child share. */
struct run_result {
	bool is_over, failed;
	char invariant[32], text[1000];
	uint64_t digest, simulated_ns, lines;
	uint64_t client_calls, server_calls, requests; /* see sim_note_points() */
	struct sim_options options;
	struct run_counter counters[RUN_COUNTERS_MAX];
	size_t counters_count;
};

struct run_config {
	uint64_t seed;
	const char *const *settings; /* "name=value[,name=value]...", checked */
	size_t settings_count;
	const char *trace; /* file for the whole trace, "-" stdout, NULL none */
	unsigned report_lines; /* of the trace, after a failure; 0: main.c reports */
};

/* Draws the options, sets what is set, starts the streams. */
void run_begin(const struct run_config *config, struct run_result *result);
/* All went well. */
void run_end(void);

/* ---- options.c ---- */

void options_draw(struct sim_options *o);
/* "name=value[,...]"; false: no such name, or no such value. "seed" is one of them. */
bool options_set(struct sim_options *o, const char *text);
/* As options_set() reads it; the seed not. */
void options_print(FILE *out, const struct sim_options *o);
/* The i-th option: its name and value; NULL after the last one. For the shrinker. */
const char *options_at(size_t i, const struct sim_options *o, uint64_t *ret_value, uint64_t *ret_least);
void options_help(FILE *out);

/* ---- world.c ---- */

void world_run(void *arg); /* for sched_run() */

#endif
