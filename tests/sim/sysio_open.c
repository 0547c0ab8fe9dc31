/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening on the simulated disk: open, openat, openat2, O_TMPFILE, files of /proc. Called by syncfs through
 * -Wl,--wrap. Gives no rights to anybody and checks none.
 */
#include "sysio_internal.h"

#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sysio_wraps.h"

#ifndef O_LARGEFILE
#define O_LARGEFILE 0
#endif

static int install_name(struct sysio *s, struct name *m, int flags)
{
	struct open_file *f = file_new(s, FILE_NODE, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC));

	f->name = name_get(m);
	m->node->opens++;
	if (file_writes(f))
		m->node->writers++;
	if (!(flags & O_PATH))
		watch_name(m, IN_OPEN, 0);
	return file_install(s, f, FIRST_FD);
}

static int open_found(struct sysio *s, struct name *m, int flags, bool slash)
{
	struct node *n = m->node;
	int r;

	if ((flags & O_CREAT) && node_is_dir(n))
		return -EISDIR;
	if (((flags & O_DIRECTORY) || slash) && !node_is_dir(n))
		return -ENOTDIR;
	if (flags & O_PATH)
		return install_name(s, m, flags);
	if (S_ISLNK(n->a.mode))
		return -ELOOP;
	if (node_is_dir(n) && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
		return -EISDIR;
	if (S_ISSOCK(n->a.mode) || S_ISCHR(n->a.mode) || S_ISBLK(n->a.mode))
		return -ENXIO;
	if (S_ISFIFO(n->a.mode) && (flags & O_ACCMODE) == O_WRONLY)
		return -ENXIO;
	if ((flags & O_TRUNC) && S_ISREG(n->a.mode)) {
		r = node_truncate(n, 0);
		if (r < 0)
			return r;
		watch_name(m, IN_MODIFY, 0);
	}
	return install_name(s, m, flags);
}

static int open_new(struct sysio *s, const struct spot *spot, int flags, mode_t mode)
{
	struct node *dir = spot->parent->node;
	struct name *m;

	if (spot->slash)
		return -EISDIR;
	if (!dir->nlink)
		return -ENOENT;
	if (!disk_has_room(s->disk, DISK_NODE_COST))
		return -ENOSPC;
	mode = S_IFREG | (mode & 07777 & ~s->mask);
	m = disk_add(dir, spot->text, spot->len, node_new(s->disk, mode, 0));
	return install_name(s, m, flags);
}

static int open_unnamed(struct sysio *s, int dirfd, const char *path, int flags, mode_t mode)
{
	struct name *dir, *m;
	int fd, r = path_find(s, dirfd, path, SPOT_FOLLOW, &dir);

	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	if (r < 0)
		return r;
	if (!node_is_dir(dir->node))
		return -ENOTDIR;
	if (!disk_has_room(s->disk, DISK_NODE_COST))
		return -ENOSPC;
	m = name_new(node_new(s->disk, S_IFREG | (mode & 07777 & ~s->mask), 0), "#", 1);
	fd = install_name(s, m, flags & ~O_TMPFILE);
	name_put(m);
	return fd;
}

static int open_text(struct sysio *s, const char *path, int flags)
{
	struct open_file *f;
	char *text;

	if (strcmp(path, "/dev/null") == 0)
		return file_install(s, file_new(s, FILE_NOTHING, flags), FIRST_FD);
	text = special_text(s, path);
	if (!text)
		return -ENOENT;
	f = file_new(s, FILE_TEXT, O_RDONLY);
	f->text = text;
	f->text_len = strlen(text);
	return file_install(s, f, FIRST_FD);
}

static bool is_special(const char *path)
{
	return (strncmp(path, "/proc/", 6) == 0 && strncmp(path, "/proc/self/fd/", 14) != 0) ||
		strcmp(path, "/dev/null") == 0;
}

static int do_open(struct sysio *s, int dirfd, const char *path, int flags, mode_t mode, unsigned how)
{
	struct spot spot;
	int r = disk_fault(s->disk);

	if (r < 0)
		return r;
	if (is_special(path))
		return open_text(s, path, flags);
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return open_unnamed(s, dirfd, path, flags, mode);
	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if (!(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL))
		how |= SPOT_FOLLOW;
	if (flags & O_CREAT)
		how |= SPOT_CREATE;
	r = path_spot(s, dirfd, path, how, &spot);
	if (r < 0)
		return r;
	if (!(flags & O_CREAT)) {
		struct name *m;

		r = path_find(s, dirfd, path, how, &m);
		if (r == 0 && (how & SPOT_NO_SYMLINKS) && S_ISLNK(m->node->a.mode) && !(flags & O_PATH))
			r = -ELOOP;
		return r < 0 ? r : open_found(s, m, flags, false);
	}
	if (!spot.name)
		return open_new(s, &spot, flags, mode);
	if ((flags & O_EXCL) || spot.last != LAST_NORMAL)
		return flags & O_EXCL ? -EEXIST : -EISDIR;
	return open_found(s, spot.name, flags, spot.slash);
}

int __wrap_openat64(int dirfd, const char *path, int flags, ...)
{
	struct sysio *s = sys_enter("openat");
	mode_t mode = 0;
	va_list ap;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(ap, flags);
		mode = (mode_t)va_arg(ap, unsigned);
		va_end(ap);
	}
	if (!s)
		return __real_openat64(dirfd, path, flags, mode);
	return (int)sys_return(do_open(s, dirfd, path, flags, mode, 0));
}

int __wrap_open64(const char *path, int flags, ...)
{
	struct sysio *s = sys_enter("open");
	mode_t mode = 0;
	va_list ap;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(ap, flags);
		mode = (mode_t)va_arg(ap, unsigned);
		va_end(ap);
	}
	if (!s)
		return __real_open64(path, flags, mode);
	return (int)sys_return(do_open(s, AT_FDCWD, path, flags, mode, 0));
}

static unsigned how_of(uint64_t resolve)
{
	return (resolve & RESOLVE_BENEATH ? SPOT_BENEATH : 0) |
		(resolve & RESOLVE_NO_SYMLINKS ? SPOT_NO_SYMLINKS : 0) |
		(resolve & RESOLVE_NO_MAGICLINKS ? SPOT_NO_MAGIC : 0);
}

/* openat2, and the ones of backing.c that have no meaning here (capabilities). */
long __wrap_syscall(long number, ...)
{
	struct sysio *s = sys_of(proc_current());
	const struct open_how *how;
	const char *path;
	long a[6];
	va_list ap;
	int dirfd;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (!s)
		return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == SYS_capget || number == SYS_capset)
		return sys_return(-EPERM);
	if (number != SYS_openat2)
		return sys_return(-ENOSYS);
	(void)sys_enter("openat2");
	dirfd = (int)a[0];
	path = (const char *)a[1];
	how = (const struct open_how *)a[2];
	return sys_return(do_open(s, dirfd, path, (int)how->flags, (mode_t)how->mode, how_of(how->resolve)));
}
