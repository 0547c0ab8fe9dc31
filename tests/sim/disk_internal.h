/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disk*.c and sysio*.c share: nodes, names, and what a power cut takes back. All of it is kept as what
 * processes see; beside it lies what undoes it: a log of the changes of names and attributes of the whole
 * disk, and of each file the bytes that its writes replaced. A sync throws undo away, a power cut uses some.
 *
 * Nothing here lets other threads run, and nothing looks at rights: syncfs runs as root in the simulator.
 */
#ifndef SIM_DISK_INTERNAL_H
#define SIM_DISK_INTERNAL_H

#include <stdlib.h>

#include "disk.h"

#define DISK_BLOCK 4096u
#define DISK_NODE_COST 1024u /* of the room */
#define DISK_NAME_MAX 255u
#define DISK_LINK_MAX 65000u /* as ext4 */

struct node;

/* A name in a directory; moves with a rename, and lives on without a directory while it is open. */
struct name {
	struct node *dir; /* NULL: removed, of the root, or never there (O_TMPFILE) */
	struct node *node; /* a reference */
	char *text;
	uint32_t len, hash;
	uint64_t cookie; /* ascending in its directory; the position for readdir */
	unsigned refs;
};

struct xattrs {
	unsigned refs, len;
	char bytes[]; /* "name\0", u32 length, value; in the order they were set */
};

struct attrs {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t atime, mtime, ctime;
	struct xattrs *xattrs; /* NULL: none */
};

struct undo; /* disk_node.c */
struct lost;
struct watch; /* sysio_watch.c */

struct names {
	struct name **slots; /* by cookie; NULL where one was removed */
	uint32_t *index; /* of slots by hash, only from INDEX_FROM names on */
	uint32_t used, cap, live, index_size;
};

struct node {
	struct node *next, *prev; /* all of the disk, in the order they were made */
	struct disk *disk;
	unsigned refs; /* names, descriptors, log entries */
	unsigned opens; /* descriptors */
	unsigned writers; /* descriptors that may write */
	uint64_t ino;
	int64_t btime;
	unsigned nlink;
	dev_t rdev;
	struct attrs a;
	uint64_t changes;
	bool ino_freed;

	/* a file, or the target of a symlink with a NUL behind it */
	uint8_t *bytes;
	uint64_t size, high, cap; /* from high on all is zero and need not be in bytes */
	uint64_t reserved; /* allocated beyond size */
	struct undo *undo; /* newest first; NULL: durable as it is */
	unsigned undo_count;
	uint64_t min_size; /* since the last sync */
	struct lost *lost; /* what a sync that failed has left on the disk */

	/* a directory */
	struct names names;
	struct name *self; /* the only name of it; a removed one keeps it */
	uint64_t next_cookie;

	struct watch *watches;
	const void *lock_owner; /* flock(2), exclusive */
	unsigned lock_shared;
	struct node *copy; /* while disk_copy() runs */
};

enum change_kind { CHANGE_ADD, CHANGE_REMOVE, CHANGE_ATTRS };

struct change {
	enum change_kind kind;
	bool first; /* of one call: kept or taken back together with those that follow */
	bool durable; /* not taken back */
	struct node *dir, *node; /* references; dir of names only */
	char *text;
	uint32_t len;
	struct attrs old; /* ATTRS: of node; else mtime and ctime of dir */
};

struct disk {
	char name[32];
	dev_t dev;
	struct node *first, *last;
	struct name *root;
	struct change *log;
	size_t log_count, log_cap;
	bool in_call; /* the next change is not the first one */

	uint64_t next_ino;
	struct free_ino {
		uint64_t ino;
		int64_t at;
	} * free_inos; /* a ring of those that may come again */
	size_t free_first, free_count, free_cap;

	uint64_t room, used;
	uint64_t calls, fail_at, fail_count;
	int fail_error;
	bool coarse; /* times in steps of 4 ms */
	uint32_t cookie; /* of renames, for inotify */
};

/* See disk_before_change(). name: the one that goes; n: who loses it, or bytes; NULL: nobody. */
void disk_changing(const struct disk *d, const struct name *name, struct node *n);
void disk_fill(struct node *n, const char *path, struct disk_entry *ret);

/* The simulator does not go on without memory. */
static inline void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- disk.c ---- */

int64_t disk_now(const struct disk *d);
/* 0, or -errno when this call is the one to fail. */
int disk_fault(struct disk *d);
/* Whether so much more fits. */
bool disk_has_room(const struct disk *d, uint64_t more);

/* ---- disk_node.c ---- */

struct node *node_new(struct disk *d, mode_t mode, dev_t rdev);
struct node *node_get(struct node *n);
void node_put(struct node *n);
/* When the last name or descriptor goes: the number may come again, the space is free. */
void node_maybe_dead(struct node *n);
bool node_is_dir(const struct node *n);
void node_stat(const struct node *n, struct stat *st);

size_t node_read(const struct node *n, void *buf, size_t len, uint64_t at);
/* How many, fewer than len when the room ends within; or -ENOSPC, -EFBIG. */
ssize_t node_write(struct node *n, const void *buf, size_t len, uint64_t at);
int node_truncate(struct node *n, uint64_t size);
int node_allocate(struct node *n, uint64_t at, uint64_t len, bool keep_size);
void node_punch(struct node *n, uint64_t at, uint64_t len);
int node_set_target(struct node *n, const char *target, size_t len);
/* All of its bytes in one piece. */
const uint8_t *node_bytes(struct node *n);
void node_synced(struct node *n);
/* As Linux does: the pages count as clean from then on, though nobody knows what is on the disk. */
void node_sync_failed(struct node *n);
void node_power_cut(struct node *n, bool mixed);
void node_modified(struct node *n);
uint64_t node_space(const struct node *n);
void node_charge(struct node *n, uint64_t before);

struct xattrs *xattrs_get(struct xattrs *x);
void xattrs_put(struct xattrs *x);
/* NULL when it has no such attribute. */
const char *xattrs_find(const struct xattrs *x, const char *name, size_t *ret_len);
/* Another one with this attribute; value NULL: without. */
struct xattrs *xattrs_with(const struct xattrs *x, const char *name, const char *value, size_t len);

/* ---- disk_names.c ---- */

struct name *name_new(struct node *take_node, const char *text, size_t len);
struct name *name_get(struct name *m);
void name_put(struct name *m);
struct name *names_find(const struct node *dir, const char *text, size_t len);
struct name *names_next(const struct node *dir, uint64_t after_cookie);
void names_free(struct names *t);

/* Each is one change for the log, with times, link counts and events. Whether it is allowed is the caller's
 * business. */
struct name *disk_add(struct node *dir, const char *text, size_t len, struct node *take_node);
void disk_remove(struct name *m);
void disk_rename(struct name *m, struct node *to_dir, const char *text, size_t len, struct name *replaced);
void disk_exchange(struct name *a, struct name *b);
/* Before attributes change: remembers the old ones. */
void disk_attrs_change(struct node *n);
/* Names and attributes are durable; of a node only: its attributes. */
void disk_log_durable(struct disk *d);
void disk_log_durable_node(struct node *n);
void disk_log_power_cut(struct disk *d);

/* ---- sysio_watch.c ---- */

void watch_name(const struct name *m, uint32_t mask, uint32_t cookie); /* to the directory's watches */
void watch_node(struct node *n, uint32_t mask); /* to its own */
void watch_gone(struct node *n);

#endif
