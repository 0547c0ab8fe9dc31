/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.h in SQLite: nodes, their identities on disk, names, aliases. Called by the store's transaction. Never
 * walks more than TREE_MAX_DEPTH steps up.
 */
#include "meta_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>

#define NODE_COLUMNS "id, kind, c, a, seq, hash, size, mode, mtime, xattr, target, tomb, by_client, by_opno"

static int node_of_row(sqlite3_stmt *st, struct node_state *n)
{
	*n = (struct node_state){
		.node = meta_column_id(st, 0),
		.kind = (enum kind)sqlite3_column_int(st, 1),
		.c = (uint64_t)sqlite3_column_int64(st, 2),
		.a = (uint64_t)sqlite3_column_int64(st, 3),
		.seq = (uint64_t)sqlite3_column_int64(st, 4),
		.content = {.hash = meta_column_hash(st, 5), .size = (uint64_t)sqlite3_column_int64(st, 6)},
		.mode = (uint32_t)sqlite3_column_int(st, 7),
		.mtime_ns = sqlite3_column_int64(st, 8),
		.tomb = sqlite3_column_int(st, 11) != 0,
		.by_client = meta_column_id(st, 12),
		.by_opno = (uint64_t)sqlite3_column_int64(st, 13),
	};
	if (sqlite3_column_type(st, 10) != SQLITE_NULL) {
		n->target = meta_column_name(st, 10);
		if (!n->target)
			return -ENOMEM;
	}
	return meta_column_blob(st, 9, &n->xattr);
}

static int names_get(struct meta *m, struct node_state *n)
{
	sqlite3_stmt *st = meta_use(m, "SELECT parent, name, l FROM dentry WHERE node = ?1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, &n->node);
	while ((r = meta_step(m, st)) == 1) {
		struct dentry *grown = realloc(n->names, (n->names_count + 1) * sizeof(*grown));

		if (grown)
			n->names = grown;
		if (grown)
			grown[n->names_count] = (struct dentry){
				.parent = meta_column_id(st, 0),
				.name = meta_column_name(st, 1),
				.l = (uint64_t)sqlite3_column_int64(st, 2),
			};
		if (!grown || !grown[n->names_count].name) {
			meta_end(st);
			return -ENOMEM;
		}
		n->names_count++;
	}
	return r;
}

int meta_node_get(struct meta *m, const struct id *id, struct node_state *ret_node)
{
	sqlite3_stmt *st = meta_use(m, "SELECT " NODE_COLUMNS " FROM node WHERE id = ?1");
	struct node_state n;
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, id);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = node_of_row(st, &n);
	meta_end(st);
	if (r == 0 && !n.tomb)
		r = names_get(m, &n);
	if (r < 0) {
		node_state_fini(&n);
		return r;
	}
	*ret_node = n;
	return 0;
}

static int old_get(struct meta *m, const struct id *id, struct meta_old *ret_old)
{
	sqlite3_stmt *st = meta_use(m, "SELECT kind, c, hash, size, tomb FROM node WHERE id = ?1");
	int r;

	*ret_old = (struct meta_old){0};
	if (!st)
		return -EIO;
	meta_bind_id(st, 1, id);
	r = meta_step(m, st);
	if (r <= 0)
		return r;
	*ret_old = (struct meta_old){
		.exists = true,
		.kind = (enum kind)sqlite3_column_int(st, 0),
		.c = (uint64_t)sqlite3_column_int64(st, 1),
		.content = {.hash = meta_column_hash(st, 2), .size = (uint64_t)sqlite3_column_int64(st, 3)},
		.tomb = sqlite3_column_int(st, 4) != 0,
	};
	meta_end(st);
	return 0;
}

int meta_node_put(struct meta *m, const struct node_state *n, struct meta_old *ret_old)
{
	sqlite3_stmt *st;
	int r = old_get(m, &n->node, ret_old);

	if (r < 0)
		return r;
	/* A dead node has no object, so its identity goes: the inode number will be another's. */
	st = meta_use(m,
		"INSERT INTO node VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14, 0,0,0,0,0)"
		" ON CONFLICT DO UPDATE SET kind=?2, c=?3, a=?4, seq=?5, hash=?6, size=?7, mode=?8, mtime=?9,"
		" xattr=?10, target=?11, tomb=?12, by_client=?13, by_opno=?14,"
		" ino = CASE ?12 WHEN 0 THEN ino ELSE 0 END");
	if (!st)
		return -EIO;
	meta_bind_id(st, 1, &n->node);
	(void)sqlite3_bind_int(st, 2, (int)n->kind);
	meta_bind_u64(st, 3, n->c);
	meta_bind_u64(st, 4, n->a);
	meta_bind_u64(st, 5, n->seq);
	if (n->kind == KIND_FILE)
		meta_bind_hash(st, 6, &n->content.hash);
	meta_bind_u64(st, 7, n->content.size);
	(void)sqlite3_bind_int(st, 8, (int)n->mode);
	(void)sqlite3_bind_int64(st, 9, n->mtime_ns);
	if (n->xattr.len)
		(void)sqlite3_bind_blob64(st, 10, n->xattr.data, n->xattr.len, SQLITE_STATIC);
	if (n->target)
		meta_bind_name(st, 11, n->target);
	(void)sqlite3_bind_int(st, 12, n->tomb);
	meta_bind_id(st, 13, &n->by_client);
	meta_bind_u64(st, 14, n->by_opno);
	return meta_run(m, st);
}

int meta_node_count(struct meta *m, uint64_t *ret_count)
{
	sqlite3_stmt *st = meta_use(m, "SELECT count(*) FROM node WHERE tomb = 0");
	int r = meta_step(m, st);

	if (r <= 0)
		return r < 0 ? r : -EIO;
	*ret_count = (uint64_t)sqlite3_column_int64(st, 0);
	meta_end(st);
	return 0;
}

/* ---- identities ---- */

int meta_disk_get(struct meta *m, const struct id *id, struct stat_id *ret_disk)
{
	sqlite3_stmt *st = meta_use(
		m, "SELECT ino, btime, disk_mtime, disk_ctime, disk_size, kind FROM node WHERE id = ?1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, id);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_disk = (struct stat_id){
		.ino = (uint64_t)sqlite3_column_int64(st, 0),
		.btime_ns = sqlite3_column_int64(st, 1),
		.mtime_ns = sqlite3_column_int64(st, 2),
		.ctime_ns = sqlite3_column_int64(st, 3),
		.size = (uint64_t)sqlite3_column_int64(st, 4),
	};
	meta_end(st);
	return 0;
}

int meta_disk_put(struct meta *m, const struct id *id, const struct stat_id *disk)
{
	sqlite3_stmt *st = meta_use(m,
		"UPDATE node SET ino=?2, btime=?3, disk_mtime=?4, disk_ctime=?5, disk_size=?6"
		" WHERE id = ?1 AND tomb = 0");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, id);
	meta_bind_u64(st, 2, disk->ino);
	(void)sqlite3_bind_int64(st, 3, disk->btime_ns);
	(void)sqlite3_bind_int64(st, 4, disk->mtime_ns);
	(void)sqlite3_bind_int64(st, 5, disk->ctime_ns);
	meta_bind_u64(st, 6, disk->size);
	return meta_run(m, st);
}

ssize_t meta_disk_ctime(struct meta *m, int64_t ctime_ns, struct id *ret_ids, size_t max)
{
	sqlite3_stmt *st = meta_use(m, "SELECT id FROM node WHERE disk_ctime = ?1 AND tomb = 0");
	size_t count = 0;
	int r = 0;

	if (!st)
		return -EIO;
	(void)sqlite3_bind_int64(st, 1, ctime_ns);
	while (count < max && (r = meta_step(m, st)) == 1)
		ret_ids[count++] = meta_column_id(st, 0);
	if (r == 1)
		meta_end(st);
	return r < 0 ? r : (ssize_t)count;
}

int meta_disk_find(struct meta *m, uint64_t ino, int64_t btime_ns, struct id *ret_id)
{
	sqlite3_stmt *st = meta_use(
		m, "SELECT id FROM node WHERE ino = ?1 AND ino != 0 AND btime = ?2 AND tomb = 0 LIMIT 1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_u64(st, 1, ino);
	(void)sqlite3_bind_int64(st, 2, btime_ns);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_id = meta_column_id(st, 0);
	meta_end(st);
	return 0;
}

/* ---- names ---- */

int meta_dentry_get(
	struct meta *m, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l)
{
	sqlite3_stmt *st = meta_use(m, "SELECT node, l FROM dentry WHERE parent = ?1 AND name = ?2");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, parent);
	meta_bind_name(st, 2, name);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_node = meta_column_id(st, 0);
	*ret_l = (uint64_t)sqlite3_column_int64(st, 1);
	meta_end(st);
	return 0;
}

int meta_dentry_put(
	struct meta *m, const struct id *parent, const char *name, const struct id *node, uint64_t l)
{
	sqlite3_stmt *st = meta_use(
		m, "INSERT INTO dentry VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET node = ?3, l = ?4");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, parent);
	meta_bind_name(st, 2, name);
	meta_bind_id(st, 3, node);
	meta_bind_u64(st, 4, l);
	return meta_run(m, st);
}

int meta_dentry_del(struct meta *m, const struct id *parent, const char *name)
{
	sqlite3_stmt *st = meta_use(m, "DELETE FROM dentry WHERE parent = ?1 AND name = ?2");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, parent);
	meta_bind_name(st, 2, name);
	return meta_run(m, st);
}

int meta_has_children(struct meta *m, const struct id *node)
{
	sqlite3_stmt *st = meta_use(m, "SELECT 1 FROM dentry WHERE parent = ?1 LIMIT 1");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, node);
	return meta_any(m, st);
}

void meta_children_fini(struct meta_child *children, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(children[i].name);
	free(children);
}

int meta_children(struct meta *m, const struct id *dir, struct meta_child **ret_children, size_t *ret_count)
{
	sqlite3_stmt *st = meta_use(m, "SELECT name, node FROM dentry WHERE parent = ?1 ORDER BY name");
	struct meta_child *children = NULL;
	size_t count = 0, cap = 0;
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, dir);
	while ((r = meta_step(m, st)) == 1) {
		if (count == cap) {
			struct meta_child *grown = reallocarray(children, cap ? cap * 2 : 16, sizeof(*grown));

			if (!grown)
				break;
			children = grown;
			cap = cap ? cap * 2 : 16;
		}
		children[count] = (struct meta_child){meta_column_name(st, 0), meta_column_id(st, 1)};
		if (!children[count].name)
			break;
		count++;
	}
	if (r == 1) {
		meta_end(st);
		r = -ENOMEM;
	}
	if (r < 0) {
		meta_children_fini(children, count);
		return r;
	}
	*ret_children = children;
	*ret_count = count;
	return 0;
}

/* The one name of a directory. */
static int dir_name(struct meta *m, const struct id *dir, struct id *ret_parent, char **ret_name)
{
	sqlite3_stmt *st = meta_use(m, "SELECT parent, name FROM dentry WHERE node = ?1 LIMIT 1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, dir);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_parent = meta_column_id(st, 0);
	*ret_name = meta_column_name(st, 1);
	meta_end(st);
	return *ret_name ? 0 : -ENOMEM;
}

int meta_dir_path(struct meta *m, const struct id *dir, char **ret_path)
{
	char *names[TREE_MAX_DEPTH];
	cleanup_buf struct buf path = BUF_INIT;
	struct id at = *dir;
	size_t depth = 0;
	int r = 0;

	while (r == 0 && !id_equal(&at, &ID_ROOT)) {
		if (depth == TREE_MAX_DEPTH)
			r = -ELOOP;
		else
			r = dir_name(m, &at, &at, &names[depth]);
		if (r == 0)
			depth++;
	}
	for (size_t i = depth; i > 0; i--) {
		buf_put_str(&path, names[i - 1]);
		if (i > 1)
			buf_put_str(&path, "/");
		free(names[i - 1]);
	}
	if (r < 0)
		return r;
	*ret_path = strdup(path.len ? buf_cstr(&path) : "");
	return *ret_path && !path.error ? 0 : -ENOMEM;
}

int meta_last_name_get(struct meta *m, const struct id *node, struct id *ret_parent, char **ret_name)
{
	sqlite3_stmt *st = meta_use(m, "SELECT parent, name FROM last_name WHERE node = ?1");
	struct id parent;
	char *name;
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, node);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	parent = meta_column_id(st, 0);
	name = meta_column_name(st, 1);
	meta_end(st);
	if (!name)
		return -ENOMEM;
	/* ret_parent may be the node itself */
	*ret_parent = parent;
	*ret_name = name;
	return 0;
}

int meta_last_name_put(struct meta *m, const struct id *node, const struct id *parent, const char *name)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR REPLACE INTO last_name VALUES(?1, ?2, ?3)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, node);
	meta_bind_id(st, 2, parent);
	meta_bind_name(st, 3, name);
	return meta_run(m, st);
}

int meta_alias_get(struct meta *m, const struct id *alias, struct id *ret_node)
{
	sqlite3_stmt *st = meta_use(m, "SELECT node FROM alias WHERE id = ?1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, alias);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_node = meta_column_id(st, 0);
	meta_end(st);
	return 0;
}

int meta_alias_put(struct meta *m, const struct id *alias, const struct id *node)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR REPLACE INTO alias VALUES(?1, ?2)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, alias);
	meta_bind_id(st, 2, node);
	return meta_run(m, st);
}

/* ---- feed ---- */

int meta_log_put(struct meta *m, uint64_t seq, uint64_t tag)
{
	sqlite3_stmt *st = meta_use(m, "INSERT INTO log VALUES(?1, ?2)");

	if (!st)
		return -EIO;
	meta_bind_u64(st, 1, seq);
	meta_bind_u64(st, 2, tag);
	return meta_run(m, st);
}

int meta_log_last(struct meta *m, uint64_t *ret_seq, uint64_t *ret_tag)
{
	sqlite3_stmt *st = meta_use(m, "SELECT seq, tag FROM log ORDER BY seq DESC LIMIT 1");
	int r = meta_step(m, st);

	*ret_seq = r == 1 ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	*ret_tag = r == 1 ? (uint64_t)sqlite3_column_int64(st, 1) : 0;
	if (r == 1)
		meta_end(st);
	return r < 0 ? r : 0;
}

int meta_log_tag(struct meta *m, uint64_t seq, uint64_t *ret_tag)
{
	sqlite3_stmt *st = meta_use(m, "SELECT tag FROM log WHERE seq = ?1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_u64(st, 1, seq);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_tag = (uint64_t)sqlite3_column_int64(st, 0);
	meta_end(st);
	return 0;
}

int meta_changes(struct meta *m, uint64_t after, uint64_t last, bool live_only,
	int (*each)(void *arg, struct node_state *node), void *arg)
{
	sqlite3_stmt *st = meta_use(m,
		"SELECT " NODE_COLUMNS " FROM node WHERE seq > ?1 AND seq <= ?2"
		" AND tomb <= ?3 ORDER BY seq, id");
	int r;

	if (!st)
		return -EIO;
	meta_bind_u64(st, 1, after);
	meta_bind_u64(st, 2, last);
	(void)sqlite3_bind_int(st, 3, live_only ? 0 : 1);
	while ((r = meta_step(m, st)) == 1) {
		struct node_state n;

		r = node_of_row(st, &n);
		if (r == 0 && !n.tomb)
			r = names_get(m, &n);
		if (r == 0)
			r = each(arg, &n);
		node_state_fini(&n);
		if (r <= 0) {
			meta_end(st);
			return r;
		}
	}
	return r;
}
