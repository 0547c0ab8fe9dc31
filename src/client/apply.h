/* SPDX-License-Identifier: Apache-2.0 */
/* One round of the applier: shared by applier.c (rounds), apply_stage.c (contents) and apply_place.c
 * (placing). */
#ifndef SYNCFS_CLIENT_APPLY_H
#define SYNCFS_CLIENT_APPLY_H

#include <syncfs/map.h>
#include <syncfs/plan.h>

#include "applier.h"
#include "syncstate.h"

enum job_state {
	JOB_TODO = 0,
	JOB_ACTIVE, /* being placed: meeting it again means a cycle of names */
	JOB_DONE, /* placed: S := R with the round */
	JOB_WAIT, /* not now: stays in R */
};

/* One node of the round. */
struct job {
	struct node_state r;
	struct base_row s; /* names: where it lies now, updated while placing */
	bool has_s;
	bool outdated; /* S is further than R: what we have sent since. R goes, nothing else is done */
	bool claimed; /* seen under the tree lock to be as planned, and held back from the uploader */
	struct plan plan;
	enum job_state state;
	bool is_kept; /* what lies here is at the server as another node */
	bool ring; /* waits for a node whose steps led here: a ring */
	bool staged, bound, taken; /* taken: stage holds something displaced, to be dropped after the round */
	char stage[STAGE_NAME_BYTES]; /* the new object; after an exchange what it displaced */
	struct stat_id staged_stat;
	const uint8_t *data; /* content that came with the page, or NULL */
};

#define ROUND_JOBS 512
#define TRASH_MARK 't' /* no hexadecimal digit: names in staging are */
#define TRASH_INO_AT 16 /* where the inode number of what was agreed to go is in such a name, 16 digits */

struct round {
	const struct applier_config *config;
	struct job *jobs;
	size_t count;
	struct map *by_node; /* id -> job */
	struct id *displaced; /* nodes that lost their last name to another: S forgets them */
	size_t displaced_count;
	char (*trash)[STAGE_NAME_BYTES]; /* further staged names to drop after the round */
	size_t trash_count;
	struct id dir; /* the directory that is open; ID_NONE: none */
	int dirfd;
	unsigned rings; /* how often placing one has come back to one that is being placed */
	unsigned dir_users; /* spots in it */
	struct stat_id dir_stat;
	uint64_t upto; /* R is all that the server has told up to here */
	bool want_scan, retry; /* retry: something failed that time may mend */
};

/* apply_stage.c: stages content and link targets of every job that needs it. Errors of single jobs make them
 * wait; -errno only for what stops the round. */
int apply_stage_round(struct round *rd);
/* apply_place.c: places every job that can be. */
void apply_place_round(struct round *rd);

#endif
