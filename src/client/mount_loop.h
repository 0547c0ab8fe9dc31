/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that serve the kernel's requests; for mount.c only. */
#ifndef SYNCFS_CLIENT_MOUNT_LOOP_H
#define SYNCFS_CLIENT_MOUNT_LOOP_H

#include <stdbool.h>

struct fuse_session;
struct mount_loop;

/* slow_close: a close waits for a disk or for the network. */
int mount_loop_new(struct fuse_session *session, bool slow_close, struct mount_loop **ret_loop);
void mount_loop_free(struct mount_loop *l);
/*
 * Serves until the device is gone or mount_loop_end(). wake_signal: interrupts a read of the device; its
 * handler is in place, without SA_RESTART, and the caller's thread does not block it. 0 or -errno.
 */
int mount_loop_run(struct mount_loop *l, int wake_signal);
/* From any thread; returns at once. */
void mount_loop_end(struct mount_loop *l);

#endif
