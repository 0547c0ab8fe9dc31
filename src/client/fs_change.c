/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules around content that changes through a handle: `dirty` in the journal before the first byte, the
 * generation after each change, `closed` from flush and fsync. Used by fs_file.c, fs_attr.c and
 * fs_namespace.c; touches no names.
 *
 * Two threads may write and flush one handle at once. wrote is set after each change and taken by whoever
 * reports completion, so no change stays unreported: at the latest the release finds it. marked is cleared by
 * the reporter; a change that was under way then marks once more before it is answered.
 */
#include "fs_view.h"

#include <errno.h>
#include <fcntl.h>

#include <syncfs/io.h>

static int mark(struct view *v, struct handle *h)
{
	struct stat_id id;
	int r;

	if (atomic_load(&h->marked))
		return 0;
	inode_identity(v->inodes, h->inode, &id);
	r = capture_dirty(v->capture, &id);
	if (!r)
		atomic_store(&h->marked, true);
	return r;
}

int fs_before_change(struct view *v, struct handle *h)
{
	int r = h->writable ? mark(v, h) : -EBADF;

	if (!r)
		inode_change_begin(v->inodes, h->inode);
	return r;
}

int fs_after_change(struct view *v, struct handle *h)
{
	inode_changed(h->inode);
	atomic_store(&h->wrote, true);
	atomic_fetch_add(&h->changes, 1);
	inode_change_end(v->inodes, h->inode);
	return mark(v, h);
}

int fs_complete(struct view *v, struct handle *h, const struct stat_id *synced)
{
	struct stat_id id;
	int r;

	/* An fsync is about the file, whoever wrote it. */
	if (synced ? !inode_take_written(v->inodes, h->inode) : !atomic_exchange(&h->wrote, false))
		return synced ? capture_synced(v->capture, synced) : 0;
	atomic_store(&h->marked, false);
	inode_identity(v->inodes, h->inode, &id);
	id.size = synced ? synced->size : 0;
	r = capture_closed(v->capture, &id, synced);
	if (r)
		atomic_store(&h->wrote, true); /* the next one tries again */
	return r;
}

/* Opens for the moment: the applier must see a writer as long as the content moves. */
int fs_truncate(struct view *v, struct inode *i, off_t size)
{
	struct stat_id id;
	cleanup_fd int fd = -1;
	int r;

	inode_identity(v->inodes, i, &id);
	rwlock_read(v->tree_lock);
	r = inode_is_displaced(v->inodes, i) ? -ESTALE : inode_open(v->inodes, i, O_WRONLY, &fd, NULL);
	if (!r)
		inode_writer_add(v->inodes, i);
	rwlock_unlock(v->tree_lock);
	if (r)
		return r;
	r = capture_dirty(v->capture, &id);
	if (!r) {
		int closed;

		inode_change_begin(v->inodes, i);
		r = backing_truncate(fd, size);
		inode_changed(i);
		inode_change_end(v->inodes, i);
		closed = capture_closed(v->capture, &id, false);
		r = r ? r : closed;
	}
	inode_writer_remove(v->inodes, i);
	capture_released(v->capture, &id);
	return r;
}
