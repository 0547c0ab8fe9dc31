/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that change names on the simulated disk, with the errors of Linux in the order of Linux. Called by
 * syncfs through -Wl,--wrap. Rights are not looked at.
 */
#include "sysio_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"
#include "sysio_wraps.h"

/* Where something new may be: -EEXIST, -ENOENT (the directory is removed), -ENOSPC. */
static int spot_new(struct sysio *s, int dirfd, const char *path, bool dir, uint64_t cost, struct spot *ret)
{
	int r = disk_fault(s->disk);

	if (r == 0)
		r = path_spot(s, dirfd, path, 0, ret);
	if (r < 0)
		return r;
	if (ret->name || ret->last != LAST_NORMAL)
		return -EEXIST;
	if (ret->slash && !dir)
		return -ENOENT;
	if (!ret->parent->node->nlink)
		return -ENOENT;
	if (!disk_has_room(s->disk, cost)) {
		sim_count("fault: no room for a name");
		return -ENOSPC;
	}
	return 0;
}

static int make(struct sysio *s, int dirfd, const char *path, mode_t mode, dev_t dev)
{
	struct spot spot;
	int r = spot_new(s, dirfd, path, S_ISDIR(mode), DISK_NODE_COST, &spot);

	if (r < 0)
		return r;
	if (S_ISDIR(mode) && spot.parent->node->nlink >= DISK_LINK_MAX)
		return -EMLINK;
	mode = (mode & S_IFMT) | (mode & 07777 & ~s->mask);
	(void)disk_add(spot.parent->node, spot.text, spot.len, node_new(s->disk, mode, dev));
	return 0;
}

int __wrap_mkdirat(int dirfd, const char *path, mode_t mode)
{
	struct sysio *s = sys_enter("mkdirat");

	if (!s)
		return __real_mkdirat(dirfd, path, mode);
	return (int)sys_return(make(s, dirfd, path, S_IFDIR | (mode & 01777), 0));
}

int __wrap_mkdir(const char *path, mode_t mode)
{
	struct sysio *s = sys_enter("mkdir");

	if (!s)
		return __real_mkdir(path, mode);
	return (int)sys_return(make(s, AT_FDCWD, path, S_IFDIR | (mode & 01777), 0));
}

int __wrap_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
	struct sysio *s = sys_enter("mknodat");

	if (!s)
		return __real_mknodat(dirfd, path, mode, dev);
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	if (S_ISDIR(mode))
		return (int)sys_return(-EPERM);
	return (int)sys_return(make(s, dirfd, path, mode, dev));
}

int __wrap_symlinkat(const char *target, int dirfd, const char *path)
{
	struct sysio *s = sys_enter("symlinkat");
	size_t len = strlen(target);
	struct spot spot;
	struct node *n;
	int r;

	if (!s)
		return __real_symlinkat(target, dirfd, path);
	r = !len ? -ENOENT : len >= PATH_MAX ? -ENAMETOOLONG : 0;
	if (r == 0)
		r = spot_new(s, dirfd, path, false, DISK_NODE_COST, &spot);
	if (r < 0)
		return (int)sys_return(r);
	n = node_new(s->disk, S_IFLNK | 0777, 0);
	(void)node_set_target(n, target, len);
	(void)disk_add(spot.parent->node, spot.text, spot.len, n);
	return 0;
}

static int do_link(struct sysio *s, int from_dirfd, const char *from, int to_dirfd, const char *to, int flags)
{
	struct name *m;
	struct spot spot;
	int at_flags = (flags & AT_EMPTY_PATH) | (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
	int r = path_find_at(s, from_dirfd, from, at_flags, &m);

	if (r == 0)
		r = spot_new(s, to_dirfd, to, false, 0, &spot);
	if (r < 0)
		return r;
	if (node_is_dir(m->node))
		return -EPERM;
	if (!m->node->nlink && strcmp(m->text, "#") != 0) /* O_TMPFILE may get its first name */
		return -ENOENT;
	if (m->node->nlink >= DISK_LINK_MAX)
		return -EMLINK;
	(void)disk_add(spot.parent->node, spot.text, spot.len, node_get(m->node));
	return 0;
}

int __wrap_linkat(int from_dirfd, const char *from, int to_dirfd, const char *to, int flags)
{
	struct sysio *s = sys_enter("linkat");

	if (!s)
		return __real_linkat(from_dirfd, from, to_dirfd, to, flags);
	return (int)sys_return(do_link(s, from_dirfd, from, to_dirfd, to, flags));
}

/* ---- removing ---- */

static int remove_dir(const struct spot *spot)
{
	switch (spot->last) {
	case LAST_DOT:
		return -EINVAL;
	case LAST_DOTDOT:
		return -ENOTEMPTY;
	case LAST_ROOT:
		return -EBUSY;
	default:
		break;
	}
	if (!spot->name)
		return -ENOENT;
	if (!node_is_dir(spot->name->node))
		return -ENOTDIR;
	if (spot->name->node->names.live)
		return -ENOTEMPTY;
	disk_remove(spot->name);
	return 0;
}

static int remove_file(const struct spot *spot)
{
	if (spot->last != LAST_NORMAL)
		return -EISDIR;
	if (!spot->name)
		return -ENOENT;
	if (node_is_dir(spot->name->node))
		return -EISDIR;
	if (spot->slash)
		return -ENOTDIR;
	disk_remove(spot->name);
	return 0;
}

static int do_unlink(struct sysio *s, int dirfd, const char *path, int flags)
{
	struct spot spot;
	int r = disk_fault(s->disk);

	if (r == 0 && (flags & ~AT_REMOVEDIR))
		r = -EINVAL;
	if (r == 0)
		r = path_spot(s, dirfd, path, 0, &spot);
	if (r < 0)
		return r;
	return flags & AT_REMOVEDIR ? remove_dir(&spot) : remove_file(&spot);
}

int __wrap_unlinkat(int dirfd, const char *path, int flags)
{
	struct sysio *s = sys_enter("unlinkat");

	return s ? (int)sys_return(do_unlink(s, dirfd, path, flags)) : __real_unlinkat(dirfd, path, flags);
}

int __wrap_unlink(const char *path)
{
	struct sysio *s = sys_enter("unlink");

	return s ? (int)sys_return(do_unlink(s, AT_FDCWD, path, 0)) : __real_unlink(path);
}

/* ---- renaming ---- */

static bool is_below(const struct name *m, const struct node *dir)
{
	for (const struct name *at = m; at; at = at->dir ? at->dir->self : NULL) {
		if (at->node == dir)
			return true;
	}
	return false;
}

static int check_slashes(const struct spot *from, const struct spot *to, unsigned flags)
{
	if ((flags & RENAME_EXCHANGE) && to->slash && !node_is_dir(to->name->node))
		return -ENOTDIR;
	if (!node_is_dir(from->name->node)) {
		if (from->slash || (!(flags & RENAME_EXCHANGE) && to->slash))
			return -ENOTDIR;
	}
	return 0;
}

static int check_target(const struct spot *from, const struct spot *to, unsigned flags)
{
	bool dir = node_is_dir(from->name->node);

	if (!to->name)
		return to->parent->node->nlink ? 0 : -ENOENT;
	if (flags & RENAME_EXCHANGE)
		return 0;
	if (dir && !node_is_dir(to->name->node))
		return -ENOTDIR;
	if (!dir && node_is_dir(to->name->node))
		return -EISDIR;
	return dir && to->name->node->names.live ? -ENOTEMPTY : 0;
}

static int rename_spots(struct sysio *s, const struct spot *from, const struct spot *to, unsigned flags)
{
	int r;

	if (from->last != LAST_NORMAL)
		return -EBUSY;
	if (to->last != LAST_NORMAL)
		return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	if (!from->name)
		return -ENOENT;
	if ((flags & RENAME_NOREPLACE) && to->name)
		return -EEXIST;
	if ((flags & RENAME_EXCHANGE) && !to->name)
		return -ENOENT;
	r = check_slashes(from, to, flags);
	if (r < 0)
		return r;
	if (is_below(to->parent, from->name->node))
		return -EINVAL;
	if (to->name && is_below(from->parent, to->name->node))
		return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (to->name && to->name->node == from->name->node)
		return 0;
	r = check_target(from, to, flags);
	if (r < 0)
		return r;
	if (!to->name && !disk_has_room(s->disk, 0)) {
		sim_count("fault: no room for a name");
		return -ENOSPC;
	}
	if (flags & RENAME_EXCHANGE)
		disk_exchange(from->name, to->name);
	else
		disk_rename(from->name, to->parent->node, to->text, to->len, to->name);
	return 0;
}

static int do_rename(
	struct sysio *s, int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags)
{
	struct spot a, b;
	int r = disk_fault(s->disk);

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
		flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (r == 0)
		r = path_spot(s, from_dirfd, from, 0, &a);
	if (r == 0)
		r = path_spot(s, to_dirfd, to, 0, &b);
	return r < 0 ? r : rename_spots(s, &a, &b, flags);
}

int __wrap_renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags)
{
	struct sysio *s = sys_enter("renameat2");

	if (!s)
		return __real_renameat2(from_dirfd, from, to_dirfd, to, flags);
	return (int)sys_return(do_rename(s, from_dirfd, from, to_dirfd, to, flags));
}

int __wrap_renameat(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	struct sysio *s = sys_enter("renameat");

	if (!s)
		return __real_renameat(from_dirfd, from, to_dirfd, to);
	return (int)sys_return(do_rename(s, from_dirfd, from, to_dirfd, to, 0));
}

int __wrap_rename(const char *from, const char *to)
{
	struct sysio *s = sys_enter("rename");

	if (!s)
		return __real_rename(from, to);
	return (int)sys_return(do_rename(s, AT_FDCWD, from, AT_FDCWD, to, 0));
}

/* ---- reading names ---- */

static ssize_t do_readlink(struct sysio *s, int dirfd, const char *path, char *buf, size_t size)
{
	struct name *m;
	int r = disk_fault(s->disk);

	if (r == 0)
		r = size ? path_find_at(s, dirfd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, &m) : -EINVAL;
	if (r < 0)
		return r;
	if (!S_ISLNK(m->node->a.mode))
		return *path ? -EINVAL : -ENOENT;
	return (ssize_t)node_read(m->node, buf, size, 0);
}

ssize_t __wrap_readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	struct sysio *s = sys_enter("readlinkat");

	return s ? sys_return(do_readlink(s, dirfd, path, buf, size))
		 : __real_readlinkat(dirfd, path, buf, size);
}

/* From the end of the buffer backwards; the start of the text, NULL when it does not fit. */
static const char *put_path(const struct sysio *s, const struct name *m, char *out, size_t size)
{
	char *at = out + size - 1;

	*at = '\0';
	if (m == s->disk->root)
		*--at = '/';
	for (const struct name *up = m; up && up != s->disk->root; up = up->dir ? up->dir->self : NULL) {
		if ((size_t)(at - out) < up->len + 1u)
			return NULL;
		at -= up->len;
		memcpy(at, up->text, up->len);
		*--at = '/';
	}
	return at;
}

/* out NULL: heap. */
char *__wrap_realpath(const char *path, char *out)
{
	struct sysio *s = sys_enter("realpath");
	char text[PATH_MAX];
	const char *found;
	struct name *m;
	int r;

	if (!s)
		return __real_realpath(path, out);
	r = path_find(s, AT_FDCWD, path, SPOT_FOLLOW, &m);
	found = r < 0 ? NULL : put_path(s, m, text, sizeof(text));
	if (!found) {
		errno = r < 0 ? -r : ENAMETOOLONG;
		return NULL;
	}
	return out ? strcpy(out, found) : strdup(found);
}

char *__wrap_getcwd(char *buf, size_t size)
{
	struct sysio *s = sys_enter("getcwd");

	if (!s)
		return __real_getcwd(buf, size);
	return buf ? strcpy(buf, "/") : strdup("/");
}
