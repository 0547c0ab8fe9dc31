/* SPDX-License-Identifier: Apache-2.0 */
/* Makes durable here what a batch has told the server. Used by the uploader's thread. */
#ifndef SYNCFS_CLIENT_UPLOAD_SYNC_H
#define SYNCFS_CLIENT_UPLOAD_SYNC_H

#include "outbox.h"

struct tree;

/*
 * Content, attributes and names of all items, before the agreed state says that they are here: otherwise what
 * a power loss takes of them looks like an edit or a removal made by hand. What has moved on meanwhile is not
 * looked for. 0 or -errno.
 */
int upload_sync(const struct tree *t, struct capture *c, const struct outbox *o);
/* After a power loss: marks the writes of a batch that was kept whose files are others now. It takes back
 * what was not synced; the older bytes that are there then are no edit. */
void upload_compare(const struct tree *t, struct capture *c, struct outbox *o);

#endif
