/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: attributes by descriptor, and what only a scan wants to know of an
 * object. */
#ifndef SYNCFS_TREE_ATTR_H
#define SYNCFS_TREE_ATTR_H

#include <syncfs/tree.h>

/* Like tree_stat(); *ret_mount: something is mounted there. */
int tree_stat_mount(int dirfd, const char *name, struct stat_id *ret_stat, bool *ret_mount);

/*
 * Opens what `is` was stat'ed from: for reading where its mode allows that, else O_PATH. The functions below
 * take either. -ESTALE when another object is there now.
 */
int attr_open(int dirfd, const char *name, const struct stat_id *is);
int attr_chmod(int fd, uint32_t mode); /* & 07777 */
/*
 * mode & 0777 beside the set-id and sticky bits that it has, mtime, user.* xattrs (NULL: as they are).
 * Symlinks: mtime only. -EBADMSG when xattr is not packed as change.h says; nothing is changed then.
 */
int attr_apply(int fd, uint32_t mode, int64_t mtime_ns, const struct blob *xattr);
/* The same for a new file, 0600 and without user.* xattrs. */
int attr_apply_new(int fd, uint32_t mode, int64_t mtime_ns, const struct blob *xattr);
/* Copies ACLs and the xattrs outside user.* that the system lets us copy; what it refuses is logged at debug.
 */
int attr_copy_local(int from_fd, int to_fd);

#endif
