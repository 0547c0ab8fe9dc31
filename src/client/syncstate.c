/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agreed state (S) behind syncstate.h, and the helpers over statements that its files share. Called by
 * capture, uploader, applier and the scan; never touches a file of the tree.
 */
#include "syncstate_internal.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

void base_row_fini(struct base_row *row)
{
	node_state_fini(&row->state);
	*row = (struct base_row){0};
}

int sql_error(struct connection *c, const char *what)
{
	int rc = sqlite3_errcode(c->db) & 0xff;

	log_error("state database: %s: %s", what, sqlite3_errmsg(c->db));
	switch (rc) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

/* ---- small helpers over statements ---- */

void sql_bind_id(sqlite3_stmt *st, int at, const struct id *id)
{
	sqlite3_bind_blob(st, at, id->b, ID_BYTES, SQLITE_STATIC);
}

void sql_bind_bytes(sqlite3_stmt *st, int at, const char *s)
{
	if (s)
		sqlite3_bind_blob(st, at, s, (int)strlen(s), SQLITE_STATIC);
	else
		sqlite3_bind_null(st, at);
}

void sql_bind_u64(sqlite3_stmt *st, int at, uint64_t v)
{
	sqlite3_bind_int64(st, at, (sqlite3_int64)v);
}

struct id sql_column_id(sqlite3_stmt *st, int at)
{
	struct id id = ID_NONE;

	if (sqlite3_column_bytes(st, at) == ID_BYTES)
		memcpy(id.b, sqlite3_column_blob(st, at), ID_BYTES);
	return id;
}

static uint64_t column_u64(sqlite3_stmt *st, int at)
{
	return (uint64_t)sqlite3_column_int64(st, at);
}

static char *column_string(sqlite3_stmt *st, int at)
{
	int len = sqlite3_column_bytes(st, at);
	char *s;

	if (sqlite3_column_type(st, at) == SQLITE_NULL)
		return NULL;
	s = malloc((size_t)len + 1);
	if (s) {
		if (len)
			memcpy(s, sqlite3_column_blob(st, at), (size_t)len);
		s[len] = '\0';
	}
	return s;
}

static int column_blob(sqlite3_stmt *st, int at, struct blob *ret_blob)
{
	size_t len = (size_t)sqlite3_column_bytes(st, at);

	*ret_blob = (struct blob){0};
	if (len == 0)
		return 0;
	ret_blob->data = malloc(len);
	if (!ret_blob->data)
		return -ENOMEM;
	memcpy(ret_blob->data, sqlite3_column_blob(st, at), len);
	ret_blob->len = len;
	return 0;
}

/* Steps a statement that gives no row, and resets it. */
int sql_run(struct connection *c, enum statement q)
{
	int rc = sqlite3_step(c->st[q]);
	int r = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : sql_error(c, sqlite3_sql(c->st[q]));

	sqlite3_reset(c->st[q]);
	return r;
}

void sql_look(struct syncstate *s)
{
	if (!s->committing && sqlite3_get_autocommit(s->r.db))
		(void)sql_run(&s->r, Q_LOOK); /* else each peek is for itself */
}

/* 1 a row, 0 none, -errno. The caller resets. */
int sql_row(struct connection *c, enum statement q)
{
	int rc = sqlite3_step(c->st[q]);

	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : sql_error(c, sqlite3_sql(c->st[q]));
}

int sql_get_id(struct connection *c, enum statement q, struct id *ret_node)
{
	int r = sql_row(c, q);

	if (r > 0)
		*ret_node = sql_column_id(c->st[q], 0);
	sqlite3_reset(c->st[q]);
	return r > 0 ? 0 : r == 0 ? -ENOENT : r;
}

int64_t sql_get_count(struct connection *c, enum statement q)
{
	int r = sql_row(c, q);
	int64_t n = r > 0 ? sqlite3_column_int64(c->st[q], 0) : r;

	sqlite3_reset(c->st[q]);
	return n;
}

/* ---- S ---- */

static void column_disk(sqlite3_stmt *st, int at, struct stat_id *ret_disk)
{
	ret_disk->dev = column_u64(st, at);
	ret_disk->ino = column_u64(st, at + 1);
	ret_disk->btime_ns = sqlite3_column_int64(st, at + 2);
	ret_disk->mtime_ns = sqlite3_column_int64(st, at + 3);
	ret_disk->ctime_ns = sqlite3_column_int64(st, at + 4);
	ret_disk->size = column_u64(st, at + 5);
	ret_disk->mode = (uint32_t)sqlite3_column_int64(st, at + 6);
	ret_disk->nlink = (uint32_t)sqlite3_column_int64(st, at + 7);
}

static int column_base(sqlite3_stmt *st, struct base_row *row_)
{
	struct node_state *n = &row_->state;

	n->kind = (enum kind)sqlite3_column_int(st, 0);
	n->c = column_u64(st, 1);
	n->a = column_u64(st, 2);
	n->seq = column_u64(st, 3);
	n->content.size = column_u64(st, 4);
	if (sqlite3_column_bytes(st, 5) == HASH_BYTES)
		memcpy(n->content.hash.b, sqlite3_column_blob(st, 5), HASH_BYTES);
	n->target = column_string(st, 6);
	n->mode = (uint32_t)sqlite3_column_int64(st, 7);
	n->mtime_ns = sqlite3_column_int64(st, 8);
	column_disk(st, 10, &row_->disk);
	return column_blob(st, 9, &n->xattr);
}

static int get_names(struct connection *c, struct node_state *n)
{
	sqlite3_stmt *st = c->st[Q_NAMES_GET];
	int r;

	sql_bind_id(st, 1, &n->node);
	while ((r = sql_row(c, Q_NAMES_GET)) > 0) {
		struct dentry *more = realloc(n->names, (n->names_count + 1) * sizeof(*more));
		struct dentry d = {
			.parent = sql_column_id(st, 0), .name = column_string(st, 1), .l = column_u64(st, 2)};

		if (more)
			n->names = more;
		if (!more || !d.name) {
			free(d.name);
			r = -ENOMEM;
			break;
		}
		more[n->names_count++] = d;
	}
	sqlite3_reset(st);
	return r;
}

static int base_get(struct connection *c, const struct id *node, struct base_row *ret_row)
{
	struct base_row row_ = {.state.node = *node};
	sqlite3_stmt *st = c->st[Q_BASE_GET];
	int r;

	sql_bind_id(st, 1, node);
	r = sql_row(c, Q_BASE_GET);
	if (r > 0)
		r = column_base(st, &row_);
	else if (r == 0)
		r = -ENOENT;
	sqlite3_reset(st);
	if (!r)
		r = get_names(c, &row_.state);
	if (r)
		base_row_fini(&row_);
	else
		*ret_row = row_;
	return r;
}

int syncstate_base_get(struct syncstate *s, const struct id *node, struct base_row *ret_row)
{
	return base_get(&s->w, node, ret_row);
}

int syncstate_peek_base(struct syncstate *s, const struct id *node, struct base_row *ret_row)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return base_get(&s->r, node, ret_row);
}

bool syncstate_peek_has_base(struct syncstate *s, const struct id *node)
{
	sqlite3_stmt *st = s->r.st[Q_BASE_GET];
	bool is_there;

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sql_bind_id(st, 1, node);
	is_there = sql_row(&s->r, Q_BASE_GET) > 0;
	sqlite3_reset(st);
	return is_there;
}

static void bind_base(sqlite3_stmt *st, const struct base_row *row_)
{
	const struct node_state *n = &row_->state;
	const struct stat_id *d = &row_->disk;

	sqlite3_bind_int(st, 1, (int)n->kind);
	sql_bind_u64(st, 2, n->c);
	sql_bind_u64(st, 3, n->a);
	sql_bind_u64(st, 4, n->seq);
	sql_bind_u64(st, 5, n->content.size);
	sqlite3_bind_blob(st, 6, n->content.hash.b, HASH_BYTES, SQLITE_STATIC);
	sql_bind_bytes(st, 7, n->target);
	sqlite3_bind_int64(st, 8, n->mode);
	sqlite3_bind_int64(st, 9, n->mtime_ns);
	sqlite3_bind_blob(st, 10, n->xattr.data, (int)n->xattr.len, SQLITE_STATIC);
	sql_bind_u64(st, 11, d->dev);
	sql_bind_u64(st, 12, d->ino);
	sqlite3_bind_int64(st, 13, d->btime_ns);
	sqlite3_bind_int64(st, 14, d->mtime_ns);
	sqlite3_bind_int64(st, 15, d->ctime_ns);
	sql_bind_u64(st, 16, d->size);
	sqlite3_bind_int64(st, 17, d->mode);
	sqlite3_bind_int64(st, 18, d->nlink);
	sql_bind_id(st, 19, &n->node);
}

int syncstate_base_put(struct syncstate *s, const struct base_row *row_)
{
	const struct node_state *n = &row_->state;
	int r;

	bind_base(s->w.st[Q_BASE_PUT], row_);
	r = sql_run(&s->w, Q_BASE_PUT);
	sql_bind_id(s->w.st[Q_NAMES_DELETE], 1, &n->node);
	if (!r)
		r = sql_run(&s->w, Q_NAMES_DELETE);
	for (size_t i = 0; i < n->names_count && !r; i++) {
		sqlite3_stmt *st = s->w.st[Q_NAME_PUT];

		sql_bind_id(st, 1, &n->names[i].parent);
		sql_bind_bytes(st, 2, n->names[i].name);
		sql_bind_id(st, 3, &n->node);
		sql_bind_u64(st, 4, n->names[i].l);
		r = sql_run(&s->w, Q_NAME_PUT);
	}
	return r;
}

int syncstate_base_delete(struct syncstate *s, const struct id *node)
{
	int r;

	sql_bind_id(s->w.st[Q_NAMES_DELETE], 1, node);
	r = sql_run(&s->w, Q_NAMES_DELETE);
	sql_bind_id(s->w.st[Q_BASE_DELETE], 1, node);
	return r ? r : sql_run(&s->w, Q_BASE_DELETE);
}

static int by_name(struct connection *c, enum statement q, const struct id *parent, const char *name,
	struct id *ret_node)
{
	sql_bind_id(c->st[q], 1, parent);
	sql_bind_bytes(c->st[q], 2, name);
	return sql_get_id(c, q, ret_node);
}

int syncstate_name_get(struct syncstate *s, const struct id *parent, const char *name, struct id *ret_node)
{
	return by_name(&s->w, Q_BY_NAME, parent, name, ret_node);
}

int syncstate_peek_name(struct syncstate *s, const struct id *parent, const char *name, struct id *ret_node)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return by_name(&s->r, Q_BY_NAME, parent, name, ret_node);
}

int syncstate_peek_object(struct syncstate *s, const struct stat_id *object, struct id *ret_node)
{
	sqlite3_stmt *st = s->r.st[Q_BY_OBJECT];

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sql_bind_u64(st, 1, object->ino);
	sqlite3_bind_int64(st, 2, object->btime_ns);
	sql_bind_u64(st, 3, object->dev);
	return sql_get_id(&s->r, Q_BY_OBJECT, ret_node);
}

int syncstate_peek_parent(struct syncstate *s, const struct id *node, struct id *ret_parent, char **ret_name)
{
	sqlite3_stmt *st = s->r.st[Q_PARENT];
	int r;

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sql_bind_id(st, 1, node);
	r = sql_row(&s->r, Q_PARENT);
	if (r > 0) {
		char *name = column_string(st, 1);

		*ret_parent = sql_column_id(st, 0);
		r = name ? 0 : -ENOMEM;
		if (name)
			*ret_name = name;
	} else if (r == 0) {
		r = -ENOENT;
	}
	sqlite3_reset(st);
	return r;
}

int syncstate_peek_children(struct syncstate *s, const struct id *parent,
	int (*fn)(void *arg, const struct child_row *row), void *arg)
{
	sqlite3_stmt *st = s->r.st[Q_CHILDREN];
	int r;

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sql_bind_id(st, 1, parent);
	while ((r = sql_row(&s->r, Q_CHILDREN)) > 0) {
		cleanup_free char *name = column_string(st, 0);
		struct child_row c = {.name = name, .node = sql_column_id(st, 1)};

		if (!name) {
			r = -ENOMEM;
			break;
		}
		c.kind = (enum kind)sqlite3_column_int(st, 2);
		c.mode = (uint32_t)sqlite3_column_int64(st, 3);
		c.mtime_ns = sqlite3_column_int64(st, 4);
		column_disk(st, 5, &c.disk);
		r = fn(arg, &c);
		if (r)
			break;
	}
	sqlite3_reset(st);
	return r;
}

int64_t syncstate_peek_count(struct syncstate *s)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return sql_get_count(&s->r, Q_COUNT);
}

ssize_t syncstate_peek_nodes(struct syncstate *s, const struct id *after, struct id *nodes, size_t max)
{
	sqlite3_stmt *st = s->r.st[Q_NODES];
	ssize_t count = 0;
	int r = 0;

	MUTEX_GUARD(&s->r.lock);
	sql_bind_id(st, 1, after);
	sql_bind_u64(st, 2, max);
	while ((size_t)count < max && (r = sql_row(&s->r, Q_NODES)) > 0)
		nodes[count++] = sql_column_id(st, 0);
	sqlite3_reset(st);
	return r < 0 ? r : count;
}

int syncstate_peek_files(struct syncstate *s, struct id *after,
	int (*fn)(void *arg, const struct id *node, const struct hash *content), void *arg)
{
	sqlite3_stmt *st = s->r.st[Q_FILES];
	const struct id from = *after;
	bool any = false;
	int r;

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sql_bind_id(st, 1, &from);
	sqlite3_bind_int(st, 2, KIND_FILE);
	while ((r = sql_row(&s->r, Q_FILES)) > 0) {
		struct hash content;

		any = true;
		*after = sql_column_id(st, 0);
		if (sqlite3_column_bytes(st, 1) != HASH_BYTES)
			continue;
		memcpy(content.b, sqlite3_column_blob(st, 1), HASH_BYTES);
		r = fn(arg, after, &content);
		if (r)
			break;
	}
	sqlite3_reset(st);
	return r ? r : any;
}
