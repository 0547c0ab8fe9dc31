/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of an inode, for inode*.c only. About 120 bytes and the name; 100,000 of them must not hurt, so
 * nothing here may grow without need (no lock, no descriptor unless pinned).
 *
 * Invariants:
 * 1. An inode is in its hash chain from its making to its freeing; INODE_GONE ones are skipped by every
 * search.
 * 2. parent and name are both set or both NULL. A parent is referenced by its child.
 * 3. It lives while nlookup or refs is positive.
 * 4. slot is for directories, handles for the rest.
 */
#ifndef SYNCFS_CLIENT_INODE_OWN_H
#define SYNCFS_CLIENT_INODE_OWN_H

#include "inode.h"

#include <syncfs/mutex.h>

enum inode_flag {
	INODE_DIR = 1 << 0,
	INODE_GONE = 1 << 1, /* the inode number belongs to another object now */
	INODE_DISPLACED = 1 << 2, /* by the applier */
	INODE_UNSYNCED = 1 << 3, /* the directory entry is newer than the last fsync of its directory */
};

struct inode {
	struct inode *next; /* hash chain; of the dead: the next to free */
	struct inode *parent;
	char *name;
	union {
		struct handle *handles;
		struct dir_slot *slot;
	};
	uint64_t nlookup; /* what the kernel holds */
	uint32_t refs; /* children, handles, callers of inode_get() */
	uint32_t writers;
	int pinned_fd; /* O_PATH of an object without a known name, or -1 */
	unsigned flags;
	uint64_t open_stamp; /* of mtime, ctime and size at the last open; 0: none */
	_Atomic uint64_t generation; /* relaxed: read together with stat, see inode_changed() */
	_Atomic uint64_t changed_ms; /* relaxed: monotonic, when that was */
	/* Changes of content under way, and whether new ones have to wait; seq_cst, each is read against the
	 * other. */
	_Atomic uint32_t changing;
	atomic_bool held;

	/* set at the making, then read-only */
	uint64_t ino;
	int64_t btime_ns;
};

struct dir_slot {
	struct dir_slot *newer, *older;
	struct inode *owner;
	int fd;
	unsigned users;
};

/* Descriptors of directories, least recently used ones closed first. Guarded by the table's lock. */
struct dir_cache {
	struct dir_slot *newest, *oldest;
	size_t count, max;
};

void dir_cache_init(struct dir_cache *c); /* bounded by RLIMIT_NOFILE */
/* take_fd becomes the slot of a directory without one, with one user. NULL: no memory (the descriptor is
 * closed). */
struct dir_slot *dir_cache_add(struct dir_cache *c, struct inode *owner, int take_fd);
void dir_cache_use(struct dir_cache *c, struct dir_slot *s);
void dir_cache_unuse(struct dir_cache *c, struct dir_slot *s);
void dir_cache_drop(struct dir_cache *c, struct dir_slot *s); /* no users; closes it, owner->slot = NULL */

struct inode_table {
	struct mutex lock;
	struct inode **chains;
	size_t chain_count; /* a power of two */
	size_t count, pins, pins_max;
	struct dir_cache dirs;
	struct inode *root;
	struct cond hold_changed; /* a change of content is over, or nobody holds it up any more */

	_Atomic uint64_t
		epoch; /* seq_cst: compared around a lookup with what the invalidation thread sends */

	const struct tree *tree; /* set at the making, then read-only */
};

#endif
