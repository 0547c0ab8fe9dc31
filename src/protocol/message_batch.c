/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native form of POST /sync as bytes. Encoded by the client's uploader, decoded by the server. Checks
 * shape and bounds of every operation; never whether it fits the tree, that is commit.h.
 */
#include <syncfs/message.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>

#include "json.h"

#define MANIFEST_ENTRY_BYTES 36 /* manifest.h */

static const char *const op_words[] = {
	[OP_CREATE] = "create",
	[OP_WRITE] = "write",
	[OP_RENAME] = "rename",
	[OP_EXCHANGE] = "exchange",
	[OP_LINK] = "link",
	[OP_UNLINK] = "unlink",
	[OP_RMDIR] = "rmdir",
	[OP_SETATTR] = "setattr",
};

const char *op_word(enum op_type type)
{
	return op_words[type];
}

/* What a type carries, as in change.h. */
enum member {
	M_KIND = 1 << 0,
	M_NAME = 1 << 1, /* parent, name */
	M_NEW_NAME = 1 << 2, /* new_parent, new_name */
	M_OTHER = 1 << 3,
	M_OTHER_MAY = 1 << 4,
	M_BASE_C = 1 << 5,
	M_BASE_L = 1 << 6,
	M_BASE_A = 1 << 7,
	M_OTHER_BASE_C = 1 << 8,
	M_OTHER_BASE_L = 1 << 9,
	M_ATTR = 1 << 10, /* may: mode, mtime, xattr */
	M_CONTENT = 1 << 11, /* size, hash, data or manifest; or target */
	M_NOREPLACE = 1 << 12,
};

static const unsigned op_members[] = {
	[OP_CREATE] = M_KIND | M_NAME | M_ATTR | M_CONTENT,
	[OP_WRITE] = M_BASE_C | M_ATTR | M_CONTENT,
	[OP_RENAME] =
		M_NAME | M_BASE_L | M_NEW_NAME | M_OTHER_MAY | M_OTHER_BASE_C | M_OTHER_BASE_L | M_NOREPLACE,
	[OP_EXCHANGE] = M_NAME | M_BASE_L | M_NEW_NAME | M_OTHER | M_OTHER_BASE_L,
	[OP_LINK] = M_NAME,
	[OP_UNLINK] = M_NAME | M_BASE_C | M_BASE_L,
	[OP_RMDIR] = M_NAME | M_BASE_L,
	[OP_SETATTR] = M_BASE_A | M_ATTR,
};

static bool op_has_target(const struct op *op)
{
	return op->type == OP_CREATE ? op->kind == KIND_SYMLINK : op->type == OP_WRITE && op->target != NULL;
}

static bool op_has_content(const struct op *op)
{
	return (op_members[op->type] & M_CONTENT) != 0 && !op_has_target(op) &&
		!(op->type == OP_CREATE && op->kind == KIND_DIR);
}

void batch_fini(struct batch *b)
{
	for (size_t i = 0; i < b->ops_count; i++)
		op_fini(&b->ops[i]);
	free(b->ops);
	free(b->label);
	*b = (struct batch){0};
}

static void put_base(struct buf *out, const char *key, int64_t base)
{
	if (base == BASE_ANY)
		json_put_null(out, key);
	else if (base != 0)
		json_put_i64(out, key, base);
}

static void put_content(struct buf *out, const struct op *op, uint64_t *manifest_at)
{
	json_put_u64(out, "size", op->content.size);
	json_put_hash(out, "hash", &op->content.hash);
	if (op->fields & OP_HAS_DATA) {
		json_put_range(out, "data", op->data_at, op->data_len);
	} else {
		json_put_range(out, "manifest", *manifest_at, op->manifest.len);
		*manifest_at += op->manifest.len;
	}
}

static int put_attr(struct buf *out, const struct op *op)
{
	if (op->fields & OP_HAS_MODE)
		json_put_u64(out, "mode", op->mode & 0777);
	if (op->fields & OP_HAS_MTIME)
		json_put_i64(out, "mtime", op->mtime_ns);
	return op->fields & OP_HAS_XATTR ? json_put_xattr(out, &op->xattr) : 0;
}

/* What would be refused by every decoder for lack of a member. */
static bool op_is_complete(const struct op *op)
{
	unsigned m;

	if (op->type < OP_CREATE || op->type > OP_SETATTR)
		return false;
	m = op_members[op->type];
	if (((m & M_NAME) && op->name == NULL) || ((m & M_NEW_NAME) && op->new_name == NULL) ||
		((m & M_KIND) && json_kind_word(op->kind) == NULL) ||
		(op_has_target(op) && op->target == NULL))
		return false;
	return !op_has_content(op) ||
		((op->fields & OP_HAS_DATA) != 0) != ((op->fields & OP_HAS_MANIFEST) != 0);
}

static int put_op(struct buf *out, const struct op *op, uint64_t *manifest_at)
{
	unsigned m;

	if (!op_is_complete(op))
		return -EINVAL;
	m = op_members[op->type];
	json_put_open(out, NULL, '{');
	json_put_text(out, "op", op_words[op->type]);
	json_put_u64(out, "opno", op->opno);
	json_put_id(out, "node", &op->node);
	if (m & M_KIND)
		json_put_text(out, "kind", json_kind_word(op->kind));
	if (m & M_NAME) {
		json_put_id(out, "parent", &op->parent);
		json_put_bytes(out, "name", op->name);
	}
	if (m & M_NEW_NAME) {
		json_put_id(out, "new_parent", &op->new_parent);
		json_put_bytes(out, "new_name", op->new_name);
	}
	if ((m & (M_OTHER | M_OTHER_MAY)) && !id_is_none(&op->other))
		json_put_id(out, "other", &op->other);
	if (m & M_BASE_C)
		put_base(out, "base_c", op->base_c);
	if (m & M_BASE_L)
		put_base(out, "base_l", op->base_l);
	if (m & M_BASE_A)
		put_base(out, "base_a", op->base_a);
	if (m & M_OTHER_BASE_C)
		put_base(out, "other_base_c", op->other_base_c);
	if (m & M_OTHER_BASE_L)
		put_base(out, "other_base_l", op->other_base_l);
	if (op_has_target(op))
		json_put_bytes(out, "target", op->target);
	if (op_has_content(op))
		put_content(out, op, manifest_at);
	if ((m & M_NOREPLACE) && (op->fields & OP_NOREPLACE))
		json_put_bool(out, "noreplace", true);
	if ((m & M_ATTR) && put_attr(out, op) < 0)
		return -EINVAL;
	json_put_close(out, '}');
	return out->error;
}

int batch_encode(const struct batch *b, struct buf *out)
{
	size_t begin = json_frame_begin(out);
	uint64_t manifest_at = b->raw_len;
	int r;

	if (b->ops_count > BATCH_MAX_OPS)
		return -EMSGSIZE;
	buf_put_u8(out, '{');
	json_put_id(out, "client", &b->client);
	json_put_id(out, "run", &b->run);
	json_put_u64(out, "acked_opno", b->acked_opno);
	if (b->label != NULL && b->label[0] != '\0')
		json_put_bytes(out, "label", b->label);
	json_put_open(out, "ops", '[');
	for (size_t i = 0; i < b->ops_count; i++) {
		r = put_op(out, &b->ops[i], &manifest_at);
		if (r < 0)
			return r;
	}
	json_put_close(out, ']');
	json_put_close(out, '}');
	r = json_frame_end(out, begin);
	if (r < 0)
		return r;
	if (out->len - begin + manifest_at > BODY_MAX_BYTES)
		return -EMSGSIZE;
	if (buf_reserve(out, manifest_at) < 0)
		return -ENOMEM;
	if (b->raw_len > 0)
		buf_put(out, b->raw, b->raw_len);
	for (size_t i = 0; i < b->ops_count; i++) {
		const struct op *op = &b->ops[i];

		if (op_has_content(op) && (op->fields & OP_HAS_MANIFEST) && op->manifest.len > 0)
			buf_put(out, op->manifest.data, op->manifest.len);
	}
	return out->error;
}

static int64_t get_base(struct json_in *in, const json_t *o, const char *key)
{
	if (json_is_null(json_object_get(o, key)))
		return BASE_ANY;
	return json_get_i64(in, o, key, false, -INT64_MAX, INT64_MAX);
}

static enum op_type get_type(struct json_in *in, const json_t *o)
{
	size_t len;
	const char *word = json_get_text(in, o, "op", true, &len);

	if (word == NULL)
		return 0;
	for (enum op_type t = OP_CREATE; t <= OP_SETATTR; t++) {
		if (strcmp(op_words[t], word) == 0)
			return t;
	}
	json_refuse(in, -EPROTO, "op", "unknown word");
	return 0;
}

/*
 * Copies are bounded by what was sent: ranges may not add up to more than the raw part, so that many
 * operations cannot name one large manifest.
 */
static void charge(struct json_in *in, uint64_t len, uint64_t *raw_left)
{
	if (len > *raw_left)
		json_refuse(in, -EPROTO, NULL, "ranges overlap");
	else
		*raw_left -= len;
}

static void get_manifest(struct json_in *in, struct op *op, uint64_t at, uint64_t len)
{
	if (len > MANIFEST_MAX_BYTES)
		json_refuse(in, -EMSGSIZE, "manifest", "more than %u bytes", MANIFEST_MAX_BYTES);
	else if (len % MANIFEST_ENTRY_BYTES != 0)
		json_refuse(in, -EPROTO, "manifest", "not a whole number of entries");
	if (in->error != 0 || len == 0)
		return;
	op->manifest.data = malloc(len);
	if (op->manifest.data == NULL) {
		json_refuse(in, -ENOMEM, "manifest", "out of memory");
		return;
	}
	memcpy(op->manifest.data, in->raw + at, len);
	op->manifest.len = len;
}

static void get_content(struct json_in *in, const json_t *o, struct op *op, uint64_t *raw_left)
{
	uint64_t at = 0, len = 0;

	op->content.size = json_get_u64(in, o, "size", true, FILE_MAX_BYTES);
	op->content.hash = json_get_hash(in, o, "hash", true);
	if (json_get_range(in, o, "data", &op->data_at, &op->data_len)) {
		op->fields |= OP_HAS_DATA;
		charge(in, op->data_len, raw_left);
		if (op->data_len != op->content.size)
			json_refuse(in, -EPROTO, "data", "not of the size said");
		if (op->data_len > INLINE_UP_MAX_BYTES)
			json_refuse(in, -EMSGSIZE, "data", "more than %d bytes", INLINE_UP_MAX_BYTES);
	}
	if (json_get_range(in, o, "manifest", &at, &len)) {
		op->fields |= OP_HAS_MANIFEST;
		charge(in, len, raw_left);
		get_manifest(in, op, at, len);
	}
	if (((op->fields & OP_HAS_DATA) != 0) == ((op->fields & OP_HAS_MANIFEST) != 0))
		json_refuse(in, -EPROTO, NULL, "either data or manifest is due");
}

static void get_attr(struct json_in *in, const json_t *o, struct op *op)
{
	if (json_object_get(o, "mode") != NULL) {
		op->fields |= OP_HAS_MODE;
		op->mode = (uint32_t)json_get_u64(in, o, "mode", true, 0777);
	}
	if (json_object_get(o, "mtime") != NULL) {
		op->fields |= OP_HAS_MTIME;
		op->mtime_ns = json_get_i64(in, o, "mtime", true, INT64_MIN, INT64_MAX);
	}
	if (json_get_xattr(in, o, &op->xattr))
		op->fields |= OP_HAS_XATTR;
}

static void get_names_and_bases(struct json_in *in, const json_t *o, struct op *op)
{
	unsigned m = op_members[op->type];

	if (m & M_NAME) {
		op->parent = json_get_id(in, o, "parent", true);
		op->name = json_get_name(in, o, "name", true, &op->parent);
	}
	if (m & M_NEW_NAME) {
		op->new_parent = json_get_id(in, o, "new_parent", true);
		op->new_name = json_get_name(in, o, "new_name", true, &op->new_parent);
	}
	if (m & (M_OTHER | M_OTHER_MAY))
		op->other = json_get_id(in, o, "other", (m & M_OTHER) != 0);
	if (m & M_BASE_C)
		op->base_c = get_base(in, o, "base_c");
	if (m & M_BASE_L)
		op->base_l = get_base(in, o, "base_l");
	if (m & M_BASE_A)
		op->base_a = get_base(in, o, "base_a");
	if (m & M_OTHER_BASE_C)
		op->other_base_c = get_base(in, o, "other_base_c");
	if (m & M_OTHER_BASE_L)
		op->other_base_l = get_base(in, o, "other_base_l");
}

static void get_op(struct json_in *in, const json_t *o, struct op *op, uint64_t *raw_left)
{
	const unsigned attrs = OP_HAS_MODE | OP_HAS_MTIME | OP_HAS_XATTR;
	unsigned m;

	if (!json_is_object(o)) {
		json_refuse(in, -EPROTO, NULL, "not an object");
		return;
	}
	op->type = get_type(in, o);
	if (in->error != 0)
		return;
	m = op_members[op->type];
	op->opno = json_get_u64(in, o, "opno", true, INT64_MAX);
	op->node = json_get_id(in, o, "node", true);
	if (m & M_KIND)
		op->kind = json_get_kind(in, o, "kind");
	get_names_and_bases(in, o, op);
	if (op->type == OP_WRITE || op_has_target(op))
		op->target = json_get_bytes(in, o, "target", op->type == OP_CREATE, SYMLINK_MAX_BYTES);
	if (in->error == 0 && op_has_content(op))
		get_content(in, o, op, raw_left);
	if (m & M_ATTR)
		get_attr(in, o, op);
	if ((m & M_NOREPLACE) && json_get_bool(in, o, "noreplace"))
		op->fields |= OP_NOREPLACE;
	if (op->type == OP_SETATTR && (op->fields & attrs) == 0)
		json_refuse(in, -EPROTO, NULL, "setattr of nothing");
}

static void get_ops(struct json_in *in, const json_t *root, struct batch *b)
{
	const json_t *list = json_get_array(in, root, "ops", true, BATCH_MAX_OPS);
	uint64_t raw_left = in->raw_len;
	size_t count = json_array_size(list);

	if (in->error != 0 || count == 0)
		return;
	b->ops = calloc(count, sizeof(b->ops[0]));
	if (b->ops == NULL) {
		json_refuse(in, -ENOMEM, "ops", "out of memory");
		return;
	}
	in->list = "ops";
	for (in->item = 0; in->item < count && in->error == 0; in->item++) {
		struct op *op = &b->ops[in->item];

		b->ops_count = in->item + 1;
		get_op(in, json_array_get(list, in->item), op, &raw_left);
		if (in->error == 0 && (op->opno == 0 || (in->item > 0 && op->opno != op[-1].opno + 1)))
			json_refuse(in, -EPROTO, "opno", "not dense from 1 or more");
	}
	in->list = NULL;
}

int batch_decode(const void *bytes, size_t len, struct batch *ret_batch, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse_frame(&in, bytes, len);
	struct batch b = {0};

	if (root == NULL)
		return in.error;
	b.raw = in.raw;
	b.raw_len = in.raw_len;
	b.client = json_get_id(&in, root, "client", true);
	b.run = json_get_id(&in, root, "run", true);
	b.acked_opno = json_get_u64(&in, root, "acked_opno", false, INT64_MAX);
	b.label = json_get_bytes(&in, root, "label", false, LABEL_MAX_BYTES);
	get_ops(&in, root, &b);
	if (in.error != 0) {
		batch_fini(&b);
		return in.error;
	}
	*ret_batch = b;
	return 0;
}

static void digest_text(struct buf *out, const char *s)
{
	buf_put_blob(out, s != NULL ? s : "", s != NULL ? strlen(s) : 0);
}

/*
 * How the content travels is no part of the meaning (its hash is), so that an op sent again by manifest after
 * it came inline is the same op. Only members that count for the type enter.
 */
static void digest_members(const struct op *op, struct buf *out)
{
	unsigned m = op->type >= OP_CREATE && op->type <= OP_SETATTR ? op_members[op->type] : 0;
	unsigned fields = op->fields & (m & M_ATTR ? OP_HAS_MODE | OP_HAS_MTIME | OP_HAS_XATTR : 0);

	fields |= op->fields & (m & M_NOREPLACE ? OP_NOREPLACE : 0);
	buf_put_u32(out, op->type);
	buf_put_u32(out, fields);
	buf_put_u64(out, op->opno);
	buf_put(out, op->node.b, ID_BYTES);
	buf_put_u32(out, m & M_KIND ? op->kind : 0);
	if (m & M_NAME) {
		buf_put(out, op->parent.b, ID_BYTES);
		digest_text(out, op->name);
	}
	if (m & M_NEW_NAME) {
		buf_put(out, op->new_parent.b, ID_BYTES);
		digest_text(out, op->new_name);
	}
	if (m & (M_OTHER | M_OTHER_MAY))
		buf_put(out, op->other.b, ID_BYTES);
	buf_put_u64(out, m & M_BASE_C ? (uint64_t)op->base_c : 0);
	buf_put_u64(out, m & M_BASE_L ? (uint64_t)op->base_l : 0);
	buf_put_u64(out, m & M_BASE_A ? (uint64_t)op->base_a : 0);
	buf_put_u64(out, m & M_OTHER_BASE_C ? (uint64_t)op->other_base_c : 0);
	buf_put_u64(out, m & M_OTHER_BASE_L ? (uint64_t)op->other_base_l : 0);
	buf_put_u32(out, fields & OP_HAS_MODE ? op->mode & 0777 : 0);
	buf_put_u64(out, fields & OP_HAS_MTIME ? (uint64_t)op->mtime_ns : 0);
	if (fields & OP_HAS_XATTR)
		buf_put_blob(out, op->xattr.data, op->xattr.len);
	if (m != 0 && op_has_target(op))
		digest_text(out, op->target);
	if (m != 0 && op_has_content(op)) {
		buf_put_u64(out, op->content.size);
		buf_put(out, op->content.hash.b, HASH_BYTES);
	}
}

struct hash op_digest(const struct op *op)
{
	cleanup_buf struct buf out = BUF_INIT;

	digest_members(op, &out);
	if (out.error != 0)
		abort(); /* as hash_bytes(): a digest cannot say that memory is short */
	return hash_bytes(out.data, out.len);
}
