/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The intake of changes: every mutation that the kernel asks for passes through here, into the journal and
 * the queue of the uploader, before the kernel hears success. Callers name objects by
 * identity (struct stat_id: dev, ino, btime); capture knows their nodes. An object it does not know (not
 * scanned yet) is left to the scan, which is asked for. Any FUSE thread. Never waits for the network.
 *
 * Locking: capture_begin() takes the tree lock for reading and capture_end() releases it, so the applier
 * (writer) never works on names between intent and done. Writable opens take it themselves around open +
 * inode_writer_add().
 */
#ifndef SYNCFS_CLIENT_CAPTURE_H
#define SYNCFS_CLIENT_CAPTURE_H

#include <syncfs/change.h>
#include <syncfs/mutex.h>
#include <syncfs/tree.h>

struct capture;
struct record;

/* A namespace or attribute change about to happen. The caller zeroes it, fills the first part, and keeps it
 * alive until capture_end(). */
struct intent {
	enum op_type type; /* CREATE RENAME EXCHANGE LINK UNLINK RMDIR SETATTR */
	struct stat_id
		parent; /* directory that holds name; RENAME, EXCHANGE: the source's. Not for SETATTR */
	const char *name;
	struct stat_id new_parent; /* RENAME, EXCHANGE */
	const char *new_name;
	struct stat_id
		object; /* what exists already and is renamed, linked, unlinked, changed; not for CREATE */
	struct stat_id other; /* RENAME: what is replaced, EXCHANGE: the other one; ino 0: nothing */
	enum kind kind; /* CREATE; 0: a kind that stays local (device, FIFO, socket): nothing is journalled */
	const char *target; /* CREATE of a symlink */

	/* capture's own */
	uint64_t lsn;
	struct id node, other_node, parent_node, new_parent_node;
	uint64_t aliases; /* of capture when the nodes were named */
	bool recorded, locked;
	bool unknown; /* of one in it nothing was told: the scan looks, once it is done */
};

/*
 * Reserves journal space and records the intent. 0; -ENOSPC: nothing recorded, do not do the syscall; -EIO:
 * the journal failed; -EPERM: the reserved name `.syncfs` at the root. On error nothing is held.
 */
int capture_begin(struct capture *c, struct intent *i);
/*
 * After the syscall: error 0 or what it gave (negative errno). CREATE: created is the new object. Records the
 * outcome, queues the operation, releases the tree lock. Always called after a capture_begin() that returned
 * 0.
 */
void capture_end(struct capture *c, struct intent *i, int error, const struct stat_id *created);

/*
 * Content is about to change through a writable handle (write, truncate, fallocate, copy into, O_TRUNC): the
 * first call of a handle since its last capture_closed() journals `dirty` before the data changes. -ENOSPC,
 * -EIO: do not change the data.
 */
int capture_dirty(struct capture *c, const struct stat_id *object);
/*
 * From FLUSH and from fsync: what this handle wrote is complete for now; queues the content for upload (sent
 * when no writer is left, or from a stable reading after fsync or idleness). synced: by fsync, the journal is
 * made durable as well, and says that content of object->size is on disk. -EIO.
 */
int capture_closed(struct capture *c, const struct stat_id *object, bool synced);
/* An fsync of a file to which nothing was written; one that was made empty is so by intent. -EIO. */
int capture_synced(struct capture *c, const struct stat_id *object);
/* After RELEASE of a writable handle (the writer count is already lower): wakes the uploader and the applier.
 */
void capture_released(struct capture *c, const struct stat_id *object);
/* fsync of a directory: the journal is made durable. */
int capture_sync(struct capture *c);
/* The journal has failed: no change is accepted any more. */
bool capture_has_failed(struct capture *c);

/* ---- for the rest of the client ---- */

/* Asks for a scan of the backing directory: something was found that nobody told us of. */
void capture_want_scan(struct capture *c);
/* Waits until a scan has been asked for, or until then (UINT64_MAX: never by itself). False: stopping. */
bool capture_await_scan(struct capture *c, uint64_t deadline_ms);
/* hold: uploader and scan return from waiting and do not wait again, until it is false. */
void capture_hold(struct capture *c, bool hold);
/* Operations in the queue, and files that are being written. */
void capture_count(struct capture *c, uint64_t *ret_operations, uint64_t *ret_writers);
/* Calls that wait for the server, and calls that were answered before it had what they stand for. */
void capture_count_waiting(struct capture *c, uint64_t *ret_waiting, uint64_t *ret_deferred);
/* What has been done so far, as a mark for capture_wait(). */
uint64_t capture_mark(struct capture *c);
/* Waits until all up to the mark is at the server. -ETIMEDOUT, -ECANCELED. */
int capture_wait(struct capture *c, uint64_t mark, uint64_t deadline_ms);

/* Returns when something has left the queue, at deadline_ms at the latest. */
void capture_await_settled(struct capture *c, uint64_t deadline_ms);

/* ---- for the applier and the scan (capture_bind.c) ---- */

/* The node of an object. -ENOENT: nobody knows it. */
int capture_resolve(struct capture *c, const struct stat_id *object, struct id *ret_node);
/* An operation on the node is pending, a call waits for it to be at the server, or its content is being
 * changed. */
bool capture_is_busy(struct capture *c, const struct id *node);
/* An operation that is still to be sent names it. */
bool capture_name_is_busy(struct capture *c, const struct id *parent, const char *name);
/* Path of a directory node where it lies now, appended to out; -ENOENT. */
int capture_dir_path(struct capture *c, const struct id *dir, struct buf *out);
/* The first name of a node where it lies now; ret_name: caller frees. -ENOENT. */
int capture_location(struct capture *c, const struct id *node, struct id *ret_parent, char **ret_name);
/*
 * By the queue the node is not, or no longer, under this name (the agreed state and the disk may still have
 * it there): gone altogether (ret_dead), or elsewhere.
 */
bool capture_has_left(
	struct capture *c, const struct id *node, const struct id *parent, const char *name, bool *ret_dead);
/* All that was agreed to be at the root has left it by the queue, and nothing of the queue has come there. */
bool capture_has_emptied(struct capture *c);
/* A name that the queue gives to a node. */
struct queued_name {
	struct id node, parent;
	enum kind kind;
	char *name;
};
/* All of those. */
int capture_queued_names(struct capture *c, struct queued_name **ret_names, size_t *ret_count);
void queued_names_free(struct queued_name *names, size_t count);
/* Who has this name here, by the queue or else by the agreed state, and the kind if the queue knows it;
 * -ENOENT. */
int capture_holder(struct capture *c, const struct id *parent, const char *name, struct id *ret_node,
	enum kind *ret_kind);
/* The node has this name now, as far as agreed state and queue know. */
size_t capture_names(struct capture *c, const struct id *node); /* how many it has here */
bool capture_has_name(struct capture *c, const struct id *node, const struct id *parent, const char *name);
/* The agreed state was mended after the journal had been read: where all lie is asked anew. */
int capture_reload_names(struct capture *c);
/* The same for any node, in full. */
int capture_path(struct capture *c, const struct id *node, struct buf *out);
/* From now on the object is this node with these names, although the agreed state does not say so yet;
 * nothing of it is sent before capture_unbind(). */
int capture_bind(struct capture *c, const struct node_state *where, const struct stat_id *object);
void capture_unbind(struct capture *c, const struct id *node);
/* Grows whenever a node of ours becomes one with another: ids that were asked for before may be old. */
uint64_t capture_aliases(struct capture *c);
/* Found on disk, made by others than the mount: journalled and queued as if it had been captured. r: INTENT
 * members filled in, with ids asked for after `aliases` was. -EAGAIN: they may be old, the next scan looks.
 */
int capture_found(struct capture *c, uint64_t aliases, struct record *r, const struct stat_id *object);

/* State of a file for user.syncfs.state: "synced", "dirty", "queued", "uploading", "remote-newer",
 * "conflict", "error", "local-only". */
const char *capture_state(struct capture *c, const struct stat_id *object);
/* user.syncfs.version and user.syncfs.seq: its c and highest version; -ENODATA when the server has none. */
int capture_version(struct capture *c, const struct stat_id *object, uint64_t *ret_c, uint64_t *ret_seq);

#endif
