/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token files, see the header. Called by the server at its start and on SIGHUP. Never logs what is in them.
 */
#include "token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

#include <syncfs/io.h>

static int refuse(struct buf *why, int err, const char *path, const char *text)
{
	buf_printf(why, "the token file %s %s", path, text);
	return err;
}

int token_file_read(const char *path, char *text, struct buf *why)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char line[TOKEN_MAX_BYTES + 2];
	struct stat st;
	ssize_t n;
	size_t len;

	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = -errno;

		return refuse(why, err, path, strerror(-err));
	}
	if (!S_ISREG(st.st_mode))
		return refuse(why, -EINVAL, path, "is no file");
	if (st.st_mode & 077)
		return refuse(why, -EPERM, path, "can be read by others: run chmod 600 on it");
	n = io_read(fd, line, sizeof(line) - 1);
	if (n < 0)
		return refuse(why, (int)n, path, strerror((int)-n));
	line[n] = '\0';
	len = strcspn(line, "\r\n");
	while (len && (line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	line[len] = '\0';
	if (!len || len > TOKEN_MAX_BYTES)
		return refuse(why, -EINVAL, path, "has no token on its first line");
	for (size_t i = 0; i < len; i++)
		if (line[i] <= ' ' || line[i] > '~')
			return refuse(why, -EINVAL, path, "has a first line that is no token");
	memcpy(text, line, len + 1);
	explicit_bzero(line, sizeof(line));
	return 0;
}

int token_file_write(const char *path, const char *text, struct buf *why)
{
	cleanup_free char *copy = strdup(path);
	char line[TOKEN_MAX_BYTES + 2];
	size_t len = strlen(text);
	int r;

	if (!copy)
		return -ENOMEM;
	memcpy(line, text, len);
	line[len] = '\n';
	r = io_make_dirs(dirname(copy), 0700);
	if (!r)
		r = io_write_file(AT_FDCWD, path, line, len + 1, 0600);
	explicit_bzero(line, sizeof(line));
	return r < 0 ? refuse(why, r, path, strerror(-r)) : 0;
}
