/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a path to a name, as Linux goes: symlinks, `..`, trailing slashes, /proc/self/fd, RESOLVE_*. Called by
 * sysio*.c. Changes nothing.
 */
#include "sysio_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define LINKS_MAX 40 /* MAXSYMLINKS of Linux */
#define FD_LINKS "/proc/self/fd/"

struct route {
	struct sysio *s;
	unsigned how;
	const struct name *start; /* BENEATH: not above this */
	unsigned links;
};

static int walk(struct route *r, struct name *at, const char *path, bool follow, struct spot *ret);

/* The directory above; the root is its own. */
static struct name *above(const struct route *r, struct name *at)
{
	struct node *dir = at->dir;

	if (at == r->s->disk->root)
		return at;
	return dir ? dir->self : NULL;
}

static int start_at(struct route *r, int dirfd, struct name **ret)
{
	const struct open_file *f;

	if (dirfd == AT_FDCWD) {
		*ret = r->s->disk->root;
		return 0;
	}
	f = file_of(r->s, dirfd);
	if (!f)
		return -EBADF;
	if (f->kind != FILE_NODE)
		return -ENOTDIR;
	*ret = f->name;
	return 0;
}

/* What the link of a descriptor leads to; the rest of the path behind it. */
static int follow_fd(struct route *r, const char *path, struct name **ret, const char **ret_rest)
{
	char *end;
	long fd = strtol(path + strlen(FD_LINKS), &end, 10);
	const struct open_file *f = fd >= 0 && fd < INT_MAX ? file_of(r->s, (int)fd) : NULL;

	if (r->how & (SPOT_BENEATH | SPOT_NO_MAGIC | SPOT_NO_SYMLINKS))
		return r->how & SPOT_BENEATH ? -EXDEV : -ELOOP;
	if (!f || f->kind != FILE_NODE || (*end && *end != '/'))
		return -ENOENT;
	*ret = f->name;
	*ret_rest = end;
	return 0;
}

/* The target of a symlink, from the directory that it is in. */
static int follow_link(
	struct route *r, struct name *dir, const struct node *link, bool follow, struct spot *ret)
{
	const char *target = (const char *)link->bytes;

	if (++r->links > LINKS_MAX || (r->how & SPOT_NO_SYMLINKS))
		return -ELOOP;
	return walk(r, dir, target, follow, ret);
}

static int enter_part(struct route *r, struct name **at, const char *text, size_t len)
{
	struct name *next;

	if (len == 1 && text[0] == '.')
		return 0;
	if (len == 2 && text[0] == '.' && text[1] == '.') {
		if ((r->how & SPOT_BENEATH) && *at == r->start)
			return -EXDEV;
		next = above(r, *at);
		if (!next)
			return -ENOENT;
		*at = next;
		return 0;
	}
	next = names_find((*at)->node, text, len);
	if (!next)
		return -ENOENT;
	if (S_ISLNK(next->node->a.mode)) {
		unsigned how = r->how;
		struct spot to;
		int e;

		r->how &= ~SPOT_CREATE;
		e = follow_link(r, *at, next->node, true, &to);
		r->how = how;
		if (e < 0)
			return e;
		if (!to.name)
			return -ENOENT;
		next = to.name;
	}
	*at = next;
	return node_is_dir(next->node) ? 0 : -ENOTDIR;
}

static void set_whole(struct spot *ret, struct name *at, enum last_kind last)
{
	*ret = (struct spot){.parent = at, .last = last, .name = at};
}

/* The last part; text is not empty. */
static int last_part(
	struct route *r, struct name *at, const char *text, size_t len, bool follow, struct spot *ret)
{
	bool slash = text[len] == '/';
	struct name *there = at;

	if (text[0] == '.' && (len == 1 || (len == 2 && text[1] == '.'))) {
		int e = enter_part(r, &there, text, len);

		set_whole(ret, there, len == 1 ? LAST_DOT : LAST_DOTDOT);
		return e;
	}
	if (slash && (r->how & SPOT_CREATE))
		return -EISDIR;
	*ret = (struct spot){.parent = at, .last = LAST_NORMAL, .text = text, .len = len, .slash = slash};
	ret->name = names_find(at->node, text, len);
	if (ret->name && S_ISLNK(ret->name->node->a.mode) && follow) {
		int e = follow_link(r, at, ret->name->node, true, ret);

		if (e < 0)
			return e;
		ret->slash = ret->slash || slash;
	}
	return 0;
}

static int walk(struct route *r, struct name *at, const char *path, bool follow, struct spot *ret)
{
	if (*path == '/') {
		if (strncmp(path, FD_LINKS, strlen(FD_LINKS)) == 0) {
			int e = follow_fd(r, path, &at, &path);

			if (e < 0)
				return e;
			if (!*path) {
				set_whole(ret, at, LAST_DOT);
				return 0;
			}
		} else if (r->how & SPOT_BENEATH) {
			return -EXDEV;
		} else {
			at = r->s->disk->root;
		}
		path += strspn(path, "/");
		if (!*path) {
			set_whole(ret, at, LAST_ROOT);
			return node_is_dir(at->node) ? 0 : -ENOTDIR;
		}
	}
	for (;;) {
		size_t len = strcspn(path, "/"), rest = strspn(path + len, "/");
		int e;

		if (!node_is_dir(at->node))
			return -ENOTDIR;
		if (len > DISK_NAME_MAX)
			return -ENAMETOOLONG;
		if (!path[len + rest])
			return last_part(r, at, path, len, follow, ret);
		e = enter_part(r, &at, path, len);
		if (e < 0)
			return e;
		path += len + rest;
	}
}

int path_spot(struct sysio *s, int dirfd, const char *path, unsigned how, struct spot *ret)
{
	struct route r = {.s = s, .how = how};
	struct name *at = s->disk->root;
	size_t len = strlen(path);
	int e = 0;

	if (!len)
		return -ENOENT;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	if (*path != '/' || (how & SPOT_BENEATH))
		e = start_at(&r, dirfd, &at);
	if (e < 0)
		return e;
	r.start = at;
	return walk(&r, at, path, how & SPOT_FOLLOW, ret);
}

int path_find(struct sysio *s, int dirfd, const char *path, unsigned how, struct name **ret)
{
	struct spot spot;
	int e = path_spot(s, dirfd, path, how, &spot);

	if (e < 0)
		return e;
	/* "link/" is where the link leads to. */
	if (spot.slash && !(how & SPOT_FOLLOW) && spot.name && S_ISLNK(spot.name->node->a.mode))
		return path_find(s, dirfd, path, how | SPOT_FOLLOW, ret);
	if (!spot.name)
		return -ENOENT;
	if (spot.slash && !node_is_dir(spot.name->node))
		return -ENOTDIR;
	*ret = spot.name;
	return 0;
}

int path_find_at(struct sysio *s, int dirfd, const char *path, int at_flags, struct name **ret)
{
	const struct open_file *f;

	if (*path || !(at_flags & AT_EMPTY_PATH))
		return path_find(s, dirfd, path, at_flags & AT_SYMLINK_NOFOLLOW ? 0 : SPOT_FOLLOW, ret);
	if (dirfd == AT_FDCWD) {
		*ret = s->disk->root;
		return 0;
	}
	f = file_of(s, dirfd);
	if (!f)
		return -EBADF;
	if (f->kind != FILE_NODE)
		return -EINVAL;
	*ret = f->name;
	return 0;
}
