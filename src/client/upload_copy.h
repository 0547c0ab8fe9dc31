/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a file that never rests, for the uploader to read. */
#ifndef SYNCFS_CLIENT_UPLOAD_COPY_H
#define SYNCFS_CLIENT_UPLOAD_COPY_H

#include <syncfs/tree.h>

struct inode_table;

/*
 * A copy of the open file in staging, already without a name: a reflink where the file system can, else all
 * its bytes. Writers through the mount are held up meanwhile. ret_stat: the file as it was then. The copy's
 * descriptor (the caller closes it), -EAGAIN: changed beside the mount, or -errno (-ENOSPC).
 */
int upload_copy(const struct tree *t, struct inode_table *inodes, int fd, struct stat_id *ret_stat);

#endif
