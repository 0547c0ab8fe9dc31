/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server can be asked, as calls: one request each, its answer decoded and checked. Each thread that
 * talks to the server (uploader, poller, fetch) owns a remote of its own; only remote_cancel() is for other
 * threads.
 *
 * Every call gives 0 or
 *   -ENOTCONN -ETIMEDOUT -EREMOTEIO -ECANCELED -ENOMEM   as transport.h; outcome unknown for the middle three
 *   -EAGAIN        the server or a proxy says try later (5xx, 429, 408); remote_retry_after_s() when it said
 * when -ENOSPC        the server has no room (507) -EACCES        the token is not accepted (401) -EPERM the
 * token does not allow it (403) -ECHRNG        another history: epoch (410)          -ESTALE  not on this
 * history: diverged (410) -EOWNERDEAD    the feed does not reach back: gone (410) -EALREADY      another
 * client runs under our id: clone (409) -ECHILD        the operation numbers have a gap: expected (409)
 *   -EKEYREJECTED  refused for ever (422)
 *   -ENOENT        the server knows no such content
 *   -EMSGSIZE      a request or an answer over a limit
 *   -EINVAL        the server refuses the request as malformed (400)
 *   -EBADMSG       bytes that do not have the hash they were asked for by
 *   -EPROTO        it answers, but not as a syncfsd does
 * and a sentence for people in remote_last_error().
 */
#ifndef SYNCFS_CLIENT_REMOTE_H
#define SYNCFS_CLIENT_REMOTE_H

#include <stddef.h>
#include <stdint.h>

#include <syncfs/message.h>

struct remote;

struct remote_config {
	const char *url, *token; /* checked by config */
	const char *namespace; /* NULL: the token's */
};

/* Copies what it needs; connects at the first call. -EINVAL, -ENOMEM. */
int remote_new(const struct remote_config *config, struct remote **ret_remote);
void remote_free(struct remote *r);
/* transport_cancel(): the running call, or else the next, gives -ECANCELED. Any thread. */
void remote_cancel(struct remote *r);
/* When bytes last went either way, monotonic; 0: never. Any thread. */
uint64_t remote_moved_ms(const struct remote *r);
/* Of the last call; "" after a success. Borrowed until the next call. */
const char *remote_last_error(const struct remote *r);
uint32_t remote_retry_after_s(const struct remote *r); /* 0: not said */

/* GET /session. */
int remote_session(struct remote *r, const struct id *client, struct session *ret_session);
/* POST /sync with what batch_encode() made. */
int remote_sync_bytes(struct remote *r, const struct buf *encoded_batch, struct batch_reply *ret_reply);
/*
 * GET /poll. from NULL: from the beginning. acked: where an answer of POST /sync was, ahead of from, to be on
 * the same history; NULL. wait_s: how long the server may hold it back, <= POLL_WAIT_MAX_S.
 * ret_page->raw points into ret_body, which the caller keeps as long and frees (it may hold an earlier
 * answer).
 */
int remote_poll(struct remote *r, const struct cursor *from, const struct cursor *acked, unsigned wait_s,
	const struct id *client, struct page *ret_page, struct buf *ret_body);

/* Leaves in hashes[] the ones the server lacks, in order, and in *count how many. Any number. On an error
 * both are undefined. */
int remote_chunks_missing(struct remote *r, struct hash *hashes, size_t *count);
/* All in one request: -EMSGSIZE when they are more than BODY_MAX_BYTES with their header. */
int remote_put_chunks(struct remote *r, const struct chunk_ref *chunks, size_t count);
/*
 * Asks for count <= HASHES_PER_REQUEST chunks. The answer may have fewer, when the server lacks some or the
 * answer would be too long; each that came was asked for and has its hash. *ret_chunks: caller frees; data
 * points into ret_body.
 */
int remote_get_chunks(struct remote *r, const struct hash *hashes, size_t count, struct buf *ret_body,
	struct chunk_ref **ret_chunks, size_t *ret_count);
/* Says that the chunks of these contents, which the server wants, are sent. Leaves in contents[] those that
 * it cannot put together yet. */
int remote_supply(struct remote *r, struct hash *contents, size_t *count);
/* The manifest of a content, checked against it. Caller frees ret_manifest->data. */
int remote_manifest(struct remote *r, const struct content *content, struct blob *ret_manifest);

#endif
