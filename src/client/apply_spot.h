/* SPDX-License-Identifier: Apache-2.0 */
/* Spots of the disk and what a round knows of the objects at them. Under the tree lock, which the caller
 * holds for writing (spot_find(): at least for reading). */
#ifndef SYNCFS_CLIENT_APPLY_SPOT_H
#define SYNCFS_CLIENT_APPLY_SPOT_H

#include "apply.h"

/* A name in a directory of the disk and what is there. */
struct spot {
	struct id parent;
	const char *name; /* borrowed */
	struct round *of; /* whose open directory dirfd is; NULL: the spot's own */
	int dirfd;
	struct stat_id dir, now; /* now.ino 0: nothing */
};

enum holder {
	HOLDER_NONE,
	HOLDER_SELF, /* the job's own object */
	HOLDER_DYING, /* a node that is dead by R: may be displaced */
	HOLDER_SWAP, /* a node that is being placed further up: both want each other's place */
};

/* The directory of a node, where it is thought to be. */
int apply_open_dir(
	const struct applier_config *config, const struct id *dir, int *ret_fd, struct stat_id *ret_stat);
/* As the disk is now. -ENOENT: the directory is not there (yet). */
int spot_find(struct round *rd, const struct id *parent, const char *name, struct spot *ret_spot);
void spot_fini(struct spot *s);
void apply_close_dir(struct round *rd); /* at the end of a round */
int spot_restat(struct spot *s);
/* Puts a staged object at the spot, over a dying one if need be. The displaced one is in staging under the
 * same name. */
int spot_put(struct round *rd, struct spot *s, enum holder holder, struct job *other, const char *stage,
	struct stat_id *ret_placed);

/* apply_content.c: the staged content under all names that the node has here; after an error under none. */
int apply_content(struct round *rd, struct job *j);

/* Holds the job's node for this round, when it still is as its plan has it; -EAGAIN. */
int apply_claim(struct round *rd, struct job *j);
/*
 * Who holds the spot waits for who is to get it, or what is in it does: it goes beside, under a name that
 * says so, and on from there in the next pass. Killed in between, a scan finds it there, and the server's
 * word brings it home.
 */
int apply_set_aside(struct round *rd, struct job *other, struct spot *s);
/* That name. */
#define APPLY_ASIDE_BYTES (sizeof(".moving-") + ID_HEX_BYTES)
void apply_aside_name(const struct id *node, char name[APPLY_ASIDE_BYTES]);
struct job *apply_job_of(const struct round *rd, const struct id *node);
/* S of the node. -ENOENT also when S has no name left for it (another node has taken the last one): then it
 * is not here. */
int apply_peek_base(const struct round *rd, const struct id *node, struct base_row *ret_row);
bool apply_is_busy(struct round *rd, const struct id *node, const struct stat_id *object);
/* The object at the spot, when it is still what was agreed; -ESTALE otherwise. */
int apply_expected(
	struct round *rd, const struct base_row *row, const struct spot *s, struct stat_id *ret_expected);
/* The object at the spot goes, when it is the expected one: into staging, from where it is removed when S has
 * forgotten it; a directory at once, when it is empty. */
int apply_take_out(struct round *rd, const struct spot *s, const struct stat_id *expected);
void apply_trash(struct round *rd, const char *stage); /* what is in staging, likewise */
int apply_bind(struct round *rd, struct job *j);
/* The object that was at the spot is not there any more. */
void apply_lost_name(struct round *rd, struct job *other, const struct spot *s);

#endif
