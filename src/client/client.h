/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mount from start to end: opens tree, state and journal, mounts, starts the session, serves, and takes
 * all down again. Called by main after daemonizing.
 */
#ifndef SYNCFS_CLIENT_CLIENT_H
#define SYNCFS_CLIENT_CLIENT_H

#include <syncfs/buf.h>

#include "config.h"

struct mount;

/*
 * Runs until the mount ends. ready: called once when the mount is usable, with what mount_stop() wants.
 * 0, or -errno with one sentence in *why, nothing left mounted (also when ready was called and something
 * failed later).
 */
int client_run(const struct client_config *config, void (*ready)(void *arg, struct mount *mount), void *arg,
	struct buf *why);

#endif
