/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The union merge after the server has got another history (restored, another epoch, a feed that does not
 * reach back): all that it has now is fetched, what is agreed with that stays agreed, the rest counts as made
 * here, and nothing is deleted until a whole scan has looked at what is here. Steps that survive a crash in
 * between: begin, fetch, finish, end.
 */
#ifndef SYNCFS_CLIENT_REBASE_H
#define SYNCFS_CLIENT_REBASE_H

#include <syncfs/change.h>

struct capture;
struct link;
struct remote;
struct syncstate;

/* From begin to finish: what is agreed and what was told is not to be acted on. Any time. */
bool rebase_is_due(struct syncstate *s);
/* From finish to end: what is missing here comes back, and is not deleted elsewhere. Any time. */
bool rebase_is_merging(struct syncstate *s);

/* What was told is forgotten. No other part runs from here to finish. */
int rebase_begin(struct syncstate *s);
/* Fetches all that the server has into R. -ECANCELED: stopping. */
int rebase_fetch(struct syncstate *s, struct remote *remote, struct link *link, const struct id *client,
	struct cursor *ret_cursor);
/*
 * Compares S with that, under the tree lock; the caller gives up the queue before. `client` is who we are
 * from now on, with operations numbered from 1: the server may have, or have lost, any that were sent before.
 */
int rebase_finish(
	struct syncstate *s, struct capture *capture, const struct id *client, const struct cursor *cursor);
int rebase_end(struct syncstate *s);

#endif
