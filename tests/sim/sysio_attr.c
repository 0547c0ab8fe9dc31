/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes on the simulated disk: stat, modes, owners, times, file system sizes. Called by syncfs through
 * -Wl,--wrap. Modes and owners are kept, not enforced.
 */
#include "sysio_internal.h"

#include <string.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sysio_wraps.h"

#define NO_LIMIT_BYTES (UINT64_C(1) << 40) /* what statvfs says of a disk without a limit */

/* ---- looking ---- */

static int find_at(struct sysio *s, int dirfd, const char *path, int flags, struct name **ret)
{
	int r = disk_fault(s->disk);

	return r < 0 ? r : path_find_at(s, dirfd, path, flags, ret);
}

static int do_stat(struct sysio *s, int dirfd, const char *path, int flags, struct stat *st)
{
	struct name *m;
	int r = find_at(s, dirfd, path, flags, &m);

	if (r == 0)
		node_stat(m->node, st);
	return r;
}

int __wrap_stat64(const char *path, struct stat *st)
{
	struct sysio *s = sys_enter("stat");

	return s ? (int)sys_return(do_stat(s, AT_FDCWD, path, 0, st)) : __real_stat64(path, st);
}

int __wrap_fstatat64(int dirfd, const char *path, struct stat *st, int flags)
{
	struct sysio *s = sys_enter("fstatat");

	return s ? (int)sys_return(do_stat(s, dirfd, path, flags, st))
		 : __real_fstatat64(dirfd, path, st, flags);
}

int __wrap_fstat64(int fd, struct stat *st)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("fstat");
	const struct open_file *f;

	if (!s)
		return __real_fstat64(fd, st);
	f = file_of(s, fd);
	if (!f)
		return (int)sys_return(-EBADF);
	if (f->kind != FILE_NODE) {
		*st = (struct stat){.st_mode = S_IFREG | 0444, .st_nlink = 1};
		return 0;
	}
	return (int)sys_return(do_stat(s, fd, "", AT_EMPTY_PATH, st));
}

static struct statx_timestamp stamp(int64_t ns)
{
	struct statx_timestamp t = {.tv_sec = ns / 1000000000};
	int64_t rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		t.tv_sec--;
	}
	t.tv_nsec = (uint32_t)rest;
	return t;
}

static void fill_statx(const struct sysio *s, const struct name *m, struct statx *sx)
{
	const struct node *n = m->node;
	struct stat st;

	node_stat(n, &st);
	memset(sx, 0, sizeof(*sx));
	sx->stx_mask = STATX_BASIC_STATS | STATX_BTIME;
	sx->stx_blksize = DISK_BLOCK;
	sx->stx_attributes_mask = STATX_ATTR_MOUNT_ROOT;
	sx->stx_attributes = m == s->disk->root ? STATX_ATTR_MOUNT_ROOT : 0;
	sx->stx_nlink = n->nlink;
	sx->stx_uid = n->a.uid;
	sx->stx_gid = n->a.gid;
	sx->stx_mode = (uint16_t)n->a.mode;
	sx->stx_ino = n->ino;
	sx->stx_size = (uint64_t)st.st_size;
	sx->stx_blocks = (uint64_t)st.st_blocks;
	sx->stx_atime = stamp(n->a.atime);
	sx->stx_mtime = stamp(n->a.mtime);
	sx->stx_ctime = stamp(n->a.ctime);
	sx->stx_btime = stamp(n->btime);
	sx->stx_rdev_major = major(n->rdev);
	sx->stx_rdev_minor = minor(n->rdev);
	sx->stx_dev_major = major(s->disk->dev);
	sx->stx_dev_minor = minor(s->disk->dev);
}

int __wrap_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *sx)
{
	struct sysio *s = sys_enter("statx");
	struct name *m;
	int r;

	if (!s)
		return __real_statx(dirfd, path, flags, mask, sx);
	r = find_at(s, dirfd, path, flags, &m);
	if (r == 0)
		fill_statx(s, m, sx);
	return (int)sys_return(r);
}

int __wrap_fstatvfs64(int fd, struct statvfs *fs)
{
	struct sysio *s = sys_enter("fstatvfs");
	uint64_t room, used;
	int r;

	if (!s)
		return __real_fstatvfs64(fd, fs);
	r = file_of(s, fd) ? disk_fault(s->disk) : -EBADF;
	if (r < 0)
		return (int)sys_return(r);
	used = s->disk->used;
	room = s->disk->room == UINT64_MAX ? used + NO_LIMIT_BYTES : s->disk->room;
	*fs = (struct statvfs){
		.f_bsize = DISK_BLOCK,
		.f_frsize = DISK_BLOCK,
		.f_blocks = room / DISK_BLOCK,
		.f_bfree = room > used ? (room - used) / DISK_BLOCK : 0,
		.f_namemax = DISK_NAME_MAX,
	};
	fs->f_bavail = fs->f_bfree;
	fs->f_files = 1000000;
	fs->f_ffree = fs->f_favail = 500000;
	return 0;
}

static int do_access(struct sysio *s, int dirfd, const char *path, int flags)
{
	struct name *m;

	return find_at(s, dirfd, path, flags & AT_SYMLINK_NOFOLLOW, &m);
}

int __wrap_access(const char *path, int mode)
{
	struct sysio *s = sys_enter("access");

	return s ? (int)sys_return(do_access(s, AT_FDCWD, path, 0)) : __real_access(path, mode);
}

int __wrap_faccessat(int dirfd, const char *path, int mode, int flags)
{
	struct sysio *s = sys_enter("faccessat");

	return s ? (int)sys_return(do_access(s, dirfd, path, flags))
		 : __real_faccessat(dirfd, path, mode, flags);
}

/* ---- changing ---- */

static void attrs_changed(struct name *m)
{
	m->node->a.ctime = disk_now(m->node->disk);
	watch_name(m, IN_ATTRIB | (node_is_dir(m->node) ? IN_ISDIR : 0), 0);
	watch_node(m->node, IN_ATTRIB);
}

static int set_mode(struct name *m, mode_t mode)
{
	if (S_ISLNK(m->node->a.mode))
		return -EOPNOTSUPP;
	disk_attrs_change(m->node);
	m->node->a.mode = (m->node->a.mode & S_IFMT) | (mode & 07777);
	attrs_changed(m);
	return 0;
}

static int do_chmod(struct sysio *s, int dirfd, const char *path, mode_t mode, int flags)
{
	struct name *m;
	int r = find_at(s, dirfd, path, flags, &m);

	return r < 0 ? r : set_mode(m, mode);
}

int __wrap_chmod(const char *path, mode_t mode)
{
	struct sysio *s = sys_enter("chmod");

	return s ? (int)sys_return(do_chmod(s, AT_FDCWD, path, mode, 0)) : __real_chmod(path, mode);
}

int __wrap_fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
	struct sysio *s = sys_enter("fchmodat");

	return s ? (int)sys_return(do_chmod(s, dirfd, path, mode, flags))
		 : __real_fchmodat(dirfd, path, mode, flags);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("fchmod");
	struct open_file *f;
	struct node *n;
	int r;

	if (!s)
		return __real_fchmod(fd, mode);
	r = file_node(s, fd, &f, &n);
	if (r == 0)
		r = disk_fault(s->disk);
	if (r == 0)
		r = set_mode(f->name, mode);
	return (int)sys_return(r);
}

int __wrap_fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
	struct sysio *s = sys_enter("fchownat");
	struct name *m;
	int r;

	if (!s)
		return __real_fchownat(dirfd, path, uid, gid, flags);
	r = find_at(s, dirfd, path, flags, &m);
	if (r < 0)
		return (int)sys_return(r);
	disk_attrs_change(m->node);
	if (uid != (uid_t)-1)
		m->node->a.uid = uid;
	if (gid != (gid_t)-1)
		m->node->a.gid = gid;
	if (S_ISREG(m->node->a.mode))
		m->node->a.mode &= ~(mode_t)06000;
	attrs_changed(m);
	return 0;
}

static bool is_time(const struct timespec *t)
{
	return t->tv_nsec == UTIME_NOW || t->tv_nsec == UTIME_OMIT ||
		(t->tv_nsec >= 0 && t->tv_nsec < 1000000000);
}

static void set_time(const struct timespec *t, int64_t now, int64_t *time)
{
	if (t->tv_nsec == UTIME_OMIT)
		return;
	*time = t->tv_nsec == UTIME_NOW ? now : t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

int __wrap_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
	static const struct timespec now_times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
	struct sysio *s = sys_enter("utimensat");
	struct name *m;
	int64_t now;
	int r;

	if (!s)
		return __real_utimensat(dirfd, path, times, flags);
	if (!times)
		times = now_times;
	if (!is_time(&times[0]) || !is_time(&times[1]))
		return (int)sys_return(-EINVAL);
	if (times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT)
		return 0;
	r = find_at(s, dirfd, path, flags, &m);
	if (r < 0)
		return (int)sys_return(r);
	disk_attrs_change(m->node);
	now = disk_now(s->disk);
	set_time(&times[0], now, &m->node->a.atime);
	set_time(&times[1], now, &m->node->a.mtime);
	attrs_changed(m);
	return 0;
}

/* ---- of the process ---- */

mode_t __wrap_umask(mode_t mask)
{
	struct sysio *s = sys_of(proc_current());
	mode_t old;

	if (!s)
		return __real_umask(mask);
	old = s->mask;
	s->mask = mask & 0777;
	return old;
}

uid_t __wrap_getuid(void)
{
	return sys_of(proc_current()) ? 0 : __real_getuid();
}

uid_t __wrap_geteuid(void)
{
	return sys_of(proc_current()) ? 0 : __real_geteuid();
}

gid_t __wrap_getegid(void)
{
	return sys_of(proc_current()) ? 0 : __real_getegid();
}

int __wrap_setfsuid(uid_t uid)
{
	return sys_of(proc_current()) ? 0 : __real_setfsuid(uid);
}

int __wrap_setfsgid(gid_t gid)
{
	return sys_of(proc_current()) ? 0 : __real_setfsgid(gid);
}

int __wrap_unshare(int flags)
{
	return sys_of(proc_current()) ? 0 : __real_unshare(flags);
}
