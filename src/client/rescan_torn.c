/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rescan_torn.h. Called by power.c before the mount serves, and by the scan after it. Removes nothing, and
 * decides nothing about agreed state or queue.
 */
#include "rescan_torn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#define TAIL_BYTES 512 /* a sector */

static bool ends_with_zeros(int fd, uint64_t size)
{
	uint8_t tail[TAIL_BYTES];
	size_t len = size < sizeof(tail) ? (size_t)size : sizeof(tail);
	ssize_t n = io_pread(fd, tail, len, (off_t)(size - len));

	if (n != (ssize_t)len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (tail[i])
			return false;
	}
	return true; /* an empty one, too */
}

bool torn_is(const struct tree *t, const struct scan_entry *e)
{
	cleanup_fd int fd = tree_open_at(t, e->dirfd, e->name, O_RDONLY | O_NONBLOCK);

	return fd >= 0 && ends_with_zeros(fd, e->stat.size);
}

int torn_put_aside(const struct tree *t, const struct scan_entry *e)
{
	cleanup_fd int dirfd = tree_open_recovered(t);
	char kept[STAGE_NAME_BYTES];

	if (dirfd < 0)
		return dirfd;
	stage_name(kept);
	if (renameat(e->dirfd, e->name, dirfd, kept) < 0)
		return -errno;
	log_warn("%s came back empty or torn from the power loss: kept as .syncfs/recovered/%s, the version "
		 "of the server is fetched",
		e->path, kept);
	return tree_sync_fd(dirfd);
}
