/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging: where objects are made before they become visible and where displaced ones wait. Called by the
 * client's fetch and applier and by the server's store. Names are random, so that nobody can prepare one;
 * nothing here touches the visible tree, and a crash leaves only what stage_sweep() removes.
 */
#include <syncfs/tree.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/path.h>

#include "attr.h"

void stage_name(char *name)
{
	struct id id = id_new();

	id_to_hex(&id, name);
}

int stage_create(const struct tree *t, char *name)
{
	int fd;

	stage_name(name);
	fd = openat(t->stage_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

int stage_mkdir(const struct tree *t, char *name)
{
	stage_name(name);
	return mkdirat(t->stage_fd, name, 0700) < 0 ? -errno : 0;
}

int stage_symlink(const struct tree *t, const char *target, char *name)
{
	size_t len = strlen(target);

	if (len == 0)
		return -EINVAL;
	if (len > SYMLINK_MAX_BYTES)
		return -EMSGSIZE;
	stage_name(name);
	return symlinkat(target, t->stage_fd, name) < 0 ? -errno : 0;
}

/* Nobody else reaches staging, so one open tells all; what cannot be opened (links, modes) is opened as
 * O_PATH. */
static int open_staged(const struct tree *t, const char *name)
{
	int fd = openat(t->stage_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		fd = openat(t->stage_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int stage_set_attr(
	const struct tree *t, const char *name, uint32_t mode, int64_t mtime_ns, const struct blob *xattr)
{
	cleanup_fd int fd = open_staged(t, name);

	return fd < 0 ? fd : attr_apply(fd, mode, mtime_ns, xattr);
}

int stage_set_new(int fd, uint32_t mode, int64_t mtime_ns, const struct blob *xattr, struct stat_id *ret_stat)
{
	int r = attr_apply_new(fd, mode, mtime_ns, xattr);

	return r < 0 ? r : tree_stat(fd, "", ret_stat);
}

/* ---- owners ---- */

/* Ordinary users cannot give files away: that leaves the owner as it is. *ret_done: they are as wanted. */
static int set_owner(int stage_fd, const char *name, uid_t uid, gid_t gid, bool *ret_done)
{
	struct stat st;

	if (fstatat(stage_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*ret_done = true;
	if (st.st_uid == uid && st.st_gid == gid)
		return 0;
	if (fchownat(stage_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	*ret_done = false;
	if (errno != EPERM)
		return -errno;
	if (st.st_gid != gid && fchownat(stage_fd, name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) < 0 &&
		errno != EPERM)
		return -errno;
	log_debug(
		"owner %u:%u of a staged object: not permitted, left as it is", (unsigned)uid, (unsigned)gid);
	return 0;
}

int stage_set_owner(const struct tree *t, const char *name, int dirfd, int64_t uid, int64_t gid)
{
	struct stat dir = {0};
	bool done;

	if ((uid < 0 || gid < 0) && fstat(dirfd, &dir) < 0)
		return -errno;
	return set_owner(t->stage_fd, name, uid < 0 ? dir.st_uid : (uid_t)uid,
		gid < 0 ? dir.st_gid : (gid_t)gid, &done);
}

/* ACLs and bits of old onto the staged object, whose own permission bits stay as they are. */
static int carry_bits(
	const struct tree *t, const char *name, int dirfd, const char *replaced, bool owner_is_same)
{
	cleanup_fd int from = -1, to = -1;
	struct stat_id old, staged;
	uint32_t bits;
	int r = tree_stat(dirfd, replaced, &old);

	if (r == 0)
		r = tree_stat(t->stage_fd, name, &staged);
	if (r < 0)
		return r;
	if ((old.mode & S_IFMT) != (staged.mode & S_IFMT) || S_ISLNK(old.mode) || !tree_kind(old.mode))
		return 0;
	from = attr_open(dirfd, replaced, &old);
	if (from < 0)
		return from;
	to = attr_open(t->stage_fd, name, &staged);
	if (to < 0)
		return to;
	r = attr_copy_local(from, to);
	if (r < 0)
		return r;
	/* Set-id bits are about an owner: never under another one. */
	bits = old.mode & (owner_is_same ? 07000 : 01000);
	/* An ACL that came over has changed the group bits to its mask: set even when they seem right. */
	r = attr_chmod(to, bits | (staged.mode & 0777));
	return r;
}

int stage_carry_over(const struct tree *t, const char *name, int dirfd, const char *replaced)
{
	struct stat old;
	bool done;
	int r;

	if (fstatat(dirfd, replaced, &old, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	r = set_owner(t->stage_fd, name, old.st_uid, old.st_gid, &done);
	return r < 0 ? r : carry_bits(t, name, dirfd, replaced, done);
}

/* ---- removal ---- */

static int remove_at(int dirfd, const char *name, int depth);

static int remove_children(int parent, const char *name, int depth)
{
	cleanup_fd int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	DIR *dir;
	int r = 0;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir)
		return -errno;
	(void)steal_fd(&fd);
	while (r == 0 && (errno = 0, e = readdir(dir))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_at(dirfd(dir), e->d_name, depth + 1);
	}
	if (r == 0 && errno)
		r = -errno;
	(void)closedir(dir);
	return r;
}

/* An ordinary user's own directory may forbid him to empty it. */
static void make_usable(int dirfd, const char *name)
{
	struct stat_id is;
	int fd;

	if (tree_stat(dirfd, name, &is) < 0 || !S_ISDIR(is.mode) || (is.mode & 0700) == 0700)
		return;
	fd = attr_open(dirfd, name, &is);
	if (fd < 0)
		return;
	(void)attr_chmod(fd, 0700);
	(void)close(fd);
}

static int remove_at(int dirfd, const char *name, int depth)
{
	int r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM) /* POSIX says EPERM of a directory */
		return -errno;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTDIR)
		return -EPERM;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (depth > TREE_MAX_DEPTH)
		return -EMSGSIZE;
	make_usable(dirfd, name);
	r = remove_children(dirfd, name, depth);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int stage_drop(const struct tree *t, const char *name)
{
	if (!name_is_valid(name, strlen(name)))
		return -EINVAL;
	return remove_at(t->stage_fd, name, 0);
}

int stage_sweep(const struct tree *t, bool (*keep)(void *arg, const char *name), void *arg)
{
	int fd = openat(t->stage_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *e;
	DIR *dir;
	int first = 0;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		first = -errno;
		(void)close(fd);
		return first;
	}
	while ((errno = 0, e = readdir(dir))) {
		int r;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (keep && keep(arg, e->d_name))
			continue;
		r = remove_at(t->stage_fd, e->d_name, 0);
		if (r < 0 && first == 0)
			first = r;
	}
	if (errno && first == 0)
		first = -errno;
	(void)closedir(dir);
	return first;
}
