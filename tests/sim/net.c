/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire of the simulated network: which machines are cut off, what is under way, and what becomes of it.
 * Used by net_client.c and net_server.c; faults.c cuts and heals.
 */
#include "net_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MACHINES_MAX 16

static struct {
	const struct machine *machine;
	enum net_state state;
} states[MACHINES_MAX];
static size_t states_count;
static struct flight *under_way;
static bool faults_are_off;
static uint64_t polls, others, sent;

void net_faults(bool on)
{
	faults_are_off = !on;
}

bool net_faults_are_on(void)
{
	return !faults_are_off;
}

uint64_t net_requests(bool is_poll)
{
	return is_poll ? polls : others;
}

void net_count(const struct flight *f)
{
	if (!f->client)
		return; /* the world itself */
	if (strncmp(f->target, "/poll", 5) == 0)
		polls++;
	else
		others++;
}

/* ---- flights ---- */

static char *copy(const char *text)
{
	char *own = text ? strdup(text) : NULL;

	if (text && !own)
		abort();
	return own;
}

struct flight *flight_copy(const struct flight *f)
{
	struct flight *c = calloc(1, sizeof(*c));

	if (!c || (f->body_len && !(c->body = malloc(f->body_len))))
		abort();
	c->refs = 1;
	c->client = f->client;
	c->client_proc = f->client_proc;
	c->server_proc = f->server_proc;
	c->method = copy(f->method);
	c->target = copy(f->target);
	c->accept = copy(f->accept);
	c->content_type = copy(f->content_type);
	c->authorization = copy(f->authorization);
	c->space = copy(f->space);
	if (f->body_len)
		memcpy(c->body, f->body, f->body_len);
	c->body_len = f->body_len;
	return c;
}

/* Two calls in a row, both inlined, gcc 12 takes for a use after free. */
__attribute__((noinline)) void flight_put(struct flight *f)
{
	if (--f->refs > 0)
		return;
	free(f->method);
	free(f->target);
	free(f->accept);
	free(f->content_type);
	free(f->authorization);
	free(f->space);
	free(f->body);
	buf_fini(&f->answer);
	free(f);
}

void flight_begin(struct flight *f)
{
	f->refs++;
	f->next = under_way;
	f->at = &under_way;
	if (under_way)
		under_way->at = &f->next;
	under_way = f;
}

void flight_end(struct flight *f)
{
	*f->at = f->next;
	if (f->next)
		f->next->at = f->at;
	flight_put(f);
}

void flight_break(struct flight *f)
{
	f->is_broken = true;
	waitq_wake_all(&f->q);
}

void net_break_all(const struct machine *client)
{
	for (struct flight *f = under_way; f; f = f->next)
		if (!client || f->client == client)
			flight_break(f);
}

/* ---- partitions ---- */

static size_t find(const struct machine *m)
{
	size_t i = 0;

	while (i < states_count && states[i].machine != m)
		i++;
	return i;
}

enum net_state net_state_of(const struct machine *client)
{
	size_t i = find(client);

	return i < states_count ? states[i].state : NET_UP;
}

void net_set(struct machine *client, enum net_state state)
{
	size_t i = find(client);

	if (i == MACHINES_MAX)
		sim_fail("net", "more machines than expected");
	if (i == states_count)
		states[states_count++].machine = client;
	states[i].state = state;
	sim_trace("net of %s is %s", client->name,
		state == NET_UP		    ? "up"
			: state == NET_DOWN ? "down"
					    : "silent");
	if (state == NET_DOWN)
		net_break_all(client);
	for (struct flight *f = under_way; state == NET_SILENT && f; f = f->next)
		if (f->client == client)
			f->is_silent = true;
}

/* ---- chance ---- */

uint64_t net_draw_delay_ms(void)
{
	uint64_t max = sim_options.net_delay_ms;

	if (!max || faults_are_off)
		return 0;
	/* Mostly short. */
	return sim_below(STREAM_NET, sim_below(STREAM_NET, max + 1) + 1);
}

uint64_t net_sent(void)
{
	return sent;
}

enum fate net_draw_fate(void)
{
	if (faults_are_off)
		return FATE_FINE;
	if (++sent == sim_options.request_fails_at) {
		sim_count("fault: a request of choice");
		return (enum fate)sim_options.request_fate;
	}
	if (sim_chance(STREAM_NET, sim_options.lose_request_ppm)) {
		static const enum fate lost[] = {FATE_REFUSED, FATE_LOST, FATE_HALF};

		sim_count("fault: lost request");
		return lost[sim_below(STREAM_NET, 3)];
	}
	if (sim_chance(STREAM_NET, sim_options.lose_answer_ppm)) {
		sim_count("fault: lost answer");
		return FATE_ANSWER_LOST;
	}
	if (sim_chance(STREAM_NET, sim_options.cut_answer_ppm)) {
		sim_count("fault: cut answer");
		return FATE_ANSWER_CUT;
	}
	if (sim_chance(STREAM_NET, sim_options.double_request_ppm)) {
		sim_count("fault: doubled request");
		return sim_below(STREAM_NET, 2) ? FATE_LATE : FATE_TWICE;
	}
	return FATE_FINE;
}

/* ---- for the world ---- */

int net_ask(const char *target, const char *token, struct buf *answer)
{
	struct flight *f = calloc(1, sizeof(*f));
	int r;

	if (!f || asprintf(&f->authorization, "Bearer %s", token) < 0)
		abort();
	f->refs = 1;
	f->client_proc = proc_current();
	f->server_proc = net_listener();
	f->is_open = true;
	f->method = copy("GET");
	f->target = copy(target);
	flight_begin(f);
	r = net_arrive(f) ? 0 : -ENOTCONN;
	while (!r && !f->is_answered && !f->is_broken)
		(void)waitq_wait(&f->q, SIM_FOREVER);
	if (!r)
		r = f->is_answered ? f->status : -EREMOTEIO;
	if (r > 0)
		buf_put(answer, f->answer.data, f->answer.len);
	flight_end(f);
	flight_put(f);
	return r;
}
