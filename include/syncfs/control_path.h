/* SPDX-License-Identifier: Apache-2.0 */
/* Where the control socket of a mount lies, for both ends of control.h. */
#ifndef SYNCFS_CONTROL_PATH_H
#define SYNCFS_CONTROL_PATH_H

#include <stddef.h>
#include <stdint.h>

#define CONTROL_NAME_BYTES 24
/* The socket's name in its directory: 16 hex digits of SHA-256 of the absolute mountpoint and ".sock".
 * Returns name. */
char *control_name(const char *mountpoint, char *name); /* name[CONTROL_NAME_BYTES] */

/*
 * The directories to look in, best first: $XDG_RUNTIME_DIR/syncfs; /run/syncfs (which a daemon of root uses
 * without that variable); /run/user/UID/syncfs with the uid of the mount, -1: unknown. which counts from 0.
 * Caller frees; NULL with errno ENOENT after the last, or ENOMEM.
 */
char *control_dir(unsigned which, int64_t uid);

#endif
