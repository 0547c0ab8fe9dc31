/* SPDX-License-Identifier: Apache-2.0 */
/* Brings the content of one version into an open file, by chunks, each verified. Used by the applier's
 * thread. */
#ifndef SYNCFS_CLIENT_FETCH_H
#define SYNCFS_CLIENT_FETCH_H

#include <syncfs/change.h>

struct remote;

/* fd: empty, writable. On success it holds exactly content. Errors as remote.h, -EBADMSG content that does
 * not verify, -ENOSPC. */
int fetch_content(struct remote *remote, const struct content *content, int fd);

#endif
