/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies a file while its writers are held up. Called by upload_read for files that an fsync or a close waits
 * for and that were not the same twice in a row; never talks to the server.
 */
#include "upload_copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <syncfs/io.h>

#include "inode.h"

#define PIECE_BYTES (64u << 20)

static int copy_bytes(int from, int to, uint64_t size)
{
	uint64_t at = 0;

	while (at < size) {
		off_t in = (off_t)at, out = (off_t)at;
		ssize_t n = copy_file_range(from, &in, to, &out, PIECE_BYTES, 0);

		if (n < 0)
			return errno == EINTR ? -EAGAIN : -errno;
		if (n == 0)
			return -EAGAIN; /* shorter than it was */
		at += (uint64_t)n;
	}
	return 0;
}

static int copy_held(int from, int to, struct stat_id *ret_stat)
{
	struct stat_id before, after;
	int r = tree_stat(from, "", &before);

	if (!r && ioctl(to, FICLONE, from) < 0)
		r = copy_bytes(from, to, before.size);
	if (!r)
		r = tree_stat(from, "", &after);
	if (!r && !stat_id_unchanged(&before, &after))
		r = -EAGAIN;
	if (!r)
		*ret_stat = before;
	return r;
}

int upload_copy(const struct tree *t, struct inode_table *inodes, int fd, struct stat_id *ret_stat)
{
	char name[STAGE_NAME_BYTES];
	cleanup_fd int copy = stage_create(t, name);
	struct stat_id object;
	struct inode *held;
	int r;

	if (copy < 0)
		return copy;
	r = stage_drop(t, name);
	if (!r)
		r = tree_stat(fd, "", &object);
	if (r)
		return r;
	held = inode_hold(inodes, &object);
	r = copy_held(fd, copy, ret_stat);
	inode_let_go(inodes, held);
	return r ? r : steal_fd(&copy);
}
