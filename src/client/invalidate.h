/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the kernel which names and pages are stale, from a thread of its own that holds nothing
 * (doc/README.notifications of libfuse: never from a thread that serves a request). Requests are queued,
 * bounded by what the kernel knows: objects without an inode in the table need nothing.
 */
#ifndef SYNCFS_CLIENT_INVALIDATE_H
#define SYNCFS_CLIENT_INVALIDATE_H

#include <syncfs/tree.h>

struct invalidate;

/* The entry name of the directory `parent` (a new or another object is there, or none). Never blocks. */
void invalidate_entry(struct invalidate *v, const struct stat_id *parent, const char *name);
/* The entry is gone for good and `child` was behind it: watchers on the mount hear of the deletion. */
void invalidate_delete(
	struct invalidate *v, const struct stat_id *parent, const struct stat_id *child, const char *name);
/*
 * True, once: the kernel may still have what was behind the entry before. It would take that along when the
 * entry is renamed; after ESTALE it looks the entry up again, and renames that.
 */
struct inode;
bool invalidate_is_due(struct invalidate *v, const struct inode *parent, const char *name);
/* Attributes and, when data is set, cached pages of this object. */
void invalidate_inode(struct invalidate *v, const struct stat_id *object, bool data);

/* ---- for mount.c ---- */

struct inode_table;
struct fuse_session;

struct invalidate *invalidate_new(struct inode_table *inodes); /* borrowed; NULL: out of memory */
void invalidate_free(struct invalidate *v); /* stopped; what is queued is dropped */
int invalidate_start(struct invalidate *v, struct fuse_session *session); /* the thread; 0 or -errno */
void invalidate_stop(struct invalidate *v); /* before the session ends; nothing is sent any more */

#endif
