/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounts of this program's type, by /proc/self/mountinfo, and paths as text. Nothing here touches the
 * paths themselves, so a dead or stuck mount cannot hang the caller.
 */
#ifndef SYNCFS_MOUNTINFO_H
#define SYNCFS_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOUNT_TYPE "fuse.syncfs"

struct mount_entry {
	char *mountpoint; /* absolute, unescaped */
	char *source; /* the backing directory */
	int64_t uid; /* who mounted it (user_id=), -1: unknown */
};

struct mount_list {
	struct mount_entry *entries; /* in the kernel's order: a later mount lies over an earlier one */
	size_t count;
};

/* Appends the mounts of MOUNT_TYPE in the text of a mountinfo file. -ENOMEM. Lines that make no sense are
 * skipped. */
int mount_list_parse(const char *text, size_t len, struct mount_list *list);
/* Those of this process. list is empty before. -errno of reading. */
int mount_list_read(struct mount_list *list);
void mount_list_fini(struct mount_list *list);
/* The entry with the longest mountpoint that is path or above it, the last of equal ones; NULL: none. */
const struct mount_entry *mount_list_find(const struct mount_list *list, const char *path);

/* path is dir or below it. Both absolute and normal. */
bool path_is_within(const char *path, const char *dir);
/*
 * path made absolute with cwd (absolute), "." and ".." and double slashes resolved as text, links not
 * followed. Caller frees; NULL: out of memory.
 */
char *path_absolute(const char *cwd, const char *path);

#endif
