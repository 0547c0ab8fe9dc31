/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of protocol: strict reading of JSON through jansson and direct writing of it into a struct buf.
 * Readers keep the first refusal (like struct reader), so that a decoder checks once at its end.
 */
#ifndef SYNCFS_PROTOCOL_JSON_H
#define SYNCFS_PROTOCOL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <syncfs/buf.h>
#include <syncfs/change.h>

/*
 * Values in one text: a parsed value costs up to 80 bytes. The densest message that the other limits allow
 * (8 MiB of empty extended attributes at 14 bytes each) has 600,000.
 */
#define JSON_MAX_VALUES (1u << 20)

/*
 * Writing. A member is written with its key, an array element with key NULL; the comma before it is put
 * when the last byte written is no opening bracket.
 */
void json_put_open(struct buf *out, const char *key, char bracket);
void json_put_close(struct buf *out, char bracket);
void json_put_text(struct buf *out, const char *key, const char *text); /* no UTF-8: '?' for bytes over 127 */
void json_put_key_bytes(struct buf *out, const char *key, size_t key_len); /* any UTF-8 as a key, with ':' */
void json_put_string(struct buf *out, const char *s, size_t len); /* bare "..."; s is UTF-8 */
/* Bytes that are usually text: member `key`, or `key_b64` when they are no UTF-8. */
void json_put_bytes(struct buf *out, const char *key, const char *s);
void json_put_base64(struct buf *out, const char *key, const void *bytes, size_t len);
void json_put_u64(struct buf *out, const char *key, uint64_t v);
void json_put_i64(struct buf *out, const char *key, int64_t v);
void json_put_bool(struct buf *out, const char *key, bool v);
void json_put_null(struct buf *out, const char *key);
void json_put_id(struct buf *out, const char *key, const struct id *id);
void json_put_hash(struct buf *out, const char *key, const struct hash *hash);
void json_put_range(struct buf *out, const char *key, uint64_t at, uint64_t len);
void json_put_cursor(struct buf *out, const char *key, const struct cursor *cursor); /* nothing when zero */
const char *json_kind_word(enum kind kind); /* NULL: none */

/* A frame: place for the length; json_frame_end() fills it in. -EMSGSIZE over JSON_MAX_BYTES. */
size_t json_frame_begin(struct buf *out);
int json_frame_end(struct buf *out, size_t at);

/* Reading. */
struct json_in {
	struct buf *why; /* may be NULL */
	int error; /* the first refusal: -EPROTO, -EMSGSIZE, -ENOMEM */
	const char *list; /* for messages: the array that is being read, NULL: none */
	size_t item;
	const uint8_t *raw;
	size_t raw_len;
};

/* Keeps the first one; fmt without the place, which is put before it. */
void json_refuse(struct json_in *in, int error, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * One object out of exactly these bytes: at most max bytes, JSON_MAX_DEPTH deep, JSON_MAX_VALUES values, no
 * duplicate key. nul: strings may hold NUL. NULL: refused. Caller runs json_decref().
 */
json_t *json_in_parse(struct json_in *in, const void *bytes, size_t len, size_t max, bool nul);
/* Splits a frame, sets in->raw, parses its JSON. */
json_t *json_in_parse_frame(struct json_in *in, const void *bytes, size_t len);

/* Members. must: absence is refused; else 0, NULL or false stands for it. A wrong type is always refused. */
uint64_t json_get_u64(struct json_in *in, const json_t *o, const char *key, bool must, uint64_t max);
int64_t json_get_i64(
	struct json_in *in, const json_t *o, const char *key, bool must, int64_t min, int64_t max);
bool json_get_bool(struct json_in *in, const json_t *o, const char *key);
const char *json_get_text(struct json_in *in, const json_t *o, const char *key, bool must, size_t *ret_len);
char *json_get_text_copy(struct json_in *in, const json_t *o, const char *key, bool must);
struct id json_get_id(struct json_in *in, const json_t *o, const char *key, bool must);
struct hash json_get_hash(struct json_in *in, const json_t *o, const char *key, bool must);
bool json_as_hash(const json_t *v, struct hash *ret_hash);
struct cursor json_get_cursor(struct json_in *in, const json_t *o, const char *key, bool must);
/* key or key_b64: 1..max bytes without NUL. Caller frees. */
char *json_get_bytes(struct json_in *in, const json_t *o, const char *key, bool must, size_t max);
/* The same for a name below parent: name_is_valid(), and not the reserved one of the root. */
char *json_get_name(struct json_in *in, const json_t *o, const char *key, bool must, const struct id *parent);
enum kind json_get_kind(struct json_in *in, const json_t *o, const char *key);
/* NULL when absent and not must. */
const json_t *json_get_array(
	struct json_in *in, const json_t *o, const char *key, bool must, size_t max_count);
/* [at,len] inside in->raw. True when there. */
bool json_get_range(
	struct json_in *in, const json_t *o, const char *key, uint64_t *ret_at, uint64_t *ret_len);

/* Extended attributes (json_xattr.c): members xattr and xattr_b64 <-> the packed form of change.h. */
int json_put_xattr(struct buf *out, const struct blob *packed); /* -EINVAL: not well packed */
/* True when one of the members is there. */
bool json_get_xattr(struct json_in *in, const json_t *o, struct blob *ret_packed);

static inline void json_end_(json_t **j)
{
	json_decref(*j);
}
#define cleanup_json __attribute__((cleanup(json_end_)))

#endif
