/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories that a run of placing has open, to be made durable at its end. Called by store_place. Never
 * keeps one open when a directory has moved: paths mean others then.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNC_SINGLY 4

void place_dirs_forget(struct place_dirs *d)
{
	for (size_t i = 0; i < d->count; i++) {
		free(d->list[i].path);
		(void)close(d->list[i].fd);
	}
	if (d->count)
		d->sync_all = true;
	d->count = 0;
}

int place_dir(struct place_dirs *d, const char *path)
{
	struct place_slot slot;
	struct stat st;

	for (size_t i = d->count; i > 0; i--) {
		if (strcmp(d->list[i - 1].path, path) == 0)
			return d->list[i - 1].fd;
	}
	if (d->count == PLACE_DIRS_MAX)
		place_dirs_forget(d);
	slot.fd = tree_open_dir(d->tree, path);
	if (slot.fd < 0)
		return slot.fd;
	slot.path = strdup(path);
	if (!slot.path) {
		(void)close(slot.fd);
		return -ENOMEM;
	}
	slot.is_own = fstat(slot.fd, &st) == 0 && st.st_uid == geteuid() && st.st_gid == getegid();
	d->list[d->count++] = slot;
	return slot.fd;
}

bool place_dir_is_own(const struct place_dirs *d, int fd)
{
	for (size_t i = d->count; i > 0; i--) {
		if (d->list[i - 1].fd == fd)
			return d->list[i - 1].is_own;
	}
	return false;
}

int place_dirs_sync(struct place_dirs *d)
{
	int r = 0;

	if (d->sync_all || d->count > SYNC_SINGLY)
		return tree_sync_all(d->tree);
	for (size_t i = 0; r == 0 && i < d->count; i++)
		r = tree_sync_fd(d->list[i].fd);
	return r;
}
