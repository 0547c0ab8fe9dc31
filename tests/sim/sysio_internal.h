/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sysio*.c share: the table of descriptors of a process, open files, and the way from a path to a name.
 * Each __wrap_ function begins with sys_enter(), where other threads may run or the process may die; nothing
 * after that lets anybody else run, so that a call is one step for all others.
 */
#ifndef SIM_SYSIO_INTERNAL_H
#define SIM_SYSIO_INTERNAL_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/types.h>

#include "disk_internal.h"
#include "sched.h"

#define FIRST_FD 3

enum file_kind { FILE_NODE, FILE_TEXT, FILE_NOTHING, FILE_EVENT, FILE_SIGNAL, FILE_INOTIFY };

struct watcher;

/* What open(2) makes; several descriptors may lead to one. */
struct open_file {
	enum file_kind kind;
	unsigned refs;
	int flags; /* of open(2) */
	struct sysio *owner;
	struct name *name; /* NODE: a reference */
	uint64_t pos; /* NODE, TEXT; a directory's: the cookie after which it goes on */
	char *text; /* TEXT: of /proc */
	size_t text_len;
	uint64_t counter; /* EVENT */
	uint64_t signals; /* SIGNAL: those it wants, as bits */
	struct watcher *watcher; /* INOTIFY */
};

/* A process. */
struct sysio {
	struct proc *proc;
	struct machine *machine;
	struct disk *disk;
	struct open_file **files; /* by descriptor */
	int cap;
	mode_t mask;
	uint64_t signals; /* pending, as bits */
	struct waitq wait; /* for anything that poll(2) waits for */
};

/* NULL: the real call. Otherwise a point has passed. */
struct sysio *sys_enter(const char *what);
/* Its table without a point. */
struct sysio *sys_of(struct proc *p);
/* -errno becomes errno and -1. */
long sys_return(long r);

/* NULL: there is none. */
struct open_file *file_of(const struct sysio *s, int fd);
/* NODE, and not O_PATH: 0 or -EBADF. */
int file_node(const struct sysio *s, int fd, struct open_file **ret_file, struct node **ret_node);
struct open_file *file_new(struct sysio *s, enum file_kind kind, int flags);
int file_install(struct sysio *s, struct open_file *take_file, int from);
void file_put(struct open_file *f);
static inline bool file_reads(const struct open_file *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY && !(f->flags & O_PATH);
}
static inline bool file_writes(const struct open_file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY && !(f->flags & O_PATH);
}

/* ---- sysio_path.c ---- */

enum last_kind { LAST_NORMAL, LAST_DOT, LAST_DOTDOT, LAST_ROOT };

/* Where the last part of a path leads: with it taken apart, as for creating and removing. */
struct spot {
	struct name *parent;
	enum last_kind last;
	const char *text; /* NORMAL; within the path or a symlink's target */
	size_t len;
	bool slash; /* something behind it */
	struct name *name; /* what is there, or NULL */
};

#define SPOT_FOLLOW 1u /* a symlink at the end */
#define SPOT_BENEATH 2u /* RESOLVE_* */
#define SPOT_NO_SYMLINKS 4u
#define SPOT_NO_MAGIC 8u
#define SPOT_CREATE                                                                                          \
	16u /* open(2) with O_CREAT: -EISDIR for a slash at the end, also of a symlink's target              \
	     */

/* -errno when the parent cannot be reached. */
int path_spot(struct sysio *s, int dirfd, const char *path, unsigned how, struct spot *ret);
/* The object itself; SPOT_FOLLOW or not. -ENOENT. */
int path_find(struct sysio *s, int dirfd, const char *path, unsigned how, struct name **ret);
/* As path_find(); with at_flags AT_EMPTY_PATH (the descriptor itself) and AT_SYMLINK_NOFOLLOW. */
int path_find_at(struct sysio *s, int dirfd, const char *path, int at_flags, struct name **ret);

/* ---- sysio_special.c ---- */

bool special_is_ready(const struct open_file *f, short events, short *ret_revents);
ssize_t special_read(struct sysio *s, int fd, struct open_file *f, void *buf, size_t len);
ssize_t special_write(struct open_file *f, const void *buf, size_t len);
/* The text of a file below /proc and the like; NULL: no such file. Heap. */
char *special_text(const struct sysio *s, const char *path);

/* ---- sysio_watch.c ---- */

bool watcher_is_ready(const struct watcher *w);
ssize_t watcher_read(struct watcher *w, void *buf, size_t len);
void watcher_free(struct watcher *w);

#endif
