/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes that the kernel knows. One backing object = one inode = one FUSE node id, never the sync node. No descriptor is kept per
 * inode: an inode remembers (parent inode, name) and its identity, directories' descriptors are in a bounded LRU; an object that
 * is not where it was answers ESTALE, and the kernel looks the name up again. Unlinked objects that are still known are reached
 * through an open handle or a descriptor taken before the unlink.
 * Lock: inode table (rank 10) for the table, inode (rank 20) for one inode's members. Any thread.
 */
#ifndef SYNCFS_CLIENT_INODE_H
#define SYNCFS_CLIENT_INODE_H

#include <syncfs/tree.h>

struct inode_table;
struct inode;

/* ---- for the applier and the uploader (objects by identity; unknown ones are fine) ---- */

/* Handles open for writing on this object. */
unsigned inode_writers(struct inode_table *t, const struct stat_id *object);
/* Grows with every change of content that came through the mount; 0 for an unknown object. Together with stat tells stable content. */
uint64_t inode_generation(struct inode_table *t, const struct stat_id *object);
/*
 * The applier has displaced this object from its last name (caller holds the tree lock for writing): from now on opens for writing
 * and changes on it answer ESTALE; open read handles go on.
 */
void inode_displaced(struct inode_table *t, const struct stat_id *object);
/* The applier has moved this object (caller holds the tree lock for writing). */
void inode_moved(struct inode_table *t, const struct stat_id *object, const struct stat_id *new_parent, const char *new_name);

#endif
