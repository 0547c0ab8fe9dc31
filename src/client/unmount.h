/* SPDX-License-Identifier: Apache-2.0 */
/* Taking mounts away: the own one, and one that a syncfs has left that was killed. Any thread. */
#ifndef SYNCFS_CLIENT_UNMOUNT_H
#define SYNCFS_CLIENT_UNMOUNT_H

#include <stdbool.h>

#include <syncfs/mountinfo.h>

/* Of the caller's user, by fusermount3 when it is not root. -EBUSY: somebody is inside. */
int unmount(const char *mountpoint);
/* Detaches the mount if nobody serves it any more, whoever is inside. false: it stays. */
bool unmount_abandoned(const struct mount_entry *mount);

#endif
