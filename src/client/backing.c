/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The syscalls of the view on the user's data. Called by fs_* and inode_reach. Knows nothing of inodes,
 * journal or FUSE; takes no locks, logs nothing, changes no error.
 */
#include "backing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <syncfs/io.h>

#define FD_PATH_BYTES 32

static const char *fd_path(int fd, char *path)
{
	snprintf(path, FD_PATH_BYTES, "/proc/self/fd/%d", fd);
	return path;
}

static int done(int r)
{
	return r < 0 ? -errno : r;
}

/* ---- acting for the caller ---- */

/*
 * The ids of the file system calls belong to a thread (setfsuid(2)); glibc's wrappers are plain syscalls,
 * unlike those of setuid. Leaving uid 0 takes CAP_DAC_OVERRIDE and its like out of the effective set
 * (capabilities(7)), but the kernel has checked the caller's rights already (default_permissions) with all
 * groups, which we do not know: it is raised again.
 */
static void raise_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return; /* the syscall to come says what is missing */
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	(void)syscall(SYS_capset, &head, data);
}

/*
 * Modes come from the kernel with the caller's mask applied already. The mask is part of what threads share
 * (umask(2)); a thread that makes objects gets its own share, so that the rest of the program keeps its mask
 * for its own files.
 */
static void drop_mask(void)
{
	static _Thread_local bool dropped;

	if (dropped)
		return;
	(void)unshare(CLONE_FS); /* needs no rights; were it refused, the mask would go for all threads */
	(void)umask(0);
	dropped = true;
}

static bool become(struct caller who)
{
	drop_mask();
	if (geteuid() != 0 || (who.uid == 0 && who.gid == 0))
		return false;
	(void)setfsgid(who.gid);
	if (who.uid != 0) {
		(void)setfsuid(who.uid);
		raise_capabilities();
	}
	return true;
}

static void become_self(bool switched)
{
	int saved = errno;

	if (switched) {
		(void)setfsuid(0);
		(void)setfsgid(getegid());
	}
	errno = saved;
}

/* ---- looking and opening ---- */

static struct timespec time_of(const struct statx_timestamp *ts)
{
	return (struct timespec){.tv_sec = ts->tv_sec, .tv_nsec = ts->tv_nsec};
}

static int64_t ns_of(const struct statx_timestamp *ts)
{
	return ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec;
}

static void fill_stat(const struct statx *sx, struct stat *st)
{
	*st = (struct stat){
		.st_dev = makedev(sx->stx_dev_major, sx->stx_dev_minor),
		.st_ino = sx->stx_ino,
		.st_nlink = sx->stx_nlink,
		.st_mode = sx->stx_mode,
		.st_uid = sx->stx_uid,
		.st_gid = sx->stx_gid,
		.st_rdev = makedev(sx->stx_rdev_major, sx->stx_rdev_minor),
		.st_size = (off_t)sx->stx_size,
		.st_blksize = (blksize_t)sx->stx_blksize,
		.st_blocks = (blkcnt_t)sx->stx_blocks,
		.st_atim = time_of(&sx->stx_atime),
		.st_mtim = time_of(&sx->stx_mtime),
		.st_ctim = time_of(&sx->stx_ctime),
	};
}

int backing_stat(uint64_t dev, int dirfd, const char *name, struct stat *ret_stat, struct stat_id *ret_id)
{
	struct statx sx;

	if (statx(dirfd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		    STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
		return -errno;
	if (makedev(sx.stx_dev_major, sx.stx_dev_minor) != dev ||
		(*name && (sx.stx_attributes & sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)))
		return -EXDEV;
	fill_stat(&sx, ret_stat);
	if (ret_id)
		*ret_id = (struct stat_id){
			.dev = dev,
			.ino = sx.stx_ino,
			.btime_ns = sx.stx_mask & STATX_BTIME ? ns_of(&sx.stx_btime) : 0,
			.mtime_ns = ns_of(&sx.stx_mtime),
			.ctime_ns = ns_of(&sx.stx_ctime),
			.size = sx.stx_size,
			.mode = sx.stx_mode,
			.nlink = sx.stx_nlink,
		};
	return 0;
}

int backing_open_path(int dirfd, const char *name)
{
	return done(openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
}

int backing_open_at(int dirfd, const char *name, int flags)
{
	return done(openat(dirfd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

int backing_reopen(int path_fd, int flags)
{
	char path[FD_PATH_BYTES];

	/* Not O_NOFOLLOW: the link in /proc is the way to the object. */
	return done(open(fd_path(path_fd, path), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

int backing_dup(int fd)
{
	return done(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

/* ---- names ---- */

int backing_create(int dirfd, const char *name, int flags, mode_t mode, struct caller who)
{
	bool switched = become(who);
	int r = done(openat(dirfd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));

	become_self(switched);
	return r;
}

int backing_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev, struct caller who)
{
	bool switched = become(who);
	int r = done(mknodat(dirfd, name, mode, rdev));

	become_self(switched);
	return r;
}

int backing_mkdir(int dirfd, const char *name, mode_t mode, struct caller who)
{
	bool switched = become(who);
	int r = done(mkdirat(dirfd, name, mode));

	become_self(switched);
	return r;
}

int backing_symlink(const char *target, int dirfd, const char *name, struct caller who)
{
	bool switched = become(who);
	int r = done(symlinkat(target, dirfd, name));

	become_self(switched);
	return r;
}

int backing_link(int path_fd, int dirfd, const char *name)
{
	char path[FD_PATH_BYTES];

	/* AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH. */
	return done(linkat(AT_FDCWD, fd_path(path_fd, path), dirfd, name, AT_SYMLINK_FOLLOW));
}

int backing_unlink(int dirfd, const char *name, bool dir)
{
	return done(unlinkat(dirfd, name, dir ? AT_REMOVEDIR : 0));
}

int backing_rename(int dirfd, const char *name, int new_dirfd, const char *new_name, unsigned flags)
{
	return done(renameat2(dirfd, name, new_dirfd, new_name, flags));
}

ssize_t backing_readlink(int path_fd, char *target, size_t size)
{
	ssize_t n = readlinkat(path_fd, "", target, size);

	return n < 0 ? -errno : n;
}

/* ---- attributes ---- */

int backing_chmod(int path_fd, mode_t mode)
{
	char path[FD_PATH_BYTES];

	return done(chmod(fd_path(path_fd, path), mode));
}

int backing_chown(int path_fd, uid_t uid, gid_t gid)
{
	return done(fchownat(path_fd, "", uid, gid, AT_EMPTY_PATH));
}

int backing_utimens(int path_fd, const struct timespec times[2])
{
	char path[FD_PATH_BYTES];

	/* A symlink too: the link in /proc ends at the symlink itself, which is not followed further. */
	return done(utimensat(AT_FDCWD, fd_path(path_fd, path), times, 0));
}

int backing_truncate(int fd, off_t size)
{
	return done(ftruncate(fd, size));
}

ssize_t backing_xattr_get(int path_fd, const char *name, void *value, size_t size)
{
	char path[FD_PATH_BYTES];
	/* The kernel asks before each first write, and then the file is open. Only O_PATH needs the way
	 * round. */
	ssize_t n = fgetxattr(path_fd, name, value, size);

	if (n < 0 && errno == EBADF)
		n = getxattr(fd_path(path_fd, path), name, value, size);
	return n < 0 ? -errno : n;
}

ssize_t backing_xattr_list(int path_fd, char *names, size_t size)
{
	char path[FD_PATH_BYTES];
	ssize_t n = listxattr(fd_path(path_fd, path), names, size);

	return n < 0 ? -errno : n;
}

int backing_xattr_set(int path_fd, const char *name, const void *value, size_t size, int flags)
{
	char path[FD_PATH_BYTES];

	return done(setxattr(fd_path(path_fd, path), name, value, size, flags));
}

int backing_xattr_remove(int path_fd, const char *name)
{
	char path[FD_PATH_BYTES];

	return done(removexattr(fd_path(path_fd, path), name));
}

/* ---- content ---- */

ssize_t backing_read(int fd, void *bytes, size_t size, off_t at)
{
	return io_pread(fd, bytes, size, at);
}

ssize_t backing_append(int fd, const void *bytes, size_t size, off_t *ret_end)
{
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	ssize_t n = pwritev2(fd, &iov, 1, 0, RWF_APPEND);
	struct stat st;

	if (n < 0)
		return -errno;
	*ret_end = fstat(fd, &st) < 0 ? -1 : st.st_size;
	return n;
}

int backing_allocate(int fd, int mode, off_t at, off_t len)
{
	return done(fallocate(fd, mode, at, len));
}

ssize_t backing_copy(int in, off_t in_at, int out, off_t out_at, size_t size)
{
	ssize_t n = copy_file_range(in, &in_at, out, &out_at, size, 0);

	return n < 0 ? -errno : n;
}

off_t backing_seek(int fd, off_t at, int whence)
{
	off_t r = lseek(fd, at, whence);

	return r < 0 ? -errno : r;
}

int backing_sync(int fd, bool data_only)
{
	return done(data_only ? fdatasync(fd) : fsync(fd));
}

int backing_sync_dir(int dirfd)
{
	cleanup_fd int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : done(fsync(fd));
}

int backing_statfs(int fd, struct statvfs *ret_fs)
{
	return done(fstatvfs(fd, ret_fs));
}
