/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of node states: answers of GET /poll and GET /tree. Encoded by the server, decoded by the client's
 * poller. Checks shape and bounds of every state; never whether the states fit together, that is the
 * engine's.
 */
#include <syncfs/message.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>

#include "json.h"

void page_fini(struct page *p)
{
	for (size_t i = 0; i < p->changes_count; i++)
		node_state_fini(&p->changes[i]);
	free(p->changes);
	free(p->want);
	*p = (struct page){0};
}

static bool hash_is_zero(const struct hash *hash)
{
	static const struct hash zero;

	return hash_equal(hash, &zero);
}

static void put_names(struct buf *out, const struct node_state *n)
{
	json_put_open(out, "names", '[');
	for (size_t i = 0; i < n->names_count; i++) {
		json_put_open(out, NULL, '{');
		json_put_id(out, "parent", &n->names[i].parent);
		json_put_bytes(out, "name", n->names[i].name);
		json_put_u64(out, "l", n->names[i].l);
		json_put_close(out, '}');
	}
	json_put_close(out, ']');
}

static int put_live(struct buf *out, const struct node_state *n)
{
	json_put_u64(out, "mode", n->mode & 0777);
	json_put_i64(out, "mtime", n->mtime_ns);
	put_names(out, n);
	return n->xattr.len > 0 ? json_put_xattr(out, &n->xattr) : 0;
}

static int put_change(struct buf *out, const struct node_state *n, bool framed)
{
	int r = 0;

	if (json_kind_word(n->kind) == NULL || (n->kind == KIND_SYMLINK && !n->tomb && n->target == NULL))
		return -EINVAL;
	json_put_open(out, NULL, '{');
	json_put_id(out, "node", &n->node);
	json_put_u64(out, "seq", n->seq);
	json_put_text(out, "kind", json_kind_word(n->kind));
	if (n->tomb)
		json_put_bool(out, "tomb", true);
	json_put_u64(out, "c", n->c);
	json_put_u64(out, "a", n->a);
	if (n->kind == KIND_FILE && (!n->tomb || !hash_is_zero(&n->content.hash))) {
		json_put_u64(out, "size", n->content.size);
		json_put_hash(out, "hash", &n->content.hash);
	}
	if (n->kind == KIND_SYMLINK && n->target != NULL)
		json_put_bytes(out, "target", n->target);
	if (!n->tomb)
		r = put_live(out, n);
	if (!id_is_none(&n->by_client)) {
		json_put_id(out, "client", &n->by_client);
		json_put_u64(out, "opno", n->by_opno);
	}
	if (framed && n->has_data && n->kind == KIND_FILE && !n->tomb)
		json_put_range(out, "data", n->data_at, n->data_len);
	json_put_close(out, '}');
	return r;
}

static void put_want(struct buf *out, const struct page *p)
{
	if (p->want_count == 0)
		return;
	json_put_open(out, "want", '[');
	for (size_t i = 0; i < p->want_count; i++)
		json_put_hash(out, NULL, &p->want[i]);
	json_put_close(out, ']');
}

static int put_page(struct buf *out, const struct page *p, bool framed)
{
	buf_put_u8(out, '{');
	json_put_cursor(out, "from", &p->from);
	json_put_cursor(out, "cursor", &p->cursor);
	json_put_bool(out, "more", p->more);
	json_put_open(out, "changes", '[');
	for (size_t i = 0; i < p->changes_count; i++) {
		int r = put_change(out, &p->changes[i], framed);

		if (r < 0)
			return r;
	}
	json_put_close(out, ']');
	put_want(out, p);
	json_put_close(out, '}');
	return out->error;
}

int page_encode(const struct page *p, bool framed, struct buf *out)
{
	size_t begin = out->len;
	int r;

	if (p->want_count > WANT_PER_PAGE)
		return -EINVAL;
	if (!framed) {
		r = put_page(out, p, false);
		return r == 0 && out->len - begin > JSON_MAX_BYTES ? -EMSGSIZE : r;
	}
	json_frame_begin(out);
	r = put_page(out, p, true);
	if (r == 0)
		r = json_frame_end(out, begin);
	if (r < 0)
		return r;
	if (p->raw_len > BODY_MAX_BYTES - (out->len - begin))
		return -EMSGSIZE;
	if (p->raw_len > 0)
		buf_put(out, p->raw, p->raw_len);
	return out->error;
}

static void get_names(struct json_in *in, const json_t *o, struct node_state *n)
{
	const json_t *list = json_get_array(in, o, "names", true, JSON_MAX_VALUES);
	size_t count = json_array_size(list);

	if (in->error != 0 || count == 0)
		return;
	n->names = calloc(count, sizeof(n->names[0]));
	if (n->names == NULL) {
		json_refuse(in, -ENOMEM, "names", "out of memory");
		return;
	}
	n->names_count = count;
	for (size_t i = 0; i < count && in->error == 0; i++) {
		const json_t *item = json_array_get(list, i);

		n->names[i].parent = json_get_id(in, item, "parent", true);
		n->names[i].name = json_get_name(in, item, "name", true, &n->names[i].parent);
		n->names[i].l = json_get_u64(in, item, "l", true, INT64_MAX);
	}
}

static void get_live(struct json_in *in, const json_t *o, struct node_state *n)
{
	n->mode = (uint32_t)json_get_u64(in, o, "mode", true, 0777);
	n->mtime_ns = json_get_i64(in, o, "mtime", true, INT64_MIN, INT64_MAX);
	json_get_xattr(in, o, &n->xattr);
	get_names(in, o, n);
	if (n->kind != KIND_FILE)
		return;
	n->has_data = json_get_range(in, o, "data", &n->data_at, &n->data_len);
	if (n->has_data && n->data_len != n->content.size)
		json_refuse(in, -EPROTO, "data", "not of the size said");
}

static void get_change(struct json_in *in, const json_t *o, struct node_state *n)
{
	if (!json_is_object(o)) {
		json_refuse(in, -EPROTO, NULL, "not an object");
		return;
	}
	n->node = json_get_id(in, o, "node", true);
	n->seq = json_get_u64(in, o, "seq", true, INT64_MAX);
	n->kind = json_get_kind(in, o, "kind");
	n->tomb = json_get_bool(in, o, "tomb");
	n->c = json_get_u64(in, o, "c", false, INT64_MAX);
	n->a = json_get_u64(in, o, "a", false, INT64_MAX);
	if (n->kind == KIND_FILE) {
		n->content.size = json_get_u64(in, o, "size", !n->tomb, FILE_MAX_BYTES);
		n->content.hash = json_get_hash(in, o, "hash", !n->tomb);
	}
	if (n->kind == KIND_SYMLINK)
		n->target = json_get_bytes(in, o, "target", !n->tomb, SYMLINK_MAX_BYTES);
	if (!n->tomb)
		get_live(in, o, n);
	else if (json_array_size(json_object_get(o, "names")) > 0)
		json_refuse(in, -EPROTO, "names", "a tombstone has none");
	n->by_client = json_get_id(in, o, "client", false);
	n->by_opno = json_get_u64(in, o, "opno", false, INT64_MAX);
}

static void get_changes(struct json_in *in, const json_t *root, struct page *p)
{
	const json_t *list = json_get_array(in, root, "changes", true, JSON_MAX_VALUES);
	size_t count = json_array_size(list);

	if (in->error != 0 || count == 0)
		return;
	p->changes = calloc(count, sizeof(p->changes[0]));
	if (p->changes == NULL) {
		json_refuse(in, -ENOMEM, "changes", "out of memory");
		return;
	}
	in->list = "changes";
	for (in->item = 0; in->item < count && in->error == 0; in->item++) {
		p->changes_count = in->item + 1;
		get_change(in, json_array_get(list, in->item), &p->changes[in->item]);
	}
	in->list = NULL;
}

static void get_want(struct json_in *in, const json_t *root, struct page *p)
{
	const json_t *list = json_get_array(in, root, "want", false, WANT_PER_PAGE);
	size_t count = json_array_size(list);

	if (in->error != 0 || count == 0)
		return;
	p->want = calloc(count, sizeof(p->want[0]));
	if (p->want == NULL) {
		json_refuse(in, -ENOMEM, "want", "out of memory");
		return;
	}
	p->want_count = count;
	for (size_t i = 0; i < count && in->error == 0; i++) {
		if (!json_as_hash(json_array_get(list, i), &p->want[i]))
			json_refuse(in, -EPROTO, "want", "not a hash");
	}
}

int page_decode(const void *bytes, size_t len, bool framed, struct page *ret_page, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = framed ? json_in_parse_frame(&in, bytes, len)
					   : json_in_parse(&in, bytes, len, JSON_MAX_BYTES, false);
	struct page p = {0};

	if (root == NULL)
		return in.error;
	p.raw = in.raw;
	p.raw_len = in.raw_len;
	p.from = json_get_cursor(&in, root, "from", false);
	p.cursor = json_get_cursor(&in, root, "cursor", true);
	p.more = json_get_bool(&in, root, "more");
	get_changes(&in, root, &p);
	get_want(&in, root, &p);
	if (in.error != 0) {
		page_fini(&p);
		return in.error;
	}
	*ret_page = p;
	return 0;
}
