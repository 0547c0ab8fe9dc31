/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of hashes, chunk batches, the session answer and error bodies. Used by both ends. Never hashes a
 * chunk: that a chunk's bytes are what its name says is checked by whoever keeps them.
 */
#include <syncfs/message.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>

#include "json.h"

#define ERROR_MAX_BYTES 65536 /* of an error body that is worth reading */

int hashes_encode(const struct hash *hashes, size_t count, struct buf *out)
{
	if (count > HASHES_PER_REQUEST)
		return -EMSGSIZE;
	buf_put_u8(out, '{');
	json_put_open(out, "hashes", '[');
	for (size_t i = 0; i < count; i++)
		json_put_hash(out, NULL, &hashes[i]);
	json_put_close(out, ']');
	json_put_close(out, '}');
	return out->error;
}

int hashes_decode(const void *bytes, size_t len, struct hash **ret_hashes, size_t *ret_count, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, JSON_MAX_BYTES, false);
	const json_t *list;
	struct hash *hashes;
	size_t count;

	if (root == NULL)
		return in.error;
	list = json_get_array(&in, root, "hashes", true, HASHES_PER_REQUEST);
	if (in.error != 0)
		return in.error;
	count = json_array_size(list);
	hashes = calloc(count + 1, sizeof(hashes[0]));
	if (hashes == NULL)
		return -ENOMEM;
	in.list = "hashes";
	for (in.item = 0; in.item < count && in.error == 0; in.item++) {
		if (!json_as_hash(json_array_get(list, in.item), &hashes[in.item]))
			json_refuse(&in, -EPROTO, NULL, "not a hash");
	}
	if (in.error != 0) {
		free(hashes);
		return in.error;
	}
	*ret_hashes = hashes;
	*ret_count = count;
	return 0;
}

int chunks_encode_header(const struct chunk_ref *chunks, size_t count, struct buf *out)
{
	size_t begin = json_frame_begin(out);
	uint64_t total = 0;
	int r;

	if (count > HASHES_PER_REQUEST)
		return -EMSGSIZE;
	buf_put_u8(out, '{');
	json_put_open(out, "chunks", '[');
	for (size_t i = 0; i < count; i++) {
		if (chunks[i].len == 0 || chunks[i].len > CHUNK_MAX_BYTES)
			return -EINVAL;
		total += chunks[i].len;
		json_put_open(out, NULL, '[');
		json_put_hash(out, NULL, &chunks[i].hash);
		json_put_u64(out, NULL, chunks[i].len);
		json_put_close(out, ']');
	}
	json_put_close(out, ']');
	json_put_close(out, '}');
	r = json_frame_end(out, begin);
	if (r == 0 && out->len - begin + total > BODY_MAX_BYTES)
		r = -EMSGSIZE;
	return r;
}

static void get_chunk(struct json_in *in, const json_t *pair, size_t *at, struct chunk_ref *chunk)
{
	const json_t *len = json_array_get(pair, 1);
	json_int_t n = json_integer_value(len);

	if (json_array_size(pair) != 2 || !json_as_hash(json_array_get(pair, 0), &chunk->hash) ||
		!json_is_integer(len) || n < 1 || n > CHUNK_MAX_BYTES) {
		json_refuse(in, -EPROTO, NULL, "not [hash,1..%d]", CHUNK_MAX_BYTES);
		return;
	}
	if ((size_t)n > in->raw_len - *at) {
		json_refuse(in, -EPROTO, NULL, "bytes are cut");
		return;
	}
	chunk->len = (uint32_t)n;
	chunk->data = in->raw + *at;
	*at += (size_t)n;
}

int chunks_decode(
	const void *bytes, size_t len, struct chunk_ref **ret_chunks, size_t *ret_count, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse_frame(&in, bytes, len);
	struct chunk_ref *chunks;
	const json_t *list;
	size_t count, at = 0;

	if (root == NULL)
		return in.error;
	list = json_get_array(&in, root, "chunks", true, HASHES_PER_REQUEST);
	if (in.error != 0)
		return in.error;
	count = json_array_size(list);
	chunks = calloc(count + 1, sizeof(chunks[0]));
	if (chunks == NULL)
		return -ENOMEM;
	in.list = "chunks";
	for (in.item = 0; in.item < count && in.error == 0; in.item++)
		get_chunk(&in, json_array_get(list, in.item), &at, &chunks[in.item]);
	in.list = NULL;
	if (at != in.raw_len)
		json_refuse(&in, -EPROTO, NULL, "%zu bytes behind the last chunk", in.raw_len - at);
	if (in.error != 0) {
		free(chunks);
		return in.error;
	}
	*ret_chunks = chunks;
	*ret_count = count;
	return 0;
}

int session_encode(const struct session *s, struct buf *out)
{
	buf_put_u8(out, '{');
	json_put_u64(out, "last_opno", s->last_opno);
	json_put_cursor(out, "cursor", &s->cursor);
	json_put_close(out, '}');
	return out->error;
}

int session_decode(const void *bytes, size_t len, struct session *ret_session, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, JSON_MAX_BYTES, false);
	struct session s;

	if (root == NULL)
		return in.error;
	s.last_opno = json_get_u64(&in, root, "last_opno", true, INT64_MAX);
	s.cursor = json_get_cursor(&in, root, "cursor", true);
	if (in.error == 0)
		*ret_session = s;
	return in.error;
}

int error_encode(const char *text, const char *code, struct buf *out)
{
	buf_put_u8(out, '{');
	json_put_text(out, "error", text);
	if (code != NULL)
		json_put_text(out, "code", code);
	json_put_close(out, '}');
	return out->error;
}

static void copy_text(const json_t *root, const char *key, char *text, size_t cap)
{
	const char *value = json_string_value(json_object_get(root, key));
	size_t len = value != NULL ? strlen(value) : 0;

	if (cap == 0)
		return;
	if (len >= cap) {
		len = cap - 1;
		while (len > 0 && ((uint8_t)value[len] & 0xc0) == 0x80) /* not inside of a character */
			len--;
	}
	if (len > 0)
		memcpy(text, value, len);
	text[len] = '\0';
}

void error_decode(
	const void *bytes, size_t len, char *ret_text, size_t text_cap, char *ret_code, size_t code_cap)
{
	struct json_in in = {0};
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, ERROR_MAX_BYTES, false);

	copy_text(root, "error", ret_text, text_cap);
	copy_text(root, "code", ret_code, code_cap);
}
