/* SPDX-License-Identifier: Apache-2.0 */
/* Files that hold a token on their first line, and that nobody else may read. */
#ifndef SYNCFS_SERVER_TOKEN_FILE_H
#define SYNCFS_SERVER_TOKEN_FILE_H

#include <syncfs/buf.h>
#include <syncfs/limits.h>

/* The first line into text[TOKEN_MAX_BYTES + 1]. -EPERM others can read it; -EINVAL no token in it; a
 * sentence in *why. */
int token_file_read(const char *path, char *text, struct buf *why);
/* Makes it, 0600, and its directory. */
int token_file_write(const char *path, const char *text, struct buf *why);

#endif
