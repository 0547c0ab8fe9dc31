/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What client and server last agreed on (S), what the server has told and is not applied yet (R), and the
 * cursor: SQLite, the only door to it in the client. Pending local changes are not here but in the journal.
 * Writes happen between syncstate_begin() and syncstate_commit() by one thread at a time (the call waits for
 * its turn). Reads marked "any time" use a connection of their own and see what has been committed; all
 * others see the running transaction.
 */
#ifndef SYNCFS_CLIENT_SYNCSTATE_H
#define SYNCFS_CLIENT_SYNCSTATE_H

#include <sys/types.h>

#include <syncfs/change.h>
#include <syncfs/tree.h>

struct syncstate;

/*
 * One node of S: the agreed state, its names being where the object lies in the backing directory (l 0: the
 * server has it elsewhere), and what stat said right after the two were equal.
 */
struct base_row {
	struct node_state state;
	struct stat_id disk;
};

void base_row_fini(struct base_row *row);

/* path absolute. -EBADMSG: damaged (moved aside as NAME.damaged, a new one is made, *ret_is_new is set). */
int syncstate_open(const char *path, struct syncstate **ret_state, bool *ret_is_new);
void syncstate_close(struct syncstate *s);

int syncstate_begin(struct syncstate *s, bool durable); /* durable: on disk when the commit returns */
int syncstate_commit(struct syncstate *s);
void syncstate_rollback(struct syncstate *s);
int syncstate_end(struct syncstate *s, int r); /* commits when r is 0, else rolls back and gives r */

/* ---- S ---- */

int syncstate_base_get(struct syncstate *s, const struct id *node, struct base_row *ret_row); /* -ENOENT */
int syncstate_base_put(
	struct syncstate *s, const struct base_row *row); /* its names replace those there were */
int syncstate_base_delete(struct syncstate *s, const struct id *node);
int syncstate_name_get(
	struct syncstate *s, const struct id *parent, const char *name, struct id *ret_node); /* -ENOENT */

/* The same, any time. */
int syncstate_peek_base(struct syncstate *s, const struct id *node, struct base_row *ret_row);
bool syncstate_peek_has_base(struct syncstate *s, const struct id *node);
int syncstate_peek_object(
	struct syncstate *s, const struct stat_id *object, struct id *ret_node); /* by ino and btime */
int syncstate_peek_name(struct syncstate *s, const struct id *parent, const char *name, struct id *ret_node);
int syncstate_peek_parent(struct syncstate *s, const struct id *node, struct id *ret_parent,
	char **ret_name); /* its first name */
/*
 * Within begin and commit: the server has said at seq that our removal of the node's last name is done, so S
 * forgets the node. An answer to the poll that is on its way may still tell of it as it was before.
 */
int syncstate_gone(struct syncstate *s, const struct id *node, uint64_t seq);
uint64_t syncstate_gone_at(
	struct syncstate *s, const struct id *node); /* 0: never, or the cursor is past it */
/* Every name in a directory with what scans compare. fn: 0 to go on. The row is only valid during the call.
 */
struct child_row {
	const char *name;
	struct id node;
	enum kind kind;
	uint32_t mode;
	int64_t mtime_ns;
	struct stat_id disk;
};
int syncstate_peek_children(struct syncstate *s, const struct id *parent,
	int (*fn)(void *arg, const struct child_row *row), void *arg);
int64_t syncstate_peek_count(struct syncstate *s); /* nodes in S */
/* The first nodes of S behind `after` (ID_NONE: of all), up to max; how many. */
ssize_t syncstate_peek_nodes(struct syncstate *s, const struct id *after, struct id *nodes, size_t max);
/* Some of the files in S behind *after (ID_NONE: the first), which moves on. fn: 0 to go on. 1: there may be
 * more, 0: that was all. */
int syncstate_peek_files(struct syncstate *s, struct id *after,
	int (*fn)(void *arg, const struct id *node, const struct hash *content), void *arg);

/* ---- R ---- */

int syncstate_remote_put(struct syncstate *s, const struct node_state *node);
int syncstate_remote_delete(struct syncstate *s, const struct id *node);
int syncstate_remote_get(
	struct syncstate *s, const struct id *node, struct node_state *ret_node); /* -ENOENT */
int syncstate_peek_remote(struct syncstate *s, const struct id *node, struct node_state *ret_node);
/* Who is at parent/name in R; -ENOENT. */
int syncstate_peek_remote_name(
	struct syncstate *s, const struct id *parent, const char *name, struct id *ret_node);
/* Those with seq > after, ascending, at most max. The caller frees the array and runs node_state_fini() on
 * each. */
int syncstate_peek_remotes(
	struct syncstate *s, uint64_t after, size_t max, struct node_state **ret_nodes, size_t *ret_count);
int64_t syncstate_peek_remote_count(struct syncstate *s);
bool syncstate_peek_has_remote(struct syncstate *s); /* at the cost of one row, however many there are */

/* ---- the rest ---- */

int syncstate_cursor_put(struct syncstate *s, const struct cursor *c);
int syncstate_peek_cursor(struct syncstate *s, struct cursor *ret_cursor); /* -ENOENT */
/* Of the last answer to a batch: S knows of that history up to there, however far the feed has been read. */
int syncstate_acked_put(struct syncstate *s, const struct cursor *c);
int syncstate_peek_acked(struct syncstate *s, struct cursor *ret_cursor); /* -ENOENT */
int syncstate_meta_put(struct syncstate *s, const char *key, const void *value, size_t len);
int syncstate_peek_meta(
	struct syncstate *s, const char *key, void *ret_value, size_t cap, size_t *ret_len); /* -ENOENT */
/* Goes on as a client that the server does not know: no operation of it has a number yet. */
int syncstate_client_put(struct syncstate *s, const struct id *client);
/* Forgets R, the cursors, and what the applier was about to do. */
int syncstate_forget_told(struct syncstate *s);
/* S as well: what is left merges by content. */
int syncstate_forget_all(struct syncstate *s);
/* Nodes whose directory is in S no more leave it, too, and names in such. */
int syncstate_forget_orphans(struct syncstate *s);

/* What the applier is about to put in place or take out, until the transaction that says it is done. */
struct apply_intent {
	struct id node;
	char stage_name[STAGE_NAME_BYTES]; /* without a staged object only a key */
	struct stat_id staged; /* ino, btime of what was staged; ino 0: names, attributes or a removal */
	struct node_state state; /* what it is to become; borrowed */
};
int syncstate_intent_put(struct syncstate *s, const struct apply_intent *i);
int syncstate_intents_clear(struct syncstate *s);
int syncstate_intents(struct syncstate *s, int (*fn)(void *arg, const struct apply_intent *i), void *arg);

/*
 * Nodes of ours that became others: records of the journal name them by what they were. put and clear belong
 * into a transaction.
 */
int syncstate_alias_put(struct syncstate *s, const struct id *node, const struct id *became);
int syncstate_aliases(
	struct syncstate *s, int (*fn)(void *arg, const struct id *node, const struct id *became), void *arg);
int syncstate_aliases_clear(struct syncstate *s);

/*
 * The content that lies here of the node is at the server under another one, `copy`, since its commit seq.
 * Until that is here, too, these are the only bytes of it that a server put back to an older state cannot
 * take along.
 */
int syncstate_kept_put(struct syncstate *s, const struct id *node, const struct id *copy, uint64_t seq);
int syncstate_kept_delete(struct syncstate *s, const struct id *node);
/* Any time; -ENOENT. */
int syncstate_peek_kept(struct syncstate *s, const struct id *node, struct id *ret_copy, uint64_t *ret_seq);

/* An operation that the server refused for ever. */
int syncstate_dead_letter_put(struct syncstate *s, uint64_t opno, const char *what, const char *why);
int64_t syncstate_peek_dead_letters(struct syncstate *s);

#endif
