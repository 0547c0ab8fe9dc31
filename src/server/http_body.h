/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request's body while it comes in: in memory up to BODY_MEMORY_BYTES, above that in an unlinked file of
 * the directory it is given. One thread at a time.
 */
#ifndef SYNCFS_SERVER_HTTP_BODY_H
#define SYNCFS_SERVER_HTTP_BODY_H

#include <stdint.h>

#include <syncfs/buf.h>

#define BODY_MEMORY_BYTES                                                                                    \
	(1u << 20) /* a typical batch stays in memory; a hundred big ones at once still fit */

struct body {
	struct buf memory; /* all of it, or nothing once it was spilled */
	int fd; /* -1: in memory */
	int dirfd; /* where to spill; borrowed; -1: never */
	uint64_t len;
	void *map; /* made by body_bytes() */
};

void body_init(struct body *b, int dirfd);
void body_fini(struct body *b);
/* 0, -ENOMEM, -EMSGSIZE (too big for memory and nowhere to spill), or what writing says. */
int body_append(struct body *b, const void *bytes, size_t len);
/* All of it, borrowed until body_fini(); a spilled body is mapped. 0 or -errno. */
int body_bytes(struct body *b, const void **ret_bytes, size_t *ret_len);

#endif
