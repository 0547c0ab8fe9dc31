/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers about held deletions, see the header. Written by command.c, taken by server.c. The directory is
 * 0700, so only the server's user can write one.
 */
#include "answer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/io.h>

#define FILE_NAME "answer"
#define LOOK_MS 50

static const char *const words[] = {[ANSWER_APPROVE] = "approve\n", [ANSWER_REJECT] = "reject\n"};

static int open_own(const char *root)
{
	cleanup_free char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/.syncfs", root) < 0)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int answer_ask(const char *root, enum answer answer, unsigned wait_ms)
{
	cleanup_fd int dirfd = open_own(root);
	int r;

	if (dirfd < 0)
		return dirfd;
	r = io_write_file(dirfd, FILE_NAME, words[answer], strlen(words[answer]), 0600);
	if (r < 0)
		return r;
	for (unsigned waited = 0; faccessat(dirfd, FILE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
		waited += LOOK_MS) {
		if (waited >= wait_ms)
			return 1;
		(void)poll(NULL, 0, LOOK_MS);
	}
	return 0;
}

enum answer answer_take(const char *root)
{
	cleanup_buf struct buf text = BUF_INIT;
	cleanup_fd int dirfd = open_own(root);
	int r;

	if (dirfd < 0)
		return ANSWER_NONE;
	r = io_read_file(dirfd, FILE_NAME, 16, &text);
	if (r == -ENOENT)
		return ANSWER_NONE;
	(void)unlinkat(dirfd, FILE_NAME, 0);
	for (int a = ANSWER_APPROVE; a <= ANSWER_REJECT && r >= 0; a++)
		if (buf_cstr(&text) && !strcmp(buf_cstr(&text), words[a]))
			return (enum answer)a;
	return ANSWER_NONE;
}
