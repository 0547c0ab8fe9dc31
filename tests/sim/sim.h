/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One simulated run: a server and its clients, all of them the real code, in one operating system thread. One
 * seed decides everything: the options, what people do, what fails and when, which thread goes next. The same
 * seed and options give the same trace. Every run has a process of its own (main.c), which ends with it; what
 * simulated processes leave behind in memory is not freed.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers are drawn from separate streams, so that leaving out a fault does not change what people do. */
enum sim_stream {
	STREAM_OPTIONS,
	STREAM_SCHEDULE,
	STREAM_USER,
	STREAM_FAULT,
	STREAM_NET,
	STREAM_DISK,
	STREAM_SYSTEM, /* getrandom(2) of the simulated processes */
	STREAMS
};

#define PPM 1000000u

/* What a run is like. Drawn from the seed, printed, and each settable by --set NAME=VALUE. Rates are parts
 * per million of the occasions. */
struct sim_options {
	uint64_t seed;
	unsigned clients; /* 1..5 */
	unsigned user_ops; /* of all people together */
	unsigned names; /* how many different names they use in one directory */
	unsigned max_bytes; /* of a file */
	unsigned think_ms; /* mean pause between two operations of one person */
	unsigned preempt_ppm; /* another thread goes on at a system call or lock */
	unsigned net_delay_ms; /* at most */
	unsigned lose_request_ppm, lose_answer_ppm, cut_answer_ppm, double_request_ppm;
	unsigned partitions, client_kills, client_cuts, server_kills, server_cuts; /* how often in a run */
	unsigned server_restores, client_restores, client_clones, remounts; /* likewise */
	unsigned disk_full, disk_errors; /* spells of ENOSPC; single calls that fail with EIO */
	/* The n-th call of client 0's disk, of the server's, fails with EIO, and those that follow; 0: none.
	 * For sweeps over all n: never drawn. */
	unsigned client_fails_at, server_fails_at, fail_calls;
	/* Likewise the n-th request of a client: what comes of it, see enum fate. */
	unsigned request_fails_at, request_fate;
	unsigned clock_jumps;
	unsigned hand_edits; /* straight in the server's directory */
	bool weak_disk; /* fsync of a file makes only its bytes durable, not its name */
	bool single_writer; /* only client 0 changes anything: no copies may come out */
};

extern struct sim_options sim_options;

uint64_t sim_random(enum sim_stream s);
uint64_t sim_below(enum sim_stream s, uint64_t n); /* 0..n-1; n > 0 */
bool sim_chance(enum sim_stream s, unsigned ppm);

/* One line of the trace, with simulated time and the running process. Goes into the digest of the trace, and
 * is printed with --trace or after a failure (the last ones). */
void sim_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What is sent, for --trace only. */
void sim_trace_body(const char *what, const void *body, size_t len);

/* Ends the run: what must be true is not. invariant: "I1".. of sync-model.md 2.6, or a word. */
_Noreturn void sim_fail(const char *invariant, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* How many calls of client 0's disk, of the server's, and how many requests could have failed so. */
void sim_note_points(uint64_t client_calls, uint64_t server_calls, uint64_t requests);

/* Counts how often something was reached in all runs ("row 12", "fault: lost answer"). name: static text. */
void sim_count(const char *name);

#endif
