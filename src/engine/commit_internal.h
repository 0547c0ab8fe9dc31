/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the parts of the commit rules (commit*.c) and by nobody else.
 *
 * Functions that judge return 0 to go on, 1 when the result is filled and nothing more is to be done, -errno
 * to give the whole call up. Everything that can be refused is refused before the first row is changed.
 */
#ifndef SYNCFS_COMMIT_INTERNAL_H
#define SYNCFS_COMMIT_INTERNAL_H

#include <sys/types.h>

#include <syncfs/commit.h>
#include <syncfs/limits.h>

#define cleanup_node __attribute__((cleanup(node_state_fini)))

/* One call of commit_apply(). */
struct commit {
	const struct commit_env *env;
	const struct commit_sender *sender;
	const struct op *op;
	struct result *result;
	uint64_t seq; /* 0 until something changes */
};

/* A base, looked up. */
struct base {
	bool any; /* matches everything */
	bool known; /* version, or of an own operation c, l, a and node, mean something */
	bool own;
	uint64_t version; /* of the asked-for kind */
	uint64_t l;
	uint64_t stayed[2]; /* own, of l, lost or refused: versions of the names that it has left where they
			       were; 0 */
	enum outcome outcome; /* own */
	struct id node; /* own */
};

enum base_kind { BASE_OF_C, BASE_OF_L, BASE_OF_A };

/* Directories that have to come back before a name can be put into the first of them; parents behind
 * children. */
struct chain {
	struct id dead[TREE_MAX_DEPTH];
	size_t count;
};

/* commit_base.c: results, bases, aliases */
int commit_reject(struct commit *c, int code, const char *reason); /* 1 or -ENOMEM */
int commit_done(struct commit *c, enum outcome outcome, const struct node_state *n, uint64_t l); /* 1 */
bool commit_has_lost(enum outcome outcome); /* superseded, cycle */
/* A move has lost: its name stays, in version l, which the sender has seen (0: not that). other_l: that of
 * the second node of an exchange. */
void commit_stays(struct commit *c, uint64_t l, uint64_t other_l);
/* 1 or -ENOMEM; the result is KEPT at parent/name. */
int commit_kept(
	struct commit *c, const struct node_state *n, uint64_t l, const struct id *parent, const char *name);
int commit_resolve(struct commit *c, const struct id *id, struct id *ret_id); /* through aliases */
int commit_base(struct commit *c, int64_t base, enum base_kind kind, struct base *ret_base);
bool commit_base_is(const struct base *b, uint64_t version);
/* Where the sender's own operation kept the bytes as another node, *node becomes that. True when it did. */
bool commit_follow(const struct base *b, struct id *node);
/* The node that op->node means: resolved, followed; rejects unknown ones. */
int commit_subject(struct commit *c, const struct id *id, const struct base *b, struct node_state *ret_n);

/* commit_rows.c: rows, names, ancestors */
int commit_seq(struct commit *c); /* c->seq is taken when it was not */
int commit_put(struct commit *c, struct node_state *n); /* stamps it with the seq of this call */
int commit_place(struct commit *c, enum place_type type, const struct id *node, const struct id *parent,
	const char *name);
ssize_t commit_name_made(const struct node_state *n, uint64_t l); /* the one of version l; -1: none */
/* The name of n that the sender means: index, -1 when it is gone or has changed since the base. */
ssize_t commit_name_seen(
	const struct node_state *n, const struct id *parent, const char *name, const struct base *l);
/* Puts n (alive or dead) at parent/name, which is free; the caller places. */
int commit_name_add(struct commit *c, struct node_state *n, const struct id *parent, const char *name);
/* Takes name i from n, places the removal; n is dead after its last. */
int commit_name_drop(struct commit *c, struct node_state *n, size_t i);
int commit_name_check(struct commit *c, const struct id *parent, const char *name);
/* A free conflict name for name in parent. Caller frees. */
int commit_name_conflict(struct commit *c, const struct id *parent, const char *name, char **ret_name);
/* Whether parent can hold a name (of mover, when that is a directory; else NULL); changes nothing. */
int commit_parent_check(
	struct commit *c, const struct id *parent, const struct id *mover, struct chain *ret_chain);
/* Brings the chain back; *parent may become another directory that has its name now. */
int commit_parent_revive(
	struct commit *c, const struct chain *chain, const struct id *mover, struct id *parent);
bool commit_node_equal(
	const struct node_state *a, const struct node_state *b); /* equal bytes, no directories */
/*
 * n is at its name in parent already. Where the sender named another directory, which became that one, or
 * moves another node, which became n, the feed tells n again: what the sender takes for agreed is elsewhere.
 */
int commit_same(struct commit *c, const struct node_state *n, uint64_t l, const struct id *parent,
	const struct id *named);
/* n dies or has died: whoever means it shall mean t, as above. */
int commit_unify(struct commit *c, const struct node_state *n, const struct node_state *t, uint64_t l,
	const struct id *parent, const struct id *named);

/* commit_content.c */
/* Takes over mode, mtime and xattr of the operation; *ret_changed as well. */
int commit_attrs(const struct op *op, struct node_state *n, bool *ret_changed);
int commit_write(struct commit *c);
/* A create of a node that is there already: nothing new, or its other bytes are kept beside. */
int commit_create_again(struct commit *c);
int commit_setattr(struct commit *c);

/* commit_create.c */
int commit_create(struct commit *c);
int commit_link(struct commit *c);

/* commit_remove.c */
int commit_unlink(struct commit *c);

/* commit_rename.c, commit_exchange.c */
int commit_rename(struct commit *c);
int commit_exchange(struct commit *c);

#endif
