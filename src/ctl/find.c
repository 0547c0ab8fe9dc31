/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the mount that a command is about. Called by main. Never stats: a stuck mount must not hang the tool
 * that is there to look at it.
 */
#include "find.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/path.h>

static void quote(struct buf *why, const char *path)
{
	path_quote(why, path, strlen(path));
}

static int find_without_path(
	const struct mount_list *list, const char *cwd, const struct mount_entry **ret_mount, struct buf *why)
{
	const struct mount_entry *mount = cwd != NULL ? mount_list_find(list, cwd) : NULL;

	if (mount == NULL && list->count == 0) {
		buf_put_str(why, "there is no syncfs mount");
		return -ENOENT;
	}
	if (mount == NULL && list->count > 1) {
		buf_put_str(why, "there are several syncfs mounts, name a path in one of them:");
		for (size_t i = 0; i < list->count; i++) {
			buf_put_str(why, "\n  ");
			quote(why, list->entries[i].mountpoint);
		}
		return -ENOTUNIQ;
	}
	*ret_mount = mount != NULL ? mount : &list->entries[0];
	return 0;
}

int find_mount(const struct mount_list *list, const char *path, const struct mount_entry **ret_mount,
	char **ret_path, struct buf *why)
{
	cleanup_free char *cwd = getcwd(NULL, 0);
	cleanup_free char *absolute = NULL;
	const struct mount_entry *mount;

	*ret_path = NULL;
	if (path == NULL)
		return find_without_path(list, cwd, ret_mount, why);
	if (cwd == NULL && path[0] != '/') {
		buf_put_str(why, "the current directory is gone, give an absolute path");
		return -ENOENT;
	}
	absolute = path_absolute(cwd != NULL ? cwd : "/", path);
	if (absolute == NULL)
		return -ENOMEM;
	mount = mount_list_find(list, absolute);
	if (mount == NULL) {
		quote(why, absolute);
		buf_put_str(why, " is not in a syncfs mount");
		return -ENOENT;
	}
	*ret_mount = mount;
	if (strcmp(absolute, mount->mountpoint) != 0)
		*ret_path = steal_ptr(&absolute);
	return 0;
}
