/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's commit rules as a pure function over rows: no I/O of its own, no
 * clock, no threads. The store feeds it from its transaction, the simulator from memory. It reads and changes
 * rows through struct commit_env and emits, in order, the steps that make the plain tree equal to the rows.
 */
#ifndef SYNCFS_COMMIT_H
#define SYNCFS_COMMIT_H

#include <syncfs/change.h>

/* What the plain tree has to do, in the order emitted. All by node; the carrier knows paths. */
enum place_type {
	PLACE_CREATE = 1, /* node appears at parent/name: content of `op` (staged), directory or symlink */
	PLACE_CONTENT, /* node's content becomes that of `op`, under all its names */
	PLACE_MOVE, /* node goes from parent/name to new_parent/new_name, which is free */
	PLACE_EXCHANGE, /* parent/name and new_parent/new_name swap */
	PLACE_LINK, /* node gets the further name parent/name */
	PLACE_REMOVE, /* node's name parent/name goes; its content stays in history */
	PLACE_RESURRECT, /* node appears at parent/name with its last content from history */
	PLACE_ATTR, /* mode, mtime, xattr of node as in its row */
};

struct place_step {
	enum place_type type;
	struct id node, parent, new_parent;
	const char *name, *new_name; /* borrowed for the call */
	const struct op *op; /* the operation whose content counts; NULL but for CREATE and CONTENT */
};

/* Each call 0 or -errno; -ENOENT where said; any other error ends commit_apply() with it (the transaction is
 * undone). */
struct commit_env {
	void *arg;
	/* Node row, dead ones included, with all its names; -ENOENT: never seen. Caller of get runs
	 * node_state_fini(). */
	int (*node_get)(void *arg, const struct id *node, struct node_state *ret_node);
	/* Writes all but the names. */
	int (*node_put)(void *arg, const struct node_state *node);
	/* Live dentry parent/name; -ENOENT: free. */
	int (*dentry_get)(
		void *arg, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l);
	int (*dentry_put)(
		void *arg, const struct id *parent, const char *name, const struct id *node, uint64_t l);
	int (*dentry_del)(void *arg, const struct id *parent, const char *name);
	/* 1 when the directory has a live child, else 0. */
	int (*has_children)(void *arg, const struct id *node);
	/* The last name a dead node had, for resurrection; -ENOENT. Caller frees *ret_name. */
	int (*last_name_get)(void *arg, const struct id *node, struct id *ret_parent, char **ret_name);
	int (*last_name_put)(void *arg, const struct id *node, const struct id *parent, const char *name);
	/* What `alias` became one of; -ENOENT. Depth 1: an alias never points to an alias. */
	int (*alias_get)(void *arg, const struct id *alias, struct id *ret_node);
	int (*alias_put)(void *arg, const struct id *alias, const struct id *node);
	/* The result of the sender's own operation opno, for negative bases; -ENOENT. Borrowed until the next
	 * call. */
	int (*own_result)(void *arg, uint64_t opno, const struct result **ret_result);
	/* 1 when the node's version c had this content, as far as history reaches back, else 0. */
	int (*had)(void *arg, const struct id *node, uint64_t c, const struct content *content);
	/* The next seq of the namespace; dense. Called at most once per operation that changes something. */
	int (*seq_next)(void *arg, uint64_t *ret_seq);
	int (*place)(void *arg, const struct place_step *step);
};

struct commit_sender {
	struct id client;
	const char *label; /* for conflict names, may be NULL */
};

/*
 * Judges one operation and carries it out on the rows. Content has been verified and is held; names are
 * valid; types of members are right (batch_decode); everything else is checked here. ret_result is filled
 * whenever 0 is returned (a rejected operation is a result, not an error). Caller runs result_fini().
 *
 * Rules: winner = first committed. A stale write is kept under a conflict name in the same call (a new node,
 * its id derived from client and opno by hashing); one that says no more than its base did is SUPERSEDED. A
 * create on a taken name: directories unify (SAME, alias), files with equal content and symlinks with equal
 * target unify, anything else is KEPT under a conflict name with its own node id. A delete with a stale base
 * is SUPERSEDED. A write to a dead node resurrects it with the ancestors it needs. rename of a dead node
 * resurrects it. mode, mtime, xattr never conflict. BASE_ANY matches everything.
 */
int commit_apply(const struct commit_env *env, const struct commit_sender *sender, const struct op *op,
	struct result *ret_result);

/* For what the rules do not know: nothing changes. Operations that follow are judged as after a move that has
 * lost. */
int commit_refuse(const struct commit_env *env, const struct op *op, int code, const char *reason,
	struct result *ret_result);

/* tag(seq) = first 8 bytes of SHA-256 of (previous tag, node, seq, opid); never 0. */
uint64_t commit_tag(
	uint64_t previous_tag, uint64_t seq, const struct id *client, uint64_t opno, const struct id *node);

#endif
