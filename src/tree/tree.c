/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a tree and reaching what is in it: containment by openat2(2), identity by statx(2), durability,
 * content. Called by the client's backing and applier and by the server's store. Never follows a link and
 * never leaves the file system of the root; below the root it writes nothing but `.syncfs`.
 */
#include <syncfs/tree.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <syncfs/buf.h>
#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/manifest.h>
#include <syncfs/path.h>

#include "attr.h"

#define MARKER_NAME "root"
#define STAGE_DIR "stage"
#define MARKER_MAX_BYTES 64 /* 32 digits and a newline; more is no marker */
#define READ_BLOCK_BYTES ((size_t)262144)
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* ---- identity ---- */

bool stat_id_same_object(const struct stat_id *a, const struct stat_id *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->btime_ns == b->btime_ns;
}

bool stat_id_unchanged(const struct stat_id *a, const struct stat_id *b)
{
	return stat_id_same_object(a, b) && a->size == b->size && a->mtime_ns == b->mtime_ns &&
		a->ctime_ns == b->ctime_ns;
}

static int64_t statx_ns(const struct statx_timestamp *t)
{
	return t->tv_sec * 1000000000 + t->tv_nsec;
}

int tree_stat_mount(int dirfd, const char *name, struct stat_id *ret_stat, bool *ret_mount)
{
	struct statx sx;

	if (statx(dirfd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		    STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
		return -errno;
	*ret_stat = (struct stat_id){
		.dev = makedev(sx.stx_dev_major, sx.stx_dev_minor),
		.ino = sx.stx_ino,
		.btime_ns = sx.stx_mask & STATX_BTIME ? statx_ns(&sx.stx_btime) : 0,
		.mtime_ns = statx_ns(&sx.stx_mtime),
		.ctime_ns = statx_ns(&sx.stx_ctime),
		.size = sx.stx_size,
		.mode = sx.stx_mode,
		.nlink = sx.stx_nlink,
	};
	*ret_mount = sx.stx_attributes & sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT;
	return 0;
}

int tree_stat(int dirfd, const char *name, struct stat_id *ret_stat)
{
	bool mount;

	return tree_stat_mount(dirfd, name, ret_stat, &mount);
}

enum kind tree_kind(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return KIND_FILE;
	case S_IFDIR:
		return KIND_DIR;
	case S_IFLNK:
		return KIND_SYMLINK;
	default:
		return 0;
	}
}

/* ---- containment ---- */

static int open_beneath(int dirfd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags,
		.mode = flags & O_CREAT ? 0600 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* One component without openat2: O_NOFOLLOW holds for the last component, and there is no other. */
static int open_component(int dirfd, const char *name, int flags, uint64_t dev)
{
	cleanup_fd int fd = openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != dev)
		return -EXDEV;
	return steal_fd(&fd);
}

/* For kernels without openat2 (before 5.6, or hidden by a container), and for paths above PATH_MAX. */
static int walk_dir(const struct tree *t, const char *path)
{
	cleanup_fd int fd = -1;
	char name[NAME_MAX_BYTES + 1];

	fd = openat(t->root_fd, ".", DIR_FLAGS);
	if (fd < 0)
		return -errno;
	while (*path) {
		size_t len = strcspn(path, "/");
		int next;

		memcpy(name, path, len);
		name[len] = '\0';
		next = open_component(fd, name, DIR_FLAGS, t->dev);
		if (next < 0)
			return next;
		(void)close(fd);
		fd = next;
		path += len;
		path += *path == '/';
	}
	return steal_fd(&fd);
}

static bool components_are_valid(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		if (!name_is_valid(path, len))
			return false;
		if (!path[len])
			return true;
		path += len + 1;
	}
}

/* Whether to go on without openat2: seccomp profiles of old containers say EPERM for system calls they do not
 * know. */
static bool openat2_is_missing(int error)
{
	return error == -ENOSYS || error == -EPERM;
}

int tree_open_dir(const struct tree *t, const char *path)
{
	int fd;

	if (*path && !components_are_valid(path))
		return -EINVAL;
	fd = open_beneath(t->root_fd, *path ? path : ".", DIR_FLAGS);
	if (openat2_is_missing(fd) || fd == -ENAMETOOLONG)
		return walk_dir(t, path);
	return fd;
}

int tree_open_recovered(const struct tree *t)
{
	int fd;

	if (mkdirat(t->own_fd, "recovered", 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(t->own_fd, "recovered", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int tree_open_at(const struct tree *t, int dirfd, const char *name, int flags)
{
	int fd;

	if (!name_is_valid(name, strlen(name)))
		return -EINVAL;
	flags |= O_NOFOLLOW | O_CLOEXEC;
	fd = open_beneath(dirfd, name, flags);
	return openat2_is_missing(fd) ? open_component(dirfd, name, flags, t->dev) : fd;
}

/* ---- opening ---- */

static int read_marker(int own_fd, struct id *ret_marker)
{
	cleanup_buf struct buf text = BUF_INIT;
	int r = io_read_file(own_fd, MARKER_NAME, MARKER_MAX_BYTES, &text);

	if (r == -ENOENT)
		return -ENODATA;
	if (r == -EMSGSIZE || r == -ELOOP || r == -EISDIR)
		return -EBADMSG;
	if (r < 0)
		return r;
	if (text.len != ID_HEX_BYTES || text.data[text.len - 1] != '\n')
		return -EBADMSG;
	if (id_from_hex((const char *)text.data, text.len - 1, ret_marker) < 0 || id_is_none(ret_marker))
		return -EBADMSG;
	return 0;
}

static int write_marker(int own_fd, struct id *ret_marker)
{
	struct id marker = id_new();
	char hex[ID_HEX_BYTES];
	int r;

	id_to_hex(&marker, hex);
	hex[ID_HEX_BYTES - 1] = '\n';
	r = io_write_file(own_fd, MARKER_NAME, hex, sizeof(hex), 0600);
	if (r < 0)
		return r;
	*ret_marker = marker;
	return 0;
}

/* A directory of ours below dirfd, on the same file system; 0700 whatever it was. */
static int open_own_dir(const struct tree *t, int dirfd, const char *name, bool create)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (create && mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dirfd, name, DIR_FLAGS);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != t->dev)
		return -EXDEV;
	if (st.st_mode & 077)
		(void)fchmod(fd, 0700);
	if (faccessat(fd, ".", W_OK, AT_EACCESS) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* Asked of the file system itself: vfat, NFS and old FUSE ones say EINVAL only when it comes to it. */
static int probe_exchange(int stage_fd, bool *ret_has)
{
	struct id ids[2] = {id_new(), id_new()};
	char a[ID_HEX_BYTES], b[ID_HEX_BYTES];
	int r = 0;

	id_to_hex(&ids[0], a);
	id_to_hex(&ids[1], b);
	if (mkdirat(stage_fd, a, 0700) < 0)
		return -errno;
	if (mkdirat(stage_fd, b, 0700) < 0)
		r = -errno;
	else
		*ret_has = renameat2(stage_fd, a, stage_fd, b, RENAME_EXCHANGE) == 0;
	(void)unlinkat(stage_fd, a, AT_REMOVEDIR);
	(void)unlinkat(stage_fd, b, AT_REMOVEDIR);
	return r;
}

static int open_inside(struct tree *t, unsigned flags)
{
	struct stat_id root;
	int r;

	r = tree_stat(t->root_fd, "", &root);
	if (r < 0)
		return r;
	t->dev = root.dev;
	t->own_fd = open_own_dir(t, t->root_fd, RESERVED_NAME, flags & TREE_MARK);
	/* Without .syncfs this may be the empty directory below a missing mount: nothing is made there. */
	if (t->own_fd < 0)
		return t->own_fd == -ENOENT ? -ENODATA : t->own_fd;
	r = read_marker(t->own_fd, &t->marker);
	if (r == -ENODATA && flags & TREE_MARK)
		r = write_marker(t->own_fd, &t->marker);
	if (r < 0)
		return r;
	t->stage_fd = open_own_dir(t, t->own_fd, STAGE_DIR, true);
	if (t->stage_fd < 0)
		return t->stage_fd;
	return probe_exchange(t->stage_fd, &t->has_exchange);
}

int tree_open(const char *path, unsigned flags, struct tree *ret_tree)
{
	struct tree t = {.root_fd = -1, .own_fd = -1, .stage_fd = -1};
	int r;

	if (flags & TREE_CREATE) {
		r = io_make_dirs(path, 0755);
		if (r < 0)
			return r;
	}
	t.root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t.root_fd < 0)
		return -errno;
	r = open_inside(&t, flags);
	if (r < 0) {
		tree_close(&t);
		return r;
	}
	*ret_tree = t;
	return 0;
}

void tree_close(struct tree *t)
{
	cleanup_fd_(&t->stage_fd);
	cleanup_fd_(&t->own_fd);
	cleanup_fd_(&t->root_fd);
}

/* ---- durability ---- */

int tree_sync_all(const struct tree *t)
{
	return syncfs(t->root_fd) < 0 ? -errno : 0;
}

int tree_sync_fd(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

/* ---- content ---- */

/* Feeds exactly size bytes; -EAGAIN when the file has more or fewer by now. */
static int feed_file(int fd, uint64_t size, struct manifest_builder *b)
{
	/* One byte more than expected, so that the end of a small file costs no second read. */
	size_t block = size < READ_BLOCK_BYTES ? (size_t)size + 1 : READ_BLOCK_BYTES;
	cleanup_free uint8_t *bytes = malloc(block);
	uint64_t at = 0;

	if (!bytes)
		return -ENOMEM;
	for (;;) {
		ssize_t n = io_pread(fd, bytes, block, (off_t)at);
		int r;

		if (n < 0)
			return (int)n;
		if ((uint64_t)n > size - at)
			return -EAGAIN;
		r = n ? manifest_builder_feed(b, bytes, (size_t)n) : 0;
		if (r < 0)
			return r;
		at += (uint64_t)n;
		if ((size_t)n < block)
			return at == size ? 0 : -EAGAIN;
	}
}

int tree_hash_file(int fd, struct content *ret_content, struct blob *ret_manifest, struct stat_id *ret_stat)
{
	struct blob manifest = {0};
	struct manifest_builder *b;
	struct stat_id before, after;
	struct content content;
	int r;

	r = tree_stat(fd, "", &before);
	if (r < 0)
		return r;
	if (!S_ISREG(before.mode))
		return S_ISDIR(before.mode) ? -EISDIR : -EINVAL;
	if (before.size > READ_BLOCK_BYTES)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	b = manifest_builder_new();
	if (!b)
		return -ENOMEM;
	r = feed_file(fd, before.size, b);
	if (r < 0) {
		manifest_builder_free(b);
		return r;
	}
	r = manifest_builder_finish(b, &content, ret_manifest ? &manifest : NULL);
	if (r < 0)
		return r;
	r = tree_stat(fd, "", &after);
	if (r == 0 && !stat_id_unchanged(&before, &after))
		r = -EAGAIN;
	if (r < 0) {
		free(manifest.data);
		return r;
	}
	*ret_content = content;
	if (ret_manifest)
		*ret_manifest = manifest;
	*ret_stat = before;
	return 0;
}
