/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client/transport.h over the simulated network: what a client sees of lost requests, lost answers and
 * partitions, with the error codes that transport.h promises. What TCP allows: a request may be carried out
 * although the client has given up on it, also while it tries again; never by another server process than the
 * one that it was sent to.
 */
#include "net_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>

#include "transport.h"

#define MS 1000000ull
#define CONNECT_MS 10000
#define STALL_S 30
#define LATE_MAX_MS 20000
#define LATE_UNTIL_MS 120000 /* then TCP has given up, too */

struct transport {
	char *authorization, *space;
	bool cancelled, is_connected;
	uint64_t moved_ms;
	struct flight *flight; /* the one that is waited for */
	char error[128];
};

int transport_new(const struct transport_config *config, struct transport **ret_transport)
{
	struct transport *t = calloc(1, sizeof(*t));

	if (!t || asprintf(&t->authorization, "Bearer %s", config->token) < 0)
		abort();
	if (config->namespace && !(t->space = strdup(config->namespace)))
		abort();
	*ret_transport = t;
	return 0;
}

void transport_free(struct transport *t)
{
	if (!t)
		return;
	free(t->authorization);
	free(t->space);
	free(t);
}

const char *transport_error(const struct transport *t)
{
	return t->error;
}

uint64_t transport_moved_ms(const struct transport *t)
{
	return t->moved_ms;
}

void transport_cancel(struct transport *t)
{
	t->cancelled = true;
	if (t->flight)
		waitq_wake_all(&t->flight->q);
}

/* ---- the request ---- */

static char *copy(const char *text)
{
	char *own = text ? strdup(text) : NULL;

	if (text && !own)
		abort();
	return own;
}

static struct flight *make_flight(const struct transport *t, const struct transport_request *q)
{
	struct flight *f = calloc(1, sizeof(*f));
	size_t at = 0;

	if (!f)
		abort();
	f->refs = 1;
	f->client_proc = proc_current();
	f->client = proc_machine(f->client_proc);
	f->server_proc = net_listener();
	f->method = copy(q->method);
	f->target = copy(q->target);
	f->accept = copy(q->accept);
	f->content_type = copy(q->content_type);
	f->authorization = copy(t->authorization);
	f->space = copy(t->space);
	for (size_t i = 0; q->content_type && i < q->body_count; i++)
		f->body_len += q->body[i].iov_len;
	if (f->body_len && !(f->body = malloc(f->body_len)))
		abort();
	for (size_t i = 0; q->content_type && i < q->body_count; i++) {
		if (q->body[i].iov_len)
			memcpy(f->body + at, q->body[i].iov_base, q->body[i].iov_len);
		at += q->body[i].iov_len;
	}
	f->is_open = true;
	return f;
}

/* ---- what arrives late ---- */

struct late {
	struct flight *flight;
	uint64_t after_ms;
};

static void deliver_late(void *arg)
{
	struct late *l = arg;
	uint64_t until = sim_now_ns() + LATE_UNTIL_MS * MS;

	sim_sleep_ms(l->after_ms);
	while (net_state_of(l->flight->client) != NET_UP && sim_now_ns() < until)
		sim_sleep_ms(500);
	if (net_state_of(l->flight->client) == NET_UP)
		(void)net_arrive(l->flight);
	flight_put(l->flight);
	free(l);
}

/* f: becomes the network's. */
static void send_late(struct flight *f)
{
	struct late *l = calloc(1, sizeof(*l));

	if (!l)
		abort();
	l->flight = f;
	l->after_ms = sim_below(STREAM_NET, sim_below(STREAM_NET, LATE_MAX_MS) + 1);
	sim_trace("net %s %s of %s arrives %llu ms late", f->method, f->target, f->client->name,
		(unsigned long long)l->after_ms);
	proc_spawn(proc_new("net", NULL), "late", deliver_late, l);
}

/* ---- waiting ---- */

/* 0: over by itself, ended or not; -ECANCELED, -ETIMEDOUT. */
static int await(
	struct transport *t, struct flight *f, uint64_t until_ns, bool (*over)(const struct flight *))
{
	for (;;) {
		if (t->cancelled) {
			t->cancelled = false;
			return -ECANCELED;
		}
		if (!f->is_silent && over(f))
			return 0;
		t->flight = f;
		if (!waitq_wait(&f->q, until_ns)) {
			t->flight = NULL;
			return -ETIMEDOUT;
		}
		t->flight = NULL;
	}
}

static bool never(const struct flight *f)
{
	(void)f;
	return false;
}

static bool is_broken(const struct flight *f)
{
	return f->is_broken;
}

static bool is_over(const struct flight *f)
{
	return f->is_broken || f->is_answered;
}

/* For so long, unless it breaks or is cancelled: -EREMOTEIO, -ECANCELED. */
static int travel(struct transport *t, struct flight *f, uint64_t ms, uint64_t until_ns)
{
	uint64_t arrival = sim_now_ns() + ms * MS;
	int r = ms ? await(t, f, arrival < until_ns ? arrival : until_ns, is_broken) : 0;

	if (r == -ETIMEDOUT)
		return arrival < until_ns ? 0 : r;
	return r == 0 && f->is_broken ? -EREMOTEIO : r;
}

static int fail(struct transport *t, int r, const char *text)
{
	(void)snprintf(t->error, sizeof(t->error), "%s", text);
	t->is_connected = false;
	return r;
}

static int connect_to(struct transport *t, struct flight *f, uint64_t until_ns)
{
	uint64_t give_up = sim_now_ns() + CONNECT_MS * MS;
	int r;

	if (t->is_connected && net_state_of(f->client) == NET_SILENT)
		return 0; /* it is not noticed yet */
	t->is_connected = false;
	if (net_state_of(f->client) == NET_SILENT) {
		r = await(t, f, give_up < until_ns ? give_up : until_ns, never);
		return r == -ECANCELED ? r : fail(t, -ENOTCONN, "Connection timed out");
	}
	if (net_state_of(f->client) == NET_DOWN)
		return fail(t, -ENOTCONN, "Network is unreachable");
	if (!f->server_proc || f->fate == FATE_REFUSED)
		return fail(t, -ENOTCONN, "Connection refused");
	t->is_connected = true;
	return 0;
}

/* ---- fates ---- */

static int vanish(struct transport *t, struct flight *f, uint64_t until_ns)
{
	int r;

	if (sim_below(STREAM_NET, 2)) {
		r = travel(t, f, 1 + net_draw_delay_ms(), until_ns);
		return r ? r : -EREMOTEIO;
	}
	return await(t, f, until_ns, never);
}

/* The client gives up before, while or after the server works on it. */
static int give_up_on(struct transport *t, struct flight *f, uint64_t until_ns)
{
	int r;

	switch (sim_below(STREAM_NET, 3)) {
	case 0:
		r = travel(t, f, sim_below(STREAM_NET, 50), until_ns);
		return r ? r : -EREMOTEIO;
	case 1:
		r = await(t, f, until_ns, is_over);
		return r ? r : -EREMOTEIO;
	default:
		return await(t, f, until_ns, never);
	}
}

static int take_answer(struct transport *t, struct flight *f, const struct transport_request *q,
	struct transport_answer *answer, uint64_t until_ns)
{
	int r = await(t, f, until_ns, is_over);

	if (!r && !f->is_answered)
		r = -EREMOTEIO;
	if (!r)
		r = travel(t, f, net_draw_delay_ms(), until_ns);
	if (!r && f->is_silent)
		r = await(t, f, until_ns, never);
	if (!r && f->fate == FATE_ANSWER_CUT)
		r = -EREMOTEIO;
	if (!r && f->answer.len > q->answer_max_bytes)
		return fail(t, -EMSGSIZE, "the answer is too long");
	if (r)
		return r;
	t->moved_ms = clock_mono_ms();
	answer->status = f->status;
	answer->retry_after_s = f->retry_after_s;
	(void)snprintf(answer->content_type, sizeof(answer->content_type), "%s",
		f->answer_type ? f->answer_type : "");
	buf_put(&answer->body, f->answer.data, f->answer.len);
	return answer->body.error;
}

static int go(struct transport *t, struct flight *f, const struct transport_request *q,
	struct transport_answer *answer, uint64_t until_ns)
{
	int r = connect_to(t, f, until_ns);

	if (!r && t->is_connected && net_state_of(f->client) == NET_SILENT)
		f->is_silent = true;
	if (!r)
		r = travel(t, f, net_draw_delay_ms(), until_ns);
	if (!r && (f->is_silent || f->fate == FATE_LOST))
		return f->is_silent ? await(t, f, until_ns, never) : vanish(t, f, until_ns);
	if (!r && f->fate == FATE_LATE) {
		send_late(flight_copy(f));
		return vanish(t, f, until_ns);
	}
	if (!r && f->fate == FATE_TWICE)
		send_late(flight_copy(f));
	if (!r)
		t->moved_ms = clock_mono_ms();
	if (!r && !net_arrive(f))
		r = fail(t, -ENOTCONN, "Connection refused");
	if (!r && (f->fate == FATE_ANSWER_LOST || f->fate == FATE_HALF))
		return give_up_on(t, f, until_ns);
	return r ? r : take_answer(t, f, q, answer, until_ns);
}

int transport_perform(
	struct transport *t, const struct transport_request *request, struct transport_answer *answer)
{
	uint64_t stall_ms = (STALL_S + (uint64_t)request->silence_s) * 1000;
	uint64_t ms = request->timeout_ms < stall_ms ? request->timeout_ms : stall_ms;
	struct flight *f;
	int r;

	buf_reset(&answer->body);
	answer->status = 0;
	t->error[0] = '\0';
	sim_point("send");
	if (t->cancelled) {
		t->cancelled = false;
		return -ECANCELED;
	}
	f = make_flight(t, request);
	f->fate = net_draw_fate();
	flight_begin(f);
	sim_trace("send %s %s %zu bytes, fate %d", f->method, f->target, f->body_len, (int)f->fate);
	sim_trace_body(">", f->body, f->body_len);
	r = go(t, f, request, answer, sim_now_ns() + ms * MS);
	f->is_open = false;
	sim_trace("done %s %s = %d, status %d, %zu bytes", f->method, f->target, r, r ? 0 : f->status,
		answer->body.len);
	sim_trace_body("<", answer->body.data, answer->body.len);
	if (r < 0) {
		t->is_connected = false;
		buf_reset(&answer->body);
		if (!t->error[0])
			(void)snprintf(t->error, sizeof(t->error), "%s", strerror(-r));
	}
	flight_end(f);
	flight_put(f);
	return r;
}
