/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h in files of .syncfs: two directories of AB/HEX files. Called by the store and its garbage
 * collection. Never touches the visible tree and never believes a name: what is read is hashed.
 */
#include "content.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>

#define COPY_BLOCK_BYTES ((size_t)1 << 20)
#define NAME_BYTES (3 + HASH_HEX_BYTES)

static int open_dir(int at, const char *name)
{
	int fd;

	if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int content_open(const struct tree *tree, struct content_dir *ret_content)
{
	int chunks = open_dir(tree->own_fd, "chunks"), history;

	if (chunks < 0)
		return chunks;
	history = open_dir(tree->own_fd, "history");
	if (history < 0) {
		(void)close(chunks);
		return history;
	}
	*ret_content = (struct content_dir){.tree = tree, .chunks_fd = chunks, .history_fd = history};
	return 0;
}

void content_close(struct content_dir *c)
{
	if (!c->tree)
		return;
	(void)close(c->chunks_fd);
	(void)close(c->history_fd);
	c->tree = NULL;
}

static const char *name_of(const struct hash *hash, char *name)
{
	char hex[HASH_HEX_BYTES];

	hash_to_hex(hash, hex);
	(void)snprintf(name, NAME_BYTES, "%.2s/%s", hex, hex);
	return name;
}

/* Renames a staged file to its name below dirfd, making the directory. -EEXIST when one lies there. */
static int move_in(const struct content_dir *c, const char *stage, int dirfd, const struct hash *hash)
{
	char name[NAME_BYTES], sub[3];

	name_of(hash, name);
	memcpy(sub, name, 2);
	sub[2] = '\0';
	for (int i = 0; i < 2; i++) {
		if (renameat2(c->tree->stage_fd, stage, dirfd, name, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != ENOENT)
			return -errno;
		if (mkdirat(dirfd, sub, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return -ENOENT;
}

static int open_name(int dirfd, const struct hash *hash)
{
	char name[NAME_BYTES];
	int fd = openat(dirfd, name_of(hash, name), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

bool content_chunk_has(const struct content_dir *c, const struct hash *chunk)
{
	char name[NAME_BYTES];

	return faccessat(c->chunks_fd, name_of(chunk, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int content_chunk_put(const struct content_dir *c, const struct hash *chunk, const void *bytes, size_t len)
{
	char stage[STAGE_NAME_BYTES];
	cleanup_fd int fd = -1;
	int r;

	if (content_chunk_has(c, chunk)) {
		cleanup_buf struct buf old = BUF_INIT;
		char name[NAME_BYTES];

		name_of(chunk, name);
		/* Its time starts anew, unless it is damaged. */
		(void)utimensat(c->chunks_fd, name, NULL, AT_SYMLINK_NOFOLLOW);
		if (content_chunk_get(c, chunk, &old) != -EBADMSG)
			return 0;
		if (unlinkat(c->chunks_fd, name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	fd = stage_create(c->tree, stage);
	if (fd < 0)
		return fd;
	r = io_write(fd, bytes, len);
	if (r == 0)
		r = move_in(c, stage, c->chunks_fd, chunk);
	if (r < 0)
		(void)stage_drop(c->tree, stage);
	return r == -EEXIST ? 0 : r;
}

int content_chunk_get(const struct content_dir *c, const struct hash *chunk, struct buf *out)
{
	cleanup_fd int fd = open_name(c->chunks_fd, chunk);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || st.st_size > CHUNK_MAX_BYTES)
		return -EBADMSG;
	return content_range_get(fd, 0, (uint32_t)st.st_size, chunk, out);
}

int content_range_get(int fd, uint64_t offset, uint32_t len, const struct hash *chunk, struct buf *out)
{
	struct hash is;
	ssize_t got;
	int r;

	if (len > CHUNK_MAX_BYTES)
		return -EBADMSG;
	r = buf_reserve(out, len);
	if (r < 0)
		return r;
	got = io_pread(fd, out->data + out->len, len, (off_t)offset);
	if (got < 0)
		return (int)got;
	if ((size_t)got != len)
		return -EBADMSG;
	is = hash_bytes(out->data + out->len, len);
	if (!hash_equal(&is, chunk))
		return -EBADMSG;
	out->len += len;
	return 0;
}

static int sweep_dir(int fd, int64_t before_ns)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		(void)close(fd);
		return -errno;
	}
	while ((e = readdir(dir))) {
		struct stat st;

		if (e->d_name[0] == '.' || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (timespec_to_ns(st.st_mtim) < before_ns)
			(void)unlinkat(fd, e->d_name, 0);
	}
	(void)closedir(dir);
	return 0;
}

int content_chunks_sweep(const struct content_dir *c, int64_t before_ns)
{
	for (int i = 0; i < 256; i++) {
		char name[3];
		int fd, r;

		(void)snprintf(name, sizeof(name), "%02x", (unsigned)i);
		fd = openat(c->chunks_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		r = sweep_dir(fd, before_ns);
		if (r < 0)
			return r;
	}
	return 0;
}

int content_history_open(const struct content_dir *c, const struct hash *content)
{
	return open_name(c->history_fd, content);
}

int content_history_take(const struct content_dir *c, const char *stage_name, const struct hash *content)
{
	int r = move_in(c, stage_name, c->history_fd, content);

	return r == -EEXIST ? stage_drop(c->tree, stage_name) : r;
}

int content_history_drop(const struct content_dir *c, const struct hash *content)
{
	char name[NAME_BYTES];

	return unlinkat(c->history_fd, name_of(content, name), 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int replace_by_copy(const struct content_dir *c, const char *name)
{
	char stage[STAGE_NAME_BYTES];
	cleanup_fd int from = openat(c->history_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), to = -1;
	int r;

	if (from < 0)
		return -errno;
	to = stage_create(c->tree, stage);
	if (to < 0)
		return to;
	r = content_copy(from, to);
	if (r == 0)
		r = tree_sync_fd(to);
	if (r == 0 && renameat(c->tree->stage_fd, stage, c->history_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)stage_drop(c->tree, stage);
	return r;
}

int content_history_own(const struct content_dir *c, const struct hash *content)
{
	char name[NAME_BYTES];
	struct stat st;

	if (fstatat(c->history_fd, name_of(content, name), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return st.st_nlink > 1 ? replace_by_copy(c, name) : 0;
}

int content_copy(int from_fd, int to_fd)
{
	cleanup_free uint8_t *block = NULL;
	off_t at = 0;
	ssize_t n;
	int r;

	while ((n = copy_file_range(from_fd, &at, to_fd, NULL, COPY_BLOCK_BYTES * 64, 0)) > 0)
		;
	if (n == 0)
		return 0;
	if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	block = malloc(COPY_BLOCK_BYTES);
	if (!block)
		return -ENOMEM;
	while ((n = io_pread(from_fd, block, COPY_BLOCK_BYTES, at)) > 0) {
		r = io_pwrite(to_fd, block, (size_t)n, at);
		if (r < 0)
			return r;
		at += n;
	}
	return (int)n;
}
