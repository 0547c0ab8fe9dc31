/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placing: the only way anything enters or leaves the visible tree. Called by the client's applier and the
 * server's store. Each call looks before (all of the identity) and after (what the rename itself did not
 * move); what turns out to be another object goes back. Never removes a visible object other than an empty
 * directory: it displaces.
 */
#include <syncfs/failpoint.h>
#include <syncfs/tree.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#include "attr.h"

#define BACK_TRIES 4

/* ---- comparing ---- */

/* What a rename leaves alone. A directory's size and times follow its children. */
static bool is_same_content(const struct stat_id *a, const struct stat_id *b)
{
	if (!stat_id_same_object(a, b))
		return false;
	return S_ISDIR(a->mode) || (a->size == b->size && a->mtime_ns == b->mtime_ns);
}

/* Callers that know an identity only leave size and times 0; a ctime of 0 alone is one that is not known. */
static bool is_expected(const struct stat_id *expected, const struct stat_id *now)
{
	if (expected->ctime_ns == 0 && expected->mtime_ns == 0 && expected->size == 0)
		return stat_id_same_object(expected, now);
	if (!is_same_content(expected, now))
		return false;
	return S_ISDIR(now->mode) || expected->ctime_ns == 0 || expected->ctime_ns == now->ctime_ns;
}

/* -ENOENT, -ESTALE, or 0 and what is there right now. */
static int look(int dirfd, const char *name, const struct stat_id *expected, struct stat_id *ret_now)
{
	struct stat_id now;
	int r = tree_stat(dirfd, name, &now);

	if (r < 0)
		return r;
	if (!is_expected(expected, &now))
		return -ESTALE;
	*ret_now = now;
	return 0;
}

/* 0; -ESTALE: another or none; or what kept us from seeing it, which says nothing about who did what. */
static int check_there(int dirfd, const char *name, const struct stat_id *object)
{
	struct stat_id now;
	int r = tree_stat(dirfd, name, &now);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return is_same_content(object, &now) ? 0 : -ESTALE;
}

static bool is_there(int dirfd, const char *name, const struct stat_id *object)
{
	struct stat_id now;

	return tree_stat(dirfd, name, &now) == 0 && is_same_content(object, &now);
}

/* ---- renaming ---- */

/* For file systems whose rename takes no flags: a hard link, or a directory of ours, takes the name first. */
static int rename_to_free(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	struct stat_id is;
	int r = tree_stat(from_dirfd, from, &is);

	if (r < 0)
		return r;
	if (S_ISDIR(is.mode)) {
		if (mkdirat(to_dirfd, to, 0700) < 0)
			return -errno;
		if (renameat(from_dirfd, from, to_dirfd, to) == 0)
			return 0;
		r = -errno;
		(void)unlinkat(to_dirfd, to, AT_REMOVEDIR);
		return r;
	}
	if (linkat(from_dirfd, from, to_dirfd, to, 0) == 0)
		return unlinkat(from_dirfd, from, 0) < 0 ? -errno : 0;
	if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
		return -errno;
	/* No hard links either: look, then rename; the window between the two cannot be closed here. */
	if (faccessat(to_dirfd, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(from_dirfd, from, to_dirfd, to) < 0 ? -errno : 0;
}

struct ends {
	int from_dirfd, to_dirfd;
	const char *from, *to;
	unsigned flags; /* RENAME_NOREPLACE or RENAME_EXCHANGE */
};

static int rename_once(const struct tree *t, const struct ends *e)
{
	if (renameat2(e->from_dirfd, e->from, e->to_dirfd, e->to, e->flags) == 0)
		return 0;
	if (errno == EINVAL && e->flags == RENAME_NOREPLACE && !t->has_exchange)
		return rename_to_free(e->from_dirfd, e->from, e->to_dirfd, e->to);
	return -errno;
}

struct loose {
	int fd;
	uint32_t mode;
};

/* A directory of our own that forbids us to change its entries: opened up, remembered. */
static void loosen(int dirfd, const char *name, struct loose *l)
{
	struct stat_id is;

	if (tree_stat(dirfd, name, &is) < 0 || !S_ISDIR(is.mode) || (is.mode & 0300) == 0300)
		return;
	l->fd = *name ? attr_open(dirfd, name, &is) : dup(dirfd);
	l->mode = is.mode;
	if (l->fd >= 0 && attr_chmod(l->fd, is.mode | 0300) < 0)
		cleanup_fd_(&l->fd);
}

static int rename_checked(const struct tree *t, const struct ends *e)
{
	struct loose loose[4] = {{.fd = -1}, {.fd = -1}, {.fd = -1}, {.fd = -1}};
	int r = rename_once(t, e);

	if (r != -EACCES)
		return r;
	/*
	 * An ordinary user's own directories without write permission: both parents, and, since their `..`
	 * changes, the moved directories themselves. Root never comes here.
	 */
	loosen(e->from_dirfd, "", &loose[0]);
	loosen(e->to_dirfd, "", &loose[1]);
	loosen(e->from_dirfd, e->from, &loose[2]);
	if (e->flags == RENAME_EXCHANGE)
		loosen(e->to_dirfd, e->to, &loose[3]);
	r = rename_once(t, e);
	for (int i = 3; i >= 0; i--) {
		if (loose[i].fd < 0)
			continue;
		if (attr_chmod(loose[i].fd, loose[i].mode) < 0)
			log_debug("mode of a directory could not be set back");
		(void)close(loose[i].fd);
	}
	return r;
}

static int move(const struct tree *t, int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	struct ends e = {from_dirfd, to_dirfd, from, to, RENAME_NOREPLACE};

	return rename_checked(t, &e);
}

/* Without RENAME_EXCHANGE there is a moment in which b is missing. */
static int swap(const struct tree *t, int a_dirfd, const char *a, int b_dirfd, const char *b)
{
	struct ends e = {a_dirfd, b_dirfd, a, b, RENAME_EXCHANGE};
	char parked[STAGE_NAME_BYTES];
	int r;

	if (t->has_exchange)
		return rename_checked(t, &e);
	stage_name(parked);
	r = move(t, b_dirfd, b, t->stage_fd, parked);
	if (r < 0)
		return r;
	r = move(t, a_dirfd, a, b_dirfd, b);
	if (r < 0) {
		(void)move(t, t->stage_fd, parked, b_dirfd, b);
		return r;
	}
	r = move(t, t->stage_fd, parked, a_dirfd, a);
	if (r < 0) {
		(void)move(t, b_dirfd, b, a_dirfd, a);
		(void)move(t, t->stage_fd, parked, b_dirfd, b);
	}
	return r;
}

/* ---- putting ---- */

/*
 * The exchange displaced something that was not expected: it goes back. When somebody replaced ours in the
 * meantime, that newer object must be the one that stays, so it is exchanged until staging holds ours or the
 * older of his.
 */
static void swap_back(const struct tree *t, const char *staged_name, const struct stat_id *staged, int dirfd,
	const char *name)
{
	for (int i = 0; i < BACK_TRIES; i++) {
		if (swap(t, t->stage_fd, staged_name, dirfd, name) < 0)
			return;
		if (is_there(t->stage_fd, staged_name, staged))
			return;
	}
}

static int put_exchange(const struct tree *t, const char *staged_name, const struct stat_id *staged,
	int dirfd, const char *name, const struct stat_id *old)
{
	int r = swap(t, t->stage_fd, staged_name, dirfd, name);

	FAILPOINT("A5x");
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	r = check_there(t->stage_fd, staged_name, old);
	if (r < 0)
		swap_back(t, staged_name, staged, dirfd, name);
	return r;
}

/*
 * Without RENAME_EXCHANGE, for what can have two names: the old object is linked into staging and checked
 * there, then replaced, so that the name is never missing. -EOPNOTSUPP: not that way.
 */
static int put_link(
	const struct tree *t, const char *staged_name, int dirfd, const char *name, const struct stat_id *old)
{
	char kept[STAGE_NAME_BYTES];
	int r;

	stage_name(kept);
	if (linkat(dirfd, name, t->stage_fd, kept, 0) < 0) {
		if (errno == ENOENT)
			return -ESTALE;
		return errno == EPERM || errno == EMLINK ? -EOPNOTSUPP : -errno;
	}
	r = check_there(t->stage_fd, kept, old);
	if (r == 0 && renameat(t->stage_fd, staged_name, dirfd, name) < 0)
		r = -errno;
	else if (r == 0 && renameat(t->stage_fd, kept, t->stage_fd, staged_name) < 0)
		return -errno;
	if (r < 0)
		(void)unlinkat(t->stage_fd, kept, 0);
	return r;
}

static int put_over(const struct tree *t, const char *staged_name, const struct stat_id *staged, int dirfd,
	const char *name, const struct stat_id *expected)
{
	struct stat_id old;
	int r = look(dirfd, name, expected, &old);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (!t->has_exchange && !S_ISDIR(old.mode) && !S_ISDIR(staged->mode)) {
		r = put_link(t, staged_name, dirfd, name, &old);
		if (r != -EOPNOTSUPP)
			return r;
	}
	return put_exchange(t, staged_name, staged, dirfd, name, &old);
}

/*
 * What the caller may remember as ours: the object with the ctime that the rename gave it. Once somebody has
 * changed or replaced it, that is what was staged: its ctime is nowhere on disk, so that the next comparison
 * finds a change.
 */
static void placed(int dirfd, const char *name, const struct stat_id *moved, struct stat_id *ret_placed)
{
	struct stat_id now;

	if (!ret_placed)
		return;
	if (tree_stat(dirfd, name, &now) == 0 && is_same_content(moved, &now))
		*ret_placed = now;
	else
		*ret_placed = *moved;
}

int place_put(const struct tree *t, const char *staged_name, int dirfd, const char *name,
	const struct stat_id *expected, struct stat_id *ret_placed)
{
	struct stat_id staged;
	int r = tree_stat(t->stage_fd, staged_name, &staged);

	if (r < 0)
		return r;
	if (expected) {
		r = put_over(t, staged_name, &staged, dirfd, name, expected);
	} else {
		r = move(t, t->stage_fd, staged_name, dirfd, name);
		FAILPOINT("A5n");
	}
	if (r < 0)
		return r;
	placed(dirfd, name, &staged, ret_placed);
	return 0;
}

/* ---- taking and moving ---- */

/*
 * Moves what is expected to a free name. Another object goes back; when its old name has been taken again by
 * then, it stays whole where it is, since what is at its name is newer.
 */
static int move_expected(const struct tree *t, int from_dirfd, const char *from, int to_dirfd, const char *to,
	const struct stat_id *expected, struct stat_id *ret_was)
{
	struct stat_id was;
	int r = look(from_dirfd, from, expected, &was);

	if (r == 0)
		r = move(t, from_dirfd, from, to_dirfd, to);
	FAILPOINT("A5m");
	if (r < 0)
		return r;
	*ret_was = was;
	r = check_there(to_dirfd, to, &was);
	if (r < 0) {
		int back = move(t, to_dirfd, to, from_dirfd, from);

		if (back < 0)
			log_debug("moving back an unexpected object: %s", err_str(back));
	}
	return r;
}

int place_take(const struct tree *t, int dirfd, const char *name, const struct stat_id *expected,
	const char *staged_name)
{
	struct stat_id was;

	return move_expected(t, dirfd, name, t->stage_fd, staged_name, expected, &was);
}

int place_move(const struct tree *t, int from_dirfd, const char *from, int to_dirfd, const char *to,
	const struct stat_id *expected, struct stat_id *ret_placed)
{
	struct stat_id was;
	int r = move_expected(t, from_dirfd, from, to_dirfd, to, expected, &was);

	if (r < 0)
		return r;
	placed(to_dirfd, to, &was, ret_placed);
	return 0;
}

/* Whether an open directory has entries; one that cannot be read has none that we know of. */
static bool has_children(int parent, const char *name)
{
	cleanup_fd int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	bool found = false;
	DIR *dir;

	if (fd < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir)
		return false;
	(void)steal_fd(&fd);
	while (!found && (e = readdir(dir)))
		found = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	(void)closedir(dir);
	return found;
}

int place_rmdir(const struct tree *t, int dirfd, const char *name, const struct stat_id *expected)
{
	char taken[STAGE_NAME_BYTES];
	struct stat_id now;
	int r = look(dirfd, name, expected, &now);

	if (r < 0)
		return r;
	if (!S_ISDIR(now.mode))
		return -ENOTDIR;
	/* A full directory does not vanish even for a moment; one that fills up now is put back. */
	if (has_children(dirfd, name))
		return -ENOTEMPTY;
	stage_name(taken);
	r = place_take(t, dirfd, name, expected, taken);
	if (r < 0)
		return r;
	if (unlinkat(t->stage_fd, taken, AT_REMOVEDIR) == 0)
		return 0;
	r = errno == EEXIST ? -ENOTEMPTY : -errno;
	if (move(t, t->stage_fd, taken, dirfd, name) < 0)
		log_debug("a directory that filled up stays in staging as %s", taken);
	return r;
}

int place_exchange(const struct tree *t, int a_dirfd, const char *a, const struct stat_id *expected_a,
	int b_dirfd, const char *b, const struct stat_id *expected_b)
{
	struct stat_id was_a, was_b;
	int r = look(a_dirfd, a, expected_a, &was_a);

	if (r == 0)
		r = look(b_dirfd, b, expected_b, &was_b);
	if (r == 0)
		r = swap(t, a_dirfd, a, b_dirfd, b);
	FAILPOINT("A5e");
	if (r < 0)
		return r;
	r = check_there(a_dirfd, a, &was_b);
	if (r == 0)
		r = check_there(b_dirfd, b, &was_a);
	if (r < 0) {
		int back = swap(t, a_dirfd, a, b_dirfd, b);

		if (back < 0)
			log_debug("exchanging back: %s", err_str(back));
	}
	return r;
}

/* ---- links and attributes ---- */

static int link_loosened(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	struct loose l = {.fd = -1};
	int r = linkat(from_dirfd, from, to_dirfd, to, 0) < 0 ? -errno : 0;

	if (r != -EACCES)
		return r;
	loosen(to_dirfd, "", &l);
	if (l.fd < 0)
		return r;
	r = linkat(from_dirfd, from, to_dirfd, to, 0) < 0 ? -errno : 0;
	(void)attr_chmod(l.fd, l.mode);
	(void)close(l.fd);
	return r;
}

int place_link(const struct tree *t, int from_dirfd, const char *from, int to_dirfd, const char *to,
	const struct stat_id *expected)
{
	struct stat_id was, linked;
	int r = look(from_dirfd, from, expected, &was);

	(void)t;
	if (r == 0)
		r = link_loosened(from_dirfd, from, to_dirfd, to);
	FAILPOINT("A5l");
	if (r < 0)
		return r;
	r = tree_stat(to_dirfd, to, &linked);
	if (r == 0 && stat_id_same_object(&was, &linked))
		return 0;
	if (r < 0 && r != -ENOENT) { /* not seen: as if it had not been made */
		(void)unlinkat(to_dirfd, to, 0);
		return r;
	}
	/* Another object, which has a second name now: that is the one to go, while it is not the only one.
	 */
	if (r == 0 && linked.nlink > 1)
		(void)unlinkat(to_dirfd, to, 0);
	return -ESTALE;
}

int place_attr(const struct tree *t, int dirfd, const char *name, const struct stat_id *expected,
	uint32_t mode, int64_t mtime_ns, const struct blob *xattr, struct stat_id *ret_now)
{
	cleanup_fd int fd = -1;
	struct stat_id now;
	int r = tree_stat(dirfd, name, &now);

	(void)t;
	if (r < 0)
		return r;
	if (!stat_id_same_object(expected, &now))
		return -ESTALE;
	fd = attr_open(dirfd, name, &now);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	r = attr_apply(fd, mode, mtime_ns, xattr);
	if (r < 0)
		return r;
	return ret_now ? tree_stat(fd, "", ret_now) : 0;
}
