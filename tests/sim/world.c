/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run from start to end: server and clients start, maybe with files there already; people work while
 * faults.c breaks things; then all is healed, everything must come to rest in bounded time, be right, stay
 * still, and be the same after a clean restart. Called by main.c in the world's thread.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "run.h"
#include "user_ops.h"

/* Everything has to be done 60 s after the last fault (I15), plus the pauses before tries that were agreed on
 * while it was there: one of the poller, one of the uploader, one of the applier, 60 s at most each. */
#define REST_MS ((60 + 3 * 60) * 1000u)
#define REST_LOOKS 3 /* so often at rest, one second apart */
#define STILL_MS (600 * 1000u)
#define LATE_MS (30 * 1000u) /* until requests that arrive twice have arrived the second time */
#define HOME_MS (300 * 1000u) /* until the last call of the last person has returned */

void gate_close(struct gate *g)
{
	while (g->is_closed)
		(void)waitq_wait(&g->waiting, SIM_FOREVER);
	g->is_closed = true;
}

void gate_open(struct gate *g)
{
	g->is_closed = false;
	waitq_wake_one(&g->waiting);
}

void world_net_hold(struct world *w, unsigned client, enum net_state state)
{
	w->net_held[client]++;
	net_set(&w->clients[client].machine, state);
}

void world_net_release(struct world *w, unsigned client)
{
	if (w->net_held[client] && --w->net_held[client] == 0)
		net_set(&w->clients[client].machine, NET_UP);
}

/* ---- rest ---- */

static bool is_at_rest(struct world *w)
{
	for (unsigned c = 0; c < w->count; c++) {
		if (!host_client_is_idle(&w->clients[c]))
			return false;
	}
	return true;
}

static void tell_unrest(struct world *w)
{
	for (unsigned c = 0; c < w->count; c++) {
		struct control_reply reply = {0};

		if (!host_client_status(&w->clients[c], &reply)) {
			sim_trace("client %u does not run: %s", c, w->clients[c].why);
			continue;
		}
		sim_trace("client %u: %s, %llu pending, cursor %llu, %s: %s", c,
			host_client_is_idle(&w->clients[c]) ? "at rest" : "not at rest",
			(unsigned long long)reply.status.pending_ops,
			(unsigned long long)reply.status.cursor_seq,
			reply.status.connected ? "connected" : "not connected",
			reply.status.last_error ? reply.status.last_error : "");
		host_client_tell_left(&w->clients[c]);
		control_reply_fini(&reply);
	}
}

static void wait_for_rest(struct world *w)
{
	uint64_t end = sim_now_ns() + (uint64_t)REST_MS * 1000000;
	unsigned looks = 0;

	while (looks < REST_LOOKS) {
		if (sim_now_ns() > end) {
			tell_unrest(w);
			sim_fail("I15", "no rest %u s after the last fault", REST_MS / 1000);
		}
		if (!faults_supervise(w))
			sim_fail("I15", "something does not start although no fault is left");
		oracle_check_safety(w->oracle);
		sim_sleep_ms(1000);
		looks = is_at_rest(w) ? looks + 1 : 0;
	}
}

static void check_still(struct world *w)
{
	struct oracle_still before, after;

	sim_sleep_ms(LATE_MS);
	oracle_still(w->oracle, &before);
	sim_sleep_ms(STILL_MS);
	oracle_still(w->oracle, &after);
	if (after.requests != before.requests)
		sim_fail("I10", "%llu requests other than polls in ten quiet minutes",
			(unsigned long long)(after.requests - before.requests));
	for (unsigned c = 0; c <= w->count; c++) {
		if (after.changes[c] != before.changes[c])
			sim_fail("I10", "%llu changes of the disk of %s%u in ten quiet minutes",
				(unsigned long long)(after.changes[c] - before.changes[c]),
				c == w->count ? "the server, not of " : "client ", c);
	}
}

/* A clean end and start of everything: nothing is sent, fetched or changed again. */
static void check_remount(struct world *w)
{
	struct oracle_still before, after;

	for (unsigned c = 0; c < w->count; c++)
		host_client_stop(&w->clients[c]);
	host_server_stop(&w->server);
	oracle_still(w->oracle, &before);
	if (host_server_start(&w->server, false))
		sim_fail("start", "the server does not start after a clean end");
	for (unsigned c = 0; c < w->count; c++) {
		if (host_client_start(&w->clients[c], false))
			sim_fail("start", "client %u does not start after a clean end: %s", c,
				w->clients[c].why);
	}
	wait_for_rest(w);
	oracle_still(w->oracle, &after);
	for (unsigned c = 0; c <= w->count; c++) {
		/* Its own folder is touched at each start; a tree that is equal before and after is checked
		 * below. */
		sim_trace("remount: %llu changes on disk %u",
			(unsigned long long)(after.changes[c] - before.changes[c]), c);
	}
	oracle_check_rest(w->oracle);
	sim_count("clean restart of all");
}

/* ---- start ---- */

static void make_pins(struct world *w)
{
	struct person p = {.world = w, .client = 0, .number = 999, .brisk = true};

	for (unsigned n = 0; n < 2; n++) {
		char path[8];

		(void)snprintf(path, sizeof(path), "pin%u", n);
		(void)op_write(&p, path, 0, 200);
	}
}

static void start_all(struct world *w)
{
	unsigned fill = (unsigned)sim_below(STREAM_USER, 6);

	if (fill == 3 && sim_options.single_writer)
		fill = 2; /* two writers */
	if (fill == 1 || fill == 3)
		user_fill_before(w, true, 0);
	for (unsigned c = 0; c < w->count; c++) {
		if (fill == 2 || fill == 3)
			user_fill_before(w, false, c);
		if (sim_options.single_writer)
			break;
	}
	if (host_server_start(&w->server, false))
		sim_fail("start", "the server does not start on an empty disk");
	for (unsigned c = 0; c < w->count; c++) {
		if (host_client_start(&w->clients[c], false))
			sim_fail("start", "client %u does not start: %s", c, w->clients[c].why);
	}
	sim_count(fill == 0 || fill > 3 ? "first contact: empty"
			: fill == 1	? "first contact: filled server"
			: fill == 2	? "first contact: filled clients"
					: "first contact: both filled");
}

/* The only writer has what was at the server before: what it makes then is not made by two at once. */
static void wait_for_contact(struct world *w)
{
	uint64_t end = sim_now_ns() + (uint64_t)REST_MS * 1000000;

	while (!host_client_is_idle(&w->clients[0])) {
		if (sim_now_ns() > end)
			sim_fail("I15", "no first contact in %u s", REST_MS / 1000);
		sim_sleep_ms(10);
	}
}

static void send_home(struct world *w)
{
	uint64_t end = sim_now_ns() + (uint64_t)HOME_MS * 1000000;

	w->stop = true;
	while (w->people) {
		if (sim_now_ns() > end)
			sim_fail("I15", "a call of a person has not returned for %u s", HOME_MS / 1000);
		sim_sleep_ms(100);
	}
}

void world_run(void *arg)
{
	struct world *w = calloc(1, sizeof(*w));

	(void)arg;
	if (!w)
		abort();
	w->count = sim_options.clients;
	w->ops_left = sim_options.user_ops;
	host_server_new(&w->server);
	for (unsigned c = 0; c < w->count; c++)
		host_client_new(&w->clients[c], c);
	w->oracle = oracle_new(&w->server, w->clients, w->count);
	start_all(w);
	if (sim_options.single_writer)
		wait_for_contact(w);
	make_pins(w);
	user_start_all(w);
	faults_run(w);
	send_home(w);
	faults_heal(w);
	wait_for_rest(w);
	sim_trace("at rest");
	oracle_check_rest(w->oracle);
	check_still(w);
	if (sim_chance(STREAM_OPTIONS, 300000))
		check_remount(w);
	host_server_stop(&w->server);
	oracle_check_meta(w->oracle);
	sim_trace("the end");
}
