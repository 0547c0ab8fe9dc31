/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's side of one mount: system calls of people become requests to the real handlers (the table that
 * mount.c gives to fuse_session_new()). view.c is libfuse for the code linked into the simulator, by
 * -Wl,--wrap of all fuse_* functions that it uses. Each request is run by one of the mount's threads
 * (mount_loop.c), so several run at once and a kill of syncfs may come in the middle of one. Names
 * and attributes are remembered as long as the handlers allow and dropped when told to
 * (fuse_lowlevel_notify_*), as the kernel's caches are, so that a forgotten notification shows. The order of
 * requests is what Linux sends: LOOKUP of each component, CREATE or OPEN, WRITE in pieces, FLUSH, RELEASE
 * (after close has returned).
 *
 * All calls give -errno; -ENOTCONN when syncfs is gone: whether the change was made is then open. They block
 * the calling thread, which belongs to another process of the same machine. Paths are relative to the
 * mountpoint, without a leading slash; "" is the root.
 */
#ifndef SIM_VIEW_H
#define SIM_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

struct view;
struct view_file;
struct machine;

/* The one mount of a machine, or NULL. */
struct view *view_of(const struct machine *m);
/* fusermount3 -u: DESTROY after the last open file is closed is not waited for; the loop ends. */
void view_unmount(struct view *v);
bool view_is_idle(const struct view *v); /* no open file and no call in it: could be unmounted */

int view_open(struct view *v, const char *path, int flags, mode_t mode, struct view_file **ret_file);
ssize_t view_pread(struct view_file *f, void *buf, size_t len, off_t at);
ssize_t view_pwrite(struct view_file *f, const void *buf, size_t len, off_t at);
int view_ftruncate(struct view_file *f, off_t size);
int view_fsync(struct view_file *f);
int view_close(struct view_file *f); /* the error of flush; the handle is gone in any case */

int view_mkdir(struct view *v, const char *path, mode_t mode);
int view_rmdir(struct view *v, const char *path);
int view_unlink(struct view *v, const char *path);
int view_rename(struct view *v, const char *path, const char *new_path, unsigned flags); /* RENAME_* */
int view_link(struct view *v, const char *path, const char *new_path);
int view_symlink(struct view *v, const char *target, const char *path);
int view_readlink(struct view *v, const char *path, char *buf, size_t size); /* NUL-terminated */
int view_chmod(struct view *v, const char *path, mode_t mode);
int view_utimens(struct view *v, const char *path, const struct timespec times[2]);
int view_truncate(struct view *v, const char *path, off_t size);
int view_setxattr(struct view *v, const char *path, const char *name, const void *value, size_t len);
int view_getxattr(
	struct view *v, const char *path, const char *name, void *value, size_t len); /* its length */
int view_stat(struct view *v, const char *path, struct stat *ret_st);
int view_readdir(struct view *v, const char *path, int (*fn)(void *arg, const char *name),
	void *arg); /* without . and .. */

#endif
