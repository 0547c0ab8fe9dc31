/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server and two clients on flat tables, for tests of plan_node(), plan_spot() and commit_apply() by the
 * million: the rules are the real ones, everything around them is a model without I/O. plan_server.c is the
 * server, plan_client.c a client's disk, queue and agreed state, plan_place.c its applier and its scan. One
 * thread; a violation is noted in world.fault and ends the case.
 */
#ifndef SYNCFS_PLAN_WORLD_H
#define SYNCFS_PLAN_WORLD_H

#include <syncfs/commit.h>
#include <syncfs/plan.h>

#define PW_NODES 112 /* 0 is the root */
#define PW_NAMES 64
#define PW_OBJECTS 224 /* 0 is none, 1 the root */
#define PW_LINKS 6
#define PW_OPS 64
#define PW_SEQS 256
#define PW_CONTENTS 256
#define PW_NOBODY 0xff

struct pw_name {
	uint8_t parent, name;
	uint32_t l;
};

/* A row of the server, of S or of R. content: the number of a file's bytes or of a link's target. */
struct pw_row {
	bool is, tomb;
	uint8_t kind, object, names_count;
	uint16_t mode;
	uint32_t seq, c, a, content;
	struct pw_name names[PW_LINKS];
};

struct pw_op {
	enum op_type type;
	uint8_t node, other, parent, new_parent, name, new_name, kind;
	uint16_t mode;
	bool has_mode;
	uint32_t content;
};

struct pw_object {
	uint8_t kind, node, up, links, children;
	uint16_t mode;
	uint32_t content;
};

struct pw_client {
	struct pw_object objects[PW_OBJECTS];
	uint8_t objects_count;
	uint8_t grid[PW_OBJECTS][PW_NAMES]; /* directory's object, name -> object */
	uint8_t object_of[PW_NODES]; /* 0: not here */
	uint8_t entries[PW_NODES]; /* in the queue */
	struct pw_row s[PW_NODES], r[PW_NODES];
	uint32_t gone[PW_NODES]; /* removed by us at this seq */
	struct pw_op queue[PW_OPS];
	unsigned queue_count;
	uint32_t cursor, opno;
	bool want_scan;

	/* of the scan in hand: nodes that it is moving, and names of S (by index) that are taken care of */
	bool moving[PW_NODES];
	uint8_t lifted[PW_NODES], was_busy[PW_NODES];
};

struct pw_world {
	/* server */
	struct pw_row rows[PW_NODES];
	uint8_t grid[PW_NODES][PW_NAMES]; /* node or 0 */
	uint8_t last_parent[PW_NODES], last_name[PW_NODES], by_client[PW_NODES], alias[PW_NODES];
	uint32_t by_opno[PW_NODES], seq;
	unsigned children[PW_NODES];
	struct result results[2][PW_OPS];
	unsigned results_count[2];
	uint32_t content_at[PW_SEQS]; /* c -> content */
	uint16_t holders[PW_CONTENTS]; /* live nodes with this content */
	bool committed[PW_CONTENTS];
	uint8_t vanished[8]; /* contents that the operation in hand took away */
	unsigned vanished_count, kept_count, lost_count;

	/* shared */
	struct pw_client clients[2];
	struct id ids[PW_NODES];
	unsigned nodes_count, names_count, sender;
	char *names[PW_NAMES];
	uint32_t contents;
	char fault[200];
	uint64_t random;
	bool trace; /* prints what is committed and applied */
};

/* ---- plan_server.c ---- */

void pw_init(struct pw_world *w, uint64_t seed); /* w: zeroed or finished before */
void pw_fini(struct pw_world *w);
void pw_fault(struct pw_world *w, const char *what, unsigned node); /* keeps the first */
uint64_t pw_random(struct pw_world *w);
unsigned pw_below(struct pw_world *w, unsigned n);
uint8_t pw_name(struct pw_world *w, const char *name);
uint8_t pw_new_node(struct pw_world *w);
uint8_t pw_node(const struct pw_world *w, const struct id *id); /* PW_NOBODY */
uint32_t pw_new_content(struct pw_world *w);
/* A node that server and clients agree on. Root, 0, is there. */
uint8_t pw_seed_node(struct pw_world *w, enum kind kind, uint8_t parent, uint8_t name, uint32_t content);
void pw_seed_link(struct pw_world *w, uint8_t node, uint8_t parent, uint8_t name);
/* Judges and carries out; the result stays the world's. */
const struct result *pw_commit(struct pw_world *w, unsigned client, const struct op *op);
/* row as the engine's struct, names in the array of PW_LINKS, all borrowed. */
void pw_state(const struct pw_world *w, uint8_t node, const struct pw_row *row, struct dentry *names,
	struct node_state *ret);
void pw_check_server(struct pw_world *w);
void pw_dump(
	const struct pw_world *w, const char *what, const struct pw_row *rows); /* for who debugs a case */

int pw_row_find(const struct pw_row *row, uint8_t parent, uint8_t name); /* index or -1 */
void pw_row_add(struct pw_row *row, uint8_t parent, uint8_t name, uint32_t l);
void pw_row_remove(struct pw_row *row, uint8_t parent, uint8_t name);

/* ---- plan_client.c ---- */

/* What a user does: on disk and into the queue. false: not possible, nothing has happened. */
bool pw_create(struct pw_world *w, unsigned client, enum kind kind, uint8_t node, uint8_t parent,
	uint8_t name, uint32_t content);
bool pw_write(struct pw_world *w, unsigned client, uint8_t node, uint32_t content);
bool pw_chmod(struct pw_world *w, unsigned client, uint8_t node, uint16_t mode);
bool pw_rename(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t to_parent,
	uint8_t to_name);
bool pw_exchange(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t to_parent,
	uint8_t to_name);
bool pw_link(struct pw_world *w, unsigned client, uint8_t node, uint8_t parent, uint8_t name);
bool pw_remove(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name);

/* ---- plan_settle.c ---- */

/* The first count operations of the queue as one batch, settled. */
void pw_send(struct pw_world *w, unsigned client, unsigned count);
/* ---- plan_client.c ---- */

/* At most count changes of the feed into R. */
void pw_poll(struct pw_world *w, unsigned client, unsigned count);
bool pw_is_quiet(const struct pw_world *w, unsigned client);
/* The disk is the server's tree. */
void pw_compare(struct pw_world *w, unsigned client);

void pw_enqueue(struct pw_world *w, unsigned client, const struct pw_op *op);
uint8_t pw_object_new(struct pw_world *w, unsigned client, enum kind kind, uint32_t content, uint16_t mode);
void pw_cell_set(struct pw_client *c, uint8_t dir, uint8_t name, uint8_t object);
bool pw_is_under(const struct pw_client *c, uint8_t object, uint8_t dir); /* dir is object or in it */

/* ---- plan_place.c ---- */

/* One round of the applier over all of R. true: something was placed. */
bool pw_apply(struct pw_world *w, unsigned client);
/* ---- plan_scan.c ---- */

/* What the scan finds goes into the queue. */
void pw_scan(struct pw_world *w, unsigned client);

#endif
