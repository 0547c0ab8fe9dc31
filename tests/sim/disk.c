/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk as the world sees it: life, copies, power cuts, faults, looking at it from outside.
 * Never lets another thread run.
 */
#include "disk_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "sim.h"

#define TICK_NS INT64_C(4000000) /* CONFIG_HZ=250 */
#define PATH_BYTES 4096

int64_t disk_now(const struct disk *d)
{
	struct timespec ts;
	int64_t now;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	now = ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
	return d->coarse ? now - now % TICK_NS : now;
}

/* ---- life ---- */

static struct disk *disk_empty(const char *name)
{
	static unsigned made;
	struct disk *d = need(calloc(1, sizeof(*d)));

	(void)snprintf(d->name, sizeof(d->name), "%s", name);
	d->dev = makedev(8, ++made);
	d->next_ino = 2;
	d->room = UINT64_MAX;
	return d;
}

static void make_root(struct disk *d)
{
	struct node *root = node_new(d, S_IFDIR | 0755, 0);

	d->root = name_new(root, "/", 1);
}

struct disk *disk_new(const char *name)
{
	struct disk *d = disk_empty(name);

	/* Before Linux 6.13, times have the resolution of a tick; since then, finer ones when they matter. */
	d->coarse = sim_chance(STREAM_DISK, PPM / 3);
	make_root(d);
	return d;
}

void disk_free(struct disk *d)
{
	if (!d)
		return;
	for (const struct node *n = d->first; n; n = n->next) {
		if (n->opens)
			return; /* a process has files of it open: left to the end of the run */
	}
	disk_log_durable(d);
	name_put(d->root);
	free(d->log);
	free(d->free_inos);
	free(d);
}

static struct node *copy_node(struct disk *d, struct node *from)
{
	struct node *n = node_new(d, from->a.mode, from->rdev);

	n->ino = from->ino;
	n->btime = from->btime;
	n->a = from->a;
	(void)xattrs_get(n->a.xattrs);
	n->nlink = from->nlink;
	n->changes = from->changes;
	if (from->high) {
		n->bytes = need(malloc(from->high + 1));
		memcpy(n->bytes, from->bytes, from->high);
		n->bytes[from->high] = '\0';
		n->cap = from->high + 1;
	}
	n->size = n->min_size = from->size;
	n->high = from->high;
	n->reserved = from->reserved;
	from->copy = n;
	return n;
}

/* The log of the copy is thrown away afterwards. */
static void copy_names(struct disk *d, const struct node *from, struct node *to)
{
	struct attrs a = to->a;
	unsigned nlink = to->nlink;

	for (uint32_t i = 0; i < from->names.used; i++) {
		const struct name *m = from->names.slots[i];
		struct node *n;

		if (!m)
			continue;
		n = m->node->copy ? node_get(m->node->copy) : copy_node(d, m->node);
		unsigned links = n->nlink;
		int64_t ctime = n->a.ctime;

		(void)disk_add(to, m->text, m->len, n);
		n->nlink = links;
		n->a.ctime = ctime;
		if (node_is_dir(n))
			copy_names(d, m->node, n);
	}
	to->a = a;
	to->nlink = nlink;
	to->changes = from->changes;
	to->next_cookie = from->next_cookie;
}

struct disk *disk_copy(const struct disk *from)
{
	struct disk *d = disk_empty(from->name);

	for (struct node *n = from->first; n; n = n->next)
		n->copy = NULL;
	d->dev = from->dev;
	d->coarse = from->coarse;
	d->room = UINT64_MAX;
	d->root = name_new(copy_node(d, from->root->node), "/", 1);
	copy_names(d, from->root->node, d->root->node);
	disk_log_durable(d);
	d->next_ino = from->next_ino;
	d->used = 0;
	for (const struct node *n = d->first; n; n = n->next)
		d->used += node_space(n);
	d->room = from->room;
	return d;
}

/* ---- power ---- */

static void count_links(struct disk *d)
{
	for (struct node *n = d->first; n; n = n->next)
		n->nlink = node_is_dir(n) ? 2 : 0;
	for (struct node *n = d->first; n; n = n->next) {
		for (uint32_t i = 0; i < n->names.used; i++) {
			struct name *m = n->names.slots[i];

			if (!m)
				continue;
			if (node_is_dir(m->node)) {
				m->node->self = m;
				n->nlink++;
			} else {
				m->node->nlink++;
			}
		}
	}
}

void disk_power_cut(struct disk *d)
{
	struct node *next;

	disk_log_power_cut(d);
	for (struct node *n = d->first; n; n = next) {
		next = n->next;
		if (n->opens)
			sim_fail("simulator", "power cut of %s while a process has files open", d->name);
		node_power_cut(n, sim_options.weak_disk);
	}
	count_links(d);
	d->free_count = 0;
	d->used = 0;
	for (struct node *n = d->first; n; n = n->next) {
		n->ino_freed = false;
		d->used += node_space(n);
	}
}

void disk_sync(struct disk *d)
{
	for (struct node *n = d->first; n; n = n->next)
		node_synced(n);
	disk_log_durable(d);
}

/* ---- faults ---- */

void disk_set_room(struct disk *d, uint64_t bytes)
{
	d->room = bytes;
}

uint64_t disk_used(const struct disk *d)
{
	return d->used;
}

bool disk_has_room(const struct disk *d, uint64_t more)
{
	if (d->room == UINT64_MAX)
		return true;
	return d->used <= d->room && more <= d->room - d->used;
}

void disk_fail_spell(struct disk *d, uint64_t calls, uint64_t count, int error)
{
	d->fail_at = calls ? d->calls + calls : 0;
	d->fail_count = count;
	d->fail_error = error;
}

void disk_fail_at(struct disk *d, uint64_t calls, int error)
{
	disk_fail_spell(d, calls, 1, error);
}

uint64_t disk_calls(const struct disk *d)
{
	return d->calls;
}

int disk_fault(struct disk *d)
{
	if (++d->calls < d->fail_at || !d->fail_at)
		return 0;
	if (d->calls >= d->fail_at + d->fail_count - 1)
		d->fail_at = 0;
	sim_count("fault: a call of the disk failed");
	return -d->fail_error;
}

/* ---- from outside ---- */

static struct name *find(const struct disk *d, const char *path)
{
	struct name *at = d->root;

	for (;;) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!len)
			return at;
		if (!node_is_dir(at->node))
			return NULL;
		at = names_find(at->node, path, len);
		if (!at)
			return NULL;
		path += len;
	}
}

static uint64_t sum_changes(const struct node *n)
{
	uint64_t sum = n->changes;

	for (uint32_t i = 0; i < n->names.used; i++) {
		if (n->names.slots[i])
			sum += sum_changes(n->names.slots[i]->node);
	}
	return sum;
}

uint64_t disk_changes(const struct disk *d, const char *below)
{
	const struct name *m = find(d, below);

	return m ? sum_changes(m->node) : 0;
}

struct walk {
	int (*fn)(void *arg, const struct disk_entry *e);
	void *arg;
	char path[PATH_BYTES];
};

void disk_fill(struct node *n, const char *path, struct disk_entry *ret)
{
	*ret = (struct disk_entry){.path = path};
	node_stat(n, &ret->st);
	if (S_ISREG(n->a.mode) || S_ISLNK(n->a.mode)) {
		ret->bytes = node_bytes(n);
		ret->len = n->size;
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp((*(struct name *const *)a)->text, (*(struct name *const *)b)->text);
}

static int walk_dir(struct walk *w, const struct node *dir, size_t len)
{
	struct name **sorted = need(malloc((dir->names.live + 1u) * sizeof(struct name *)));
	uint32_t count = 0;
	int r = 0;

	for (uint32_t i = 0; i < dir->names.used; i++) {
		if (dir->names.slots[i])
			sorted[count++] = dir->names.slots[i];
	}
	qsort(sorted, count, sizeof(struct name *), by_text);
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		struct disk_entry e;
		size_t end = len + (len > 0) + sorted[i]->len;

		if (end >= sizeof(w->path)) {
			r = -ENAMETOOLONG;
			break;
		}
		(void)snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len ? "/" : "", sorted[i]->text);
		disk_fill(sorted[i]->node, w->path, &e);
		r = w->fn(w->arg, &e);
		if (r == 0 && node_is_dir(sorted[i]->node))
			r = walk_dir(w, sorted[i]->node, end);
		w->path[len] = '\0';
	}
	free(sorted);
	return r;
}

int disk_walk(struct disk *d, const char *path, int (*fn)(void *arg, const struct disk_entry *e), void *arg)
{
	struct walk w = {.fn = fn, .arg = arg};
	const struct name *m = find(d, path);

	if (!m)
		return -ENOENT;
	return node_is_dir(m->node) ? walk_dir(&w, m->node, 0) : -ENOTDIR;
}

int disk_get(struct disk *d, const char *path, struct disk_entry *ret)
{
	const struct name *m = find(d, path);

	if (!m)
		return -ENOENT;
	disk_fill(m->node, m->text, ret);
	return 0;
}

/* The directory that a path's last part is in; made as needed. -errno. */
static int make_parent(
	struct disk *d, const char *path, mode_t mode, struct node **ret_dir, const char **ret_last)
{
	struct name *at = d->root;

	for (;;) {
		struct name *next;
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!path[len + strspn(path + len, "/")]) {
			*ret_dir = at->node;
			*ret_last = path;
			return 0;
		}
		next = names_find(at->node, path, len);
		if (!next)
			next = disk_add(at->node, path, len, node_new(d, S_IFDIR | mode, 0));
		if (!node_is_dir(next->node))
			return -ENOTDIR;
		at = next;
		path += len;
	}
}

int disk_mkdirs(struct disk *d, const char *path, mode_t mode)
{
	struct node *dir;
	const char *last;
	int r = make_parent(d, path, mode, &dir, &last);
	size_t len = r < 0 ? 0 : strcspn(last, "/");
	const struct name *m;

	if (len == 0)
		return r;
	m = names_find(dir, last, len);
	if (m)
		return node_is_dir(m->node) ? 0 : -ENOTDIR;
	(void)disk_add(dir, last, len, node_new(d, S_IFDIR | mode, 0));
	return 0;
}

int disk_put(struct disk *d, const char *path, mode_t mode, const void *bytes, size_t len)
{
	struct node *dir;
	const char *last;
	struct name *m;
	ssize_t n;
	int r = make_parent(d, path, 0755, &dir, &last);

	if (r < 0)
		return r;
	if (!*last)
		return -EISDIR;
	m = names_find(dir, last, strlen(last));
	if (m && !S_ISREG(m->node->a.mode))
		return node_is_dir(m->node) ? -EISDIR : -EEXIST;
	if (!m)
		m = disk_add(dir, last, strlen(last), node_new(d, S_IFREG | mode, 0));
	else
		(void)node_truncate(m->node, 0);
	n = node_write(m->node, bytes, len, 0);
	watch_name(m, 0x2 | 0x8, 0); /* IN_MODIFY | IN_CLOSE_WRITE */
	return n < 0 ? (int)n : (size_t)n < len ? -ENOSPC : 0;
}
