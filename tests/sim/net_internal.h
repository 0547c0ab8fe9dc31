/* SPDX-License-Identifier: Apache-2.0 */
/* What net_client.c (transport.h), net_server.c (http.h) and net.c (the wire) share. */
#ifndef SIM_NET_INTERNAL_H
#define SIM_NET_INTERNAL_H

#include <syncfs/buf.h>

#include "net.h"
#include "sched.h"
#include "sim.h"

/* What can become of a request on its way. */
enum fate {
	FATE_FINE,
	FATE_REFUSED, /* no connection */
	FATE_LOST, /* the request vanishes */
	FATE_HALF, /* its header and half of its body arrive, then the connection ends */
	FATE_ANSWER_LOST, /* the answer vanishes, or the connection ends while the server works */
	FATE_ANSWER_CUT,
	FATE_LATE, /* the client has given up when it arrives */
	FATE_TWICE, /* a first copy on a connection that broke; it arrives, too, some time */
};

/* A request on its way and its answer. The network's memory. */
struct flight {
	struct flight *next, **at; /* of those under way */
	unsigned refs;
	struct machine *client;
	struct proc *client_proc, *server_proc; /* server_proc: who served when it was sent */
	enum fate fate;

	char *method, *target, *accept, *content_type, *authorization, *space; /* NULL: not sent */
	uint8_t *body;
	size_t body_len;

	bool is_open; /* the client waits for it */
	bool is_silent; /* nothing comes any more, in either direction */
	bool is_broken; /* the connection has ended without an answer */
	bool is_answered;
	struct waitq q; /* the client */

	int status;
	uint32_t retry_after_s;
	const char *answer_type; /* static */
	struct buf answer;
};

void flight_put(struct flight *f);
struct flight *flight_copy(const struct flight *f); /* the request alone */
void flight_begin(struct flight *f); /* is under way from now on */
void flight_end(struct flight *f);
void flight_break(struct flight *f);

enum net_state net_state_of(const struct machine *client);
enum fate net_draw_fate(void);
bool net_faults_are_on(void);
uint64_t net_draw_delay_ms(void);
void net_count(const struct flight *f);
/* A request of the world's, past all faults: the status, or -ENOTCONN, -EREMOTEIO. */
int net_ask(const char *target, const char *token, struct buf *answer);

/* ---- net_server.c ---- */

/* The process that listens, NULL: none. */
struct proc *net_listener(void);
/* Starts the server's work on it; its answer goes to f. False: nobody listens, or another process than when
 * it was sent. */
bool net_arrive(struct flight *f);
/* The server's process has ended, or a partition: breaks what is under way to and from it. */
void net_break_all(const struct machine *client);

#endif
