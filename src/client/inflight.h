/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batch that is on its way, on disk until it has been settled: after a crash the very same bytes are sent
 * again under the same numbers, so that the server answers from what it did the first time.
 * Format: syncfs-journal(5).
 */
#ifndef SYNCFS_CLIENT_INFLIGHT_H
#define SYNCFS_CLIENT_INFLIGHT_H

#include "outbox.h"

/* Writes it durably as `inflight` in dirfd. -errno. */
int inflight_save(int dirfd, const struct outbox *o, const struct buf *encoded);
/* Reads it back: items without entries (outbox_claim() finds them). -ENOENT none; -EBADMSG torn or damaged:
 * it had not been sent. */
int inflight_load(int dirfd, struct outbox *ret_outbox, struct buf *ret_encoded, uint64_t *ret_last_opno);
int inflight_remove(int dirfd);

#endif
