/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents that rows have and the disk has not: files that were deleted by hand and are to stay (reject),
 * files that have rotted. Told to clients by pages, sent again as chunks by whoever has them, placed here.
 * Called by the paths that find one missing and by api_content. Never replaces anything that a hand has put
 * there.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/manifest.h>

#define RANGES_TRIED 8
#define NODES_TRIED 8
#define GROUP_CONTENTS 64 /* placed in one transaction */
#define GROUP_BYTES ((uint64_t)64 << 20) /* and no further one after so many */

/* ---- what is wanted ---- */

int want_absent(struct store *s, const struct node_state *n)
{
	const struct stat_id none = {0};
	int r = meta_disk_put(s->meta, &n->node, &none);

	return r < 0 ? r : meta_want_put(s->meta, &n->content.hash);
}

int want_is_absent(struct store *s, const struct id *node)
{
	struct node_state n = {0};
	struct stat_id disk;
	int r = meta_disk_get(s->meta, node, &disk);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (disk.ino)
		return 0;
	r = meta_node_get(s->meta, node, &n);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = n.kind == KIND_FILE && !n.tomb ? meta_want_has(s->meta, &n.content.hash) : 0;
	node_state_fini(&n);
	return r;
}

bool owed_is(struct store *s, const struct id *node)
{
	struct stat_id disk;

	return meta_disk_get(s->meta, node, &disk) == 0 && disk.ctime_ns == OWED_CTIME;
}

void want_grew(struct store *s)
{
	atomic_store_explicit(&s->want_news_ms, clock_mono_ms(), memory_order_relaxed);
	atomic_fetch_add_explicit(&s->want_news, 1, memory_order_relaxed);
}

uint64_t store_want_news(struct store *s, uint64_t *ret_since_ms)
{
	*ret_since_ms = atomic_load_explicit(&s->want_news_ms, memory_order_relaxed);
	return atomic_load_explicit(&s->want_news, memory_order_relaxed);
}

/* ---- what is there instead ---- */

enum found {
	FOUND_NOTHING, /* the name is free */
	FOUND_ROTTEN, /* our object, untouched, with other bytes */
	FOUND_OTHER, /* as it should be, or a hand's: a scan tells */
};

static int found_bytes(int dir, const char *name, const struct hash *hash)
{
	cleanup_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct content content;
	struct stat_id is;

	if (fd < 0 || tree_hash_file(fd, &content, NULL, &is) < 0)
		return FOUND_OTHER;
	return hash_equal(&content.hash, hash) ? FOUND_OTHER : FOUND_ROTTEN;
}

/* A found, or -errno. */
static int look_at(struct store *s, const struct node_state *n, const struct dentry *name)
{
	cleanup_free char *path = NULL;
	cleanup_fd int dir = -1;
	struct stat_id disk, is;
	int r = meta_dir_path(s->meta, &name->parent, &path);

	if (r == 0)
		r = meta_disk_get(s->meta, &n->node, &disk);
	if (r < 0)
		return r == -ENOENT || r == -ELOOP ? FOUND_OTHER : r;
	dir = tree_open_dir(&s->tree, path);
	if (dir < 0)
		return FOUND_OTHER;
	r = tree_stat(dir, name->name, &is);
	if (r < 0)
		return r == -ENOENT ? FOUND_NOTHING : FOUND_OTHER;
	disk.dev = s->tree.dev;
	return stat_id_unchanged(&disk, &is) ? found_bytes(dir, name->name, &n->content.hash) : FOUND_OTHER;
}

static int is_rotten(struct store *s, const struct id *node)
{
	struct node_state n = {0};
	int r = meta_node_get(s->meta, node, &n);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = n.kind == KIND_FILE && n.names_count ? look_at(s, &n, &n.names[0]) : FOUND_OTHER;
	node_state_fini(&n);
	return r < 0 ? r : r == FOUND_ROTTEN;
}

static int want_now(struct store *s, const struct hash *content)
{
	int r = meta_begin(s->meta, true);

	if (r == 0)
		r = meta_want_put(s->meta, content);
	if (r == 0)
		r = meta_commit(s->meta);
	if (r < 0) {
		meta_rollback(s->meta);
		return r;
	}
	log_warn("the bytes of a file are not what they were, and no hand has changed it (a bad disk?): "
		 "asked of "
		 "the clients");
	want_grew(s);
	return 1;
}

int want_chunk(struct store *s, const struct hash *chunk)
{
	struct meta_range ranges[RANGES_TRIED];
	ssize_t count = meta_chunk_find(s->meta, chunk, ranges, RANGES_TRIED);

	for (ssize_t i = 0; i < count; i++) {
		struct id nodes[NODES_TRIED];
		ssize_t nodes_count = meta_content_nodes(s->meta, &ranges[i].content, nodes, NODES_TRIED);

		if (meta_want_has(s->meta, &ranges[i].content) != 0)
			continue;
		for (ssize_t k = 0; k < nodes_count; k++) {
			if (is_rotten(s, &nodes[k]) == 1)
				return want_now(s, &ranges[i].content);
		}
	}
	return count < 0 ? (int)count : 0;
}

/* ---- what is sent ---- */

/* One content that is complete, staged. */
struct supply {
	struct content content;
	struct prepared staged;
	struct prepared *copies; /* for further files of this content */
	size_t copies_count;
};

static void supply_fini(struct store *s, struct supply *u)
{
	for (size_t i = 0; i < u->copies_count; i++)
		prepared_fini(s, &u->copies[i]);
	free(u->copies);
	prepared_fini(s, &u->staged);
}

static int copy_staged(struct store *s, const char *from_name, struct prepared *p)
{
	cleanup_fd int from = tree_open_at(&s->tree, s->tree.stage_fd, from_name, O_RDONLY), to = -1;
	int r;

	if (from < 0)
		return from;
	to = stage_create(&s->tree, p->stage);
	if (to < 0) {
		p->stage[0] = '\0';
		return to;
	}
	r = content_copy(from, to);
	if (r == 0)
		r = tree_sync_fd(to);
	return r < 0 ? r : tree_stat(s->tree.stage_fd, p->stage, &p->stat);
}

/* The next staged object for a file. */
static int next_staged(struct store *s, struct supply *u, struct prepared **ret_prepared)
{
	struct prepared *grown;

	if (!u->staged.taken) {
		*ret_prepared = &u->staged;
		return 0;
	}
	grown = reallocarray(u->copies, u->copies_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	u->copies = grown;
	grown[u->copies_count] = (struct prepared){0};
	*ret_prepared = &grown[u->copies_count++];
	return copy_staged(s, u->staged.stage, *ret_prepared);
}

static int emit_at(struct txn *x, enum place_type type, const struct node_state *n, const struct dentry *name)
{
	const struct place_step said = {
		.type = type, .node = n->node, .parent = name->parent, .name = name->name};

	return txn_emit(x, &said);
}

/* Further names of a file that is there by its first. */
static int emit_links(struct txn *x, const struct node_state *n)
{
	int r = 0;

	for (size_t i = 1; r >= 0 && i < n->names_count; i++) {
		r = look_at(x->s, n, &n->names[i]);
		if (r == FOUND_NOTHING)
			r = emit_at(x, PLACE_LINK, n, &n->names[i]);
	}
	return r < 0 ? r : 0;
}

static int supply_node(struct txn *x, struct supply *u, const struct node_state *n)
{
	int found = n->names_count ? look_at(x->s, n, &n->names[0]) : FOUND_OTHER, r;

	if (found < 0 || found == FOUND_OTHER)
		return found < 0 ? found : 0;
	r = next_staged(x->s, u, &x->prepared);
	if (r == 0)
		r = emit_at(x, found == FOUND_NOTHING ? PLACE_CREATE : PLACE_CONTENT, n, &n->names[0]);
	x->prepared = NULL;
	return r < 0 || found == FOUND_ROTTEN ? r : emit_links(x, n);
}

/* All live files of a content; caller frees. */
static int nodes_of(struct store *s, const struct hash *content, struct id **ret_nodes, size_t *ret_count)
{
	size_t cap = 16;

	for (;; cap *= 8) {
		struct id *nodes = calloc(cap, sizeof(*nodes));
		ssize_t n = nodes ? meta_content_nodes(s->meta, content, nodes, cap) : -ENOMEM;

		if (n >= 0 && (size_t)n < cap) {
			*ret_nodes = nodes;
			*ret_count = (size_t)n;
			return 0;
		}
		free(nodes);
		if (n < 0)
			return (int)n;
	}
}

static int supply_content(struct txn *x, struct supply *u)
{
	cleanup_free struct id *nodes = NULL;
	size_t count = 0;
	int r = nodes_of(x->s, &u->content.hash, &nodes, &count);

	for (size_t i = 0; r == 0 && i < count; i++) {
		struct node_state n = {0};

		r = meta_node_get(x->s->meta, &nodes[i], &n);
		if (r == 0 && n.kind == KIND_FILE && !n.tomb)
			r = supply_node(x, u, &n);
		node_state_fini(&n);
	}
	return r < 0 ? r : meta_want_del(x->s->meta, &u->content.hash);
}

/* The steps have them now; sweeping finds what is left when they fail. */
static void give_away(struct supply *u)
{
	if (u->staged.taken)
		u->staged.stage[0] = '\0';
	for (size_t i = 0; i < u->copies_count; i++) {
		if (u->copies[i].taken)
			u->copies[i].stage[0] = '\0';
	}
}

static int place_group(struct store *s, struct supply *list, size_t count, bool *ret_more)
{
	struct txn x;
	ssize_t before, after;
	int r;

	MUTEX_GUARD(&s->lock);
	r = txn_begin(&x, s, false);
	if (r < 0)
		return r;
	before = meta_want_count(s->meta);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = supply_content(&x, &list[i]);
	after = meta_want_count(s->meta);
	if (r < 0 || before < 0 || after < 0) {
		txn_rollback(&x);
		return r < 0 ? r : -EIO;
	}
	for (size_t i = 0; i < count; i++)
		give_away(&list[i]);
	r = txn_commit(&x);
	/* others can be told in their place */
	*ret_more = r == 0 && before > WANT_PER_PAGE && after < before;
	if (*ret_more)
		want_grew(s);
	return r;
}

/* 1 staged, 0 not wanted, -ENOENT chunks lack, -errno. */
static int stage_wanted(struct store *s, const struct hash *content, struct supply *u)
{
	struct op op = {
		.type = OP_WRITE, .kind = KIND_FILE, .fields = OP_HAS_MANIFEST, .content.hash = *content};
	int r;

	{
		MUTEX_GUARD(&s->read_lock);
		r = meta_want_has(s->reader, content);
		if (r == 1)
			r = meta_content_get(s->reader, content, &op.manifest) ?: 1;
	}
	if (r != 1)
		return r;
	for (size_t i = 0; i < manifest_count(&op.manifest); i++) {
		struct hash chunk;
		uint32_t len;

		manifest_entry(&op.manifest, i, &chunk, &len);
		op.content.size += len;
	}
	u->content = op.content;
	r = prepare_op(s, &op, NULL, 0, &u->staged);
	free(op.manifest.data);
	if (r < 0)
		return r;
	return u->staged.missing_count || u->staged.code ? -ENOENT : 1;
}

/* A part of contents[] from *at on; what lacks chunks goes to contents[*left..]. */
static int supply_group(
	struct store *s, struct hash *contents, size_t count, size_t *at, size_t *left, struct supply *list)
{
	size_t staged = 0;
	uint64_t bytes = 0;
	bool more = false;
	int r = 0;

	while (r >= 0 && *at < count && staged < GROUP_CONTENTS && bytes < GROUP_BYTES) {
		const struct hash content = contents[(*at)++];
		struct supply *u = &list[staged];

		*u = (struct supply){0};
		r = stage_wanted(s, &content, u);
		if (r == 1) {
			bytes += u->content.size;
			staged++;
			continue;
		}
		if (r == -ENOENT) {
			contents[(*left)++] = content;
			r = 0;
		}
		supply_fini(s, u);
	}
	if (r >= 0 && staged)
		r = tree_sync_all(&s->tree);
	if (r >= 0 && staged)
		r = place_group(s, list, staged, &more);
	for (size_t i = 0; i < staged; i++)
		supply_fini(s, &list[i]);
	if (more)
		store_changed(s);
	return r < 0 ? r : 0;
}

int store_supply(struct store *s, struct hash *contents, size_t *count)
{
	cleanup_free struct supply *list = calloc(GROUP_CONTENTS, sizeof(*list));
	size_t at = 0, left = 0;
	int r = list ? 0 : -ENOMEM;

	if (store_is_failed(s))
		return -EIO;
	while (r == 0 && at < *count)
		r = supply_group(s, contents, *count, &at, &left, list);
	*count = left;
	return r;
}
