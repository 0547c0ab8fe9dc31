/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents that the rows have and the tree has not: their directory was moved or removed by hand while they
 * were committed, so they lie in the history. Called by store_hand once it knows where the directory is.
 * Changes no row but what is known of objects on disk, and takes nothing for deleted.
 */
#include "store_internal.h"

#include <errno.h>
#include <unistd.h>

#include <syncfs/limits.h>

#define OWED_AT_ONCE 64

struct paying {
	struct txn x;
	struct look look; /* to find directories */
	bool wanted; /* some contents are asked of clients */
};

static int pay(struct paying *p, const struct id *node, int depth);

/* 1: the directory is there, or is placed before; 0 it is not. */
static int pay_dir(struct paying *p, const struct id *dir, int depth)
{
	int fd, r;

	if (map_get(p->x.ids, dir->b, ID_BYTES))
		return 1;
	if (!id_equal(dir, &ID_ROOT) && owed_is(p->x.s, dir)) {
		r = pay(p, dir, depth + 1);
		return r < 0 ? r : map_get(p->x.ids, dir->b, ID_BYTES) != NULL;
	}
	fd = look_open_dir(&p->look, dir, NULL);
	if (fd < 0)
		return fd == -ENOENT || fd == -EACCES ? 0 : fd;
	(void)close(fd);
	return 1;
}

static int pay_names(struct paying *p, const struct node_state *n)
{
	struct stat_id was;
	int r = meta_disk_get(p->x.s->meta, &n->node, &was);
	struct place_step said = {.type = PLACE_CONTENT, .node = n->node};

	if (r < 0)
		return r;
	if (was.ino && n->kind == KIND_FILE)
		return txn_emit(&p->x, &said);
	r = txn_place_again(&p->x, n, &n->names[0].parent, n->names[0].name);
	said.type = PLACE_LINK;
	for (size_t i = 1; r == 0 && i < n->names_count; i++) {
		said.parent = n->names[i].parent;
		said.name = n->names[i].name;
		r = txn_emit(&p->x, &said);
	}
	return r;
}

/* Parents first; a node one of whose directories is not there waits. */
static int pay(struct paying *p, const struct id *node, int depth)
{
	struct node_state n = {0};
	int r = depth > TREE_MAX_DEPTH ? -ELOOP : meta_node_get(p->x.s->meta, node, &n), there = 1;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; there == 1 && i < n.names_count; i++)
		there = pay_dir(p, &n.names[i].parent, depth);
	if (there < 0)
		r = there;
	else if (there == 0)
		p->x.s->owed = true;
	else if (n.names_count && !map_get(p->x.ids, node->b, ID_BYTES))
		r = pay_names(p, &n);
	if (r == -ENODATA) {
		p->wanted = true;
		r = want_absent(p->x.s, &n);
	}
	node_state_fini(&n);
	return r;
}

int owed_place(struct store *s)
{
	struct id ids[OWED_AT_ONCE];
	ssize_t count = meta_disk_ctime(s->meta, OWED_CTIME, ids, OWED_AT_ONCE);
	struct paying p = {.look = {.s = s}};
	int r;

	s->owed = count == OWED_AT_ONCE;
	if (count <= 0)
		return (int)count;
	r = txn_begin(&p.x, s, false);
	if (r < 0)
		return r;
	for (ssize_t i = 0; r == 0 && i < count; i++)
		r = pay(&p, &ids[i], 0);
	if (r < 0) {
		s->owed = true;
		txn_rollback(&p.x);
		return r;
	}
	r = txn_commit(&p.x);
	if (r == 0 && p.wanted)
		want_grew(s);
	return r;
}
