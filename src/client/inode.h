/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes that the kernel knows. One backing object = one inode = one FUSE node id, never the sync node.
 * No descriptor is kept per inode: an inode remembers (parent inode, name) and its identity, directories'
 * descriptors are in a bounded LRU; an object that is not where it was answers ESTALE, and the kernel looks
 * the name up again. Unlinked objects that are still known are reached through an open handle or a descriptor
 * taken before the unlink. Lock: one, of rank inode (20), for the table and the members of every inode: the
 * applier asks while it holds the tree lock (15), so the table's own rank (10) would be too low; that one
 * serves directory handles (fs_dir.c). Any thread.
 */
#ifndef SYNCFS_CLIENT_INODE_H
#define SYNCFS_CLIENT_INODE_H

#include <stdatomic.h>

#include <syncfs/path.h>
#include <syncfs/tree.h>

struct inode_table;
struct inode;
struct dir_slot;

/* ---- for the applier and the uploader (objects by identity; unknown ones are fine) ---- */

/* Handles open for writing on this object. */
unsigned inode_writers(struct inode_table *t, const struct stat_id *object);
/* Grows with every change of content that came through the mount; 0 for an unknown object. Together with stat
 * tells stable content. */
uint64_t inode_generation(struct inode_table *t, const struct stat_id *object);
uint64_t inode_changed_ms(struct inode_table *t, const struct stat_id *object); /* monotonic; 0: not known */
/*
 * Until inode_let_go() no change of content begins, and none is under way. One holder at a time, for work on
 * this machine only. NULL: unknown to the kernel, so nobody writes it through the mount.
 */
struct inode *inode_hold(struct inode_table *t, const struct stat_id *object);
void inode_let_go(struct inode_table *t, struct inode *i); /* NULL is fine */
/*
 * The applier has displaced this object from its last name (caller holds the tree lock for writing): from now
 * on opens for writing and changes on it answer ESTALE; open read handles go on.
 */
void inode_displaced(struct inode_table *t, const struct stat_id *object);
/* The applier has moved this object (caller holds the tree lock for writing). */
void inode_moved(struct inode_table *t, const struct stat_id *object, const struct stat_id *new_parent,
	const char *new_name);

/* ---- for the view (fs_*, mount, invalidate) ---- */

/* An open file of the mount: what a FUSE file handle points at. */
struct handle {
	struct handle *next; /* of its inode; guarded by the table's lock */

	int fd; /* set at open, then read-only */
	bool writable, append;
	struct inode *inode;
	/* Since the last capture_closed(): `dirty` is in the journal; bytes were changed. seq_cst, since each
	 * is read against the other. */
	atomic_bool marked, wrote;
	/* Changes made through it, and how many of them a call that waited has seen at the server. */
	_Atomic uint64_t changes, kept;
};

int inode_table_new(const struct tree *tree, struct inode_table **ret_table); /* tree borrowed; 0, -ENOMEM */
void inode_table_free(struct inode_table *t); /* forgets everything; no handle may be open */
size_t inode_table_count(struct inode_table *t);

/* The kernel's number of an inode and back; 1 is the root. */
uint64_t inode_nodeid(const struct inode_table *t, const struct inode *i);
struct inode *inode_from_nodeid(struct inode_table *t, uint64_t nodeid);
bool inode_is_root(const struct inode_table *t, const struct inode *i);
void inode_identity(const struct inode_table *t, const struct inode *i,
	struct stat_id *ret_id); /* dev, ino, btime; the rest 0 */

/* The inode of an object seen at parent/name, made if needed, with one lookup more; it is there from now on.
 * 0, -ENOMEM. */
int inode_intern(struct inode_table *t, struct inode *parent, const char *name, const struct stat_id *object,
	struct inode **ret_inode);
void inode_forget(struct inode_table *t, struct inode *i, uint64_t nlookup);
/* A known object with a reference, or NULL. */
struct inode *inode_get(struct inode_table *t, const struct stat_id *object);
void inode_put(struct inode_table *t, struct inode *i);

/* The object has the name parent/name since just now (renamed, created, linked): its directory entry is not
 * durable yet. */
void inode_named(struct inode_table *t, const struct stat_id *object, struct inode *parent, const char *name);
/* The name parent/name of the object is gone. take_pin: a descriptor of it (O_PATH) or -1; kept until the
 * kernel forgets it. */
void inode_unnamed(struct inode_table *t, const struct stat_id *object, struct inode *parent,
	const char *name, int take_pin);
/* The object would be out of reach without a pin when its name goes: it is known and nothing has it open. */
bool inode_wants_pin(struct inode_table *t, const struct stat_id *object);
/* Clears the mark of inode_named() and says whether it was there; inode_set_unsynced() sets it again. */
bool inode_take_unsynced(struct inode_table *t, struct inode *i);
void inode_set_unsynced(struct inode_table *t, struct inode *i);
/* Where it was last: parent with a reference, name[NAME_MAX_BYTES + 1]. -ESTALE: nowhere, or displaced. */
int inode_where(struct inode_table *t, struct inode *i, struct inode **ret_parent, char *name);
bool inode_is_displaced(struct inode_table *t, struct inode *i);

void inode_handle_add(
	struct inode_table *t, struct inode *i, struct handle *h); /* takes a reference; counts writers */
void inode_handle_remove(struct inode_table *t, struct handle *h);
/* Takes the `wrote` of all handles of i, and their `marked`. True: there was one. */
bool inode_take_written(struct inode_table *t, struct inode *i);
struct handle *inode_any_handle(
	struct inode_table *t); /* NULL: none is left; for the end, when nothing is served any more */
void inode_writer_add(struct inode_table *t, struct inode *i);
void inode_writer_remove(struct inode_table *t, struct inode *i);
void inode_changed(struct inode *i); /* generation + 1 */
/* Around each change of content; the beginning waits while somebody holds the file. */
void inode_change_begin(struct inode_table *t, struct inode *i);
void inode_change_end(struct inode_table *t, struct inode *i);
/* The file is being opened as stat says: true when it was the same at the last open, so cached pages are
 * good. */
bool inode_same_as_last_open(struct inode_table *t, struct inode *i, const struct stat_id *stat);
void inode_forget_open(struct inode_table *t, struct inode *i); /* the next open drops cached pages */

/* Appends the paths (relative, each with a NUL) of the files that are open for writing. -ENOMEM. */
int inode_writer_paths(struct inode_table *t, struct buf *paths);

/*
 * Counts invalidations. A lookup that saw it change may carry what is stale since: its answer must not be
 * cached (the notification may have come to the kernel before the answer).
 */
uint64_t inode_epoch(const struct inode_table *t);
void inode_epoch_advance(struct inode_table *t);

/* ---- reaching objects (inode_reach.c); every call may give -ESTALE: it is not there any more ---- */

/* A directory's descriptor (O_PATH; for *at calls), borrowed until inode_dir_put(). */
struct dir_ref {
	int fd;
	struct inode *inode;
	struct dir_slot *slot; /* NULL: the root */
};

int inode_dir(struct inode_table *t, struct inode *i, struct dir_ref *ret_ref);
void inode_dir_put(struct inode_table *t, struct dir_ref *ref);
/* An O_PATH or better descriptor of the object itself, identity checked. The caller closes it. */
int inode_open_path(struct inode_table *t, struct inode *i, int *ret_fd);
/* The object opened (flags as open(2), never O_CREAT or O_TRUNC), identity checked. */
int inode_open(struct inode_table *t, struct inode *i, int flags, int *ret_fd, struct stat_id *ret_id);
int inode_stat(struct inode_table *t, struct inode *i, struct stat *ret_stat,
	struct stat_id *ret_id); /* ret_id may be NULL */
/* fsync of the directories that hold new names of i, upwards to the first durable one. */
int inode_sync_names(struct inode_table *t, struct inode *i);

#endif
