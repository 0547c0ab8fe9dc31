/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify on the simulated disk: watches on nodes, events in a bounded queue. Called by the calls of syncfs
 * (-Wl,--wrap) and by disk_names.c for each change of names. An event equal to the last one in the queue is
 * dropped, as by the kernel.
 */
#include "sysio_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "sim.h"
#include "sysio_wraps.h"

#define EVENTS_MAX 16384 /* fs.inotify.max_queued_events */
#define EVENTS_FEW 24 /* where overflows are to happen */

struct watch {
	struct watch *next_of_node, *next_of_watcher;
	struct node *node; /* a reference */
	struct watcher *watcher;
	uint32_t mask;
	int wd;
};

struct head { /* as struct inotify_event, without its name */
	int wd;
	uint32_t mask, cookie, len;
};

struct event {
	struct event *next;
	struct head head;
	char name[DISK_NAME_MAX + 1];
};

struct watcher {
	struct sysio *owner;
	struct watch *watches;
	struct event *first, *last;
	unsigned count, max;
	int next_wd;
};

/* ---- the queue ---- */

static bool is_last(const struct watcher *w, const struct head *head, const char *name)
{
	return w->last && w->last->head.wd == head->wd && w->last->head.mask == head->mask &&
		w->last->head.cookie == head->cookie && strcmp(w->last->name, name) == 0;
}

static void put(struct watcher *w, struct head head, const char *name, size_t len)
{
	struct event *e;

	if (len)
		head.len = (uint32_t)((len + 16) / 16 * 16); /* padded, with at least one NUL */
	if (w->count >= w->max) {
		head = (struct head){.wd = -1, .mask = IN_Q_OVERFLOW};
		name = "";
		sim_count("fault: inotify queue overflows");
	}
	if (is_last(w, &head, name))
		return;
	e = need(calloc(1, sizeof(*e)));
	e->head = head;
	memcpy(e->name, name, strlen(name) + 1);
	*(w->last ? &w->last->next : &w->first) = e;
	w->last = e;
	w->count++;
	waitq_wake_all(&w->owner->wait);
}

bool watcher_is_ready(const struct watcher *w)
{
	return w->first != NULL;
}

ssize_t watcher_read(struct watcher *w, void *buf, size_t len)
{
	size_t used = 0;

	while (w->first) {
		struct event *e = w->first;
		size_t size = sizeof(e->head) + e->head.len;

		if (used + size > len)
			return used ? (ssize_t)used : -EINVAL;
		memcpy((char *)buf + used, &e->head, sizeof(e->head));
		memset((char *)buf + used + sizeof(e->head), 0, e->head.len);
		if (e->head.len)
			memcpy((char *)buf + used + sizeof(e->head), e->name, strlen(e->name));
		used += size;
		w->first = e->next;
		if (!w->first)
			w->last = NULL;
		w->count--;
		free(e);
	}
	return (ssize_t)used;
}

/* ---- watches ---- */

static void unlink_of_node(struct watch *x)
{
	struct watch **at = &x->node->watches;

	while (*at != x)
		at = &(*at)->next_of_node;
	*at = x->next_of_node;
}

static void unlink_of_watcher(struct watch *x)
{
	struct watch **at = &x->watcher->watches;

	while (*at != x)
		at = &(*at)->next_of_watcher;
	*at = x->next_of_watcher;
}

static void watch_free(struct watch *x)
{
	unlink_of_node(x);
	unlink_of_watcher(x);
	node_put(x->node);
	free(x);
}

void watcher_free(struct watcher *w)
{
	if (!w)
		return;
	while (w->watches)
		watch_free(w->watches);
	while (w->first) {
		struct event *e = w->first;

		w->first = e->next;
		free(e);
	}
	free(w);
}

void watch_name(const struct name *m, uint32_t mask, uint32_t cookie)
{
	if (!m->dir)
		return;
	for (struct watch *x = m->dir->watches; x; x = x->next_of_node) {
		if (x->mask & mask & IN_ALL_EVENTS)
			put(x->watcher, (struct head){.wd = x->wd, .mask = mask, .cookie = cookie}, m->text,
				m->len);
	}
}

void watch_node(struct node *n, uint32_t mask)
{
	for (struct watch *x = n->watches; x; x = x->next_of_node) {
		if (x->mask & mask & IN_ALL_EVENTS)
			put(x->watcher, (struct head){.wd = x->wd, .mask = mask}, "", 0);
	}
}

void watch_gone(struct node *n)
{
	watch_node(n, IN_DELETE_SELF);
	while (n->watches) {
		struct watch *x = n->watches;

		put(x->watcher, (struct head){.wd = x->wd, .mask = IN_IGNORED}, "", 0);
		watch_free(x);
	}
}

/* ---- calls ---- */

int __wrap_inotify_init1(int flags)
{
	struct sysio *s = sys_enter("inotify_init1");
	struct open_file *f;

	if (!s)
		return __real_inotify_init1(flags);
	f = file_new(s, FILE_INOTIFY, flags & IN_NONBLOCK ? O_NONBLOCK : 0);
	f->watcher = need(calloc(1, sizeof(*f->watcher)));
	f->watcher->owner = s;
	f->watcher->next_wd = 1;
	f->watcher->max = sim_chance(STREAM_DISK, PPM / 4) ? EVENTS_FEW : EVENTS_MAX;
	return file_install(s, f, FIRST_FD);
}

static struct watcher *watcher_of(const struct sysio *s, int fd)
{
	const struct open_file *f = file_of(s, fd);

	return f ? f->watcher : NULL;
}

static int add_watch(struct watcher *w, struct node *n, uint32_t mask)
{
	struct watch *x;

	for (x = n->watches; x; x = x->next_of_node) {
		if (x->watcher == w) {
			x->mask = mask & IN_MASK_ADD ? x->mask | mask : mask;
			return x->wd;
		}
	}
	x = need(calloc(1, sizeof(*x)));
	*x = (struct watch){.next_of_node = n->watches,
		.next_of_watcher = w->watches,
		.node = node_get(n),
		.watcher = w,
		.mask = mask,
		.wd = w->next_wd++};
	n->watches = w->watches = x;
	return x->wd;
}

int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	struct sysio *s = sys_enter("inotify_add_watch");
	struct watcher *w;
	struct name *m;
	int r;

	if (!s)
		return __real_inotify_add_watch(fd, path, mask);
	w = watcher_of(s, fd);
	r = w ? disk_fault(s->disk) : -EBADF;
	if (r == 0)
		r = path_find(s, AT_FDCWD, path, mask & IN_DONT_FOLLOW ? 0 : SPOT_FOLLOW, &m);
	if (r == 0 && (mask & IN_ONLYDIR) && !node_is_dir(m->node))
		r = -ENOTDIR;
	return (int)sys_return(r < 0 ? r : add_watch(w, m->node, mask));
}

int __wrap_inotify_rm_watch(int fd, int wd)
{
	struct sysio *s = sys_enter("inotify_rm_watch");
	struct watcher *w;

	if (!s)
		return __real_inotify_rm_watch(fd, wd);
	w = watcher_of(s, fd);
	for (struct watch *x = w ? w->watches : NULL; x; x = x->next_of_watcher) {
		if (x->wd == wd) {
			put(w, (struct head){.wd = wd, .mask = IN_IGNORED}, "", 0);
			watch_free(x);
			return 0;
		}
	}
	return (int)sys_return(w ? -EINVAL : -EBADF);
}
