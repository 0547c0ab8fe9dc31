/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small contents that were staged last, in memory, so that the polls that a commit wakes need not read
 * the files again. Bounded by RECENT_BYTES, oldest out first. Bytes are found by their hash alone, which
 * whoever puts them in has verified. Any thread.
 */
#ifndef SYNCFS_SERVER_RECENT_H
#define SYNCFS_SERVER_RECENT_H

#include <syncfs/buf.h>
#include <syncfs/hash.h>

#define RECENT_BYTES ((size_t)8 << 20)

struct recent;

struct recent *recent_new(void); /* NULL: out of memory */
void recent_free(struct recent *r); /* NULL is fine */
/* Longer ones than the server sends unasked are not taken. */
void recent_put(struct recent *r, const struct hash *content, const void *bytes, size_t len);
/* Appends the len bytes of a content to out: whether they are here. */
bool recent_get(struct recent *r, const struct hash *content, size_t len, struct buf *out);

#endif
