/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between client and server as bytes: the only user of the JSON library, with the control
 * messages of control.h. Decoders treat input as hostile: bounded by limits.h, duplicate keys, trailing
 * bytes, non-integers and unknown enum words refused whole with -EPROTO (or -EMSGSIZE), the reason in
 * *why when given. Unknown members of objects are ignored. Decoded structs own their memory; raw parts
 * are borrowed from the input.
 *
 * message_batch.c, message_reply.c, message_page.c, message_chunks.c, message_simple.c.
 *
 * A frame ("application/vnd.syncfs.batch") is: u32 big-endian JSON length, JSON, raw bytes.
 */
#ifndef SYNCFS_MESSAGE_H
#define SYNCFS_MESSAGE_H

#include <syncfs/change.h>

#define BATCH_CONTENT_TYPE "application/vnd.syncfs.batch"

/* POST /sync, native form. */
struct batch {
	struct id client, run;
	uint64_t acked_opno; /* results up to here are no longer needed */
	char *label; /* for conflict names, may be NULL */
	struct op *ops; /* in opno order, dense */
	size_t ops_count;
	const uint8_t *raw; /* data_at counts from here; ops' manifests are copied out of it */
	size_t raw_len;
};

void batch_fini(struct batch *b);
/*
 * Encoding is incremental so that content is copied once: batch_encode() writes the JSON of b into out as a
 * complete frame followed by the raw bytes of b (b->raw, b->raw_len). Manifests are appended to the raw part
 * behind b->raw by the encoder.
 */
int batch_encode(const struct batch *b, struct buf *out);
int batch_decode(const void *bytes, size_t len, struct batch *ret_batch, struct buf *why);
/* SHA-256 over the op's meaning (all members but data_at), for the dedup table. */
struct hash op_digest(const struct op *op);

/* The words of the wire, for people to read too. */
const char *op_word(enum op_type type);
const char *outcome_word(enum outcome outcome);

/* Answer to it: plain JSON. */
struct batch_reply {
	struct result *results; /* one per op, in order; fewer when the last one is MISSING */
	size_t results_count;
	struct cursor cursor; /* after the batch */
};

void batch_reply_fini(struct batch_reply *r);
int batch_reply_encode(const struct batch_reply *r, struct buf *out);
int batch_reply_decode(const void *bytes, size_t len, struct batch_reply *ret_reply, struct buf *why);

/* Answer of GET /poll?cursor= and GET /tree: a frame, or plain JSON when raw is not accepted (raw_len 0). */
struct page {
	struct cursor from, cursor;
	bool more;
	struct node_state *changes; /* ascending seq, parents before children as far as seq allows */
	size_t changes_count;
	const uint8_t *raw;
	size_t raw_len;
	struct hash *want; /* contents whose bytes the server lacks: at most WANT_PER_PAGE */
	size_t want_count;
};

void page_fini(struct page *p);
int page_encode(const struct page *p, bool framed, struct buf *out);
int page_decode(const void *bytes, size_t len, bool framed, struct page *ret_page, struct buf *why);

/* POST /chunks/missing {"hashes":[..]} and its answer (same shape); POST /chunks/get takes the same. */
int hashes_encode(const struct hash *hashes, size_t count, struct buf *out);
int hashes_decode(
	const void *bytes, size_t len, struct hash **ret_hashes, size_t *ret_count, struct buf *why);

/* Chunk batch, a frame {"chunks":[["HASH",len],...]} + the bytes in order: body of PUT /chunks, answer of
 * /chunks/get. */
struct chunk_ref {
	struct hash hash;
	uint32_t len;
	const uint8_t *data; /* borrowed */
};
/* The header only (length, JSON); the caller appends the chunks' bytes in order. */
int chunks_encode_header(const struct chunk_ref *chunks, size_t count, struct buf *out);
int chunks_decode(
	const void *bytes, size_t len, struct chunk_ref **ret_chunks, size_t *ret_count, struct buf *why);

/* GET /session answer. */
struct session {
	uint64_t last_opno; /* 0: client unknown */
	struct cursor cursor; /* where the server is */
};
int session_encode(const struct session *s, struct buf *out);
int session_decode(const void *bytes, size_t len, struct session *ret_session, struct buf *why);

/* {"error": text, "code": word} of every failed request. */
int error_encode(const char *text, const char *code, struct buf *out);
/* Fills fixed arrays, empty strings when the body is no such object. Never fails. */
void error_decode(
	const void *bytes, size_t len, char *ret_text, size_t text_cap, char *ret_code, size_t code_cap);

/* The simple form of POST /sync (syncfs-protocol(7)). */
enum simple_action { SIMPLE_UPLOAD = 1, SIMPLE_DELETE, SIMPLE_MKDIR, SIMPLE_RENAME };
struct simple_request {
	enum simple_action action;
	char *path, *new_path;
	struct blob content; /* decoded */
};
void simple_request_fini(struct simple_request *r);
/* -EPROTO no JSON object / bad encoding / bad path; *ret_error is the fixed text "Invalid data" or "Invalid
 * action" or a path message. */
int simple_request_decode(
	const void *bytes, size_t len, struct simple_request *ret_request, const char **ret_error);

/* One entry of the simple poll's array, appended as JSON text to out ('[' ',' ']' are the caller's). */
int simple_entry_encode_upload(struct buf *out, const char *path, const void *content, size_t len);
int simple_entry_encode_url(struct buf *out, const char *path, const char *url, uint64_t size);
int simple_entry_encode_delete(struct buf *out, const char *path);
int simple_answer_encode(const char *message, struct buf *out); /* {"status":"success","message":..} */

#endif
