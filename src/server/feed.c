/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parked long-polls, see the header. Called by api_poll for each poll, by the stores after each commit, and
 * by its own thread for deadlines. Knows neither HTTP nor the store.
 */
#include "feed.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/map.h>
#include <syncfs/mutex.h>

struct feed {
	struct mutex lock;
	struct cond wake;
	struct feed_poll *first;
	size_t parked;
	struct map *owners; /* owner -> number of its polls, as a pointer */
	uint64_t wake_at_ms; /* when the thread looks next */
	bool canceled, stopping;

	/* set at start, then read-only */
	struct feed_config config;
	pthread_t thread;
};

static void unlink_locked(struct feed_poll *p)
{
	if (!p->prev_link)
		return;
	*p->prev_link = p->next;
	if (p->next)
		p->next->prev_link = p->prev_link;
	p->next = NULL;
	p->prev_link = NULL;
	p->feed->parked--;
}

/* Under the lock, so that the request cannot end in between. */
static void wake_locked(struct feed_poll *p)
{
	struct feed *f = p->feed;

	unlink_locked(p);
	f->config.wake(p->request);
}

static void wake_gone_locked(struct feed *f)
{
	for (struct feed_poll *p = f->first, *next; p; p = next) {
		next = p->next;
		if (f->config.is_gone && f->config.is_gone(p->request)) {
			p->deadline_ms = 0;
			wake_locked(p);
		}
	}
}

static void wake_all_locked(struct feed *f)
{
	while (f->first)
		wake_locked(f->first);
}

/* Wakes those whose time is over; when the next one's is. */
static uint64_t wake_expired_locked(struct feed *f, uint64_t now)
{
	uint64_t next_ms = UINT64_MAX;

	for (struct feed_poll *p = f->first, *next; p; p = next) {
		next = p->next;
		if (p->deadline_ms <= now)
			wake_locked(p);
		else if (p->deadline_ms < next_ms)
			next_ms = p->deadline_ms;
	}
	return next_ms;
}

/* One look at the parked: not under the lock where the caller is asked. */
static void tick(struct feed *f)
{
	bool has_changed = f->config.has_changed && f->config.has_changed(f->config.arg);

	MUTEX_GUARD(&f->lock);
	if (has_changed)
		wake_all_locked(f);
	wake_gone_locked(f);
}

static void *feed_thread(void *arg)
{
	struct feed *f = arg;
	uint64_t last_tick_ms = 0;

	mutex_lock(&f->lock);
	while (!f->stopping) {
		uint64_t now = clock_mono_ms();

		if (f->first && f->config.tick_ms && now - last_tick_ms >= f->config.tick_ms) {
			mutex_unlock(&f->lock);
			tick(f);
			last_tick_ms = now;
			mutex_lock(&f->lock);
			continue;
		}
		f->wake_at_ms = wake_expired_locked(f, now);
		if (f->first && f->config.tick_ms && last_tick_ms + f->config.tick_ms < f->wake_at_ms)
			f->wake_at_ms = last_tick_ms + f->config.tick_ms;
		if (f->wake_at_ms == UINT64_MAX)
			cond_wait(&f->wake, &f->lock);
		else
			(void)cond_wait_until(&f->wake, &f->lock, f->wake_at_ms);
	}
	mutex_unlock(&f->lock);
	return NULL;
}

int feed_start(const struct feed_config *config, struct feed **ret_feed)
{
	struct feed *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->config = *config;
	f->wake_at_ms = UINT64_MAX;
	mutex_init(&f->lock, RANK_FEED, "feed");
	cond_init(&f->wake);
	f->owners = map_new();
	r = f->owners ? -pthread_create(&f->thread, NULL, feed_thread, f) : -ENOMEM;
	if (r) {
		map_free(f->owners);
		cond_fini(&f->wake);
		mutex_fini(&f->lock);
		free(f);
		return r;
	}
	*ret_feed = f;
	return 0;
}

void feed_cancel(struct feed *f)
{
	MUTEX_GUARD(&f->lock);
	f->canceled = true;
	wake_all_locked(f);
}

void feed_allow(struct feed *f)
{
	MUTEX_GUARD(&f->lock);
	f->canceled = false;
}

void feed_stop(struct feed *f)
{
	if (!f)
		return;
	mutex_lock(&f->lock);
	f->stopping = true;
	cond_signal(&f->wake);
	mutex_unlock(&f->lock);
	(void)pthread_join(f->thread, NULL);
	map_free(f->owners);
	cond_fini(&f->wake);
	mutex_fini(&f->lock);
	free(f);
}

static uintptr_t polls_of_locked(struct feed *f, const struct feed_poll *p)
{
	return (uintptr_t)map_get(f->owners, p->owner, sizeof(p->owner));
}

int feed_begin(struct feed *f, struct feed_poll *p)
{
	uintptr_t count;
	int r;

	MUTEX_GUARD(&f->lock);
	count = polls_of_locked(f, p);
	if (count >= f->config.polls_per_owner) {
		/* a client that was killed and came back must not stand in its own way */
		wake_gone_locked(f);
		return -EDQUOT;
	}
	r = map_put(f->owners, p->owner, sizeof(p->owner), (void *)(count + 1));
	if (!r)
		p->feed = f;
	return r;
}

void feed_end(struct feed_poll *p)
{
	struct feed *f = p->feed;
	uintptr_t count;

	if (!f)
		return;
	MUTEX_GUARD(&f->lock);
	unlink_locked(p);
	p->feed = NULL;
	count = polls_of_locked(f, p);
	if (count > 1)
		(void)map_put(f->owners, p->owner, sizeof(p->owner), (void *)(count - 1));
	else
		(void)map_remove(f->owners, p->owner, sizeof(p->owner));
}

int feed_park(struct feed_poll *p)
{
	struct feed *f = p->feed;

	MUTEX_GUARD(&f->lock);
	if (f->canceled)
		return -ECANCELED;
	if (p->deadline_ms <= clock_mono_ms())
		return -ETIMEDOUT;
	p->next = f->first;
	p->prev_link = &f->first;
	if (p->next)
		p->next->prev_link = &p->next;
	f->first = p;
	f->parked++;
	if (p->deadline_ms < f->wake_at_ms)
		cond_signal(&f->wake);
	return 0;
}

void feed_unpark(struct feed_poll *p)
{
	MUTEX_GUARD(&p->feed->lock);
	unlink_locked(p);
}

void feed_publish(struct feed *f, const void *topic)
{
	MUTEX_GUARD(&f->lock);
	for (struct feed_poll *p = f->first, *next; p; p = next) {
		next = p->next;
		if (p->topic == topic)
			wake_locked(p);
	}
}

size_t feed_parked(struct feed *f)
{
	MUTEX_GUARD(&f->lock);
	return f->parked;
}
