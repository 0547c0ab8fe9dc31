/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the simulator from the inside: random streams, the trace and its digest, failing, counting.
 * Called by everything in the simulator. Never draws from anything but the seed.
 */
#include "sim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "sched_internal.h"

#define RING_BYTES (2u << 20) /* about the last 20,000 lines */
#define LINE_BYTES 1024
#define BODY_SHOWN_BYTES 20000
#define COUNT_SLOTS 1024 /* a power of two, twice RUN_COUNTERS_MAX */

struct sim_options sim_options;

static struct {
	uint64_t streams[STREAMS][4];
	struct run_config config;
	struct run_result *result;
	FILE *trace;
	char *ring; /* lines, each with its newline; the oldest ones are overwritten */
	size_t ring_at, ring_used;
	uint64_t digest, lines;
	bool failing;
	struct {
		const char *name;
		struct run_counter *counter;
	} counts[COUNT_SLOTS];
} sim;

void *sim_realloc(void *p, size_t size)
{
	p = realloc(p, size);
	if (!p) {
		perror("simulator");
		_exit(2);
	}
	return p;
}

/* ---- random numbers: splitmix64 for the start, xoshiro256++ from there (Blackman and Vigna) ---- */

static uint64_t splitmix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t v, int n)
{
	return v << n | v >> (64 - n);
}

static void streams_start(uint64_t seed)
{
	for (size_t i = 0; i < STREAMS; i++) {
		uint64_t state = seed * STREAMS + i;

		for (size_t k = 0; k < 4; k++)
			sim.streams[i][k] = splitmix(&state);
	}
}

uint64_t sim_random(enum sim_stream stream)
{
	uint64_t *s = sim.streams[stream];
	uint64_t result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

uint64_t sim_below(enum sim_stream s, uint64_t n)
{
	return (uint64_t)((unsigned __int128)sim_random(s) * n >> 64);
}

bool sim_chance(enum sim_stream s, unsigned ppm)
{
	/* Drawn even if it cannot be, so that what follows stays the same. */
	return sim_below(s, PPM) < ppm;
}

/* ---- the trace ---- */

void sim_mix(uint64_t value)
{
	sim.digest = rotate((sim.digest ^ value) * 0x9fb21c651e98df25u, 29);
}

static void mix_text(const char *text, size_t len)
{
	uint64_t word;

	for (; len >= sizeof(word); text += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, text, sizeof(word));
		sim_mix(word);
	}
	word = len;
	memcpy(&word, text, len);
	sim_mix(word);
}

static void ring_put(const char *line, size_t len)
{
	size_t first = RING_BYTES - sim.ring_at < len ? RING_BYTES - sim.ring_at : len;

	if (!sim.ring)
		sim.ring = sim_realloc(NULL, RING_BYTES);
	memcpy(sim.ring + sim.ring_at, line, first);
	memcpy(sim.ring, line + first, len - first);
	sim.ring_at = (sim.ring_at + len) % RING_BYTES;
	sim.ring_used = sim.ring_used + len < RING_BYTES ? sim.ring_used + len : RING_BYTES;
}

void sim_trace(const char *fmt, ...)
{
	const struct fiber *f = sched.current;
	char line[LINE_BYTES];
	int n = snprintf(line, sizeof(line), "%5llu.%06llu %s/%s ",
		(unsigned long long)(sched.now_ns / 1000000000),
		(unsigned long long)(sched.now_ns / 1000 % 1000000), f ? f->proc->name : "-",
		f ? f->name : "-");
	size_t len = (size_t)n;
	va_list args;

	va_start(args, fmt);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
	va_end(args);
	len = n < 0 || (size_t)n > sizeof(line) - len - 2 ? sizeof(line) - 2 : len + (size_t)n;
	line[len++] = '\n';
	mix_text(line, len);
	sim.lines++;
	ring_put(line, len);
	if (sim.trace)
		(void)fwrite(line, 1, len, sim.trace);
}

void sim_trace_body(const char *what, const void *body, size_t len)
{
	const uint8_t *p = body;

	if (!sim.trace)
		return;
	(void)fprintf(sim.trace, "             %s ", what);
	for (size_t i = 0; i < len && i < BODY_SHOWN_BYTES; i++)
		(void)fputc(p[i] >= ' ' && p[i] < 127 ? p[i] : '~', sim.trace);
	(void)fputc('\n', sim.trace);
}

static void ring_print(FILE *out, unsigned lines)
{
	size_t at = sim.ring_at, len = 0;

	/* Backwards to the newline before the first line wanted. */
	while (len < sim.ring_used) {
		at = (at + RING_BYTES - 1) % RING_BYTES;
		if (sim.ring[at] == '\n' && len && !--lines)
			break;
		len++;
	}
	at = (sim.ring_at + RING_BYTES - len) % RING_BYTES;
	for (; len; len--, at = (at + 1) % RING_BYTES)
		(void)putc(sim.ring[at], out);
}

void sim_note_points(uint64_t client_calls, uint64_t server_calls, uint64_t requests)
{
	sim.result->client_calls = client_calls;
	sim.result->server_calls = server_calls;
	sim.result->requests = requests;
}

/* ---- the end ---- */

static void end(bool failed)
{
	struct run_result *r = sim.result;

	r->digest = sim.digest;
	r->simulated_ns = sched.now_ns;
	r->lines = sim.lines;
	r->failed = failed;
	r->is_over = true;
	if (sim.trace)
		(void)fflush(sim.trace);
}

void sim_fail(const char *invariant, const char *fmt, ...)
{
	struct run_result *r = sim.result;
	va_list args;

	if (sim.failing || !r) {
		fprintf(stderr, "simulator: %s: while failing: %s\n", invariant, fmt);
		_exit(1);
	}
	sim.failing = true;
	(void)snprintf(r->invariant, sizeof(r->invariant), "%s", invariant);
	va_start(args, fmt);
	(void)vsnprintf(r->text, sizeof(r->text), fmt, args);
	va_end(args);
	sim_trace("FAILED %s: %s", r->invariant, r->text);
	end(true);
	if (sim.config.report_lines) {
		if (!sim.trace)
			ring_print(stderr, sim.config.report_lines);
		fprintf(stderr, "FAILED %s: %s\n  after %llu.%03llu simulated seconds\n", r->invariant,
			r->text, (unsigned long long)(sched.now_ns / 1000000000),
			(unsigned long long)(sched.now_ns / 1000000 % 1000));
	}
	_exit(1);
}

void run_begin(const struct run_config *config, struct run_result *result)
{
	sim.config = *config;
	sim.result = result;
	sim.digest = config->seed;
	if (config->trace) {
		sim.trace = strcmp(config->trace, "-") ? fopen(config->trace, "we") : stdout;
		if (!sim.trace) {
			fprintf(stderr, "syncsim: %s: %s\n", config->trace, strerror(errno));
			_exit(2);
		}
	}
	streams_start(config->seed);
	sim_options = (struct sim_options){.seed = config->seed};
	options_draw(&sim_options);
	for (size_t i = 0; i < config->settings_count; i++)
		(void)options_set(&sim_options, config->settings[i]);
	sim_options.seed = config->seed;
	result->options = sim_options;
}

void run_end(void)
{
	end(false);
}

/* ---- counting ---- */

static struct run_counter *counter_of(const char *name)
{
	struct run_result *r = sim.result;
	struct run_counter *c;

	for (size_t i = 0; i < r->counters_count; i++)
		if (!strncmp(r->counters[i].name, name, sizeof(r->counters[i].name) - 1))
			return &r->counters[i];
	if (r->counters_count == RUN_COUNTERS_MAX)
		sim_fail("simulator", "too many counters: %s", name);
	c = &r->counters[r->counters_count++];
	c->count = 0;
	(void)snprintf(c->name, sizeof(c->name), "%s", name);
	return c;
}

void sim_count(const char *name)
{
	size_t i = ((uintptr_t)name * 0x9e3779b97f4a7c15u) >> 54; /* by address: that is only a cache */

	if (!sim.result)
		return;
	while (sim.counts[i].name && sim.counts[i].name != name)
		i = (i + 1) % COUNT_SLOTS;
	if (!sim.counts[i].name) {
		sim.counts[i].name = name;
		sim.counts[i].counter = counter_of(name);
	}
	sim.counts[i].counter->count++;
}
