/* SPDX-License-Identifier: Apache-2.0 */
/* Which mount is meant. Text and the kernel's table only: no path is touched. */
#ifndef SYNCFS_CTL_FIND_H
#define SYNCFS_CTL_FIND_H

#include <syncfs/buf.h>
#include <syncfs/mountinfo.h>

/*
 * path  NULL: the mount that the current directory lies in, else the only one
 * ret_mount borrowed from list; ret_path: path made absolute, NULL for a whole mount, caller frees.
 * 0; -ENOENT: none, -ENOTUNIQ: several, both with what to print in *why; -errno of getcwd(), -ENOMEM.
 */
int find_mount(const struct mount_list *list, const char *path, const struct mount_entry **ret_mount,
	char **ret_path, struct buf *why);

#endif
