/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes on the simulated disk. Called by syncfs through -Wl,--wrap. Namespaces have the rules
 * of Linux: user.* on files and directories only.
 */
#include "sysio_internal.h"

#include <string.h>
#include <sys/inotify.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sysio_wraps.h"

#define NAME_MAX_LEN 255u
#define VALUE_MAX 65536u
#define ALL_MAX 65536u /* of one object, as ext4 with ea_inode, roughly */

/* By descriptor (path NULL) or by path. */
static int reach(struct sysio *s, int fd, const char *path, struct name **ret)
{
	struct open_file *f;
	struct node *n;
	int r = disk_fault(s->disk);

	if (r < 0)
		return r;
	if (path)
		return path_find(s, AT_FDCWD, path, SPOT_FOLLOW, ret);
	r = file_node(s, fd, &f, &n);
	if (r == 0)
		*ret = f->name;
	return r;
}

static bool starts(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0 && name[strlen(with)];
}

static int check_name(const struct node *n, const char *name, bool writes)
{
	size_t len = strlen(name);

	if (!len || len > NAME_MAX_LEN)
		return -ERANGE;
	if (starts(name, "user."))
		return S_ISREG(n->a.mode) || node_is_dir(n) ? 0 : writes ? -EPERM : -ENODATA;
	return starts(name, "trusted.") || starts(name, "security.") ? 0 : -EOPNOTSUPP;
}

static ssize_t get(struct sysio *s, int fd, const char *path, const char *name, void *value, size_t size)
{
	struct name *m = NULL;
	const char *found;
	size_t len;
	int r = reach(s, fd, path, &m);

	if (r == 0)
		r = check_name(m->node, name, false);
	if (r < 0)
		return r;
	found = xattrs_find(m->node->a.xattrs, name, &len);
	if (!found)
		return -ENODATA;
	if (!size)
		return (ssize_t)len;
	if (len > size)
		return -ERANGE;
	if (len)
		memcpy(value, found, len);
	return (ssize_t)len;
}

ssize_t __wrap_getxattr(const char *path, const char *name, void *value, size_t size)
{
	struct sysio *s = sys_enter("getxattr");

	return s ? sys_return(get(s, -1, path, name, value, size)) : __real_getxattr(path, name, value, size);
}

ssize_t __wrap_fgetxattr(int fd, const char *name, void *value, size_t size)
{
	struct sysio *s = sys_enter("fgetxattr");

	return s ? sys_return(get(s, fd, NULL, name, value, size)) : __real_fgetxattr(fd, name, value, size);
}

static ssize_t list(struct sysio *s, int fd, const char *path, char *out, size_t size)
{
	const struct xattrs *x;
	struct name *m;
	size_t used = 0;
	int r = reach(s, fd, path, &m);

	if (r < 0)
		return r;
	x = m->node->a.xattrs;
	for (size_t at = 0; x && at < x->len;) {
		const char *name = x->bytes + at;
		size_t len = strlen(name) + 1;
		uint32_t value;

		if (size && used + len > size)
			return -ERANGE;
		if (size)
			memcpy(out + used, name, len);
		used += len;
		memcpy(&value, name + len, sizeof(value));
		at += len + sizeof(value) + value;
	}
	return (ssize_t)used;
}

ssize_t __wrap_listxattr(const char *path, char *out, size_t size)
{
	struct sysio *s = sys_enter("listxattr");

	return s ? sys_return(list(s, -1, path, out, size)) : __real_listxattr(path, out, size);
}

ssize_t __wrap_flistxattr(int fd, char *out, size_t size)
{
	struct sysio *s = sys_enter("flistxattr");

	return s ? sys_return(list(s, fd, NULL, out, size)) : __real_flistxattr(fd, out, size);
}

static void replace(struct name *m, const char *name, const char *value, size_t len)
{
	struct node *n = m->node;
	struct xattrs *changed = xattrs_with(n->a.xattrs, name, value, len);

	disk_attrs_change(n);
	xattrs_put(n->a.xattrs);
	n->a.xattrs = changed;
	n->a.ctime = disk_now(n->disk);
	watch_name(m, IN_ATTRIB | (node_is_dir(n) ? IN_ISDIR : 0), 0);
}

static int set(
	struct sysio *s, int fd, const char *path, const char *name, const void *value, size_t len, int flags)
{
	struct name *m;
	size_t old;
	bool there;
	int r = reach(s, fd, path, &m);

	if (r == 0)
		r = check_name(m->node, name, true);
	if (r < 0)
		return r;
	if (len > VALUE_MAX)
		return -E2BIG;
	there = xattrs_find(m->node->a.xattrs, name, &old) != NULL;
	if (there && (flags & XATTR_CREATE))
		return -EEXIST;
	if (!there && (flags & XATTR_REPLACE))
		return -ENODATA;
	if (!disk_has_room(s->disk, 0) || (m->node->a.xattrs ? m->node->a.xattrs->len : 0) + len > ALL_MAX)
		return -ENOSPC;
	replace(m, name, len ? value : "", len);
	return 0;
}

int __wrap_setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	struct sysio *s = sys_enter("setxattr");

	return s ? (int)sys_return(set(s, -1, path, name, value, size, flags))
		 : __real_setxattr(path, name, value, size, flags);
}

int __wrap_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	struct sysio *s = sys_enter("fsetxattr");

	return s ? (int)sys_return(set(s, fd, NULL, name, value, size, flags))
		 : __real_fsetxattr(fd, name, value, size, flags);
}

static int drop(struct sysio *s, int fd, const char *path, const char *name)
{
	struct name *m;
	size_t len;
	int r = reach(s, fd, path, &m);

	if (r == 0)
		r = check_name(m->node, name, true);
	if (r < 0)
		return r;
	if (!xattrs_find(m->node->a.xattrs, name, &len))
		return -ENODATA;
	replace(m, name, NULL, 0);
	return 0;
}

int __wrap_removexattr(const char *path, const char *name)
{
	struct sysio *s = sys_enter("removexattr");

	return s ? (int)sys_return(drop(s, -1, path, name)) : __real_removexattr(path, name);
}

int __wrap_fremovexattr(int fd, const char *name)
{
	struct sysio *s = sys_enter("fremovexattr");

	return s ? (int)sys_return(drop(s, fd, NULL, name)) : __real_fremovexattr(fd, name);
}
