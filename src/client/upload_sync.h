/* SPDX-License-Identifier: Apache-2.0 */
/* Makes durable here what a batch is to tell the server. Used by the uploader's thread. */
#ifndef SYNCFS_CLIENT_UPLOAD_SYNC_H
#define SYNCFS_CLIENT_UPLOAD_SYNC_H

#include "outbox.h"

struct tree;

/*
 * Content, attributes and names of all items that are still in the batch, before the server or the agreed
 * state hear of them: nothing that others have seen of us is taken back by a power loss, or looks like an
 * edit or a removal made by hand then. What has moved on meanwhile is not looked for. 0 or -errno.
 */
int upload_sync(const struct tree *t, struct capture *c, const struct outbox *o);

#endif
