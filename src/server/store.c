/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as a whole: opened, refused, closed. Called by main. The rules of what may be opened
 * are here; what happens with it is in the other store_*.c.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include <syncfs/log.h>
#include <syncfs/path.h>

#define DB_NAME RESERVED_NAME "/meta.db"

static char *db_path(const char *root)
{
	char *path;

	return asprintf(&path, "%s/" DB_NAME, root) < 0 ? NULL : path;
}

static void why_tree(struct buf *why, const char *root, int r)
{
	switch (r) {
	case -ENODATA:
		buf_printf(why,
			"%s has a database but no marker .syncfs/root: is the right directory mounted there? "
			"Start with --adopt to take it as it is",
			root);
		break;
	case -EBADMSG:
		buf_printf(why, "%s/.syncfs/root is damaged; start with --adopt after removing it", root);
		break;
	default:
		buf_printf(why, "cannot use %s as the root: %s", root, err_str(r));
	}
}

static int lock_root(struct store *s, const char *root, struct buf *why)
{
	/* kept open to the end of the process of this store: closing it gives the lock back */
	int fd = openat(s->tree.own_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int r = -errno;

		(void)close(fd);
		if (r == -EWOULDBLOCK) {
			buf_printf(why, "%s is in use by another syncfsd", root);
			r = -EBUSY;
		}
		return r;
	}
	s->lock_fd = fd;
	return 0;
}

/* The id under key, made when there is none. */
static int id_value(struct store *s, const char *key, struct id *ret_id)
{
	cleanup_buf struct buf value = BUF_INIT;
	int r = meta_value_get(s->meta, key, &value);

	if (r == 0 && value.len == ID_BYTES) {
		memcpy(ret_id->b, value.data, ID_BYTES);
		return 0;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_id = id_new();
	return meta_value_put(s->meta, key, ret_id->b, ID_BYTES);
}

/* A marker of another tree: refused, or adopted under a new epoch, in which nothing missing counts as
 * deleted. */
static int check_marker(struct store *s, const struct store_config *config, bool is_new, struct buf *why)
{
	cleanup_buf struct buf value = BUF_INIT;
	int r = meta_value_get(s->meta, "marker", &value);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && value.len == ID_BYTES && memcmp(value.data, s->tree.marker.b, ID_BYTES) == 0)
		return 0;
	if (r == 0 && !is_new && !config->adopt) {
		buf_printf(why,
			"the marker in %s/.syncfs/root is not the one the database knows: another directory? "
			"Start with --adopt to take it as it is",
			config->root);
		return -ESTALE;
	}
	if (r == 0) {
		r = meta_value_del(s->meta, "epoch"); /* load() makes another */
		if (r < 0)
			return r;
	}
	return meta_value_put(s->meta, "marker", s->tree.marker.b, ID_BYTES);
}

static int load(struct store *s, const struct store_config *config, bool is_new, struct buf *why)
{
	int r = meta_begin(s->meta, true);

	if (r == 0)
		r = check_marker(s, config, is_new, why);
	if (r == 0)
		r = id_value(s, "epoch", &s->at.epoch);
	if (r == 0)
		r = id_value(s, "self", &s->self);
	if (r == 0)
		r = meta_log_last(s->meta, &s->at.seq, &s->at.tag);
	if (r == 0)
		r = meta_node_count(s->meta, &s->nodes);
	if (r == 0)
		r = meta_commit(s->meta);
	if (r < 0)
		meta_rollback(s->meta);
	return r;
}

static int open_files(struct store *s, const struct store_config *config, struct buf *why)
{
	cleanup_free char *path = db_path(config->root);
	bool is_new;
	int r;

	if (!path)
		return -ENOMEM;
	is_new = access(path, F_OK) < 0;
	r = tree_open(config->root, is_new || config->adopt ? TREE_CREATE | TREE_MARK : 0, &s->tree);
	if (r < 0) {
		why_tree(why, config->root, r);
		return r;
	}
	s->tree_is_open = true;
	r = lock_root(s, config->root, why);
	if (r == 0)
		r = meta_open(path, false, &s->meta, why);
	if (r == 0)
		r = content_open(&s->tree, &s->content);
	if (r == 0)
		r = load(s, config, is_new, why);
	if (r == 0)
		r = txn_history_start(s);
	if (r == 0)
		r = txn_redo(s);
	if (r == 0)
		r = meta_open(path, true, &s->reader, why);
	return r;
}

static int start(struct store *s, const struct store_config *config, struct buf *why)
{
	const struct watch_ops ops = {s, hand_changed};
	int r = open_files(s, config, why);

	s->recent = recent_new();
	if (r == 0 && !s->recent)
		r = -ENOMEM;
	if (r == 0)
		r = stage_sweep(&s->tree, NULL, NULL);
	if (r == 0)
		r = tree_watch_open(&ops, &s->watch);
	if (r == 0)
		r = hand_open(s, config->adopt, why);
	s->seen = s->at;
	if (r == 0)
		r = tree_watch_start(s->watch);
	if (r == 0)
		r = gc_start(s);
	return r;
}

int store_open(const struct store_config *config, struct store **ret_store, struct buf *why)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	mutex_init(&s->lock, RANK_STORE, "store");
	mutex_init(&s->read_lock, RANK_META, "store read");
	mutex_init(&s->seen_lock, RANK_FEED, "store seen");
	mutex_init(&s->queue_lock, RANK_QUEUE, "store queue");
	cond_init(&s->queue_cond);
	s->queue_end = &s->queue;
	s->on_change = config->on_change;
	s->arg = config->arg;
	s->is_root = geteuid() == 0;
	s->run = id_new();
	s->lock_fd = -1;
	r = start(s, config, why);
	if (r < 0) {
		if (why->len == 0)
			buf_printf(why, "cannot open the tree in %s: %s", config->root, err_str(r));
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	tree_watch_stop(s->watch);
	gc_stop(s);
	{
		MUTEX_GUARD(&s->lock); /* the last commit has ended */
		hand_close(s);
	}
	meta_close(s->reader);
	meta_close(s->meta);
	content_close(&s->content);
	recent_free(s->recent);
	if (s->tree_is_open)
		tree_close(&s->tree);
	if (s->lock_fd >= 0)
		(void)close(s->lock_fd);
	cond_fini(&s->queue_cond);
	mutex_fini(&s->queue_lock);
	mutex_fini(&s->seen_lock);
	mutex_fini(&s->read_lock);
	mutex_fini(&s->lock);
	free(s);
}

int store_new_epoch(const char *root, struct buf *why)
{
	cleanup_free char *path = db_path(root);
	struct store s = {.lock_fd = -1};
	int r = path ? tree_open(root, 0, &s.tree) : -ENOMEM;

	if (r < 0) {
		why_tree(why, root, r);
		return r;
	}
	r = lock_root(&s, root, why);
	if (r == 0)
		r = meta_open(path, false, &s.meta, why);
	if (r == 0)
		r = hand_new_epoch(&s);
	if (r < 0 && why->len == 0)
		buf_printf(why, "the database in %s cannot be written: %s", root, err_str(r));
	meta_close(s.meta);
	if (s.lock_fd >= 0)
		(void)close(s.lock_fd);
	tree_close(&s.tree);
	return r;
}

void store_status(struct store *s, struct store_status *ret_status)
{
	MUTEX_GUARD(&s->lock);
	*ret_status = (struct store_status){
		.seq = s->at.seq,
		.nodes = s->nodes,
		.held_deletions = hand_held(s),
		.commits = atomic_load_explicit(&s->commits, memory_order_relaxed),
		.requests_same = atomic_load_explicit(&s->requests_same, memory_order_relaxed),
	};
}
