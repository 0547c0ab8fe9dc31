/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of the inodes that the kernel knows: by identity, with their last known place, lookups, handles
 * and writers. Called by the view for every request, by the applier and the uploader with identities. No
 * syscall on user data (reaching objects is inode_reach.c); what was freed is closed after the lock is
 * released, since closing the last descriptor of an unlinked file can take long.
 */
#include "inode_own.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <syncfs/clock.h>

#define CHAINS_MIN 1024 /* 8 KiB; doubles with the count */
#define ROOT_NODEID 1 /* FUSE_ROOT_ID */

/* What has to be closed and freed once the lock is released. */
struct garbage {
	struct inode *dead; /* linked by next */
	int fd;
};

#define GARBAGE_INIT ((struct garbage){.fd = -1})

static void sweep(struct garbage *g)
{
	struct inode *i, *next;

	for (i = g->dead; i; i = next) {
		next = i->next;
		if (i->pinned_fd >= 0)
			(void)close(i->pinned_fd);
		free(i->name);
		free(i);
	}
	if (g->fd >= 0)
		(void)close(g->fd);
}

static size_t chain_of(size_t chain_count, uint64_t ino)
{
	/* Fibonacci hashing: inode numbers come in runs. They are our own disk's, nobody chooses them. */
	return (size_t)((ino * 0x9e3779b97f4a7c15ull) >> 32) & (chain_count - 1);
}

static struct inode *find_locked(const struct inode_table *t, const struct stat_id *object)
{
	struct inode *i = t->chains[chain_of(t->chain_count, object->ino)];

	if (object->dev != t->tree->dev)
		return NULL;
	for (; i; i = i->next) {
		if (i->ino == object->ino && !(i->flags & INODE_GONE))
			return i->btime_ns == object->btime_ns ? i : NULL;
	}
	return NULL;
}

static void grow_locked(struct inode_table *t)
{
	size_t count = t->chain_count * 2, n;
	struct inode **chains;

	if (t->count < t->chain_count)
		return;
	chains = calloc(count, sizeof(struct inode *));
	if (!chains)
		return; /* longer chains, nothing worse */
	for (n = 0; n < t->chain_count; n++) {
		struct inode *i, *next;

		for (i = t->chains[n]; i; i = next) {
			struct inode **chain = &chains[chain_of(count, i->ino)];

			next = i->next;
			i->next = *chain;
			*chain = i;
		}
	}
	free(t->chains);
	t->chains = chains;
	t->chain_count = count;
}

static void unchain_locked(struct inode_table *t, struct inode *i)
{
	struct inode **at = &t->chains[chain_of(t->chain_count, i->ino)];

	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	t->count--;
}

/* Frees i if nothing holds it, then its parent if that was the last, and so on. */
static void reap_locked(struct inode_table *t, struct inode *i, struct garbage *g)
{
	while (i && i->nlookup == 0 && i->refs == 0) {
		struct inode *parent = i->parent;

		unchain_locked(t, i);
		if ((i->flags & INODE_DIR) && i->slot)
			dir_cache_drop(&t->dirs, i->slot);
		if (i->pinned_fd >= 0)
			t->pins--;
		i->next = g->dead;
		g->dead = i;
		if (parent)
			parent->refs--;
		i = parent;
	}
}

static void lose_place_locked(struct inode_table *t, struct inode *i, struct garbage *g)
{
	struct inode *parent = i->parent;

	free(i->name);
	i->name = NULL;
	i->parent = NULL;
	if (parent) {
		parent->refs--;
		reap_locked(t, parent, g);
	}
}

/*
 * Directories that were moved outside the mount can leave places that contradict each other (a below b, b
 * below a). Whoever stands between the new parent and i loses its place; the kernel looks it up again.
 */
static void cut_ring_locked(struct inode_table *t, struct inode *i, struct inode *parent, struct garbage *g)
{
	for (; parent; parent = parent->parent) {
		if (parent->parent == i) {
			lose_place_locked(t, parent, g);
			return;
		}
	}
}

static int set_place_locked(
	struct inode_table *t, struct inode *i, struct inode *parent, const char *name, struct garbage *g)
{
	char *copy;

	if (i == t->root || i == parent)
		return 0;
	if (i->pinned_fd >= 0) {
		g->fd = i->pinned_fd;
		i->pinned_fd = -1;
		t->pins--;
	}
	if (i->parent == parent && strcmp(i->name, name) == 0)
		return 0;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	parent->refs++;
	if (i->flags & INODE_DIR)
		cut_ring_locked(t, i, parent, g);
	lose_place_locked(t, i, g);
	i->parent = parent;
	i->name = copy;
	return 0;
}

static struct inode *make_locked(struct inode_table *t, const struct stat_id *object)
{
	struct inode *i = calloc(1, sizeof(*i)), **chain;

	if (!i)
		return NULL;
	grow_locked(t);
	i->ino = object->ino;
	i->btime_ns = object->btime_ns;
	i->pinned_fd = -1;
	if (S_ISDIR(object->mode))
		i->flags = INODE_DIR;
	chain = &t->chains[chain_of(t->chain_count, i->ino)];
	i->next = *chain;
	*chain = i;
	t->count++;
	return i;
}

/* ---- the table ---- */

int inode_table_new(const struct tree *tree, struct inode_table **ret_table)
{
	struct inode_table *t = calloc(1, sizeof(*t));
	struct stat_id root;
	int r;

	if (!t)
		return -ENOMEM;
	mutex_init(&t->lock, RANK_INODE, "inode");
	cond_init(&t->hold_changed);
	t->tree = tree;
	t->chain_count = CHAINS_MIN;
	t->chains = calloc(t->chain_count, sizeof(struct inode *));
	dir_cache_init(&t->dirs);
	t->pins_max = t->dirs.max;
	r = t->chains ? tree_stat(tree->root_fd, "", &root) : -ENOMEM;
	if (!r) {
		t->root = make_locked(t, &root);
		r = t->root ? 0 : -ENOMEM;
	}
	if (r) {
		inode_table_free(t);
		return r;
	}
	t->root->refs = 1;
	*ret_table = t;
	return 0;
}

void inode_table_free(struct inode_table *t)
{
	struct garbage g = GARBAGE_INIT;
	size_t n;

	if (!t)
		return;
	for (n = 0; t->chains && n < t->chain_count; n++) {
		struct inode *i, *next;

		for (i = t->chains[n]; i; i = next) {
			next = i->next;
			if ((i->flags & INODE_DIR) && i->slot)
				dir_cache_drop(&t->dirs, i->slot);
			i->next = g.dead;
			g.dead = i;
		}
	}
	sweep(&g);
	free(t->chains);
	cond_fini(&t->hold_changed);
	mutex_fini(&t->lock);
	free(t);
}

size_t inode_table_count(struct inode_table *t)
{
	MUTEX_GUARD(&t->lock);
	return t->count;
}

uint64_t inode_nodeid(const struct inode_table *t, const struct inode *i)
{
	return i == t->root ? ROOT_NODEID : (uint64_t)(uintptr_t)i;
}

struct inode *inode_from_nodeid(struct inode_table *t, uint64_t nodeid)
{
	return nodeid == ROOT_NODEID ? t->root : (struct inode *)(uintptr_t)nodeid;
}

bool inode_is_root(const struct inode_table *t, const struct inode *i)
{
	return i == t->root;
}

void inode_identity(const struct inode_table *t, const struct inode *i, struct stat_id *ret_id)
{
	*ret_id = (struct stat_id){.dev = t->tree->dev, .ino = i->ino, .btime_ns = i->btime_ns};
}

/* ---- lives ---- */

static int intern_locked(struct inode_table *t, struct inode *parent, const char *name,
	const struct stat_id *object, struct garbage *g, struct inode **ret_inode)
{
	struct inode *i = t->chains[chain_of(t->chain_count, object->ino)];
	unsigned dir = S_ISDIR(object->mode) ? INODE_DIR : 0;
	int r;

	while (i && (i->ino != object->ino || (i->flags & INODE_GONE)))
		i = i->next;
	if (i && (i->btime_ns != object->btime_ns || (i->flags & INODE_DIR) != dir)) {
		i->flags |= INODE_GONE; /* deleted behind our back, its number used again */
		i = NULL;
	}
	if (!i)
		i = make_locked(t, object);
	if (!i)
		return -ENOMEM;
	i->nlookup++;
	r = set_place_locked(t, i, parent, name, g);
	if (r) {
		i->nlookup--;
		reap_locked(t, i, g);
		return r;
	}
	i->flags &= ~(unsigned)INODE_DISPLACED; /* it has been seen at a name: it was put back */
	*ret_inode = i;
	return 0;
}

int inode_intern(struct inode_table *t, struct inode *parent, const char *name, const struct stat_id *object,
	struct inode **ret_inode)
{
	struct garbage g = GARBAGE_INIT;
	int r;

	mutex_lock(&t->lock);
	r = intern_locked(t, parent, name, object, &g, ret_inode);
	mutex_unlock(&t->lock);
	sweep(&g);
	return r;
}

void inode_forget(struct inode_table *t, struct inode *i, uint64_t nlookup)
{
	struct garbage g = GARBAGE_INIT;

	if (i == t->root)
		return;
	mutex_lock(&t->lock);
	i->nlookup -= nlookup < i->nlookup ? nlookup : i->nlookup;
	reap_locked(t, i, &g);
	mutex_unlock(&t->lock);
	sweep(&g);
}

struct inode *inode_get(struct inode_table *t, const struct stat_id *object)
{
	struct inode *i;

	MUTEX_GUARD(&t->lock);
	i = find_locked(t, object);
	if (i)
		i->refs++;
	return i;
}

void inode_put(struct inode_table *t, struct inode *i)
{
	struct garbage g = GARBAGE_INIT;

	mutex_lock(&t->lock);
	i->refs--;
	reap_locked(t, i, &g);
	mutex_unlock(&t->lock);
	sweep(&g);
}

/* ---- places ---- */

void inode_named(struct inode_table *t, const struct stat_id *object, struct inode *parent, const char *name)
{
	struct garbage g = GARBAGE_INIT;
	struct inode *i;

	mutex_lock(&t->lock);
	i = find_locked(t, object);
	if (i) {
		i->flags |= INODE_UNSYNCED;
		if (set_place_locked(t, i, parent, name, &g))
			lose_place_locked(t, i, &g);
	}
	mutex_unlock(&t->lock);
	sweep(&g);
}

void inode_unnamed(struct inode_table *t, const struct stat_id *object, struct inode *parent,
	const char *name, int take_pin)
{
	struct garbage g = GARBAGE_INIT;
	struct inode *i;

	g.fd = take_pin;
	mutex_lock(&t->lock);
	i = find_locked(t, object);
	if (i && i->parent == parent && i->name && strcmp(i->name, name) == 0) {
		lose_place_locked(t, i, &g);
		if (i->pinned_fd < 0 && take_pin >= 0 && t->pins < t->pins_max) {
			i->pinned_fd = take_pin;
			t->pins++;
			g.fd = -1;
		}
	}
	mutex_unlock(&t->lock);
	sweep(&g);
}

bool inode_wants_pin(struct inode_table *t, const struct stat_id *object)
{
	const struct inode *i;

	MUTEX_GUARD(&t->lock);
	i = find_locked(t, object);
	return i && i->nlookup > 0 && i->pinned_fd < 0 && ((i->flags & INODE_DIR) || !i->handles);
}

bool inode_take_unsynced(struct inode_table *t, struct inode *i)
{
	bool was;

	MUTEX_GUARD(&t->lock);
	was = i->flags & INODE_UNSYNCED;
	i->flags &= ~(unsigned)INODE_UNSYNCED;
	return was;
}

void inode_set_unsynced(struct inode_table *t, struct inode *i)
{
	MUTEX_GUARD(&t->lock);
	i->flags |= INODE_UNSYNCED;
}

int inode_where(struct inode_table *t, struct inode *i, struct inode **ret_parent, char *name)
{
	size_t len;

	MUTEX_GUARD(&t->lock);
	if (!i->parent || (i->flags & INODE_DISPLACED))
		return -ESTALE;
	len = strlen(i->name);
	if (len > NAME_MAX_BYTES)
		return -ESTALE;
	memcpy(name, i->name, len + 1);
	i->parent->refs++;
	*ret_parent = i->parent;
	return 0;
}

bool inode_is_displaced(struct inode_table *t, struct inode *i)
{
	MUTEX_GUARD(&t->lock);
	return i->flags & (INODE_DISPLACED | INODE_GONE);
}

void inode_displaced(struct inode_table *t, const struct stat_id *object)
{
	struct inode *i;

	MUTEX_GUARD(&t->lock);
	i = find_locked(t, object);
	if (i)
		i->flags |= INODE_DISPLACED;
}

void inode_moved(struct inode_table *t, const struct stat_id *object, const struct stat_id *new_parent,
	const char *new_name)
{
	struct garbage g = GARBAGE_INIT;
	struct inode *i, *parent;

	mutex_lock(&t->lock);
	i = find_locked(t, object);
	parent = find_locked(t, new_parent);
	if (i && i != t->root && (!parent || set_place_locked(t, i, parent, new_name, &g)))
		lose_place_locked(t, i, &g);
	mutex_unlock(&t->lock);
	sweep(&g);
}

/* ---- handles and content ---- */

void inode_handle_add(struct inode_table *t, struct inode *i, struct handle *h)
{
	MUTEX_GUARD(&t->lock);
	h->inode = i;
	h->next = i->handles;
	i->handles = h;
	i->refs++;
	i->writers += h->writable;
}

void inode_handle_remove(struct inode_table *t, struct handle *h)
{
	struct garbage g = GARBAGE_INIT;
	struct inode *i = h->inode;
	struct handle **at;

	mutex_lock(&t->lock);
	for (at = &i->handles; *at != h;)
		at = &(*at)->next;
	*at = h->next;
	i->writers -= h->writable;
	i->refs--;
	reap_locked(t, i, &g);
	mutex_unlock(&t->lock);
	sweep(&g);
}

bool inode_take_written(struct inode_table *t, struct inode *i)
{
	bool written = false;
	struct handle *h;

	MUTEX_GUARD(&t->lock);
	for (h = i->handles; h; h = h->next)
		written = atomic_exchange(&h->wrote, false) || written;
	for (h = i->handles; h && written; h = h->next)
		atomic_store(&h->marked, false);
	return written;
}

struct handle *inode_any_handle(struct inode_table *t)
{
	size_t n;

	MUTEX_GUARD(&t->lock);
	for (n = 0; n < t->chain_count; n++) {
		const struct inode *i;

		for (i = t->chains[n]; i; i = i->next) {
			if (!(i->flags & INODE_DIR) && i->handles)
				return i->handles;
		}
	}
	return NULL;
}

void inode_writer_add(struct inode_table *t, struct inode *i)
{
	MUTEX_GUARD(&t->lock);
	i->writers++;
	i->refs++;
}

void inode_writer_remove(struct inode_table *t, struct inode *i)
{
	mutex_lock(&t->lock);
	i->writers--;
	mutex_unlock(&t->lock);
	inode_put(t, i);
}

unsigned inode_writers(struct inode_table *t, const struct stat_id *object)
{
	const struct inode *i;

	MUTEX_GUARD(&t->lock);
	i = find_locked(t, object);
	return i ? i->writers : 0;
}

void inode_changed(struct inode *i)
{
	/* Relaxed: a reader that misses a step also sees a writer or another ctime. */
	atomic_store_explicit(&i->changed_ms, clock_mono_ms(), memory_order_relaxed);
	atomic_fetch_add_explicit(&i->generation, 1, memory_order_relaxed);
}

uint64_t inode_generation(struct inode_table *t, const struct stat_id *object)
{
	const struct inode *i;

	MUTEX_GUARD(&t->lock);
	i = find_locked(t, object);
	return i ? atomic_load_explicit(&i->generation, memory_order_relaxed) : 0;
}

uint64_t inode_changed_ms(struct inode_table *t, const struct stat_id *object)
{
	const struct inode *i;

	MUTEX_GUARD(&t->lock);
	i = find_locked(t, object);
	return i ? atomic_load_explicit(&i->changed_ms, memory_order_relaxed) : 0;
}

bool inode_same_as_last_open(struct inode_table *t, struct inode *i, const struct stat_id *stat)
{
	uint64_t stamp = ((uint64_t)stat->mtime_ns * 0x9e3779b97f4a7c15ull) ^
		((uint64_t)stat->ctime_ns * 0xc2b2ae3d27d4eb4full) ^ (stat->size * 0x165667b19e3779f9ull);
	bool same;

	stamp |= 1; /* 0 is "none" */
	MUTEX_GUARD(&t->lock);
	same = i->open_stamp == stamp;
	i->open_stamp = stamp;
	return same;
}

void inode_forget_open(struct inode_table *t, struct inode *i)
{
	MUTEX_GUARD(&t->lock);
	i->open_stamp = 0;
}

uint64_t inode_epoch(const struct inode_table *t)
{
	return atomic_load(&t->epoch);
}

void inode_epoch_advance(struct inode_table *t)
{
	atomic_fetch_add(&t->epoch, 1);
}
