/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The syscalls of the view on the user's data: thin, by descriptor and one name, never through a symlink.
 * "path" descriptors are O_PATH ones; what a syscall refuses on those goes through /proc/self/fd. All: any
 * thread, no locks; 0, a count or a descriptor, or -errno as the file system gave it.
 */
#ifndef SYNCFS_CLIENT_BACKING_H
#define SYNCFS_CLIENT_BACKING_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

#include <syncfs/tree.h>

/* For whom objects are made: the caller's ids when we are root, else ours whatever is asked. */
struct caller {
	uid_t uid;
	gid_t gid;
};

/* name "": the descriptor itself. -EXDEV: another file system is mounted there. ret_id may be NULL. */
int backing_stat(uint64_t dev, int dirfd, const char *name, struct stat *ret_stat, struct stat_id *ret_id);

int backing_open_path(int dirfd, const char *name);
int backing_open_at(int dirfd, const char *name, int flags); /* never follows, never blocks on a FIFO */
int backing_reopen(int path_fd, int flags); /* the object behind a descriptor, opened anew */
int backing_dup(int fd);

int backing_create(
	int dirfd, const char *name, int flags, mode_t mode, struct caller who); /* O_CREAT|O_EXCL */
int backing_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev, struct caller who);
int backing_mkdir(int dirfd, const char *name, mode_t mode, struct caller who);
int backing_symlink(const char *target, int dirfd, const char *name, struct caller who);
int backing_link(int path_fd, int dirfd, const char *name);
int backing_unlink(int dirfd, const char *name, bool dir);
int backing_rename(int dirfd, const char *name, int new_dirfd, const char *new_name, unsigned flags);
ssize_t backing_readlink(int path_fd, char *target, size_t size);

int backing_chmod(int path_fd, mode_t mode);
int backing_chown(int path_fd, uid_t uid, gid_t gid);
int backing_utimens(int path_fd, const struct timespec times[2]);
int backing_truncate(int fd, off_t size); /* a writable descriptor */

ssize_t backing_xattr_get(int path_fd, const char *name, void *value, size_t size);
ssize_t backing_xattr_list(int path_fd, char *names, size_t size);
int backing_xattr_set(int path_fd, const char *name, const void *value, size_t size, int flags);
int backing_xattr_remove(int path_fd, const char *name);

ssize_t backing_read(int fd, void *bytes, size_t size, off_t at);
ssize_t backing_append(
	int fd, const void *bytes, size_t size, off_t *ret_end); /* ret_end: the file's size after it */
int backing_allocate(int fd, int mode, off_t at, off_t len);
ssize_t backing_copy(int in, off_t in_at, int out, off_t out_at, size_t size);
off_t backing_seek(int fd, off_t at, int whence);
int backing_sync(int fd, bool data_only);
int backing_sync_dir(int dirfd); /* also by an O_PATH descriptor */
int backing_statfs(int fd, struct statvfs *ret_fs);

#endif
