/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durability of what is sent. Called by the uploader once a batch has been read; waits for the disk, holds no
 * lock meanwhile. Never looks at content.
 */
#include "upload_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <syncfs/io.h>

#include "capture.h"

#define SYNC_EACH_MAX 4 /* up to so many operations one by one: cheaper than syncfs(2) */

static int sync_dir(const struct tree *t, struct capture *c, const struct id *dir)
{
	cleanup_buf struct buf path = BUF_INIT;
	cleanup_fd int fd = -1;
	int r;

	if (id_is_none(dir))
		return 0;
	r = capture_dir_path(c, dir, &path);
	if (!r && !buf_cstr(&path))
		r = -ENOMEM;
	if (r)
		return r;
	fd = tree_open_dir(t, buf_cstr(&path));
	return fd < 0 ? fd : tree_sync_fd(fd);
}

static int sync_object(const struct tree *t, const struct item *i)
{
	cleanup_fd int dirfd = tree_open_dir(t, i->dir_path), fd = -1;
	struct stat_id now;
	int r;

	if (dirfd < 0)
		return dirfd;
	/* Of a symlink the name is all. */
	if (i->op.kind == KIND_SYMLINK)
		return 0;
	fd = tree_open_at(t, dirfd, i->name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	r = tree_stat(fd, "", &now);
	if (!r && !stat_id_same_object(&now, &i->object))
		r = -ESTALE;
	return r ? r : tree_sync_fd(fd);
}

static int sync_item(const struct tree *t, struct capture *c, const struct item *i)
{
	const struct op *op = &i->op;
	int r = 0;

	if (op->type == OP_CREATE || op->type == OP_WRITE || op->type == OP_SETATTR)
		r = i->dir_path && i->name ? sync_object(t, i) : -ESTALE;
	if (!r)
		r = sync_dir(t, c, &op->parent);
	return r ? r : sync_dir(t, c, &op->new_parent);
}

int upload_sync(const struct tree *t, struct capture *c, const struct outbox *o)
{
	size_t count = 0;
	int r = 0;

	for (size_t i = 0; i < o->count; i++)
		count += o->items[i].entry != NULL;
	if (count > SYNC_EACH_MAX)
		return tree_sync_all(t);
	for (size_t i = 0; i < o->count && !r; i++) {
		if (o->items[i].entry)
			r = sync_item(t, c, &o->items[i]);
	}
	/* Elsewhere by now, or not to be opened by us. */
	return r && r != -EIO && r != -ENOSPC && r != -EDQUOT ? tree_sync_all(t) : r;
}
