/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulated kernel remembers of a mount: inodes, names, attributes and pages, dropped by the rules
 * of Linux (fs/fuse/inode.c, dir.c, file.c). Used by the system calls of view*.c and by notifications. Sends
 * nothing but FORGET.
 */
#include "view_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- locks ---- */

void klock_read(struct klock *l)
{
	while (l->writer || l->writers_waiting)
		(void)waitq_wait(&l->q, SIM_FOREVER);
	l->readers++;
}

void klock_read_done(struct klock *l)
{
	if (--l->readers == 0)
		waitq_wake_all(&l->q);
}

void klock_write(struct klock *l)
{
	l->writers_waiting++;
	while (l->writer || l->readers)
		(void)waitq_wait(&l->q, SIM_FOREVER);
	l->writers_waiting--;
	l->writer = true;
}

void klock_write_done(struct klock *l)
{
	l->writer = false;
	waitq_wake_all(&l->q);
}

/* ---- inodes ---- */

static struct kinode **bucket(struct view *v, uint64_t nodeid)
{
	return &v->buckets[(nodeid ^ nodeid >> 4 ^ nodeid >> 12) % KINODE_BUCKETS];
}

struct kinode *kinode_get(struct kinode *k)
{
	k->refs++;
	return k;
}

static void unlink_from_bucket(struct kinode *k)
{
	struct kinode **at = bucket(k->view, k->nodeid);

	while (*at && *at != k)
		at = &(*at)->next;
	if (*at)
		*at = k->next;
}

void kinode_put(struct kinode *k)
{
	struct fuse_req *q;

	if (--k->refs > 0)
		return;
	unlink_from_bucket(k);
	q = req_new(k->view, CALL_FORGET, k);
	q->count = k->nlookup;
	req_send_async(q);
	for (size_t i = 0; i < k->pages_count; i++)
		free(k->pages[i]);
	free(k->pages);
	free(k);
}

struct kinode *kinode_find(struct view *v, uint64_t nodeid)
{
	struct kinode *k = *bucket(v, nodeid);

	while (k && k->nodeid != nodeid)
		k = k->next;
	return k;
}

static struct kinode *kinode_new(struct view *v, uint64_t nodeid)
{
	struct kinode *k = calloc(1, sizeof(*k)), **at = bucket(v, nodeid);

	if (!k)
		abort();
	k->view = v;
	k->nodeid = nodeid;
	k->serial = ++v->serial;
	k->children_end = &k->children;
	k->next = *at;
	*at = k;
	return k;
}

void cache_init(struct view *v)
{
	v->root = kinode_get(kinode_new(v, FUSE_ROOT_ID));
	v->root->attr.st_mode = S_IFDIR | 0755;
}

/* An inode of another kind under a node id that is known is a new one; the old one is never found again. */
static struct kinode *replace_when_stale(struct view *v, struct kinode *k, const struct fuse_entry_param *e)
{
	if (!k || ((k->attr.st_mode ^ e->attr.st_mode) & S_IFMT) == 0)
		return k;
	unlink_from_bucket(k);
	return NULL;
}

struct kinode *kinode_of_entry(struct view *v, const struct fuse_entry_param *e, uint64_t version)
{
	struct kinode *k = replace_when_stale(v, kinode_find(v, e->ino), e);
	bool is_new = !k;

	if (is_new)
		k = kinode_new(v, e->ino);
	(void)kinode_get(k);
	k->nlookup++;
	if (is_new) {
		k->attr = e->attr;
		k->attr_version = ++v->attr_version;
		k->attr_until_ns = sim_now_ns() + (uint64_t)(e->attr_timeout * 1e9);
	} else {
		kinode_attributes(k, &e->attr, e->attr_timeout, version);
	}
	return k;
}

void kinode_attr_stale(struct kinode *k)
{
	k->attr_until_ns = 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* An answer from before a change that the kernel knows of says nothing (attr_version). */
void kinode_attributes(struct kinode *k, const struct stat *st, double timeout, uint64_t version)
{
	struct stat old = k->attr;

	if (version && k->attr_version > version) {
		kinode_attr_stale(k);
		return;
	}
	k->attr = *st;
	k->attr_version = ++k->view->attr_version;
	k->attr_until_ns = timeout > 0 ? sim_now_ns() + (uint64_t)(timeout * 1e9) : 0;
	if (!S_ISREG(st->st_mode))
		return;
	if (old.st_size != st->st_size || !same_time(&old.st_mtim, &st->st_mtim))
		pages_drop(k, 0);
}

bool kinode_is_below(const struct kinode *k, const struct kinode *dir)
{
	while (k != dir && k->alias)
		k = k->alias->parent;
	return k == dir;
}

/* ---- names ---- */

struct dentry *dentry_find(const struct kinode *dir, const char *name)
{
	struct dentry *d = dir->children;

	while (d && strcmp(d->name, name) != 0)
		d = d->next;
	return d;
}

static void link_child(struct kinode *dir, struct dentry *d)
{
	d->parent = kinode_get(dir);
	d->next = NULL;
	d->at = dir->children_end;
	*d->at = d;
	dir->children_end = &d->next;
}

static void unlink_child(struct dentry *d)
{
	*d->at = d->next;
	if (d->next)
		d->next->at = d->at;
	else
		d->parent->children_end = d->at;
}

void dentry_drop(struct dentry *d)
{
	struct kinode *parent = d->parent, *k = d->inode;

	unlink_child(d);
	if (k && k->alias == d) {
		k->alias = NULL;
		while (k->children)
			dentry_drop(k->children);
	}
	free(d);
	if (k)
		kinode_put(k);
	kinode_put(parent);
}

static struct dentry *dentry_make(struct kinode *dir, const char *name)
{
	struct dentry *d = malloc(sizeof(*d) + strlen(name) + 1);

	if (!d)
		abort();
	d->inode = NULL;
	d->serial = ++dir->view->serial;
	strcpy(d->name, name);
	link_child(dir, d);
	return d;
}

int dentry_set(struct kinode *dir, const char *name, struct kinode *k, double timeout)
{
	struct dentry *d = dentry_find(dir, name);
	uint64_t until = timeout > 0 ? sim_now_ns() + (uint64_t)(timeout * 1e9) : 0;

	if (d && d->inode == k) {
		d->until_ns = until;
		return 0;
	}
	if (k && kinode_is_dir(k) && kinode_is_below(dir, k))
		return -ELOOP;
	if (d)
		dentry_drop(d);
	if (k && kinode_is_dir(k) && k->alias) {
		dentry_rename(k->alias, dir, name);
		k->alias->until_ns = until;
		return 0;
	}
	d = dentry_make(dir, name);
	d->inode = k ? kinode_get(k) : NULL;
	d->until_ns = until;
	if (k && kinode_is_dir(k))
		k->alias = d;
	return 0;
}

/* A directory's children hang on its inode: a name can be made anew. */
void dentry_rename(struct dentry *d, struct kinode *dir, const char *name)
{
	struct dentry *other = dentry_find(dir, name), *to;

	if (other == d)
		return;
	if (other)
		dentry_drop(other);
	to = dentry_make(dir, name);
	to->inode = d->inode;
	to->until_ns = d->until_ns;
	if (d->inode && d->inode->alias == d)
		d->inode->alias = to;
	d->inode = NULL;
	dentry_drop(d);
}

void dentry_swap(struct dentry *a, struct dentry *b)
{
	struct kinode *k = a->inode;
	uint64_t until = a->until_ns;

	a->inode = b->inode;
	a->until_ns = b->until_ns;
	b->inode = k;
	b->until_ns = until;
	if (a->inode && kinode_is_dir(a->inode))
		a->inode->alias = a;
	if (b->inode && kinode_is_dir(b->inode))
		b->inode->alias = b;
}

/* As when memory is short: some names that nobody uses go, those in directories first. */
static void shrink_below(struct kinode *dir)
{
	struct dentry *d, *next;

	(void)kinode_get(dir);
	for (d = dir->children; d; d = next) {
		next = d->next;
		if (d->inode && d->inode->children)
			shrink_below(d->inode);
		else if (sim_below(STREAM_SCHEDULE, 4) == 0 && (!d->inode || d->inode->refs == 1))
			dentry_drop(d);
	}
	kinode_put(dir);
}

void cache_shrink(struct view *v)
{
	shrink_below(v->root);
}

/* ---- pages ---- */

void pages_lock(struct kinode *k)
{
	k->pages_locked++;
}

void pages_unlock(struct kinode *k)
{
	if (--k->pages_locked == 0)
		waitq_wake_all(&k->pages_unlocked);
}

void pages_drop(struct kinode *k, size_t from)
{
	if (!k->pages_count && !k->pages_locked)
		return;
	(void)kinode_get(k);
	while (k->pages_locked)
		(void)waitq_wait(&k->pages_unlocked, SIM_FOREVER);
	for (size_t i = from; i < k->pages_count; i++) {
		free(k->pages[i]);
		k->pages[i] = NULL;
	}
	if (from < k->pages_count)
		k->pages_count = from;
	kinode_put(k);
}

const uint8_t *page_at(const struct kinode *k, size_t index)
{
	return index < k->pages_count ? k->pages[index] : NULL;
}

static uint8_t **page_slot(struct kinode *k, size_t index)
{
	if (index >= k->pages_count) {
		size_t count = index + 1 + k->pages_count / 2;
		uint8_t **more = realloc(k->pages, count * sizeof(*more));

		if (!more)
			abort();
		memset(more + k->pages_count, 0, (count - k->pages_count) * sizeof(*more));
		k->pages = more;
		k->pages_count = count;
	}
	return &k->pages[index];
}

void page_set(struct kinode *k, size_t index, const uint8_t *bytes, size_t len)
{
	uint8_t **slot = page_slot(k, index);

	if (!*slot && !(*slot = malloc(PAGE_BYTES)))
		abort();
	if (len)
		memcpy(*slot, bytes, len);
	memset(*slot + len, 0, PAGE_BYTES - len);
}

void page_patch(struct kinode *k, size_t index, size_t at, const uint8_t *bytes, size_t len)
{
	if (at == 0 && len == PAGE_BYTES)
		page_set(k, index, bytes, len);
	else if (page_at(k, index))
		memcpy(k->pages[index] + at, bytes, len);
}
