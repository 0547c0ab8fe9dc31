/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run of the simulator is like: drawn from its seed, so that many runs differ in kind and not only in
 * detail ("swarm testing": most runs have few kinds of faults, and those often). Called by sim.c, main.c and
 * shrink.c. Draws from STREAM_OPTIONS alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

enum kind { NUMBER, FLAG };

static const struct option {
	const char *name;
	size_t at;
	enum kind kind;
	unsigned least, most;
	const char *what;
} options[] = {
#define OPTION(name, least, most, what)                                                                      \
	{                                                                                                    \
#name, offsetof(struct sim_options, name), NUMBER, least, most, what                         \
	}
#define SWITCH(name, what)                                                                                   \
	{                                                                                                    \
#name, offsetof(struct sim_options, name), FLAG, 0, 1, what                                  \
	}
	OPTION(clients, 1, 5, "machines with a mount"),
	OPTION(user_ops, 0, 1000000, "operations of all people together"),
	OPTION(names, 1, 1000, "different names in a directory"),
	OPTION(max_bytes, 0, 64 << 20, "of a file"),
	OPTION(think_ms, 0, 3600000, "mean pause between two operations of one person"),
	OPTION(preempt_ppm, 0, PPM, "another thread goes on, per system call or lock"),
	OPTION(net_delay_ms, 0, 60000, "at most, each way"),
	OPTION(lose_request_ppm, 0, PPM, "requests that do not arrive"),
	OPTION(lose_answer_ppm, 0, PPM, "answers that do not arrive"),
	OPTION(cut_answer_ppm, 0, PPM, "answers that end early"),
	OPTION(double_request_ppm, 0, PPM, "requests that arrive twice"),
	OPTION(partitions, 0, 100, "times without network"),
	OPTION(client_kills, 0, 100, "kill -9 of a syncfs"),
	OPTION(client_cuts, 0, 100, "power cuts of a client"),
	OPTION(server_kills, 0, 100, "kill -9 of syncfsd"),
	OPTION(server_cuts, 0, 100, "power cuts of the server"),
	OPTION(server_restores, 0, 100, "the server's disk put back to an older state"),
	OPTION(client_restores, 0, 100, "a client's disk put back"),
	OPTION(client_clones, 0, 100, "a client's disk copied to another one"),
	OPTION(remounts, 0, 100, "unmounted and mounted again"),
	OPTION(disk_full, 0, 100, "spells of ENOSPC"),
	OPTION(disk_errors, 0, 100, "single calls that fail with EIO"),
	OPTION(client_fails_at, 0, 100000000, "the n-th call of client 0's disk fails, never drawn"),
	OPTION(server_fails_at, 0, 100000000, "the n-th call of the server's disk fails, never drawn"),
	OPTION(fail_calls, 0, 1000000, "so many from then on, never drawn (0: 1)"),
	OPTION(request_fails_at, 0, 1000000, "the n-th request of the clients comes to harm, never drawn"),
	OPTION(request_fate, 0, 7, "1 refused, 2 lost, 3 half, 4 answer lost, 5 cut, 6 late, 7 twice"),
	OPTION(clock_jumps, 0, 100, "jumps of a wall clock"),
	OPTION(hand_edits, 0, 1000, "changes straight in the server's directory"),
	SWITCH(weak_disk, "fsync of a file makes only its bytes durable"),
	SWITCH(single_writer, "only client 0 changes anything"),
#undef OPTION
#undef SWITCH
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static uint64_t get(const struct sim_options *o, const struct option *option)
{
	const char *at = (const char *)o + option->at;
	unsigned v;

	if (option->kind == FLAG)
		return *(const bool *)at;
	memcpy(&v, at, sizeof(v));
	return v;
}

static void put(struct sim_options *o, const struct option *option, unsigned v)
{
	char *at = (char *)o + option->at;

	if (option->kind == FLAG)
		*(bool *)at = v != 0;
	else
		memcpy(at, &v, sizeof(v));
}

/* ---- drawing ---- */

static unsigned below(unsigned n)
{
	return (unsigned)sim_below(STREAM_OPTIONS, n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

static unsigned one_of(const unsigned *values, unsigned count)
{
	return values[below(count)];
}
#define ONE_OF(...)                                                                                          \
	one_of((const unsigned[]){__VA_ARGS__}, sizeof((unsigned[]){__VA_ARGS__}) / sizeof(unsigned))

static void draw_people(struct sim_options *o)
{
	o->clients = one_in(20) ? 1 : 2 + below(4);
	o->user_ops = 200 + below(60);
	o->names = ONE_OF(2, 3, 4, 6, 10, 20);
	o->max_bytes = ONE_OF(200, 1000, 1000, 4000, 4000, 4000, 20000, 20000, 200000, 600000);
	o->think_ms = ONE_OF(0, 1, 5, 20, 100, 100, 500, 2000, 10000);
	o->preempt_ppm = ONE_OF(0, 1000, 10000, 10000, 50000, 200000);
	o->net_delay_ms = ONE_OF(0, 1, 5, 5, 20, 100, 500);
	o->weak_disk = one_in(3);
	o->single_writer = one_in(6);
}

/* Each kind of fault: its place, and how often in a run where it is often. */
static const struct fault {
	size_t at;
	unsigned often;
	bool is_rate, is_other_writer; /* not where only one writes */
} faults[] = {
#define FAULT(name, often, is_rate, is_other)                                                                \
	{                                                                                                    \
		offsetof(struct sim_options, name), often, is_rate, is_other                                 \
	}
	FAULT(lose_request_ppm, 300000, true, false),
	FAULT(lose_answer_ppm, 300000, true, false),
	FAULT(cut_answer_ppm, 200000, true, false),
	FAULT(double_request_ppm, 300000, true, false),
	FAULT(partitions, 6, false, false),
	FAULT(client_kills, 6, false, false),
	FAULT(client_cuts, 5, false, false),
	FAULT(server_kills, 6, false, false),
	FAULT(server_cuts, 5, false, false),
	FAULT(server_restores, 2, false, true),
	FAULT(client_restores, 2, false, true),
	FAULT(client_clones, 1, false, true),
	FAULT(remounts, 5, false, false),
	FAULT(disk_full, 3, false, false),
	FAULT(disk_errors, 6, false, false),
	FAULT(clock_jumps, 6, false, false),
	FAULT(hand_edits, 20, false, true),
#undef FAULT
};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

static void draw_fault(struct sim_options *o, const struct fault *f, bool often)
{
	unsigned most = often ? f->often : f->is_rate ? f->often / 10 : (f->often + 2) / 3, v;

	v = f->is_rate ? most / 4 + below(most) : 1 + below(most);
	if (!f->is_other_writer || !o->single_writer)
		memcpy((char *)o + f->at, &v, sizeof(v));
}

void options_draw(struct sim_options *o)
{
	unsigned style = below(10);

	draw_people(o);
	if (style == 0)
		return; /* all well */
	if (style <= 3) { /* one or two kinds, often */
		draw_fault(o, &faults[below(FAULTS)], true);
		if (one_in(2))
			draw_fault(o, &faults[below(FAULTS)], true);
		return;
	}
	for (size_t i = 0; i < FAULTS; i++) {
		bool drawn = one_in(style <= 7 ? 5 : 2), often = one_in(6);

		if (drawn)
			draw_fault(o, &faults[i], often);
	}
}

/* ---- as text ---- */

/* "calm": nothing fails. */
static void set_calm(struct sim_options *o)
{
	for (size_t i = 0; i < FAULTS; i++)
		memset((char *)o + faults[i].at, 0, sizeof(unsigned));
	o->weak_disk = false;
}

static bool set_one(struct sim_options *o, const char *text, size_t len)
{
	const char *equal = memchr(text, '=', len);
	char value[24], *end;
	size_t name_len = equal ? (size_t)(equal - text) : 0, value_len = len - name_len - 1;
	unsigned long long v;

	if (len == 4 && !memcmp(text, "calm", 4)) {
		set_calm(o);
		return true;
	}
	if (!equal || !value_len || value_len >= sizeof(value) || equal[1] < '0' || equal[1] > '9')
		return false;
	memcpy(value, equal + 1, value_len);
	value[value_len] = '\0';
	errno = 0;
	v = strtoull(value, &end, 10);
	if (*end || errno)
		return false;
	if (name_len == 4 && !memcmp(text, "seed", 4)) {
		o->seed = v;
		return true;
	}
	for (size_t i = 0; i < OPTIONS; i++) {
		if (strlen(options[i].name) != name_len || memcmp(options[i].name, text, name_len) != 0)
			continue;
		if (v < options[i].least || v > options[i].most)
			return false;
		put(o, &options[i], (unsigned)v);
		return true;
	}
	return false;
}

bool options_set(struct sim_options *o, const char *text)
{
	for (size_t len; *text; text += len + (text[len] == ',')) {
		len = strcspn(text, ",");
		if (!set_one(o, text, len))
			return false;
	}
	return true;
}

void options_print(FILE *out, const struct sim_options *o)
{
	for (size_t i = 0; i < OPTIONS; i++)
		fprintf(out, "%s%s=%llu", i ? "," : "", options[i].name,
			(unsigned long long)get(o, &options[i]));
}

const char *options_at(size_t i, const struct sim_options *o, uint64_t *ret_value, uint64_t *ret_least)
{
	if (i >= OPTIONS)
		return NULL;
	*ret_value = get(o, &options[i]);
	*ret_least = options[i].least;
	return options[i].name;
}

void options_help(FILE *out)
{
	for (size_t i = 0; i < OPTIONS; i++)
		fprintf(out, "  %-20s %s (%u..%u)\n", options[i].name, options[i].what, options[i].least,
			options[i].most);
	fprintf(out, "  %-20s all faults 0, weak_disk off; others may follow\n", "calm");
}
