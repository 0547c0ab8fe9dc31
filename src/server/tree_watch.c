/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree_watch.h on inotify: a watch per directory, bursts put together. Called by the store, which says what
 * to watch and hears what changed. Never looks at the tree itself.
 */
#include "tree_watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/map.h>
#include <syncfs/mutex.h>
#include <syncfs/path.h>

#define QUIET_MS 20
#define BURST_MAX_MS 200 /* a steady stream is handed on in pieces */
#define BURST_MAX_EVENTS 4096
#define EVENTS_OF_INTEREST                                                                                   \
	(IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR |     \
		IN_DONT_FOLLOW | IN_EXCL_UNLINK)

struct tree_watch {
	struct mutex lock; /* RANK_QUEUE */
	struct map *dirs; /* watch descriptor -> struct id */

	/* the thread's own */
	struct watch_event *events;
	size_t count, cap;
	struct map *known; /* names in events */
	bool overflow;
	uint64_t first_ms, last_ms;

	/* set at open, then read-only */
	struct watch_ops ops;
	int fd, wake_fd;
	pthread_t thread;
	bool runs;
	atomic_bool stop; /* order by wake_fd */
};

int tree_watch_open(const struct watch_ops *ops, struct tree_watch **ret_watch)
{
	struct tree_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	mutex_init(&w->lock, RANK_QUEUE, "tree watch");
	w->ops = *ops;
	w->dirs = map_new();
	w->known = map_new();
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	w->wake_fd = w->fd < 0 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!w->dirs || !w->known || w->wake_fd < 0) {
		r = w->dirs && w->known ? -errno : -ENOMEM;
		tree_watch_stop(w);
		return r;
	}
	*ret_watch = w;
	return 0;
}

int tree_watch_add(struct tree_watch *w, int dirfd, const char *name, const struct id *id)
{
	char path[64 + NAME_MAX_BYTES];
	struct id *copy, *old;
	int wd, r;

	(void)snprintf(path, sizeof(path), *name ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d/.", dirfd, name);
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *id;
	MUTEX_GUARD(&w->lock);
	wd = inotify_add_watch(w->fd, path, EVENTS_OF_INTEREST);
	if (wd < 0) {
		r = -errno;
		free(copy);
		return r;
	}
	old = map_get(w->dirs, &wd, sizeof(wd));
	r = map_put(w->dirs, &wd, sizeof(wd), copy);
	free(r < 0 ? copy : old);
	return r;
}

void tree_watch_kick(struct tree_watch *w)
{
	uint64_t one = 1;

	(void)!write(w->wake_fd, &one, sizeof(one));
}

/* ---- the thread ---- */

static void events_forget(struct tree_watch *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->events[i].name);
	w->count = 0;
	w->overflow = false;
	map_free(w->known);
	w->known = map_new();
	if (!w->known)
		w->overflow = true; /* no memory to tell names apart: all is to be looked at */
}

static int note(struct tree_watch *w, const struct id *dir, const char *name)
{
	uint8_t key[ID_BYTES + NAME_MAX_BYTES + 1];
	size_t len = strlen(name);
	char *copy;

	if (!w->known || len > NAME_MAX_BYTES)
		return -ENOMEM;
	memcpy(key, dir->b, ID_BYTES);
	memcpy(key + ID_BYTES, name, len);
	if (map_get(w->known, key, ID_BYTES + len))
		return 0;
	if (w->count == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		struct watch_event *grown = reallocarray(w->events, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		w->events = grown;
		w->cap = cap;
	}
	copy = strdup(name);
	if (!copy || map_put(w->known, key, ID_BYTES + len, w) < 0) {
		free(copy);
		return -ENOMEM;
	}
	w->events[w->count++] = (struct watch_event){*dir, copy};
	return 0;
}

static void take_event(struct tree_watch *w, const struct inotify_event *e)
{
	struct id *id, dir;

	if (e->mask & IN_Q_OVERFLOW) {
		w->overflow = true;
		return;
	}
	{
		MUTEX_GUARD(&w->lock);
		id = map_get(w->dirs, &e->wd, sizeof(e->wd));
		if (!id)
			return;
		dir = *id;
		if (e->mask & IN_IGNORED) {
			(void)map_remove(w->dirs, &e->wd, sizeof(e->wd));
			free(id);
		}
	}
	if (e->len == 0 || (e->mask & IN_IGNORED))
		return; /* the directory itself: its parent tells */
	if (note(w, &dir, e->name) < 0)
		w->overflow = true;
}

static void read_events(struct tree_watch *w)
{
	_Alignas(struct inotify_event) char block[16384];
	ssize_t n;

	while ((n = read(w->fd, block, sizeof(block))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e =
				(const struct inotify_event *)(const void *)(block + at);

			take_event(w, e);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
		w->last_ms = clock_mono_ms();
		if (w->first_ms == 0)
			w->first_ms = w->last_ms;
		if (w->count >= BURST_MAX_EVENTS)
			break;
	}
}

/* Milliseconds until what was heard is handed on; 0: now. */
static int burst_wait(const struct tree_watch *w)
{
	uint64_t now = clock_mono_ms(), due = w->last_ms + QUIET_MS;

	if (w->count >= BURST_MAX_EVENTS)
		return 0;
	if (due > w->first_ms + BURST_MAX_MS)
		due = w->first_ms + BURST_MAX_MS;
	return due > now ? (int)(due - now) : 0;
}

static void *watch_main(void *arg)
{
	struct tree_watch *w = arg;
	int delay = 0; /* the owner may have something waiting since its start */

	while (!atomic_load(&w->stop)) {
		struct pollfd fds[2] = {{w->wake_fd, POLLIN, 0}, {w->fd, POLLIN, 0}};
		bool pending = w->count || w->overflow;
		int n;
		uint64_t drained;

		/* During a burst the events gather in the kernel: one reading for many of them. */
		n = poll(fds, pending ? 1 : 2, pending ? burst_wait(w) : delay);
		if (atomic_load(&w->stop))
			break;
		if (pending || (n > 0 && fds[1].revents))
			read_events(w);
		if (n > 0 && fds[0].revents)
			(void)!read(w->wake_fd, &drained, sizeof(drained));
		if (w->count || w->overflow) {
			if (burst_wait(w) > 0)
				continue;
		} else if (n > 0 && !fds[0].revents) {
			continue;
		}
		delay = w->ops.changed(w->ops.arg, w->events, w->count, w->overflow);
		events_forget(w);
		w->first_ms = 0;
	}
	return NULL;
}

int tree_watch_start(struct tree_watch *w)
{
	int r = -pthread_create(&w->thread, NULL, watch_main, w);

	w->runs = r == 0;
	return r;
}

void tree_watch_stop(struct tree_watch *w)
{
	if (!w)
		return;
	atomic_store(&w->stop, true);
	if (w->runs) {
		tree_watch_kick(w);
		(void)pthread_join(w->thread, NULL);
	}
	events_forget(w);
	map_free_values(w->dirs);
	map_free(w->known);
	free(w->events);
	if (w->fd >= 0)
		(void)close(w->fd);
	if (w->wake_fd >= 0)
		(void)close(w->wake_fd);
	mutex_fini(&w->lock);
	free(w);
}
