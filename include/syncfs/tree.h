/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of plain files that is kept equal to rows elsewhere: the backing directory of a client, the
 * root of a server. Containment: everything is reached by openat2(2) beneath the root's descriptor, opened
 * once (before mounting), without symlinks and without leaving the file system. `.syncfs/` at its root holds
 * the marker, staging and trash. All calls: any thread, no locks of their own.
 */
#ifndef SYNCFS_TREE_H
#define SYNCFS_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <syncfs/change.h>

struct tree {
	int root_fd; /* O_RDONLY|O_DIRECTORY */
	int own_fd; /* .syncfs */
	int stage_fd; /* .syncfs/stage: files on their way in, and displaced ones on their way out */
	uint64_t dev;
	struct id marker; /* the identity in .syncfs/root */
	bool has_exchange; /* renameat2(RENAME_EXCHANGE) works here (probed) */
};

enum tree_open_flags {
	TREE_CREATE = 1 << 0, /* make the directory when missing */
	TREE_MARK = 1 << 1, /* make a marker when there is none */
};

/*
 * Opens path as a tree: makes .syncfs (0700) and .syncfs/stage, reads or makes the marker. -ENOENT/-ENOTDIR
 * the path; -ENODATA no marker and not TREE_MARK; -EROFS; -EBADMSG a marker that is none. The caller closes
 * it.
 */
int tree_open(const char *path, unsigned flags, struct tree *ret_tree);
void tree_close(struct tree *t);

/* What stat says of one object, and its identity. */
struct stat_id {
	uint64_t dev, ino;
	int64_t btime_ns; /* 0 where the file system has none */
	int64_t mtime_ns, ctime_ns;
	uint64_t size;
	uint32_t mode; /* with the type bits */
	uint32_t nlink;
};

/* dev, ino and btime: the same object (inode numbers alone are reused). */
bool stat_id_same_object(const struct stat_id *a, const struct stat_id *b);
/* The same object, and size, mtime, ctime as they were: its content is what it was. */
bool stat_id_unchanged(const struct stat_id *a, const struct stat_id *b);

/* statx without following links; name "" with an fd: the fd itself. */
int tree_stat(int dirfd, const char *name, struct stat_id *ret_stat);

/* A directory beneath the root by relative path ("" = the root), O_RDONLY|O_DIRECTORY|O_CLOEXEC. fd or
 * -errno. */
int tree_open_dir(const struct tree *t, const char *path);
/* .syncfs/recovered, made when it is not there: for what nobody may throw away. fd or -errno. */
int tree_open_recovered(const struct tree *t);
/* Component below an open directory of this tree, never through a link: flags as openat(2). fd or -errno. */
int tree_open_at(const struct tree *t, int dirfd, const char *name, int flags);

/* user.* xattrs of an open file, packed (change.h); user.syncfs.* and others are left out. Symlinks: empty.
 */
int tree_read_xattr(int fd, struct blob *ret_xattr);
/* kind of a mode; 0 for what is not synced. */
enum kind tree_kind(uint32_t mode);

/* ---- staging ---- */

#define STAGE_NAME_BYTES 40

/* A new file in staging, 0600, O_RDWR. Writes its random name to name[STAGE_NAME_BYTES]. fd or -errno. */
int stage_create(const struct tree *t, char *name);
int stage_mkdir(const struct tree *t, char *name);
int stage_symlink(const struct tree *t, const char *target, char *name);
/* Only a name, for something that is about to be moved in. */
void stage_name(char *name);
/* Sets mode & 0777, mtime and xattr on a staged object by fd (files, dirs) or by name (symlinks: mtime only).
 * -errno. */
int stage_set_attr(
	const struct tree *t, const char *name, uint32_t mode, int64_t mtime_ns, const struct blob *xattr);
/* The same on what stage_create() has just made, by its descriptor: it has nothing yet that would have to go.
 * ret_stat the file as it is then. */
int stage_set_new(
	int fd, uint32_t mode, int64_t mtime_ns, const struct blob *xattr, struct stat_id *ret_stat);
/* Carries over what is local only from the object it is to replace: owner, set-id and sticky bits, ACLs,
 * xattrs outside user. */
int stage_carry_over(const struct tree *t, const char *name, int dirfd, const char *replaced);
/* A new object's owner: that of the directory it goes to, or uid/gid unless -1. */
int stage_set_owner(const struct tree *t, const char *name, int dirfd, int64_t uid, int64_t gid);
/* Removes a staged object, directories with all in them (bounded depth). 0 also when gone. */
int stage_drop(const struct tree *t, const char *name);
/* Removes everything in staging but what keep() wants (NULL: nothing is kept). */
int stage_sweep(const struct tree *t, bool (*keep)(void *arg, const char *name), void *arg);

/* ---- placing: the only way anything enters or leaves the visible tree ---- */

/*
 * Puts a staged object at dirfd/name.
 * expected  NULL: the name must be free (-EEXIST otherwise). Else the object that is to be replaced:
 * exchanged, the displaced object checked (stat_id_unchanged but for ctime, nlink, which the exchange itself
 * moves); when it is another, it is exchanged back and -ESTALE returned. On success the displaced object is
 * in staging under stage_name. ret_placed the object as it is now at dirfd/name. Nothing is durable until the
 * caller has synced (tree_sync_*).
 */
int place_put(const struct tree *t, const char *stage_name, int dirfd, const char *name,
	const struct stat_id *expected, struct stat_id *ret_placed);
/* Takes dirfd/name out into staging under stage_name (from stage_name()). Checked like above: -ESTALE and put
 * back. -ENOENT. */
int place_take(const struct tree *t, int dirfd, const char *name, const struct stat_id *expected,
	const char *stage_name);
/* Takes out an empty directory and removes it: -ENOTEMPTY (put back) when it has children of any kind. */
int place_rmdir(const struct tree *t, int dirfd, const char *name, const struct stat_id *expected);
/* Moves within the tree to a free name: -EEXIST; checks the moved object, -ESTALE and back. */
int place_move(const struct tree *t, int from_dirfd, const char *from, int to_dirfd, const char *to,
	const struct stat_id *expected, struct stat_id *ret_placed);
/* Swaps two names; both checked, -ESTALE and back. */
int place_exchange(const struct tree *t, int a_dirfd, const char *a, const struct stat_id *expected_a,
	int b_dirfd, const char *b, const struct stat_id *expected_b);
/* A further name for an object: -EEXIST. */
int place_link(const struct tree *t, int from_dirfd, const char *from, int to_dirfd, const char *to,
	const struct stat_id *expected);
/* mode & 0777 (local set-id and sticky bits stay), mtime, user.* xattrs of dirfd/name when it is the expected
 * object (identity only). */
int place_attr(const struct tree *t, int dirfd, const char *name, const struct stat_id *expected,
	uint32_t mode, int64_t mtime_ns, const struct blob *xattr, struct stat_id *ret_now);

/* ---- durability ---- */

int tree_sync_all(const struct tree *t); /* syncfs(2): group commit of many files; its error is terminal */
int tree_sync_fd(int fd); /* fsync */

/* ---- scan ---- */

enum scan_verdict { SCAN_SKIP = 0, SCAN_DESCEND = 1 };

struct scan_entry {
	const char *path; /* relative, "" for the root itself (never reported) */
	const char *name;
	int dirfd; /* of the directory that holds it, for the call only */
	struct stat_id dir; /* that directory */
	struct stat_id stat;
};

struct scan_ops {
	void *arg;
	/* One entry: SCAN_DESCEND (directories), SCAN_SKIP, or -errno to end the scan. Only kinds that
	 * tree_kind knows are reported. */
	int (*entry)(void *arg, const struct scan_entry *e);
	/* What is not synced (devices, FIFOs, sockets, other file systems): may be NULL. */
	void (*local_only)(void *arg, const char *path);
	/* After a directory's entries: complete is false when reading failed, so that absence proves nothing.
	 */
	int (*dir_done)(void *arg, const char *path, const struct stat_id *dir, bool complete);
};

/* Walks the directory at path (depth first, entries of one directory in no order); `.syncfs` at the root is
 * left out. recursive false: that one directory. Bounded depth TREE_MAX_DEPTH. 0 or -errno. */
int tree_scan(const struct tree *t, const char *path, bool recursive, const struct scan_ops *ops);

/* Content and manifest (may be NULL) of an open file, read once; *ret_stat from before, -EAGAIN when it
 * changed while being read. */
int tree_hash_file(int fd, struct content *ret_content, struct blob *ret_manifest, struct stat_id *ret_stat);

#endif
