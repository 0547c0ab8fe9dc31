/* SPDX-License-Identifier: Apache-2.0 */
/* feed.h without HTTP: who is woken by what, caps, deadlines, and that no commit falls between looking and
 * parking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/mutex.h>

#include "feed.h"

#define DEADLINE_MS 5000
#define FAR_MS 60000
#define ROUNDS 20000

struct waiter {
	struct mutex lock;
	struct cond changed;
	unsigned woken;
	bool is_gone;
	struct feed_poll poll;
};

static int topic_a, topic_b;
static atomic_bool has_changed;

static void on_wake(void *request)
{
	struct waiter *w = request;

	MUTEX_GUARD(&w->lock);
	w->woken++;
	cond_signal(&w->changed);
}

static bool on_is_gone(void *request)
{
	return ((struct waiter *)request)->is_gone;
}

static bool on_has_changed(void *arg)
{
	return atomic_exchange(&has_changed, false);
}

static struct feed *start(uint32_t tick_ms)
{
	struct feed_config config = {.polls_per_owner = 2,
		.tick_ms = tick_ms,
		.has_changed = on_has_changed,
		.wake = on_wake,
		.is_gone = on_is_gone};
	struct feed *f = NULL;

	assert_int_equal(feed_start(&config, &f), 0);
	return f;
}

static void waiter_init(struct waiter *w, const void *topic, uint8_t owner, uint64_t wait_ms)
{
	*w = (struct waiter){.poll = {.request = w, .topic = topic}};
	memset(w->poll.owner, owner, sizeof(w->poll.owner));
	w->poll.deadline_ms = clock_mono_ms() + wait_ms;
	mutex_init(&w->lock, RANK_HTTP, "waiter");
	cond_init(&w->changed);
}

static void waiter_fini(struct waiter *w)
{
	feed_end(&w->poll);
	cond_fini(&w->changed);
	mutex_fini(&w->lock);
}

static void await_woken(struct waiter *w, unsigned count)
{
	uint64_t deadline = clock_mono_ms() + DEADLINE_MS;

	MUTEX_GUARD(&w->lock);
	while (w->woken < count)
		assert_true(cond_wait_until(&w->changed, &w->lock, deadline));
}

static void wakes_the_topic_only(void **state)
{
	struct feed *f = start(0);
	struct waiter a, b;

	waiter_init(&a, &topic_a, 1, FAR_MS);
	waiter_init(&b, &topic_b, 2, FAR_MS);
	assert_int_equal(feed_begin(f, &a.poll), 0);
	assert_int_equal(feed_begin(f, &b.poll), 0);
	assert_int_equal(feed_park(&a.poll), 0);
	assert_int_equal(feed_park(&b.poll), 0);
	assert_int_equal(feed_parked(f), 2);
	feed_publish(f, &topic_a);
	assert_int_equal(a.woken, 1);
	assert_int_equal(b.woken, 0);
	feed_publish(f, &topic_a); /* once is enough */
	assert_int_equal(a.woken, 1);
	assert_int_equal(feed_park(&a.poll), 0);
	feed_unpark(&a.poll);
	feed_publish(f, &topic_a);
	assert_int_equal(a.woken, 1);
	waiter_fini(&a);
	assert_int_equal(feed_parked(f), 1);
	waiter_fini(&b);
	assert_int_equal(feed_parked(f), 0);
	feed_stop(f);
}

static void caps_each_owner(void **state)
{
	struct feed *f = start(0);
	struct waiter w[3], other;

	for (int i = 0; i < 3; i++)
		waiter_init(&w[i], &topic_a, 1, FAR_MS);
	waiter_init(&other, &topic_a, 2, FAR_MS);
	assert_int_equal(feed_begin(f, &w[0].poll), 0);
	assert_int_equal(feed_begin(f, &w[1].poll), 0);
	assert_int_equal(feed_park(&w[1].poll), 0);
	assert_int_equal(feed_begin(f, &w[2].poll), -EDQUOT);
	assert_int_equal(feed_begin(f, &other.poll), 0);
	assert_int_equal(w[1].woken, 0);
	w[1].is_gone = true; /* its client was killed: the next try ends it */
	assert_int_equal(feed_begin(f, &w[2].poll), -EDQUOT);
	assert_int_equal(w[1].woken, 1);
	assert_int_equal(feed_park(&w[1].poll), -ETIMEDOUT);
	feed_end(&w[1].poll);
	assert_int_equal(feed_begin(f, &w[2].poll), 0);
	for (int i = 0; i < 3; i++)
		waiter_fini(&w[i]);
	waiter_fini(&other);
	feed_stop(f);
}

static void wakes_at_the_deadline(void **state)
{
	struct feed *f = start(0);
	struct waiter late, soon;

	waiter_init(&late, &topic_a, 1, FAR_MS);
	waiter_init(&soon, &topic_a, 2, 30);
	assert_int_equal(feed_begin(f, &late.poll), 0);
	assert_int_equal(feed_begin(f, &soon.poll), 0);
	assert_int_equal(feed_park(&late.poll), 0);
	assert_int_equal(feed_park(&soon.poll), 0);
	await_woken(&soon, 1);
	assert_true(clock_mono_ms() >= soon.poll.deadline_ms);
	assert_int_equal(feed_park(&soon.poll), -ETIMEDOUT);
	assert_int_equal(late.woken, 0);
	waiter_fini(&soon);
	waiter_fini(&late);
	feed_stop(f);
}

static void wakes_when_rights_change_and_clients_go(void **state)
{
	struct feed *f = start(5);
	struct waiter w;

	waiter_init(&w, &topic_a, 1, FAR_MS);
	assert_int_equal(feed_begin(f, &w.poll), 0);
	assert_int_equal(feed_park(&w.poll), 0);
	atomic_store(&has_changed, true);
	await_woken(&w, 1);
	w.is_gone = true;
	assert_int_equal(feed_park(&w.poll), 0);
	await_woken(&w, 2);
	waiter_fini(&w);
	feed_stop(f);
}

static void cancel_wakes_all_and_lets_nobody_wait(void **state)
{
	struct feed *f = start(0);
	struct waiter w;

	waiter_init(&w, &topic_a, 1, FAR_MS);
	assert_int_equal(feed_begin(f, &w.poll), 0);
	assert_int_equal(feed_park(&w.poll), 0);
	feed_cancel(f);
	assert_int_equal(w.woken, 1);
	assert_int_equal(feed_park(&w.poll), -ECANCELED);
	feed_allow(f);
	assert_int_equal(feed_park(&w.poll), 0);
	waiter_fini(&w);
	feed_stop(f);
}

struct race {
	struct feed *feed;
	_Atomic uint64_t seq;
	_Atomic uint64_t seen;
};

/* Commits one after another, each as soon as the one before was seen. */
static void *commit_thread(void *arg)
{
	struct race *race = arg;

	for (uint64_t seq = 1; seq <= ROUNDS; seq++) {
		atomic_store(&race->seq, seq);
		feed_publish(race->feed, &topic_a);
		while (atomic_load(&race->seen) < seq)
			;
	}
	return NULL;
}

/* What api_poll does: register, look, and only then wait. A lost wake-up would wait for ever. */
static void loses_no_wake_up(void **state)
{
	struct race race = {.feed = start(0)};
	struct waiter w;
	pthread_t thread;
	uint64_t seen = 0;

	waiter_init(&w, &topic_a, 1, FAR_MS);
	assert_int_equal(feed_begin(race.feed, &w.poll), 0);
	assert_int_equal(pthread_create(&thread, NULL, commit_thread, &race), 0);
	while (seen < ROUNDS) {
		unsigned woken;

		mutex_lock(&w.lock);
		woken = w.woken;
		mutex_unlock(&w.lock);
		assert_int_equal(feed_park(&w.poll), 0);
		if (atomic_load(&race.seq) == seen)
			await_woken(&w, woken + 1);
		else
			feed_unpark(&w.poll);
		seen = atomic_load(&race.seq);
		atomic_store(&race.seen, seen);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	waiter_fini(&w);
	feed_stop(race.feed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wakes_the_topic_only),
		cmocka_unit_test(caps_each_owner),
		cmocka_unit_test(wakes_at_the_deadline),
		cmocka_unit_test(wakes_when_rights_change_and_clients_go),
		cmocka_unit_test(cancel_wakes_all_and_lets_nobody_wait),
		cmocka_unit_test(loses_no_wake_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
