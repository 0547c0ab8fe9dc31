/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server has told and is not applied yet (R), behind syncstate.h. One row a node, its state as
 * bytes, and an index of its names. Called by poller, applier and uploader.
 */
#include "syncstate_internal.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/limits.h>

void node_state_encode(const struct node_state *n, struct buf *out)
{
	buf_put(out, n->node.b, ID_BYTES);
	buf_put_u64(out, n->seq);
	buf_put_u8(out, (uint8_t)n->kind);
	buf_put_u8(out, n->tomb);
	buf_put_u64(out, n->c);
	buf_put_u64(out, n->a);
	buf_put_u64(out, n->content.size);
	buf_put(out, n->content.hash.b, HASH_BYTES);
	buf_put_u32(out, n->mode);
	buf_put_u64(out, (uint64_t)n->mtime_ns);
	buf_put_blob(out, n->target ? n->target : "", n->target ? strlen(n->target) : 0);
	buf_put_blob(out, n->xattr.data, n->xattr.len);
	buf_put(out, n->by_client.b, ID_BYTES);
	buf_put_u64(out, n->by_opno);
	buf_put_u32(out, (uint32_t)n->names_count);
	for (size_t i = 0; i < n->names_count; i++) {
		buf_put(out, n->names[i].parent.b, ID_BYTES);
		buf_put_blob(out, n->names[i].name, strlen(n->names[i].name));
		buf_put_u64(out, n->names[i].l);
	}
}

static void take_bytes(struct reader *r, void *to, size_t len)
{
	const void *p = reader_take(r, len);

	if (p)
		memcpy(to, p, len);
}

static int decode_names(struct reader *r, struct node_state *n)
{
	size_t count = reader_u32(r);

	if (r->error || count > r->len / (ID_BYTES + 12))
		return -EBADMSG;
	n->names = calloc(count ? count : 1, sizeof(*n->names));
	if (!n->names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		take_bytes(r, n->names[i].parent.b, ID_BYTES);
		n->names[i].name = reader_str(r);
		if (!n->names[i].name)
			return r->error ? r->error : -EBADMSG;
		n->names_count++;
		n->names[i].l = reader_u64(r);
	}
	return reader_at_end(r) ? 0 : -EBADMSG;
}

int node_state_decode(const void *bytes, size_t len, struct node_state *ret_node)
{
	struct reader r = READER_INIT(bytes, len);
	struct node_state n = {0};
	const void *xattr;
	int error = 0;

	take_bytes(&r, n.node.b, ID_BYTES);
	n.seq = reader_u64(&r);
	n.kind = reader_u8(&r);
	n.tomb = reader_u8(&r);
	n.c = reader_u64(&r);
	n.a = reader_u64(&r);
	n.content.size = reader_u64(&r);
	take_bytes(&r, n.content.hash.b, HASH_BYTES);
	n.mode = reader_u32(&r);
	n.mtime_ns = (int64_t)reader_u64(&r);
	n.target = reader_str(&r);
	xattr = reader_blob(&r, &n.xattr.len);
	if (xattr && n.xattr.len) {
		n.xattr.data = malloc(n.xattr.len);
		if (n.xattr.data)
			memcpy(n.xattr.data, xattr, n.xattr.len);
		else
			error = -ENOMEM;
	}
	take_bytes(&r, n.by_client.b, ID_BYTES);
	n.by_opno = reader_u64(&r);
	if (n.kind != KIND_SYMLINK) {
		free(n.target);
		n.target = NULL;
	}
	if (!error)
		error = decode_names(&r, &n);
	if (error)
		node_state_fini(&n);
	else
		*ret_node = n;
	return error;
}

int syncstate_remote_delete(struct syncstate *s, const struct id *node)
{
	int r;

	sql_bind_id(s->w.st[Q_REMOTE_NAMES_DELETE], 1, node);
	r = sql_run(&s->w, Q_REMOTE_NAMES_DELETE);
	sql_bind_id(s->w.st[Q_REMOTE_DELETE], 1, node);
	return r ? r : sql_run(&s->w, Q_REMOTE_DELETE);
}

int syncstate_gone(struct syncstate *s, const struct id *node, uint64_t seq)
{
	struct node_state waiting;
	int r = syncstate_base_delete(s, node);

	if (!r)
		r = map_put(s->gone[0].nodes, node->b, ID_BYTES, (void *)(uintptr_t)seq); // NOLINT
	if (r)
		return r;
	if (seq > s->gone[0].upto)
		s->gone[0].upto = seq;
	r = syncstate_remote_get(s, node, &waiting);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (waiting.seq < seq)
		r = syncstate_remote_delete(s, node);
	node_state_fini(&waiting);
	return r;
}

uint64_t syncstate_gone_at(struct syncstate *s, const struct id *node)
{
	const void *seq = map_get(s->gone[0].nodes, node->b, ID_BYTES);

	return (uint64_t)(uintptr_t)(seq ? seq : map_get(s->gone[1].nodes, node->b, ID_BYTES));
}

int syncstate_remote_put(struct syncstate *s, const struct node_state *node)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	sqlite3_stmt *st = s->w.st[Q_REMOTE_PUT];
	int r;

	node_state_encode(node, &bytes);
	if (bytes.error)
		return bytes.error;
	sql_bind_id(s->w.st[Q_REMOTE_NAMES_DELETE], 1, &node->node);
	r = sql_run(&s->w, Q_REMOTE_NAMES_DELETE);
	sql_bind_id(st, 1, &node->node);
	sql_bind_u64(st, 2, node->seq);
	sqlite3_bind_blob(st, 3, bytes.data, (int)bytes.len, SQLITE_STATIC);
	if (!r)
		r = sql_run(&s->w, Q_REMOTE_PUT);
	for (size_t i = 0; i < node->names_count && !r; i++) {
		st = s->w.st[Q_REMOTE_NAME_PUT];
		sql_bind_id(st, 1, &node->names[i].parent);
		sql_bind_bytes(st, 2, node->names[i].name);
		sql_bind_id(st, 3, &node->node);
		r = sql_run(&s->w, Q_REMOTE_NAME_PUT);
	}
	return r;
}

static int remote_get(struct connection *c, const struct id *node, struct node_state *ret_node)
{
	sqlite3_stmt *st = c->st[Q_REMOTE_GET];
	int r;

	sql_bind_id(st, 1, node);
	r = sql_row(c, Q_REMOTE_GET);
	if (r > 0)
		r = node_state_decode(
			sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0), ret_node);
	else if (r == 0)
		r = -ENOENT;
	sqlite3_reset(st);
	return r;
}

int syncstate_remote_get(struct syncstate *s, const struct id *node, struct node_state *ret_node)
{
	return remote_get(&s->w, node, ret_node);
}

int syncstate_peek_remote(struct syncstate *s, const struct id *node, struct node_state *ret_node)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return remote_get(&s->r, node, ret_node);
}

int syncstate_peek_remote_name(
	struct syncstate *s, const struct id *parent, const char *name, struct id *ret_node)
{
	sqlite3_stmt *st = s->r.st[Q_REMOTE_NAME];

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sql_bind_id(st, 1, parent);
	sql_bind_bytes(st, 2, name);
	return sql_get_id(&s->r, Q_REMOTE_NAME, ret_node);
}

int syncstate_peek_remotes(
	struct syncstate *s, uint64_t after, size_t max, struct node_state **ret_nodes, size_t *ret_count)
{
	sqlite3_stmt *st = s->r.st[Q_REMOTES];
	struct node_state *nodes = calloc(max, sizeof(*nodes));
	size_t count = 0;
	int r = 0;

	if (!nodes)
		return -ENOMEM;
	mutex_lock(&s->r.lock);
	sql_look(s);
	sql_bind_u64(st, 1, after);
	sql_bind_u64(st, 2, max);
	while (count < max && (r = sql_row(&s->r, Q_REMOTES)) > 0) {
		r = node_state_decode(
			sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0), &nodes[count]);
		if (r)
			break;
		count++;
	}
	sqlite3_reset(st);
	mutex_unlock(&s->r.lock);
	if (r < 0) {
		while (count)
			node_state_fini(&nodes[--count]);
		free(nodes);
		return r;
	}
	*ret_nodes = nodes;
	*ret_count = count;
	return 0;
}

int64_t syncstate_peek_remote_count(struct syncstate *s)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return sql_get_count(&s->r, Q_REMOTE_COUNT);
}

bool syncstate_peek_has_remote(struct syncstate *s)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return sql_get_count(&s->r, Q_REMOTE_ANY) != 0;
}
