/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What syncfsctl and a running syncfs say to each other over a unix stream socket: one JSON object on one
 * line each way, then the socket is closed. Encoders append the newline; decoders take the line with or
 * without it. Decoders treat input as hostile, as those of message.h: -EPROTO, -EMSGSIZE, -ENOMEM, reason in
 * *why when given.
 */
#ifndef SYNCFS_CONTROL_H
#define SYNCFS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <syncfs/buf.h>

#define CONTROL_REQUEST_MAX_BYTES 65536 /* a path in which every byte is escaped, and a token */
#define CONTROL_REPLY_MAX_BYTES (8u << 20) /* JSON_MAX_BYTES: some 30,000 conflicts */
#define CONTROL_TIMEOUT_NONE (-1)

enum control_command {
	CONTROL_STATUS = 1,
	CONTROL_WAIT, /* until what was done before is acknowledged, or, with a token, until it is shown here
		       */
	CONTROL_TOKEN,
	CONTROL_PAUSE,
	CONTROL_RESUME,
	CONTROL_RECONNECT,
	CONTROL_CONFLICTS,
	CONTROL_APPROVE, /* deletions that are held are sent */
	CONTROL_RESTORE, /* what they deleted comes back */
};

struct control_request {
	enum control_command command;
	char *path; /* below the mountpoint, absolute, any bytes; NULL: the whole mount */
	int64_t timeout_ms; /* wait: 0 and more; CONTROL_TIMEOUT_NONE: for ever */
	char *token; /* wait: what `token` printed elsewhere; NULL: none */
};

void control_request_fini(struct control_request *r);
int control_request_encode(
	const struct control_request *r, struct buf *out); /* -EINVAL, -EMSGSIZE, -ENOMEM */
int control_request_decode(
	const void *bytes, size_t len, struct control_request *ret_request, struct buf *why);

/* Strings may be NULL in all of these; decoded ones are heap-owned. */
struct control_status {
	bool connected, passthrough, paused;
	uint64_t since_s; /* how long connected or not connected */
	char *url, *mountpoint, *backing, *state; /* state: directory of journal and database */
	uint64_t pending_ops, pending_bytes, open_writers, dead_letters;
	uint64_t held_deletions; /* found by a scan, too many at once to be believed */
	uint64_t waiting_calls; /* fsync and close that wait for the server */
	uint64_t deferred_calls; /* answered before the server had what they stand for */
	char *last_error;
	uint64_t cursor_seq;
	char *file_state; /* of the request's path: word of user.syncfs.state; NULL: none asked */
};

struct control_reply {
	bool ok;
	int code; /* not ok: negative errno, as far as error.h has a word for it */
	char *error; /* not ok: a sentence, NULL: none */
	bool has_status;
	struct control_status status;
	char *token; /* of CONTROL_TOKEN, else NULL */
	bool has_conflicts;
	char **conflicts; /* paths, below the mountpoint, any bytes */
	size_t conflicts_count;
};

void control_reply_fini(struct control_reply *r);
int control_reply_encode(const struct control_reply *r, struct buf *out); /* -EINVAL, -EMSGSIZE, -ENOMEM */
int control_reply_decode(const void *bytes, size_t len, struct control_reply *ret_reply, struct buf *why);

#endif
