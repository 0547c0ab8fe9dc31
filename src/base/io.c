/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole reads and writes and small files, for state files, journals and settings. Called from
 * any thread. Never leaves a half-written file under the final name, and never follows a
 * symbolic link that someone has put where a temp file goes.
 */
#include <syncfs/io.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <syncfs/id.h>

/* One read(2) or write(2) moves at most this (read(2), NOTES: 0x7ffff000). */
#define CALL_MAX_BYTES ((size_t)0x7ffff000)
#define READ_STEP_BYTES ((size_t)65536)
#define TEMP_TRIES 8

void cleanup_fd_(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

static size_t call_len(size_t len)
{
	return len < CALL_MAX_BYTES ? len : CALL_MAX_BYTES;
}

ssize_t io_read(int fd, void *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (uint8_t *)bytes + done, call_len(len - done));

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t io_pread(int fd, void *bytes, size_t len, off_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)bytes + done, call_len(len - done), at + (off_t)done);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int io_write(int fd, const void *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const uint8_t *)bytes + done, call_len(len - done));

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			return -ENOSPC;
		done += (size_t)n;
	}
	return 0;
}

int io_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const uint8_t *)bytes + done, call_len(len - done), at + (off_t)done);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			return -ENOSPC;
		done += (size_t)n;
	}
	return 0;
}

int io_read_file(int dirfd, const char *path, size_t max, struct buf *out)
{
	cleanup_fd int fd = -1;
	size_t total = 0;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	for (;;) {
		/* One byte over the limit is asked for, so that a file of exactly max still passes. */
		size_t room = max - total, step = room < READ_STEP_BYTES ? room + 1 : READ_STEP_BYTES;
		ssize_t n;
		int r;

		r = buf_reserve(out, step);
		if (r < 0)
			return r;
		n = io_read(fd, out->data + out->len, step);
		if (n < 0 || (size_t)n > room) {
			out->len -= total;
			return n < 0 ? (int)n : -EMSGSIZE;
		}
		out->len += (size_t)n;
		total += (size_t)n;
		if ((size_t)n < step)
			return 0;
	}
}

/* "dir/name" -> "dir/.RANDOM.tmp", so that the rename stays inside one directory. */
static int open_temp(int dirfd, const char *path, mode_t mode, char *temp, size_t size, int *ret_fd)
{
	const char *slash = strrchr(path, '/');
	int dir_len = slash ? (int)(slash - path) + 1 : 0;

	for (int i = 0; i < TEMP_TRIES; i++) {
		struct id id = id_new();
		char hex[ID_HEX_BYTES];
		int fd;

		if ((size_t)snprintf(temp, size, "%.*s.%s.tmp", dir_len, path, id_to_hex(&id, hex)) >= size)
			return -ENAMETOOLONG;
		fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int sync_parent(int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	cleanup_fd int fd = -1;

	if (!slash)
		snprintf(dir, sizeof(dir), ".");
	else if ((size_t)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path) + 1, path) >= sizeof(dir))
		return -ENAMETOOLONG;
	fd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int io_write_file(int dirfd, const char *path, const void *bytes, size_t len, mode_t mode)
{
	char temp[PATH_MAX];
	cleanup_fd int fd = -1;
	int r;

	r = open_temp(dirfd, path, mode, temp, sizeof(temp), &fd);
	if (r < 0)
		return r;
	r = io_write(fd, bytes, len);
	/* The mode asked for, whatever the umask: a secret stays 0600, a shared file 0644. */
	if (r == 0 && fchmod(fd, mode & 07777) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, temp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dirfd, temp, 0);
		return r;
	}
	return sync_parent(dirfd, path);
}

static int make_dir(const char *path, mode_t mode)
{
	struct stat st;
	int r;

	if (mkdir(path, mode) == 0)
		return 0;
	r = -errno;
	/* An existing directory may also show as EROFS or EACCES of its parent. */
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	return r;
}

int io_make_dirs(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len == 0)
		return -ENOENT;
	if (len >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, len + 1);
	for (char *p = part + 1; *p; p++) {
		int r;

		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		r = make_dir(part, mode);
		*p = '/';
		if (r < 0)
			return r;
	}
	return make_dir(part, mode);
}
