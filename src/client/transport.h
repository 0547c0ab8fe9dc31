/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP connection to the server, for one thread at a time: send a request, wait for the whole answer.
 * Each thread that talks to the server owns one. Follows no redirect, so the token reaches the configured
 * origin only.
 */
#ifndef SYNCFS_CLIENT_TRANSPORT_H
#define SYNCFS_CLIENT_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <syncfs/buf.h>

struct transport;

struct transport_config {
	const char *url; /* origin and optional path prefix, without a slash at the end */
	const char *token; /* printable ASCII */
	const char *namespace; /* sent as `Syncfs-Namespace`; NULL: the token's */
};

struct transport_request {
	const char *method; /* GET POST PUT DELETE */
	const char *target; /* begins with '/', percent-encoded, with its query */
	const char *accept; /* NULL: anything */
	const char *content_type; /* of the body; NULL: there is none */
	const struct iovec *body; /* borrowed until the call returns, not copied */
	size_t body_count;
	size_t answer_max_bytes; /* a longer answer is -EMSGSIZE */
	uint32_t timeout_ms; /* for all of it */
	uint32_t silence_s; /* how long the server may be silent on purpose, on top of the stall time of 30 s
			     */
};

#define TRANSPORT_TYPE_BYTES 128

struct transport_answer {
	int status;
	uint32_t retry_after_s; /* 0: not said */
	char content_type[TRANSPORT_TYPE_BYTES]; /* "" when there is none, cut when longer */
	struct buf body; /* caller: buf_fini(); memory of an earlier answer is used again */
};

/* Copies what it needs. 0, -EINVAL (url, or a token that fits no header), -ENOMEM. Connects at the first
 * request. */
int transport_new(const struct transport_config *config, struct transport **ret_transport);
void transport_free(struct transport *t);

/*
 * Any status is success; the caller looks at it. On an error the answer's body is empty.
 *
 * -ENOTCONN   no connection (no route, refused, TLS, not within 10 s): nothing was sent
 * -ETIMEDOUT  not within timeout_ms, or less than 1 byte/s for 30 s; outcome unknown
 * -EREMOTEIO  connected, but there is no whole answer; outcome unknown
 * -EPROTO     what came back is not HTTP
 * -EMSGSIZE   the answer is longer than answer_max_bytes; the server has done what was asked
 * -ECANCELED  by transport_cancel(); outcome unknown
 * -ENOMEM
 */
int transport_perform(
	struct transport *t, const struct transport_request *request, struct transport_answer *answer);

/*
 * Ends the request that is running or, when there is none, the next one, with -ECANCELED. Any thread. A
 * thread that looks at its stop flag before each request therefore cannot miss a stop that is set before this
 * call.
 */
void transport_cancel(struct transport *t);

/* When bytes last went either way, monotonic; 0: never. Any thread. */
uint64_t transport_moved_ms(const struct transport *t);
/* The last failure for people, "" when there was none. Borrowed until the next request. No secrets. */
const char *transport_error(const struct transport *t);

#endif
