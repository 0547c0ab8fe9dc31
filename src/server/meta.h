/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of a namespace: nodes, names, feed, dedup of operations, contents and chunks, history,
 * place-intents. A contract without any database in it. One handle is used by one thread at a time (the
 * caller's lock); a second, reading handle may be open beside the writing one and sees what has been
 * committed. Any error but those named is -EIO or -ENOSPC and ends the transaction's usefulness: the caller
 * rolls back. In SQLite: meta_sqlite.c, meta_sqlite_node.c, meta_sqlite_log.c.
 */
#ifndef SYNCFS_SERVER_META_H
#define SYNCFS_SERVER_META_H

#include <sys/types.h>

#include <syncfs/tree.h>

struct meta;

/* -EBADMSG: the check found damage, or another schema; a sentence in *why. */
int meta_open(const char *path, bool reader, struct meta **ret_meta, struct buf *why);
void meta_close(struct meta *m);

/* durable false: what is committed survives the process, not the power; the next durable one covers it. */
int meta_begin(struct meta *m, bool durable);
int meta_begin_read(struct meta *m); /* a snapshot */
int meta_commit(struct meta *m);
void meta_rollback(struct meta *m);

/* ---- small values by key; -ENOENT ---- */

int meta_value_get(struct meta *m, const char *key, struct buf *out);
int meta_value_put(struct meta *m, const char *key, const void *bytes, size_t len);
int meta_value_del(struct meta *m, const char *key);

/* ---- nodes and names ---- */

/* What node_put has replaced. */
struct meta_old {
	bool exists, tomb;
	enum kind kind;
	uint64_t c;
	struct content content;
};

/* With names; -ENOENT. Caller runs node_state_fini(). */
int meta_node_get(struct meta *m, const struct id *id, struct node_state *ret_node);
/* All but the names and the identity on disk. */
int meta_node_put(struct meta *m, const struct node_state *node, struct meta_old *ret_old);
int meta_node_count(struct meta *m, uint64_t *ret_count); /* live ones */

/* The identity that the object had after it was placed; zeros: not known. -ENOENT no such node. */
int meta_disk_get(struct meta *m, const struct id *id, struct stat_id *ret_disk);
int meta_disk_put(struct meta *m, const struct id *id, const struct stat_id *disk);
/* Live nodes whose object was last changed at this time, max at most; the count or -errno. A walk over all.
 */
ssize_t meta_disk_ctime(struct meta *m, int64_t ctime_ns, struct id *ret_ids, size_t max);
/* The live node that was seen as this object; -ENOENT. */
int meta_disk_find(struct meta *m, uint64_t ino, int64_t btime_ns, struct id *ret_id);

int meta_dentry_get(
	struct meta *m, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l);
int meta_dentry_put(
	struct meta *m, const struct id *parent, const char *name, const struct id *node, uint64_t l);
int meta_dentry_del(struct meta *m, const struct id *parent, const char *name);
int meta_has_children(struct meta *m, const struct id *node); /* 1, 0 */
/* A directory's children, ascending by name. Caller runs meta_children_fini(). */
struct meta_child {
	char *name;
	struct id node;
};
int meta_children(struct meta *m, const struct id *dir, struct meta_child **ret_children, size_t *ret_count);
void meta_children_fini(struct meta_child *children, size_t count);
/* Relative path of a directory ("" the root): -ENOENT when it is not live, -ELOOP above TREE_MAX_DEPTH.
 * Caller frees. */
int meta_dir_path(struct meta *m, const struct id *dir, char **ret_path);

int meta_last_name_get(struct meta *m, const struct id *node, struct id *ret_parent, char **ret_name);
int meta_last_name_put(struct meta *m, const struct id *node, const struct id *parent, const char *name);
int meta_alias_get(struct meta *m, const struct id *alias, struct id *ret_node);
int meta_alias_put(struct meta *m, const struct id *alias, const struct id *node);

/* ---- feed ---- */

int meta_log_put(struct meta *m, uint64_t seq, uint64_t tag);
int meta_log_last(struct meta *m, uint64_t *ret_seq, uint64_t *ret_tag); /* 0, 0 at first */
int meta_log_tag(struct meta *m, uint64_t seq, uint64_t *ret_tag); /* -ENOENT */
/* Nodes with after < seq <= last ascending, with names; each() gives 1 to go on, 0 to stop, -errno. It may
 * take the node's members. */
int meta_changes(struct meta *m, uint64_t after, uint64_t last, bool live_only,
	int (*each)(void *arg, struct node_state *node), void *arg);

/* ---- senders ---- */

#define META_RUNS 32

struct meta_client {
	uint64_t last_opno, acked_opno;
	struct id run;
	struct id old_runs[META_RUNS]; /* superseded, newest first */
	size_t old_runs_count;
};
int meta_client_get(struct meta *m, const struct id *client, struct meta_client *ret_client); /* -ENOENT */
int meta_client_put(struct meta *m, const struct id *client, const struct meta_client *row);
int meta_done_get(struct meta *m, const struct id *client, uint64_t opno, struct hash *ret_digest,
	struct buf *ret_result);
int meta_done_put(struct meta *m, const struct id *client, uint64_t opno, const struct hash *digest,
	const void *result, size_t len);
/* Results up to last; those that begin with this byte only up to kept_last. */
int meta_done_trim(struct meta *m, const struct id *client, uint64_t last, uint8_t kept, uint64_t kept_last);

/* ---- content ---- */

int meta_content_put(struct meta *m, const struct content *content, const struct blob *manifest);
int meta_content_get(struct meta *m, const struct hash *content, struct blob *ret_manifest); /* -ENOENT */
/* Removes rows of contents that neither a live node nor history has. */
int meta_content_gc(struct meta *m);
/* Where a chunk lies: range of a content. Rows beyond cap are left out. Returns the count. */
struct meta_range {
	struct hash content;
	uint64_t offset;
	uint32_t len;
};
ssize_t meta_chunk_find(struct meta *m, const struct hash *chunk, struct meta_range *ranges, size_t cap);
/* Live files of this content, up to cap. Returns the count. */
ssize_t meta_content_nodes(struct meta *m, const struct hash *content, struct id *nodes, size_t cap);

int meta_history_put(struct meta *m, const struct id *node, uint64_t c, const struct content *content,
	int64_t replaced_at_ns);
/* 1, 0: a version of the node, whichever, had this content. */
int meta_history_had(struct meta *m, const struct id *node, const struct hash *content);
/* 1, 0: the node's version c had it. */
int meta_history_has(struct meta *m, const struct id *node, uint64_t c, const struct content *content);
/* When the newest row was put; 0: there is none. */
int meta_history_newest(struct meta *m, int64_t *ret_replaced_at_ns);
/* Drops rows older than before_ns; gone() hears of each content that no row of history has any more. */
int meta_history_expire(
	struct meta *m, int64_t before_ns, int (*gone)(void *arg, const struct hash *content), void *arg);

/* ---- contents of live nodes whose bytes are not here ---- */

int meta_want_put(struct meta *m, const struct hash *content);
int meta_want_del(struct meta *m, const struct hash *content);
int meta_want_has(struct meta *m, const struct hash *content); /* 1, 0 */
/* Those that a live node has, in the order of their hashes from *from on and round; up to cap. Returns the
 * count. */
ssize_t meta_want_list(struct meta *m, const struct hash *from, struct hash *contents, size_t cap);
ssize_t meta_want_count(struct meta *m);
int meta_want_gc(struct meta *m); /* forgets those that no live node has */

/* ---- place-intents ---- */

int meta_intent_put(struct meta *m, const void *bytes, size_t len, int64_t *ret_intent);
int meta_intent_del(struct meta *m, int64_t intent);
/* The oldest; -ENOENT. */
int meta_intent_first(struct meta *m, int64_t *ret_intent, struct buf *ret_bytes);

/* ---- what simple pollers have been told ---- */

int meta_told_seq_get(struct meta *m, const struct id *actor, uint64_t *ret_seq); /* 0: never polled */
int meta_told_seq_put(struct meta *m, const struct id *actor, uint64_t seq);
int meta_told_get(
	struct meta *m, const struct id *actor, const char *path, struct hash *ret_content); /* -ENOENT */
int meta_told_put(struct meta *m, const struct id *actor, const char *path, const struct id *node,
	const struct hash *content);
int meta_told_del(struct meta *m, const struct id *actor, const char *path);
/* Paths told of a node; caller frees each and the array. */
int meta_told_paths(
	struct meta *m, const struct id *actor, const struct id *node, char ***ret_paths, size_t *ret_count);

#endif
