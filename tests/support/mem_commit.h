/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A namespace in memory for commit_apply(): rows, results, and a model of the plain tree that only the place
 * steps change. For the unit tests of the rules and for the simulator. One thread. Out of memory aborts.
 */
#ifndef SYNCFS_MEM_COMMIT_H
#define SYNCFS_MEM_COMMIT_H

#include <syncfs/commit.h>
#include <syncfs/map.h>

#define MEM_TOUCHED_MAX (TREE_DEPTH_SLACK + 16)
#define TREE_DEPTH_SLACK 1024

struct mem_node {
	struct node_state row; /* names as the dentries say */
	struct id last_parent;
	char *last_name; /* NULL: never died */
	size_t children;
};

struct mem_dentry {
	struct id parent, node;
	char *name;
	uint64_t l;
};

struct mem_commit {
	struct map *nodes; /* id -> struct mem_node */
	struct map *dentries; /* id, name -> struct mem_dentry */
	struct map *placed; /* the same for the plain tree */
	struct map *aliases; /* id -> struct id */
	struct map *results; /* id of client, opno -> struct result */
	struct map *history; /* id, c -> struct content */
	uint64_t seq;

	/* of the last call */
	struct id client;
	uint64_t seq_before;
	struct id touched[MEM_TOUCHED_MAX]; /* with doubles */
	size_t touched_count, steps_count;
	enum place_type last_step;
	char fault[160]; /* what the plain tree could not do; "" is good */
};

void mem_commit_init(struct mem_commit *m);
void mem_commit_fini(struct mem_commit *m);
/* commit_apply() and the result kept for negative bases. ret_result is a copy; result_fini(). */
int mem_commit_apply(struct mem_commit *m, const struct commit_sender *sender, const struct op *op,
	struct result *ret_result);
/*
 * I8: every name's node lives, every parent is a live directory that leads to the root, the plain tree is
 * equal to the rows, touched nodes bear the seq of the call, seq is dense. NULL, or what is wrong.
 */
const char *mem_commit_check(struct mem_commit *m);
/* The live node at a path of names with slashes; NULL: none. */
const struct node_state *mem_commit_find(const struct mem_commit *m, const char *path);
/* The row, dead or alive; NULL: unknown. */
const struct mem_node *mem_commit_node(const struct mem_commit *m, const struct id *id);

#endif
