/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes between JSON and the packed canonical form of change.h. Names that are UTF-8 are keys
 * of the object "xattr", others are pairs in the array "xattr_b64". Only user.*, never the computed
 * user.syncfs.*: a peer must not be able to plant what the file system itself answers.
 */
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/path.h>

#define PREFIX "user."
#define COMPUTED_PREFIX "user.syncfs."

struct entry {
	const char *name;
	size_t name_len, value_at, value_len; /* value in the pool */
	char *own_name; /* heap, when it came as base64 */
};

struct entries {
	struct entry *list;
	size_t count;
	struct buf pool;
};

static bool name_is_mirrored(const char *name, size_t len)
{
	return len > strlen(PREFIX) && len <= XATTR_NAME_MAX_BYTES &&
		memcmp(name, PREFIX, strlen(PREFIX)) == 0 && memchr(name, 0, len) == NULL &&
		(len < strlen(COMPUTED_PREFIX) ||
			memcmp(name, COMPUTED_PREFIX, strlen(COMPUTED_PREFIX)) != 0);
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return r != 0 ? r : (a_len > b_len) - (a_len < b_len);
}

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return compare_names(x->name, x->name_len, y->name, y->name_len);
}

/* One packed entry; false at the end or when it is wrong (reader at error). */
static bool next_packed(struct reader *r, const char **ret_name, size_t *ret_len, const void **ret_value,
	size_t *ret_value_len)
{
	if (r->error != 0 || reader_at_end(r))
		return false;
	*ret_len = reader_u16(r);
	*ret_name = reader_take(r, *ret_len);
	*ret_value = reader_blob(r, ret_value_len);
	return r->error == 0;
}

static int check_packed(const struct blob *packed, bool *ret_others)
{
	struct reader r = READER_INIT(packed->data, packed->len);
	const char *name, *before = NULL;
	size_t len, before_len = 0, value_len;
	const void *value;

	*ret_others = false;
	if (packed->len > XATTRS_MAX_BYTES)
		return -EINVAL;
	while (next_packed(&r, &name, &len, &value, &value_len)) {
		if (!name_is_mirrored(name, len))
			return -EINVAL;
		if (before != NULL && compare_names(before, before_len, name, len) >= 0)
			return -EINVAL;
		*ret_others = *ret_others || !utf8_is_valid(name, len);
		before = name;
		before_len = len;
	}
	return r.error != 0 ? -EINVAL : 0;
}

int json_put_xattr(struct buf *out, const struct blob *packed)
{
	struct reader r = READER_INIT(packed->data, packed->len);
	const char *name;
	const void *value;
	size_t len, value_len;
	bool others;

	if (check_packed(packed, &others) < 0)
		return -EINVAL;
	json_put_open(out, "xattr", '{');
	while (next_packed(&r, &name, &len, &value, &value_len)) {
		if (!utf8_is_valid(name, len))
			continue;
		json_put_key_bytes(out, name, len);
		buf_put_u8(out, '"');
		if (value_len > 0)
			base64_encode(out, value, value_len);
		buf_put_u8(out, '"');
	}
	json_put_close(out, '}');
	if (!others)
		return out->error;
	json_put_open(out, "xattr_b64", '[');
	r = (struct reader)READER_INIT(packed->data, packed->len);
	while (next_packed(&r, &name, &len, &value, &value_len)) {
		if (utf8_is_valid(name, len))
			continue;
		json_put_open(out, NULL, '[');
		json_put_base64(out, NULL, name, len);
		json_put_base64(out, NULL, value, value_len);
		json_put_close(out, ']');
	}
	json_put_close(out, ']');
	return out->error;
}

static void entries_fini(struct entries *e)
{
	for (size_t i = 0; i < e->count; i++)
		free(e->list[i].own_name);
	free(e->list);
	buf_fini(&e->pool);
}

/* The name is borrowed from the JSON or, as own_name, taken over. */
static void add_entry(struct json_in *in, struct entries *e, const char *name, size_t len,
	char *take_own_name, const json_t *value)
{
	struct entry *entry = &e->list[e->count++];

	*entry = (struct entry){
		.name = name, .name_len = len, .value_at = e->pool.len, .own_name = take_own_name};
	if (!name_is_mirrored(name, len)) {
		json_refuse(in, -EPROTO, "xattr", "name that is not mirrored");
	} else if (!json_is_string(value)) {
		json_refuse(in, -EPROTO, "xattr", "value that is no string");
	} else if (json_string_length(value) > 2 * XATTRS_MAX_BYTES) {
		json_refuse(in, -EMSGSIZE, "xattr", "more than %d bytes", XATTRS_MAX_BYTES);
	} else {
		int r = base64_decode(&e->pool, json_string_value(value), json_string_length(value));

		if (r < 0)
			json_refuse(in, r == -ENOMEM ? r : -EPROTO, "xattr", "value that is no base64");
	}
	entry->value_len = e->pool.len - entry->value_at;
	if (e->pool.len > XATTRS_MAX_BYTES)
		json_refuse(in, -EMSGSIZE, "xattr", "more than %d bytes", XATTRS_MAX_BYTES);
}

static void add_pair(struct json_in *in, struct entries *e, const json_t *pair)
{
	const json_t *first = json_array_get(pair, 0);
	cleanup_buf struct buf name = BUF_INIT;
	size_t len;

	if (json_array_size(pair) != 2 || !json_is_string(first) ||
		base64_decode(&name, json_string_value(first), json_string_length(first)) < 0) {
		json_refuse(in, -EPROTO, "xattr_b64", "not a list of [name,value]");
		return;
	}
	len = name.len;
	buf_put_u8(&name, 0);
	if (name.error != 0) {
		json_refuse(in, -ENOMEM, "xattr_b64", "out of memory");
		return;
	}
	add_entry(in, e, (char *)name.data, len, (char *)name.data, json_array_get(pair, 1));
	name = BUF_INIT;
}

static void pack(struct json_in *in, struct entries *e, struct blob *ret_packed)
{
	cleanup_buf struct buf out = BUF_INIT;

	if (e->count > 1)
		qsort(e->list, e->count, sizeof(e->list[0]), compare_entries);
	for (size_t i = 0; i < e->count; i++) {
		const struct entry *entry = &e->list[i];

		if (i > 0 && compare_entries(entry - 1, entry) == 0)
			json_refuse(in, -EPROTO, "xattr", "name given twice");
		buf_put_u16(&out, (uint16_t)entry->name_len);
		buf_put(&out, entry->name, entry->name_len);
		buf_put_u32(&out, (uint32_t)entry->value_len);
		if (entry->value_len > 0)
			buf_put(&out, e->pool.data + entry->value_at, entry->value_len);
	}
	if (out.error != 0)
		json_refuse(in, out.error, "xattr", "out of memory");
	if (out.len > XATTRS_MAX_BYTES)
		json_refuse(in, -EMSGSIZE, "xattr", "more than %d bytes", XATTRS_MAX_BYTES);
	if (in->error != 0)
		return;
	*ret_packed = (struct blob){.data = out.data, .len = out.len};
	out = BUF_INIT;
}

bool json_get_xattr(struct json_in *in, const json_t *o, struct blob *ret_packed)
{
	json_t *plain = json_object_get(o, "xattr"), *pairs = json_object_get(o, "xattr_b64"), *value;
	struct entries e = {0};
	const char *name;
	size_t i, max;

	if (plain == NULL && pairs == NULL)
		return false;
	if ((plain != NULL && !json_is_object(plain)) || (pairs != NULL && !json_is_array(pairs))) {
		json_refuse(in, -EPROTO, "xattr", "not an object, or xattr_b64 not an array");
		return true;
	}
	max = json_object_size(plain) + json_array_size(pairs);
	e.list = calloc(max + 1, sizeof(e.list[0]));
	if (e.list == NULL) {
		json_refuse(in, -ENOMEM, "xattr", "out of memory");
		return true;
	}
	json_object_foreach (plain, name, value) {
		if (in->error == 0)
			add_entry(in, &e, name, strlen(name), NULL, value);
	}
	json_array_foreach (pairs, i, value) {
		if (in->error == 0)
			add_pair(in, &e, value);
	}
	if (in->error == 0)
		pack(in, &e, ret_packed);
	entries_fini(&e);
	return true;
}
