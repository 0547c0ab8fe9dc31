/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 over libmicrohttpd, whose only user this is; knows nothing of sync. One epoll thread reads
 * requests whole and sends answers; in between the connection is suspended and a worker runs handle(). A
 * request passes head() once its header is there, before any of its body is read, then handle(), as often as
 * it parks itself, then done(). The daemon is in http.c, what requests ask for in http_request.c.
 */
#ifndef SYNCFS_SERVER_HTTP_H
#define SYNCFS_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <syncfs/buf.h>

enum http_method { HTTP_GET = 1, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_OTHER };

/* One request. Borrowed to the callbacks; alive until done(). */
struct exchange {
	enum http_method method;
	const char *path; /* as it came: percent-encoded, without the query */
	const char *query; /* after the '?', as it came; NULL: none */
	bool has_body; /* announced by Content-Length > 0 or chunked */
	bool has_length; /* Content-Length or chunked is there at all */
	uint64_t body_len; /* announced; 0 when chunked */

	/* head() may set */
	uint64_t body_max; /* 0 at first: no body at all */
	int spill_dirfd; /* where bodies over BODY_MEMORY_BYTES go; borrowed; -1 at first */
	bool is_quick; /* handle() never waits for a commit: it may use the thread kept for such */
	void *user; /* the caller's; released by done() */
};

#define RESPONSE_HEADERS_MAX 8

/* Zeroed but for fd -1 and status 200 when given to a callback. What it holds is taken over. */
struct response {
	unsigned status;
	const char *content_type; /* static */
	struct buf body;
	int fd; /* >= 0: fd_len bytes of this file from fd_at on instead of body; closed by http */
	uint64_t fd_at, fd_len;
	struct {
		const char *name; /* static */
		char *value; /* heap */
	} headers[RESPONSE_HEADERS_MAX];
	size_t headers_count;
	bool is_last; /* close the connection after it */
};

enum http_verdict {
	HTTP_ANSWER = 0, /* the response is filled */
	HTTP_GO_ON, /* head(): read the body, then call handle() */
	HTTP_PARKED, /* handle(): call it again after http_wake() */
};

struct http_ops {
	void *arg;
	enum http_verdict (*head)(
		void *arg, struct exchange *x, struct response *rs); /* epoll thread: be brief */
	enum http_verdict (*handle)(void *arg, struct exchange *x, struct response *rs); /* a worker */
	void (*done)(void *arg, struct exchange *x); /* epoll thread; answered or not */
};

struct http_config {
	const char *listen; /* "127.0.0.1:3459", "[::1]:0" */
	const char *tls_cert, *tls_key; /* PEM texts; NULL: plain */
	unsigned workers, connections;
	uint32_t header_deadline_ms, idle_ms, body_window_ms, body_window_bytes;
	struct http_ops ops;
};

/* The limits of limits.h; the caller sets listen, TLS and ops. */
void http_config_init(struct http_config *config);

struct http;

/* Listens and serves; *ret_http is set before the first request comes. -EINVAL listen is no address,
 * -EADDRINUSE ..., -EPROTO certificate or key are not usable. */
int http_start(const struct http_config *config, struct http **ret_http);
/*
 * From now on further requests get 503 and every answer ends its connection; what is parked has to be woken
 * by the caller. Waits until no request is open, at most wait_ms.
 */
void http_drain(struct http *http, uint32_t wait_ms);
/* After http_drain(): serves again, on the same port, with another certificate (NULL, NULL: plain). -EPROTO.
 */
int http_resume(struct http *http, const char *tls_cert, const char *tls_key);
void http_stop(struct http *http); /* drains shortly, ends all; NULL is fine */

/* "127.0.0.1:3459" with the real port, borrowed. */
const char *http_address(const struct http *http);
struct http_counters {
	uint64_t bytes_in, bytes_out, connections;
};
void http_counters(const struct http *http, struct http_counters *ret_counters);

/* ---- for a request, in head() and handle() ---- */

/* A header's value, borrowed until done(); NULL: none. Without its surrounding blanks. */
const char *http_header(struct exchange *x, const char *name);
/* The body, borrowed until done(). 0 or -errno. */
int http_body(struct exchange *x, const void **ret_bytes, size_t *ret_len);
/* The body's file when it was spilled, borrowed; -1: it is in memory. */
int http_body_fd(struct exchange *x);
uint64_t http_body_len(struct exchange *x);
/* Runs handle() again for a request that has parked or is about to. Any thread, under locks below RANK_HTTP.
 */
void http_wake(struct exchange *x);
/* The client has gone while it waits. Only for parked requests. */
bool http_client_is_gone(struct exchange *x);

#endif
