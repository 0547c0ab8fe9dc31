/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents that the server has in its rows and not on its disk (deleted there by hand and wanted back, or
 * rotted): sent again when S has a file of that content and its bytes still are. A thread of its own. Never
 * sends bytes that do not verify, never changes anything here.
 */
#ifndef SYNCFS_CLIENT_SUPPLY_H
#define SYNCFS_CLIENT_SUPPLY_H

#include <stddef.h>

#include <syncfs/hash.h>

struct remote;
struct supply;
struct syncstate;
struct tree;

struct supply_config {
	const struct tree *tree;
	struct syncstate *state;
	struct remote *remote; /* its own connection */
};

int supply_start(const struct supply_config *config, struct supply **ret_supply);
void supply_stop(struct supply *s); /* after who offers; cancels the remote; NULL is fine */
/* What the server wants now, at most WANT_PER_PAGE; takes the place of what was offered and not yet begun.
 * Any thread. */
void supply_offer(struct supply *s, const struct hash *wanted, size_t count);

#endif
