/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON for the message coders of this folder: reading through jansson, bounded before it parses; writing
 * straight into a struct buf. Called by message_*.c and control.c only. Never trusts a peer's text: depth and
 * number of values are counted before the parser allocates anything.
 */
#include "json.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/path.h>

#define KEY_MAX_BYTES 32 /* of our own keys, with "_b64" */

static const char *const kind_words[] = {
	[KIND_FILE] = "file", [KIND_DIR] = "dir", [KIND_SYMLINK] = "symlink"};

const char *json_kind_word(enum kind kind)
{
	return kind >= KIND_FILE && kind <= KIND_SYMLINK ? kind_words[kind] : NULL;
}

static void put_separator(struct buf *out)
{
	uint8_t last = out->len > 0 ? out->data[out->len - 1] : '{';

	if (last != '{' && last != '[')
		buf_put_u8(out, ',');
}

void json_put_string(struct buf *out, const char *s, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	size_t run = 0;

	buf_put_u8(out, '"');
	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)s[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_put(out, s + run, i - run);
		run = i + 1;
		if (c == '"' || c == '\\') {
			buf_put(out, (char[]){'\\', (char)c}, 2);
		} else if (c == '\n') {
			buf_put(out, "\\n", 2);
		} else {
			buf_put(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
		}
	}
	buf_put(out, s + run, len - run);
	buf_put_u8(out, '"');
}

void json_put_key_bytes(struct buf *out, const char *key, size_t key_len)
{
	put_separator(out);
	json_put_string(out, key, key_len);
	buf_put_u8(out, ':');
}

static void put_key(struct buf *out, const char *key)
{
	char text[KEY_MAX_BYTES + 4];
	size_t len = 0, key_len;
	uint8_t last = out->len > 0 ? out->data[out->len - 1] : '{';

	if (last != '{' && last != '[')
		text[len++] = ',';
	if (key != NULL) {
		key_len = strlen(key);
		assert(key_len <= KEY_MAX_BYTES);
		text[len++] = '"';
		memcpy(text + len, key, key_len);
		len += key_len;
		text[len++] = '"';
		text[len++] = ':';
	}
	buf_put(out, text, len);
}

void json_put_open(struct buf *out, const char *key, char bracket)
{
	if (key != NULL ||
		(out->len > 0 && (out->data[out->len - 1] == '}' || out->data[out->len - 1] == ']')))
		put_key(out, key);
	buf_put_u8(out, (uint8_t)bracket);
}

void json_put_close(struct buf *out, char bracket)
{
	buf_put_u8(out, (uint8_t)bracket);
}

void json_put_text(struct buf *out, const char *key, const char *text)
{
	size_t len = strlen(text);
	char *plain;

	put_key(out, key);
	if (utf8_is_valid(text, len)) {
		json_put_string(out, text, len);
		return;
	}
	plain = strdup(text);
	if (plain == NULL) {
		out->error = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)plain[i] > 127)
			plain[i] = '?';
	}
	json_put_string(out, plain, len);
	free(plain);
}

/* key + "_b64" */
static const char *b64_key(const char *key, char *text)
{
	size_t len = strlen(key);

	assert(len + 5 <= KEY_MAX_BYTES);
	memcpy(text, key, len);
	memcpy(text + len, "_b64", 5);
	return text;
}

void json_put_base64(struct buf *out, const char *key, const void *bytes, size_t len)
{
	put_key(out, key);
	buf_put_u8(out, '"');
	if (len > 0)
		base64_encode(out, bytes, len);
	buf_put_u8(out, '"');
}

void json_put_bytes(struct buf *out, const char *key, const char *s)
{
	char text[KEY_MAX_BYTES];
	size_t len = strlen(s);

	if (!utf8_is_valid(s, len)) {
		json_put_base64(out, b64_key(key, text), s, len);
		return;
	}
	put_key(out, key);
	json_put_string(out, s, len);
}

static size_t format_u64(uint64_t v, char text[20])
{
	char back[20];
	size_t len = 0;

	do {
		back[len++] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	for (size_t i = 0; i < len; i++)
		text[i] = back[len - 1 - i];
	return len;
}

void json_put_u64(struct buf *out, const char *key, uint64_t v)
{
	char text[20];

	put_key(out, key);
	buf_put(out, text, format_u64(v, text));
}

void json_put_i64(struct buf *out, const char *key, int64_t v)
{
	char text[21] = "-";
	size_t sign = v < 0;

	put_key(out, key);
	buf_put(out, text, sign + format_u64(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, text + sign));
}

void json_put_bool(struct buf *out, const char *key, bool v)
{
	put_key(out, key);
	buf_put_str(out, v ? "true" : "false");
}

void json_put_null(struct buf *out, const char *key)
{
	put_key(out, key);
	buf_put_str(out, "null");
}

void json_put_id(struct buf *out, const char *key, const struct id *id)
{
	char text[ID_HEX_BYTES + 2];

	put_key(out, key);
	text[0] = '"';
	id_to_hex(id, text + 1);
	text[ID_HEX_BYTES] = '"';
	buf_put(out, text, ID_HEX_BYTES + 1);
}

void json_put_hash(struct buf *out, const char *key, const struct hash *hash)
{
	char text[HASH_HEX_BYTES + 2];

	put_key(out, key);
	text[0] = '"';
	hash_to_hex(hash, text + 1);
	text[HASH_HEX_BYTES] = '"';
	buf_put(out, text, HASH_HEX_BYTES + 1);
}

void json_put_range(struct buf *out, const char *key, uint64_t at, uint64_t len)
{
	put_key(out, key);
	buf_put_u8(out, '[');
	json_put_u64(out, NULL, at);
	json_put_u64(out, NULL, len);
	buf_put_u8(out, ']');
}

void json_put_cursor(struct buf *out, const char *key, const struct cursor *cursor)
{
	char text[CURSOR_TEXT_BYTES];

	if (!id_is_none(&cursor->epoch))
		json_put_text(out, key, cursor_to_text(cursor, text));
}

size_t json_frame_begin(struct buf *out)
{
	size_t at = out->len;

	buf_put_be32(out, 0);
	return at;
}

int json_frame_end(struct buf *out, size_t at)
{
	size_t len;

	if (out->error != 0)
		return out->error;
	len = out->len - at - 4;
	if (len > JSON_MAX_BYTES)
		return -EMSGSIZE;
	for (size_t i = 0; i < 4; i++)
		out->data[at + i] = (uint8_t)(len >> (24 - 8 * i));
	return 0;
}

void json_refuse(struct json_in *in, int error, const char *key, const char *fmt, ...)
{
	char text[160];
	va_list args;

	if (in->error != 0)
		return;
	in->error = error;
	if (in->why == NULL)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (in->list != NULL)
		buf_printf(in->why, "%s[%zu]: ", in->list, in->item);
	if (key != NULL)
		buf_printf(in->why, "%s: ", key);
	buf_put_str(in->why, text);
}

/* Counts what the parser would build. Wrong JSON may pass; the parser refuses it. */
static bool scan_is_bounded(struct json_in *in, const uint8_t *bytes, size_t len)
{
	size_t depth = 0, values = 1;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = bytes[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			values++;
			if (++depth > JSON_MAX_DEPTH) {
				json_refuse(in, -EPROTO, NULL, "JSON deeper than %d", JSON_MAX_DEPTH);
				return false;
			}
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == ',' && ++values > JSON_MAX_VALUES) {
			json_refuse(in, -EMSGSIZE, NULL, "more than %u JSON values", JSON_MAX_VALUES);
			return false;
		}
	}
	return true;
}

json_t *json_in_parse(struct json_in *in, const void *bytes, size_t len, size_t max, bool nul)
{
	json_error_t error;
	json_t *root;

	if (len > max) {
		json_refuse(in, -EMSGSIZE, NULL, "JSON of %zu bytes, at most %zu", len, max);
		return NULL;
	}
	if (!scan_is_bounded(in, bytes, len))
		return NULL;
	root = json_loadb(
		len > 0 ? bytes : "", len, JSON_REJECT_DUPLICATES | (nul ? JSON_ALLOW_NUL : 0), &error);
	if (root == NULL) {
		bool memory = json_error_code(&error) == json_error_out_of_memory;

		json_refuse(in, memory ? -ENOMEM : -EPROTO, NULL, "at byte %d: %.100s", error.position,
			error.text);
		return NULL;
	}
	if (!json_is_object(root)) {
		json_refuse(in, -EPROTO, NULL, "no JSON object");
		json_decref(root);
		return NULL;
	}
	return root;
}

json_t *json_in_parse_frame(struct json_in *in, const void *bytes, size_t len)
{
	const uint8_t *b = bytes;
	size_t json_len;

	if (len > BODY_MAX_BYTES) {
		json_refuse(in, -EMSGSIZE, NULL, "frame of %zu bytes, at most %u", len, BODY_MAX_BYTES);
		return NULL;
	}
	if (len < 4) {
		json_refuse(in, -EPROTO, NULL, "frame without length");
		return NULL;
	}
	json_len = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
	if (json_len > len - 4) {
		json_refuse(in, -EPROTO, NULL, "frame cut: JSON of %zu bytes, %zu there", json_len, len - 4);
		return NULL;
	}
	in->raw = b + 4 + json_len;
	in->raw_len = len - 4 - json_len;
	return json_in_parse(in, b + 4, json_len, JSON_MAX_BYTES, false);
}

static const json_t *get(struct json_in *in, const json_t *o, const char *key, bool must)
{
	const json_t *v = json_object_get(o, key);

	if (v == NULL && must)
		json_refuse(in, -EPROTO, key, "missing");
	return v;
}

int64_t json_get_i64(
	struct json_in *in, const json_t *o, const char *key, bool must, int64_t min, int64_t max)
{
	const json_t *v = get(in, o, key, must);
	int64_t n;

	if (v == NULL)
		return 0;
	if (!json_is_integer(v)) {
		json_refuse(in, -EPROTO, key, "not an integer");
		return 0;
	}
	n = json_integer_value(v);
	if (n < min || n > max) {
		json_refuse(in, -EPROTO, key, "out of range");
		return 0;
	}
	return n;
}

uint64_t json_get_u64(struct json_in *in, const json_t *o, const char *key, bool must, uint64_t max)
{
	return (uint64_t)json_get_i64(in, o, key, must, 0, max > INT64_MAX ? INT64_MAX : (int64_t)max);
}

bool json_get_bool(struct json_in *in, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (v != NULL && !json_is_boolean(v))
		json_refuse(in, -EPROTO, key, "not a boolean");
	return json_is_true(v);
}

const char *json_get_text(struct json_in *in, const json_t *o, const char *key, bool must, size_t *ret_len)
{
	const json_t *v = get(in, o, key, must);

	if (v == NULL)
		return NULL;
	if (!json_is_string(v)) {
		json_refuse(in, -EPROTO, key, "not a string");
		return NULL;
	}
	*ret_len = json_string_length(v);
	return json_string_value(v);
}

char *json_get_text_copy(struct json_in *in, const json_t *o, const char *key, bool must)
{
	size_t len;
	const char *text = json_get_text(in, o, key, must, &len);
	char *copy;

	if (text == NULL)
		return NULL;
	copy = strndup(text, len);
	if (copy == NULL)
		json_refuse(in, -ENOMEM, key, "out of memory");
	return copy;
}

struct id json_get_id(struct json_in *in, const json_t *o, const char *key, bool must)
{
	struct id id = ID_NONE;
	size_t len;
	const char *text = json_get_text(in, o, key, must, &len);

	if (text != NULL && (id_from_hex(text, len, &id) < 0 || id_is_none(&id)))
		json_refuse(in, -EPROTO, key, "not an id");
	return id;
}

bool json_as_hash(const json_t *v, struct hash *ret_hash)
{
	return json_is_string(v) && hash_from_hex(json_string_value(v), json_string_length(v), ret_hash) == 0;
}

struct hash json_get_hash(struct json_in *in, const json_t *o, const char *key, bool must)
{
	const json_t *v = get(in, o, key, must);
	struct hash hash = {0};

	if (v != NULL && !json_as_hash(v, &hash))
		json_refuse(in, -EPROTO, key, "not a hash");
	return hash;
}

struct cursor json_get_cursor(struct json_in *in, const json_t *o, const char *key, bool must)
{
	struct cursor cursor = {0};
	size_t len;
	const char *text = json_get_text(in, o, key, must, &len);

	if (text != NULL && cursor_from_text(text, len, &cursor) < 0)
		json_refuse(in, -EPROTO, key, "not a cursor");
	return cursor;
}

/* The bytes of a member in either form, on the heap; NULL: absent or refused. */
static char *get_either(struct json_in *in, const json_t *o, const char *key, bool must, size_t *ret_len)
{
	char text[KEY_MAX_BYTES];
	const char *key_b64 = b64_key(key, text), *value;
	const json_t *encoded = json_object_get(o, key_b64);
	cleanup_buf struct buf bytes = BUF_INIT;
	char *copy;
	int r;

	if (encoded == NULL) {
		value = json_get_text(in, o, key, must, ret_len);
		if (value == NULL)
			return NULL;
		copy = strndup(value, *ret_len);
		if (copy == NULL)
			json_refuse(in, -ENOMEM, key, "out of memory");
		return copy;
	}
	if (json_object_get(o, key) != NULL || !json_is_string(encoded)) {
		json_refuse(in, -EPROTO, key_b64, "not a string, or given twice");
		return NULL;
	}
	r = base64_decode(&bytes, json_string_value(encoded), json_string_length(encoded));
	if (r == 0) {
		*ret_len = bytes.len;
		buf_put_u8(&bytes, 0);
		r = bytes.error;
	}
	if (r < 0) {
		json_refuse(in, r == -ENOMEM ? -ENOMEM : -EPROTO, key_b64, "not base64");
		return NULL;
	}
	return (char *)steal_ptr(&bytes.data);
}

char *json_get_bytes(struct json_in *in, const json_t *o, const char *key, bool must, size_t max)
{
	size_t len = 0;
	char *s = get_either(in, o, key, must, &len);

	if (s == NULL)
		return NULL;
	if (len == 0 || len > max || memchr(s, 0, len) != NULL) {
		json_refuse(in, len > max ? -EMSGSIZE : -EPROTO, key, "empty, too long or with NUL");
		free(s);
		return NULL;
	}
	return s;
}

char *json_get_name(struct json_in *in, const json_t *o, const char *key, bool must, const struct id *parent)
{
	size_t len = 0;
	char *s = get_either(in, o, key, must, &len);

	if (s == NULL)
		return NULL;
	if (!name_is_valid(s, len)) {
		json_refuse(in, -EPROTO, key, "not a valid name");
	} else if (id_equal(parent, &ID_ROOT) && strcmp(s, RESERVED_NAME) == 0) {
		json_refuse(in, -EPROTO, key, "reserved name");
	} else {
		return s;
	}
	free(s);
	return NULL;
}

enum kind json_get_kind(struct json_in *in, const json_t *o, const char *key)
{
	size_t len;
	const char *text = json_get_text(in, o, key, true, &len);

	if (text == NULL)
		return KIND_FILE;
	for (enum kind k = KIND_FILE; k <= KIND_SYMLINK; k++) {
		if (strcmp(text, kind_words[k]) == 0)
			return k;
	}
	json_refuse(in, -EPROTO, key, "unknown word");
	return KIND_FILE;
}

const json_t *json_get_array(
	struct json_in *in, const json_t *o, const char *key, bool must, size_t max_count)
{
	const json_t *v = get(in, o, key, must);

	if (v == NULL)
		return NULL;
	if (!json_is_array(v)) {
		json_refuse(in, -EPROTO, key, "not an array");
		return NULL;
	}
	if (json_array_size(v) > max_count) {
		json_refuse(in, -EMSGSIZE, key, "%zu items, at most %zu", json_array_size(v), max_count);
		return NULL;
	}
	return v;
}

bool json_get_range(struct json_in *in, const json_t *o, const char *key, uint64_t *ret_at, uint64_t *ret_len)
{
	const json_t *v = json_object_get(o, key);
	const json_t *at = json_array_get(v, 0), *len = json_array_get(v, 1);

	if (v == NULL)
		return false;
	if (!json_is_array(v) || json_array_size(v) != 2 || !json_is_integer(at) || !json_is_integer(len) ||
		json_integer_value(at) < 0 || json_integer_value(len) < 0) {
		json_refuse(in, -EPROTO, key, "not [at,len]");
		return false;
	}
	*ret_at = (uint64_t)json_integer_value(at);
	*ret_len = (uint64_t)json_integer_value(len);
	if (*ret_at > in->raw_len || *ret_len > in->raw_len - *ret_at) {
		json_refuse(in, -EPROTO, key, "outside the raw part");
		return false;
	}
	return true;
}
