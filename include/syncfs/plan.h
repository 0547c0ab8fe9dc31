/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's rules as a pure function: what has to be done to one node so that the disk becomes what the
 * server has told. No I/O, no clock, no threads.
 */
#ifndef SYNCFS_PLAN_H
#define SYNCFS_PLAN_H

#include <syncfs/change.h>

enum plan_step {
	PLAN_NOTHING = 0, /* S is R already: forget R */
	PLAN_WAIT = 1 << 0, /* something local is pending for the node: its operation goes first; alone */
	PLAN_CREATE = 1 << 1, /* not here yet: make it, under all its names; alone */
	PLAN_CONTENT = 1 << 2, /* content or link target is another */
	PLAN_ATTR = 1 << 3,
	PLAN_NAMES = 1 << 4, /* add and remove names as below */
	PLAN_REMOVE = 1 << 5, /* dead: all names go; alone */
};

struct plan {
	unsigned steps;
	/* Indexes into r->names that the node does not have here, and into s->names that it is to lose.
	 * Caller frees both. */
	size_t *add, *remove;
	size_t add_count, remove_count;
};

void plan_fini(struct plan *p);

/*
 * s     agreed state, names = where it lies here; NULL: not here
 * busy  an operation on the node is pending, or a file is being written (L differs from S, or may)
 * r     what the server has told
 * 0 or -ENOMEM. -EBADMSG: r contradicts s (another kind), nothing may be done by guess.
 */
int plan_node(const struct node_state *s, bool busy, const struct node_state *r, struct plan *ret_plan);

enum plan_rebase {
	REBASE_FORGET = 1, /* nothing of it is agreed any more */
	REBASE_KEEP, /* agreed, with the versions of R */
	REBASE_SEND, /* agreed, but for the content: that is sent as a write on S's version */
};

/*
 * The server has another history than the one in which s was agreed (it was restored, or is another). What
 * stays agreed with r, what the server tells of the node now (NULL or dead: nothing); s is made that. Nothing
 * counts as older or newer here: the server judges what is sent. Pure.
 */
enum plan_rebase plan_rebase(struct node_state *s, const struct node_state *r);

/* Who holds the name that a node is to get. */
struct plan_holder {
	bool is_self; /* the node itself */
	bool is_planned; /* R has something for it that can be done in this round */
	bool ring; /* that waits, directly or not, for the node that is to get the name */
	bool busy; /* as above */
	bool active; /* its own steps have begun and have led here */
	bool tomb; /* dead by R */
	enum kind kind;
};

enum plan_spot {
	SPOT_WAIT = 1, /* not now: nothing says that it may go away */
	SPOT_SELF, /* there already */
	SPOT_DISPLACE, /* dead: what comes takes its place in one step */
	SPOT_EMPTY_FIRST, /* a dead directory: its children leave, then it goes */
	SPOT_SWAP, /* both want each other's place: exchanged in one step */
	SPOT_MOVE_FIRST, /* lives elsewhere: its own steps first */
	SPOT_ASIDE, /* the same, but they cannot be first: it goes beside until the name is taken */
};

/* What is to be done about the holder. Pure. */
enum plan_spot plan_spot(const struct plan_holder *holder);

#endif
