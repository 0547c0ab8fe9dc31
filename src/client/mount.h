/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount: a libfuse low-level session over a tree. main opens the tree (before mounting), makes the parts,
 * mounts, daemonizes if asked, starts the threads, and runs the loop until unmount or a signal.
 */
#ifndef SYNCFS_CLIENT_MOUNT_H
#define SYNCFS_CLIENT_MOUNT_H

#include <syncfs/mutex.h>
#include <syncfs/stop.h>
#include <syncfs/tree.h>

struct mount;
struct await;
struct capture;
struct inode_table;
struct invalidate;

struct mount_config {
	const char *mountpoint; /* absolute, checked */
	const char *source; /* fsname in /proc/mounts: the backing directory */
	const char *fuse_options; /* comma list for libfuse: allow_other, ro, ...; may be "" */
	const struct tree *tree; /* borrowed, open */
	struct rwlock *tree_lock; /* rank 15: FUSE namespace operations read, the applier writes */
	bool debug, read_only;
	bool sync_at_close; /* close() of a file opened for writing does what fsync() does */
	bool wait_at_fsync, wait_at_close; /* they wait for the server */
};

/*
 * In this order: mount_new() makes the session and mounts; mount_table() and mount_invalidate() give its
 * parts to others; mount_set_capture() before the loop; mount_run() serves until unmounted or mount_stop();
 * mount_free() unmounts if still mounted. mount_new() gives -errno and a sentence in *why.
 */
int mount_new(const struct mount_config *config, struct mount **ret_mount, struct buf *why);
struct inode_table *mount_table(struct mount *m);
struct invalidate *mount_invalidate(struct mount *m);
void mount_set_capture(struct mount *m, struct capture *capture);
void mount_set_await(struct mount *m, struct await *await); /* likewise */
int mount_run(struct mount *m); /* with threads of its own; starts and stops the invalidation thread */
void mount_stop(struct mount *m); /* async-signal-safe: lets mount_run() return */
void mount_free(struct mount *m);

#endif
