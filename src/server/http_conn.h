/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every connection may take its time for: a request's header has a total deadline (not one per byte), a
 * body a minimum rate. The library below us has per-byte timeouts only. A thread of its own looks and shuts
 * down what is too slow; the library then notices and closes.
 */
#ifndef SYNCFS_SERVER_HTTP_CONN_H
#define SYNCFS_SERVER_HTTP_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conns;
struct conn;

struct conns_config {
	uint32_t header_deadline_ms; /* total, from the connection or the request line on */
	uint32_t idle_ms; /* keep-alive without a request */
	uint32_t body_window_ms; /* in each such window of a body ... */
	uint32_t body_window_bytes; /* ... at least that much has to come */
};

int conns_start(const struct conns_config *config, struct conns **ret_conns);
void conns_stop(struct conns *conns); /* after the last conn_free(); NULL is fine */

/* A new connection in the header phase; NULL: out of memory, then it is not watched. fd is borrowed until
 * conn_free(). */
struct conn *conn_new(struct conns *conns, int fd, bool is_tls);
void conn_free(struct conn *c); /* all below: NULL is fine */

void conn_request_line(struct conn *c); /* a further request has begun */
void conn_body_begins(struct conn *c);
void conn_body_bytes(struct conn *c, size_t len);
void conn_is_ours(struct conn *c); /* all is read; it is on us now */
void conn_is_idle(struct conn *c); /* the answer went out */

/*
 * A refusal while the body is still coming in, where the library takes no answer any more: written straight
 * to the socket (not under TLS) and shut down. body is JSON.
 */
void conn_refuse(struct conn *c, unsigned status, const char *reason, const char *body);
/*
 * The answer will go out before the body was read: keep the socket for a moment and read into the void, since
 * a close with unread bytes resets the connection under the answer.
 */
void conn_linger(struct conn *c);
/* The other side has closed its end (or is gone). */
bool conn_peer_is_gone(struct conn *c);

#endif
