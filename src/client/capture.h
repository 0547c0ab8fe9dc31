/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The intake of changes: every mutation that the kernel asks for passes through here, into the journal and the queue of
 * the uploader, before the kernel hears success (sync-model 3.1). Callers name objects by identity (struct stat_id:
 * dev, ino, btime); capture knows their nodes. An object it does not know (not scanned yet) is left to the scan, which is asked for.
 * Any FUSE thread. Never waits for the network.
 *
 * Locking: capture_begin() takes the tree lock for reading and capture_end() releases it, so the applier (writer) never
 * works on names between intent and done. Writable opens take it themselves around open + inode_writer_add().
 */
#ifndef SYNCFS_CLIENT_CAPTURE_H
#define SYNCFS_CLIENT_CAPTURE_H

#include <syncfs/change.h>
#include <syncfs/mutex.h>
#include <syncfs/tree.h>

struct capture;

/* A namespace or attribute change about to happen. The caller zeroes it, fills the first part, and keeps it alive until capture_end(). */
struct intent {
	enum op_type type; /* CREATE RENAME EXCHANGE LINK UNLINK RMDIR SETATTR */
	struct stat_id parent; /* directory that holds name; RENAME, EXCHANGE: the source's. Not for SETATTR */
	const char *name;
	struct stat_id new_parent; /* RENAME, EXCHANGE */
	const char *new_name;
	struct stat_id object; /* what exists already and is renamed, linked, unlinked, changed; not for CREATE */
	struct stat_id other; /* RENAME: what is replaced, EXCHANGE: the other one; ino 0: nothing */
	enum kind kind; /* CREATE; 0: a kind that stays local (device, FIFO, socket): nothing is journalled */
	const char *target; /* CREATE of a symlink */

	/* capture's own */
	uint64_t lsn;
	struct id node, other_node, parent_node, new_parent_node;
	bool recorded, locked;
};

/*
 * Reserves journal space and records the intent. 0; -ENOSPC: nothing recorded, do not do the syscall; -EIO: the journal failed;
 * -EPERM: the reserved name `.syncfs` at the root. On error nothing is held.
 */
int capture_begin(struct capture *c, struct intent *i);
/*
 * After the syscall: error 0 or what it gave (negative errno). CREATE: created is the new object. Records the outcome,
 * queues the operation, releases the tree lock. Always called after a capture_begin() that returned 0.
 */
void capture_end(struct capture *c, struct intent *i, int error, const struct stat_id *created);

/*
 * Content is about to change through a writable handle (write, truncate, fallocate, copy into, O_TRUNC): the first call of a
 * handle since its last capture_closed() journals `dirty` before the data changes. -ENOSPC, -EIO: do not change the data.
 */
int capture_dirty(struct capture *c, const struct stat_id *object);
/*
 * From FLUSH and from fsync: what this handle wrote is complete for now; queues the content for upload (sent when no writer is left,
 * or from a stable reading after fsync or idleness). synced: by fsync, the journal is made durable as well. -EIO.
 */
int capture_closed(struct capture *c, const struct stat_id *object, bool synced);
/* After RELEASE of a writable handle (the writer count is already lower): wakes the uploader and the applier. */
void capture_released(struct capture *c, const struct stat_id *object);
/* fsync of a directory: the journal is made durable. */
int capture_sync(struct capture *c);

/* State of a file for user.syncfs.state: "synced", "dirty", "queued", "uploading", "remote-newer", "conflict", "error", "local-only". */
const char *capture_state(struct capture *c, const struct stat_id *object);
/* user.syncfs.version and user.syncfs.seq: its c and highest version; -ENODATA when the server has none. */
int capture_version(struct capture *c, const struct stat_id *object, uint64_t *ret_c, uint64_t *ret_seq);

#endif
