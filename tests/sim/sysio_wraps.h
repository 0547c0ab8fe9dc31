/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of libc that sysio*.c stands for, with the names that -Wl,--wrap gives them. */
#ifndef SIM_SYSIO_WRAPS_H
#define SIM_SYSIO_WRAPS_H

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#define WRAP(type, name, ...)                                                                                \
	type __wrap_##name(__VA_ARGS__);                                                                     \
	type __real_##name(__VA_ARGS__)

/* descriptors */
WRAP(int, close, int fd);
WRAP(int, dup, int fd);
WRAP(int, fcntl64, int fd, int command, ...);
WRAP(int, flock, int fd, int operation);
WRAP(int, ioctl, int fd, unsigned long request, ...);
WRAP(off_t, lseek64, int fd, off_t at, int whence);

/* opening */
WRAP(int, open64, const char *path, int flags, ...);
WRAP(int, openat64, int dirfd, const char *path, int flags, ...);
WRAP(long, syscall, long number, ...);

/* bytes */
WRAP(ssize_t, read, int fd, void *buf, size_t len);
WRAP(ssize_t, write, int fd, const void *buf, size_t len);
WRAP(ssize_t, pread64, int fd, void *buf, size_t len, off_t at);
WRAP(ssize_t, pwrite64, int fd, const void *buf, size_t len, off_t at);
WRAP(ssize_t, pwritev64v2, int fd, const struct iovec *iov, int count, off_t at, int flags);
WRAP(ssize_t, copy_file_range, int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags);
WRAP(int, ftruncate64, int fd, off_t size);
WRAP(int, fallocate64, int fd, int mode, off_t at, off_t len);
WRAP(int, posix_fallocate64, int fd, off_t at, off_t len);
WRAP(int, posix_fadvise64, int fd, off_t at, off_t len, int advice);
WRAP(int, fsync, int fd);
WRAP(int, fdatasync, int fd);
WRAP(int, syncfs, int fd);
WRAP(void *, mmap64, void *where, size_t len, int protection, int flags, int fd, off_t at);
WRAP(int, munmap, void *where, size_t len);

/* names */
WRAP(int, mkdir, const char *path, mode_t mode);
WRAP(int, mkdirat, int dirfd, const char *path, mode_t mode);
WRAP(int, mknodat, int dirfd, const char *path, mode_t mode, dev_t dev);
WRAP(int, symlinkat, const char *target, int dirfd, const char *path);
WRAP(int, linkat, int from_dirfd, const char *from, int to_dirfd, const char *to, int flags);
WRAP(int, unlink, const char *path);
WRAP(int, unlinkat, int dirfd, const char *path, int flags);
WRAP(int, rename, const char *from, const char *to);
WRAP(int, renameat, int from_dirfd, const char *from, int to_dirfd, const char *to);
WRAP(int, renameat2, int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags);
WRAP(ssize_t, readlinkat, int dirfd, const char *path, char *buf, size_t size);
WRAP(char *, realpath, const char *path, char *out);
WRAP(char *, getcwd, char *buf, size_t size);

/* attributes */
WRAP(int, stat64, const char *path, struct stat *st);
WRAP(int, fstat64, int fd, struct stat *st);
WRAP(int, fstatat64, int dirfd, const char *path, struct stat *st, int flags);
struct statx;
WRAP(int, statx, int dirfd, const char *path, int flags, unsigned mask, struct statx *sx);
WRAP(int, fstatvfs64, int fd, struct statvfs *fs);
WRAP(int, access, const char *path, int mode);
WRAP(int, faccessat, int dirfd, const char *path, int mode, int flags);
WRAP(int, chmod, const char *path, mode_t mode);
WRAP(int, fchmod, int fd, mode_t mode);
WRAP(int, fchmodat, int dirfd, const char *path, mode_t mode, int flags);
WRAP(int, fchownat, int dirfd, const char *path, uid_t uid, gid_t gid, int flags);
WRAP(int, utimensat, int dirfd, const char *path, const struct timespec times[2], int flags);
WRAP(mode_t, umask, mode_t mask);
WRAP(uid_t, getuid, void);
WRAP(uid_t, geteuid, void);
WRAP(gid_t, getegid, void);
WRAP(int, setfsuid, uid_t uid);
WRAP(int, setfsgid, gid_t gid);
WRAP(int, unshare, int flags);

/* extended attributes */
WRAP(ssize_t, getxattr, const char *path, const char *name, void *value, size_t size);
WRAP(ssize_t, fgetxattr, int fd, const char *name, void *value, size_t size);
WRAP(int, setxattr, const char *path, const char *name, const void *value, size_t size, int flags);
WRAP(int, fsetxattr, int fd, const char *name, const void *value, size_t size, int flags);
WRAP(ssize_t, listxattr, const char *path, char *list, size_t size);
WRAP(ssize_t, flistxattr, int fd, char *list, size_t size);
WRAP(int, removexattr, const char *path, const char *name);
WRAP(int, fremovexattr, int fd, const char *name);

/* directories */
WRAP(DIR *, opendir, const char *path);
WRAP(DIR *, fdopendir, int fd);
WRAP(struct dirent *, readdir64, DIR *dir);
WRAP(void, rewinddir, DIR *dir);
WRAP(void, seekdir, DIR *dir, long at);
WRAP(int, dirfd, DIR *dir);
WRAP(int, closedir, DIR *dir);

/* waiting */
WRAP(int, eventfd, unsigned count, int flags);
WRAP(int, signalfd, int fd, const sigset_t *mask, int flags);
WRAP(int, poll, struct pollfd *fds, nfds_t count, int timeout_ms);
WRAP(int, inotify_init1, int flags);
WRAP(int, inotify_add_watch, int fd, const char *path, uint32_t mask);
WRAP(int, inotify_rm_watch, int fd, int wd);

#endif
