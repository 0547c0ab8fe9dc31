/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as handlers see it: who asks, for which tree, with which arguments. A handler is a plain blocking
 * function run by a worker. It returns 0 (rs is filled), REQUEST_PARKED, or -errno, which becomes the status
 * and code word of error.h.
 */
#ifndef SYNCFS_SERVER_REQUEST_H
#define SYNCFS_SERVER_REQUEST_H

#include <syncfs/change.h>

#include "auth.h"
#include "feed.h"
#include "http.h"
#include "store.h"

#define REQUEST_PARKED 1

/* One namespace that is served. */
struct space {
	char name[AUTH_NAME_BYTES];
	char *root; /* heap */
	struct store *store;
	int stage_fd; /* ROOT/.syncfs/stage: where big bodies go; -1: not open */
	struct feed *feed; /* whom its commits wake */
};

struct router;

/* What handlers use beyond the request. Set at start, then read-only. */
struct services {
	struct auth *auth;
	struct feed *feed;
	struct http *http;
	struct router *router;
	struct space *spaces;
	size_t spaces_count;
};

struct route;

struct request {
	struct exchange *x;
	const struct route *route;
	const struct services *services;
	struct space *space; /* NULL on routes without authorization */
	struct token token;
	char *arg; /* rest of the path behind a route's prefix, percent-decoded; NULL: none */
	size_t arg_len;

	/* of a waiting poll */
	bool is_poll_begun, has_cursor, has_acked;
	struct cursor cursor;
	struct cursor acked; /* where the asker was told to be by POST /sync, ahead of its cursor */
	struct id client; /* who polls, so that what it sent is not sent back; ID_NONE: it did not say */
	uint64_t want_news; /* store_want_news() when it began */
	struct feed_poll poll;
};

enum route_flags {
	ROUTE_OPEN = 1 << 0, /* without a token */
	ROUTE_WRITES = 1 << 1, /* not with a read-only token */
	ROUTE_QUICK = 1 << 2, /* never waits for a commit */
	ROUTE_PREFIX = 1 << 3, /* path is a prefix, the rest is the argument */
};

struct route {
	enum http_method method;
	const char *path;
	unsigned flags;
	const char *content_type; /* of the body; NULL: any */
	uint64_t body_max;
	int (*handler)(struct request *rq, struct response *rs);
};

/* The decoded value of a query member, caller frees. -ENOENT; -EINVAL a bad escape or NUL. */
int request_query(const struct request *rq, const char *name, char **ret_value);
/* text[len] with %XX decoded, NUL-terminated, caller frees; -EINVAL a bad escape or NUL. */
int percent_decode(const char *text, size_t len, char **ret_text, size_t *ret_len);
/* A header that lists media types names this one. */
bool header_has_type(const char *header, const char *type);
struct store_actor request_actor(const struct request *rq);

/* Appends a header, value by format; without memory it is left out and the status becomes 500. */
void response_header(struct response *rs, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void response_json(struct response *rs, unsigned status); /* the body is in rs already */
/* {"error": text, "code": word} in place of what rs holds. 0 or -ENOMEM. */
int response_error(struct response *rs, int err, const char *text); /* by error.h; text NULL: strerror's */
int response_refuse(struct response *rs, unsigned status, const char *text, const char *code);

#endif
