/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the simulated disk: directories, the log of changes of names and attributes, and how a power cut
 * takes a part of it back. Called by disk.c and sysio*.c, which have checked that a change is allowed. Never
 * looks at bytes.
 */
#include "disk_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "sim.h"

#define INDEX_FROM 8u

/* ---- names ---- */

static uint32_t hash_of(const char *text, size_t len)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)text[i]) * 16777619u;
	return h;
}

static void set_text(struct name *m, const char *text, size_t len)
{
	char *copy = need(malloc(len + 1));

	memcpy(copy, text, len);
	copy[len] = '\0';
	free(m->text);
	m->text = copy;
	m->len = (uint32_t)len;
	m->hash = hash_of(text, len);
}

struct name *name_new(struct node *take_node, const char *text, size_t len)
{
	struct name *m = need(calloc(1, sizeof(*m)));

	m->refs = 1;
	m->node = take_node;
	set_text(m, text, len);
	if (node_is_dir(take_node) && !take_node->self)
		take_node->self = m;
	return m;
}

struct name *name_get(struct name *m)
{
	m->refs++;
	return m;
}

void name_put(struct name *m)
{
	if (--m->refs)
		return;
	if (m->node->self == m)
		m->node->self = NULL;
	node_put(m->node);
	free(m->text);
	free(m);
}

/* ---- directories ---- */

static void index_put(struct names *t, uint32_t slot)
{
	uint32_t i = t->slots[slot]->hash & (t->index_size - 1);

	while (t->index[i])
		i = (i + 1) & (t->index_size - 1);
	t->index[i] = slot + 1;
}

/* Room for one more; what was removed is squeezed out. */
static void make_slot(struct names *t)
{
	uint32_t n = 0;

	if (t->used < t->cap)
		return;
	if (t->live > t->used / 2 || !t->cap) {
		t->cap = t->cap ? t->cap * 2 : 4;
		t->slots = need(reallocarray(t->slots, t->cap, sizeof(*t->slots)));
	}
	for (uint32_t i = 0; i < t->used; i++) {
		if (t->slots[i])
			t->slots[n++] = t->slots[i];
	}
	t->used = n;
	if (t->cap <= INDEX_FROM)
		return;
	free(t->index);
	t->index_size = t->cap * 2;
	t->index = need(calloc(t->index_size, sizeof(*t->index)));
	for (uint32_t i = 0; i < n; i++)
		index_put(t, i);
}

/* The first slot at or behind a cookie. */
static uint32_t slot_from(const struct names *t, uint64_t cookie)
{
	uint32_t low = 0, high = t->used;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2, m = mid;

		while (m > low && !t->slots[m])
			m--;
		if (t->slots[m] ? t->slots[m]->cookie < cookie : m == low)
			low = mid + 1;
		else
			high = m;
	}
	while (low < t->used && !t->slots[low])
		low++;
	return low;
}

static void table_add(struct node *dir, struct name *take_name)
{
	struct names *t = &dir->names;

	make_slot(t);
	take_name->dir = dir;
	take_name->cookie = dir->next_cookie++;
	t->slots[t->used++] = take_name;
	t->live++;
	if (t->index_size)
		index_put(t, t->used - 1);
}

/* The table's reference becomes the caller's. */
static void table_remove(struct name *m)
{
	struct names *t = &m->dir->names;
	uint32_t i = slot_from(t, m->cookie);

	if (i >= t->used || t->slots[i] != m)
		abort();
	t->slots[i] = NULL;
	t->live--;
	m->dir = NULL;
	if (!t->live) {
		t->used = 0;
		if (t->index_size)
			memset(t->index, 0, t->index_size * sizeof(*t->index));
	}
}

static bool is_named(const struct name *m, const char *text, size_t len, uint32_t hash)
{
	return m && m->hash == hash && m->len == len && memcmp(m->text, text, len) == 0;
}

struct name *names_find(const struct node *dir, const char *text, size_t len)
{
	const struct names *t = &dir->names;
	uint32_t hash = hash_of(text, len);

	if (!t->live)
		return NULL;
	if (!t->index_size) {
		for (uint32_t i = 0; i < t->used; i++) {
			if (is_named(t->slots[i], text, len, hash))
				return t->slots[i];
		}
		return NULL;
	}
	for (uint32_t i = hash & (t->index_size - 1); t->index[i]; i = (i + 1) & (t->index_size - 1)) {
		if (is_named(t->slots[t->index[i] - 1], text, len, hash))
			return t->slots[t->index[i] - 1];
	}
	return NULL;
}

struct name *names_next(const struct node *dir, uint64_t after_cookie)
{
	uint32_t i = slot_from(&dir->names, after_cookie + 1);

	return i < dir->names.used ? dir->names.slots[i] : NULL;
}

void names_free(struct names *t)
{
	for (uint32_t i = 0; i < t->used; i++) {
		if (t->slots[i]) {
			t->slots[i]->dir = NULL;
			name_put(t->slots[i]);
		}
	}
	free(t->slots);
	free(t->index);
	*t = (struct names){0};
}

/* ---- the log ---- */

static struct change *log_new(struct disk *d, enum change_kind kind)
{
	struct change *c;

	if (d->log_count == d->log_cap) {
		d->log_cap = d->log_cap ? d->log_cap * 2 : 256;
		d->log = need(reallocarray(d->log, d->log_cap, sizeof(*d->log)));
	}
	c = &d->log[d->log_count++];
	*c = (struct change){.kind = kind, .first = !d->in_call};
	d->in_call = true;
	return c;
}

static void log_name(enum change_kind kind, const struct name *m)
{
	struct change *c = log_new(m->dir->disk, kind);

	c->dir = node_get(m->dir);
	c->node = node_get(m->node);
	c->text = need(malloc(m->len + 1u));
	memcpy(c->text, m->text, m->len + 1u);
	c->len = m->len;
	c->old.mtime = m->dir->a.mtime;
	c->old.ctime = m->dir->a.ctime;
}

static void change_fini(struct change *c)
{
	if (c->dir)
		node_put(c->dir);
	if (c->kind == CHANGE_ATTRS)
		xattrs_put(c->old.xattrs);
	node_put(c->node);
	free(c->text);
}

void disk_attrs_change(struct node *n)
{
	struct change *c;

	n->disk->in_call = false;
	c = log_new(n->disk, CHANGE_ATTRS);
	c->node = node_get(n);
	c->old = n->a;
	(void)xattrs_get(n->a.xattrs);
	n->changes++;
}

void disk_log_durable(struct disk *d)
{
	for (size_t i = 0; i < d->log_count; i++)
		change_fini(&d->log[i]);
	d->log_count = 0;
}

void disk_log_durable_node(struct node *n)
{
	for (size_t i = 0; i < n->disk->log_count; i++) {
		if (n->disk->log[i].kind == CHANGE_ATTRS && n->disk->log[i].node == n)
			n->disk->log[i].durable = true;
	}
}

static void take_back(struct change *c)
{
	struct name *m;

	if (c->kind == CHANGE_ATTRS) {
		struct xattrs *now = c->node->a.xattrs;

		if (!c->durable) {
			c->node->a = c->old;
			c->old.xattrs = now;
		}
		return;
	}
	if (c->kind == CHANGE_ADD) {
		m = names_find(c->dir, c->text, c->len);
		table_remove(m);
		name_put(m);
	} else {
		table_add(c->dir, name_new(node_get(c->node), c->text, c->len));
	}
	c->dir->a.mtime = c->old.mtime;
	c->dir->a.ctime = c->old.ctime;
}

void disk_log_power_cut(struct disk *d)
{
	size_t keep = 0;

	switch (sim_below(STREAM_DISK, 3)) {
	case 0:
		break;
	case 1:
		keep = d->log_count;
		break;
	default:
		keep = sim_below(STREAM_DISK, d->log_count + 1);
	}
	while (keep < d->log_count && !d->log[keep].first)
		keep++;
	for (size_t i = d->log_count; i > keep; i--)
		take_back(&d->log[i - 1]);
	disk_log_durable(d);
}

/* ---- changes ---- */

static void (*before_change)(void *arg, const struct disk *d, const struct disk_entry *taken);
static void *before_change_arg;

void disk_before_change(
	void (*fn)(void *arg, const struct disk *d, const struct disk_entry *taken), void *arg)
{
	before_change = fn;
	before_change_arg = arg;
}

/* Below the root; cut at the front where it is longer than fits. */
static const char *path_of(const struct name *m, char *end, size_t size)
{
	*--end = '\0';
	for (size--; m && m->dir && size > m->len; m = m->dir->self) {
		end -= m->len;
		memcpy(end, m->text, m->len);
		*--end = '/';
		size -= m->len + 1;
	}
	return end;
}

void disk_changing(const struct disk *d, const struct name *name, struct node *n)
{
	struct disk_entry taken;
	char path[PATH_MAX];

	if (!before_change)
		return;
	if (n)
		disk_fill(n, name ? path_of(name, path + sizeof(path), sizeof(path)) : NULL, &taken);
	before_change(before_change_arg, d, n ? &taken : NULL);
}

static void dir_changed(struct node *dir, int64_t now)
{
	dir->a.mtime = dir->a.ctime = now;
	dir->changes++;
}

static uint32_t is_dir_mask(const struct node *n)
{
	return node_is_dir(n) ? IN_ISDIR : 0;
}

static void attach(struct node *dir, struct name *take_name)
{
	table_add(dir, take_name);
	log_name(CHANGE_ADD, take_name);
	if (node_is_dir(take_name->node)) {
		take_name->node->self = take_name;
		dir->nlink++;
	}
}

/* The reference of the directory is the caller's then. */
static void detach(struct name *m)
{
	log_name(CHANGE_REMOVE, m);
	if (node_is_dir(m->node))
		m->dir->nlink--;
	table_remove(m);
}

struct name *disk_add(struct node *dir, const char *text, size_t len, struct node *take_node)
{
	struct name *m = name_new(take_node, text, len);
	int64_t now = disk_now(dir->disk);

	disk_changing(dir->disk, NULL, NULL);
	dir->disk->in_call = false;
	if (!node_is_dir(take_node)) {
		take_node->nlink++;
		take_node->a.ctime = now;
	}
	attach(dir, m);
	dir_changed(dir, now);
	if (take_node->nlink > 1 && !node_is_dir(take_node))
		watch_node(take_node, IN_ATTRIB);
	watch_name(m, IN_CREATE | is_dir_mask(take_node), 0);
	return m;
}

/* A name is gone; its node may be, too. */
static void lost_name(struct name *take_name, int64_t now)
{
	struct node *n = take_name->node;

	n->nlink = node_is_dir(n) ? 0 : n->nlink - 1;
	n->a.ctime = now;
	n->changes++;
	if (!n->nlink && n->watches)
		watch_gone(n);
	node_maybe_dead(n);
	name_put(take_name);
}

void disk_remove(struct name *m)
{
	struct node *dir = m->dir;
	int64_t now = disk_now(dir->disk);

	disk_changing(dir->disk, m, m->node);
	dir->disk->in_call = false;
	watch_name(m, IN_DELETE | is_dir_mask(m->node), 0);
	dir->changes += m->node->changes;
	detach(m);
	dir_changed(dir, now);
	lost_name(m, now);
}

void disk_rename(struct name *m, struct node *to_dir, const char *text, size_t len, struct name *replaced)
{
	struct disk *d = to_dir->disk;
	struct node *from_dir = m->dir;
	int64_t now = disk_now(d);
	uint32_t cookie = ++d->cookie, mask = is_dir_mask(m->node);

	disk_changing(d, replaced, replaced ? replaced->node : NULL);
	d->in_call = false;
	watch_name(m, IN_MOVED_FROM | mask, cookie);
	if (replaced)
		detach(replaced);
	detach(m);
	set_text(m, text, len);
	attach(to_dir, m);
	m->node->a.ctime = now;
	dir_changed(from_dir, now);
	dir_changed(to_dir, now);
	watch_name(m, IN_MOVED_TO | mask, cookie);
	watch_node(m->node, IN_MOVE_SELF);
	if (replaced) {
		to_dir->changes += replaced->node->changes;
		lost_name(replaced, now);
	}
}

void disk_exchange(struct name *a, struct name *b)
{
	struct node *dir_a = a->dir, *dir_b = b->dir;
	struct disk *d = dir_a->disk;
	int64_t now = disk_now(d);
	uint32_t cookie = ++d->cookie, mask_a = is_dir_mask(a->node), mask_b = is_dir_mask(b->node);
	char *text_a = strdup(a->text);
	uint32_t len_a = a->len;

	disk_changing(d, NULL, NULL);
	d->in_call = false;
	watch_name(a, IN_MOVED_FROM | mask_a, cookie);
	watch_name(b, IN_MOVED_FROM | mask_b, cookie + 1);
	d->cookie++;
	detach(a);
	detach(b);
	set_text(a, b->text, b->len);
	set_text(b, need(text_a), len_a);
	attach(dir_b, a);
	attach(dir_a, b);
	a->node->a.ctime = b->node->a.ctime = now;
	dir_changed(dir_a, now);
	dir_changed(dir_b, now);
	watch_name(a, IN_MOVED_TO | mask_a, cookie);
	watch_name(b, IN_MOVED_TO | mask_b, cookie + 1);
	watch_node(a->node, IN_MOVE_SELF);
	watch_node(b->node, IN_MOVE_SELF);
	free(text_a);
}
