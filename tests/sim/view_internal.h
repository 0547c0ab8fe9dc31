/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the simulated kernel share: view_fuse.c (libfuse and the queue of
 * requests), view_reply.c (answers), view_notify.c (notifications), view_cache.c
 * (inodes, names, attributes, pages), view_path.c (walking), view.c, view_file.c and view_dir.c (system
 * calls). Nobody else includes it. Everything here is the kernel's memory: it survives the client's process.
 */
#ifndef SIM_VIEW_INTERNAL_H
#define SIM_VIEW_INTERNAL_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <limits.h>

#include "sched.h"
#include "sim.h"
#include "view.h"

#define PAGE_BYTES 4096u
#define NAME_BYTES (NAME_MAX + 1)
#define KINODE_BUCKETS 256u

/* i_rwsem of the kernel. */
struct klock {
	unsigned readers, writers_waiting;
	bool writer;
	struct waitq q;
};
void klock_read(struct klock *l);
void klock_read_done(struct klock *l);
void klock_write(struct klock *l);
void klock_write_done(struct klock *l);

struct kinode;

/* A cached name. Of a directory there is one at most. */
struct dentry {
	struct dentry *next, **at; /* in parent->children */
	struct kinode *parent; /* a reference */
	struct kinode *inode; /* a reference; NULL: it is known that there is none */
	uint64_t until_ns, serial;
	char name[];
};

struct kinode {
	struct kinode *next; /* in the bucket */
	struct view *view;
	uint64_t nodeid, nlookup;
	uint64_t serial; /* for traces: node ids are addresses */
	unsigned refs; /* names and users; the last one to go sends FORGET */
	struct dentry *children, **children_end;
	struct dentry *alias; /* of a directory: its name */
	struct klock lock;

	struct stat attr;
	uint64_t attr_until_ns, attr_version;

	unsigned pages_locked; /* reads and writes under way: who drops pages waits for them */
	struct waitq pages_unlocked;
	uint8_t **pages;
	size_t pages_count;
};

struct lookup; /* a name that is being looked up right now */

struct view {
	struct view *next;
	struct machine *machine;
	struct fuse_session *session; /* the process's; not to be touched once it has ended */
	struct proc *proc;
	char *mountpoint;
	bool connected, is_started; /* is_started: what it can do has been told */
	int fd; /* the device, as the process sees it */
	unsigned calls, open_files; /* what makes it busy */

	struct fuse_req *first, *last; /* not yet taken by a worker */
	struct waitq work;
	struct fuse_req *known; /* queued or being answered */

	struct fuse_conn_info conn;
	uint64_t attr_version, serial;
	struct kinode *root;
	struct kinode *buckets[KINODE_BUCKETS];
	struct lookup *lookups;
	struct klock rename_lock;
};

enum call {
	CALL_LOOKUP,
	CALL_FORGET,
	CALL_GETATTR,
	CALL_SETATTR,
	CALL_READLINK,
	CALL_MKDIR,
	CALL_UNLINK,
	CALL_RMDIR,
	CALL_SYMLINK,
	CALL_RENAME,
	CALL_LINK,
	CALL_OPEN,
	CALL_CREATE,
	CALL_READ,
	CALL_WRITE,
	CALL_FLUSH,
	CALL_RELEASE,
	CALL_FSYNC,
	CALL_OPENDIR,
	CALL_READDIR,
	CALL_READDIRPLUS,
	CALL_RELEASEDIR,
	CALL_FSYNCDIR,
	CALL_SETXATTR,
	CALL_GETXATTR,
};

struct fuse_req {
	struct view *view;
	struct fuse_req *next; /* in the queue */
	struct fuse_req *known_next, **known_at;
	unsigned refs;
	enum call call;
	bool is_async, done;
	int error; /* 0 or -errno */
	struct waitq answered;
	struct fuse_ctx ctx;

	uint64_t nodeid, new_nodeid, serial;
	uint64_t count, version; /* version: of attributes, when it was sent */
	off_t at;
	int to_set;
	mode_t mode;
	unsigned flags;
	bool has_fi;
	struct fuse_file_info fi;
	struct stat attr;

	/* the answer */
	struct fuse_entry_param entry;
	double timeout;
	uint8_t *bytes; /* of a write, or of the answer */
	size_t len;

	char name[NAME_BYTES], new_name[NAME_BYTES]; /* not zeroed */
};

/* ---- view_fuse.c ---- */

struct fuse_req *req_new(struct view *v, enum call call, const struct kinode *k);
void req_set_bytes(struct fuse_req *q, const void *bytes, size_t len); /* copied, with a NUL behind */
int req_send(struct fuse_req *q); /* waits; -errno of the handler, -ENOTCONN. The caller puts. */
void req_send_async(struct fuse_req *q); /* takes it */
void req_put(struct fuse_req *q);
/* By whoever was asked: 0, or -ENOENT when nobody waits any more. The request is gone for the caller. */
int req_answer(struct fuse_req *q, int error);
struct view *session_view(struct fuse_session *se);
void view_abort(struct view *v); /* all who wait get -ENOTCONN */

/* How entries lie in the answer to READDIR and READDIRPLUS. */
struct packed_entry {
	struct fuse_entry_param param; /* READDIRPLUS only; ino 0: name and type alone */
	uint64_t at;
	uint32_t len, step; /* of the name; to the next entry */
	bool is_plus;
	char name[];
};

/* ---- view_cache.c ---- */

void cache_init(struct view *v);
struct kinode *kinode_get(struct kinode *k);
void kinode_put(struct kinode *k);
struct kinode *kinode_find(struct view *v, uint64_t nodeid); /* no reference; NULL */
/* What an entry of an answer stands for, one lookup more; a reference. */
struct kinode *kinode_of_entry(struct view *v, const struct fuse_entry_param *e, uint64_t version);
void kinode_attributes(struct kinode *k, const struct stat *st, double timeout, uint64_t version);
void kinode_attr_stale(struct kinode *k);
static inline bool kinode_is_dir(const struct kinode *k)
{
	return S_ISDIR(k->attr.st_mode);
}

struct dentry *dentry_find(const struct kinode *dir, const char *name);
/* The name stands for k now, NULL: nothing. Moves the name of a directory that was known elsewhere: -ELOOP
 * when it would lie in itself. */
int dentry_set(struct kinode *dir, const char *name, struct kinode *k, double timeout);
void dentry_drop(struct dentry *d); /* with all below */
void dentry_rename(struct dentry *d, struct kinode *dir, const char *name); /* keeps its time */
void dentry_swap(struct dentry *a, struct dentry *b);
bool kinode_is_below(const struct kinode *k, const struct kinode *dir); /* or the same */
void cache_shrink(struct view *v);

void pages_drop(struct kinode *k, size_t from); /* waits for those that are locked */
const uint8_t *page_at(const struct kinode *k, size_t index);
void page_set(struct kinode *k, size_t index, const uint8_t *bytes, size_t len); /* zeros behind */
void page_patch(struct kinode *k, size_t index, size_t at, const uint8_t *bytes, size_t len);
void pages_lock(struct kinode *k);
void pages_unlock(struct kinode *k);

/* ---- view_path.c ---- */

/* One name: by the cache, else by LOOKUP. is_locked: the caller has the directory's lock. A reference, or
 * NULL when there is nothing. */
int path_child(struct kinode *dir, const char *name, bool again, bool is_locked, struct kinode **ret_child);
/* The directory of the last component, with a reference, and its name. -ENOENT for "". */
int path_parent(struct view *v, const char *path, bool again, struct kinode **ret_dir, char name[NAME_BYTES]);
int path_walk(struct view *v, const char *path, bool follow, bool again, struct kinode **ret_inode);
int path_target(struct kinode *k, char *buf, size_t size); /* READLINK, NUL-terminated */
int kinode_refresh(struct kinode *k); /* GETATTR when attributes are stale */

/* ---- view.c ---- */

struct path_call {
	const char *path, *new_path;
	mode_t mode;
	int flags;
	unsigned rename_flags;
	void *arg;
};
/* fn, and once more with all names looked up again when it gives -ESTALE. Counts the call. */
int view_call(struct view *v, struct path_call *c, int (*fn)(struct view *, struct path_call *, bool again));
int send_setattr(
	struct kinode *k, const struct stat *st, int to_set, const struct fuse_file_info *fi, bool has_fi);

#endif
