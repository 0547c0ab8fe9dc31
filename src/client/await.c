/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread behind await.h. Called by fs_file (calls), mount (the end) and client (life). Decides by what
 * the queue and the connection say when a call is answered; never sends anything and never touches a file.
 */
#include "await.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#include "capture_internal.h"

#define TICK_MS 100 /* how often the connection is looked at while a call waits */
#define DEFERRED_TICK_MS 1000
#define HURRY_MS 1000 /* a server that is away is tried for so often while a call waits, or was given up */
/* Nothing goes up for so long although the server counts as there. A commit of a busy one takes less. */
#define STALL_MS 15000
/* The same before it has been reached for the first time. */
#define FIRST_STALL_MS 5000

struct call {
	struct promise promise; /* first: capture's list leads here */
	const void *key;
	await_answer *answer;
	void *arg;
	bool patient, armed, interrupted, seen;
	int result; /* positive: none yet */
	uint64_t since_ms;
	uint64_t failures; /* those before it was parked are none of its own */
};

/* What a restart must not forget; in the state database as it is here. */
struct deferred {
	uint64_t calls;
	uint64_t upto; /* lsn: settled when nothing up to here is pending */
};

struct await {
	/* guarded by capture's lock */
	bool closing, stopping;
	bool busy; /* the thread has calls in hand that it has not answered yet */
	struct deferred deferred;

	/* set at start, then read-only */
	struct await_config config;
	pthread_t thread;
	uint64_t hurried_ms; /* the thread's own */
};

static struct call *call_of(struct promise *p)
{
	return (struct call *)(void *)p;
}

/* ---- verdicts ---- */

static uint64_t later_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* No server for longer than was asked for. */
static bool is_given_up(const struct await *a, const struct call *c, const struct await_server *s)
{
	uint64_t idle_ms = clock_mono_ms() - later_of(c->since_ms, s->moved_ms);

	if (a->closing)
		return true;
	if (a->config.offline == OFFLINE_BLOCK && c->patient)
		return idle_ms >= a->config.block_s * 1000ull;
	return s->down || s->failures != c->failures || idle_ms >= (s->connected ? STALL_MS : FIRST_STALL_MS);
}

/* What the call is to be answered with; positive: it goes on waiting. */
static int judge_locked(struct await *a, struct call *c, const struct await_server *s)
{
	int r;

	if (!c->seen)
		c->failures = s->failures;
	c->seen = true;
	r = promise_look_locked(a->config.capture, &c->promise);
	if (r != 1 && r != -EAGAIN)
		return r;
	if (c->interrupted)
		return -EINTR;
	if (!is_given_up(a, c, s))
		return 1;
	if (a->config.offline != OFFLINE_DEFER)
		return -EIO;
	a->deferred.calls++;
	a->deferred.upto = journal_last_lsn(a->config.capture->journal);
	return 0;
}

/* Takes what can be answered now out of capture's list, linked by promise.next. */
static struct call *take_answerable_locked(struct await *a, const struct await_server *s)
{
	struct capture *cp = a->config.capture;
	struct call *done = NULL;
	struct promise *next;

	for (struct promise *p = cp->promises; p; p = next) {
		struct call *c = call_of(p);

		next = p->next;
		c->result = c->armed ? judge_locked(a, c, s) : 1;
		if (c->result > 0)
			continue;
		promise_end_locked(cp, p);
		p->next = done ? &done->promise : NULL;
		done = c;
	}
	return done;
}

/* ---- deferred calls ---- */

/* True: there is nothing more that they stand for. */
static bool is_made_up_locked(struct await *a, const struct await_server *s)
{
	struct capture *c = a->config.capture;

	if (!s->scanned) {
		/* What the scan finds was there before, too. */
		a->deferred.upto = journal_last_lsn(c->journal);
		return false;
	}
	return !capture_is_behind_locked(c, a->deferred.upto);
}

static int store_deferred(struct await *a, const struct deferred *d)
{
	struct syncstate *s = a->config.state;
	int r = syncstate_begin(s, true);

	if (r)
		return r;
	r = syncstate_meta_put(s, "deferred", d, sizeof(*d));
	return syncstate_end(s, r);
}

static int load_deferred(struct await *a)
{
	size_t len;
	int r = syncstate_peek_meta(a->config.state, "deferred", &a->deferred, sizeof(a->deferred), &len);

	if (!r && len != sizeof(a->deferred))
		r = -EBADMSG;
	if (r == -ENOENT || r == -EBADMSG) {
		a->deferred = (struct deferred){0};
		r = 0;
	}
	a->config.capture->deferred = a->deferred.calls;
	return r;
}

/* ---- the thread ---- */

static void answer_all(struct call *done, int error)
{
	while (done) {
		struct call *c = done;

		done = c->promise.next ? call_of(c->promise.next) : NULL;
		c->answer(c->arg, error && !c->result ? error : c->result);
		free(c);
	}
}

/* The pauses between attempts grow long while nobody waits. */
static void hurry(struct await *a)
{
	uint64_t now = clock_mono_ms();

	if (a->hurried_ms && now - a->hurried_ms < HURRY_MS)
		return;
	a->hurried_ms = now;
	a->config.hurry(a->config.arg);
}

/* One look at everything. True: something was answered, so look again before waiting. */
static bool sweep(struct await *a)
{
	struct capture *c = a->config.capture;
	struct await_server server = {0};
	struct deferred before, now;
	struct call *done;
	bool waited;
	int r = 0;

	a->config.server(a->config.arg, &server);
	mutex_lock(&c->lock);
	waited = c->promises != NULL;
	before = a->deferred;
	done = take_answerable_locked(a, &server);
	if (a->deferred.calls && a->deferred.calls == before.calls && is_made_up_locked(a, &server))
		a->deferred.calls = 0;
	now = a->deferred;
	c->deferred = now.calls;
	mutex_unlock(&c->lock);
	if (waited && server.down)
		hurry(a);
	/* The mark is there before anybody hears success. */
	if (now.calls != before.calls)
		r = store_deferred(a, &now);
	if (r)
		log_error("remembering that calls were answered before the server had their data: %s",
			err_str(r));
	if (!done)
		return false;
	answer_all(done, r ? -EIO : 0);
	c->released(c->released_arg);
	return true;
}

static void *run(void *arg)
{
	struct await *a = arg;
	struct capture *c = a->config.capture;
	bool again = true;

	mutex_lock(&c->lock);
	while (!a->stopping) {
		if (!again && !c->promises && !a->deferred.calls) {
			cond_wait(&c->awaited, &c->lock);
		} else if (!again) {
			(void)cond_wait_until(&c->awaited, &c->lock,
				clock_mono_ms() + (c->promises ? TICK_MS : DEFERRED_TICK_MS));
		}
		if (!c->promises && !a->deferred.calls) {
			cond_broadcast(&c->awaited); /* await_drain() */
			again = false;
			continue;
		}
		a->busy = true;
		mutex_unlock(&c->lock);
		again = sweep(a);
		mutex_lock(&c->lock);
		a->busy = false;
	}
	mutex_unlock(&c->lock);
	return NULL;
}

int await_start(const struct await_config *config, struct await **ret_await)
{
	struct await *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->config = *config;
	r = load_deferred(a);
	if (!r)
		r = -pthread_create(&a->thread, NULL, run, a);
	if (r) {
		free(a);
		return r;
	}
	*ret_await = a;
	return 0;
}

void await_stop(struct await *a)
{
	struct capture *c;

	if (!a)
		return;
	c = a->config.capture;
	mutex_lock(&c->lock);
	a->stopping = true;
	cond_broadcast(&c->awaited);
	mutex_unlock(&c->lock);
	pthread_join(a->thread, NULL);
	free(a);
}

/* ---- calls ---- */

static struct call *find_locked(struct await *a, const void *key)
{
	for (struct promise *p = a->config.capture->promises; p; p = p->next) {
		if (call_of(p)->key == key)
			return call_of(p);
	}
	return NULL;
}

int await_park(struct await *a, const struct stat_id *object, const void *key, bool patient,
	await_answer *answer, void *arg)
{
	struct capture *cp = a->config.capture;
	struct call *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->promise.object = *object;
	c->key = key;
	c->patient = patient;
	c->answer = answer;
	c->arg = arg;
	c->since_ms = clock_mono_ms();
	mutex_lock(&cp->lock);
	promise_begin_locked(cp, &c->promise);
	r = promise_look_locked(cp, &c->promise);
	if (r == -EAGAIN)
		capture_want_scan_locked(cp);
	if (r == 1 || r == -EAGAIN) {
		r = 1;
		c = NULL; /* the list's */
	} else {
		promise_end_locked(cp, &c->promise);
	}
	mutex_unlock(&cp->lock);
	free(c);
	return r;
}

void await_arm(struct await *a, const void *key)
{
	struct call *c;

	MUTEX_GUARD(&a->config.capture->lock);
	c = find_locked(a, key);
	if (c)
		c->armed = true;
	cond_broadcast(&a->config.capture->awaited);
}

void await_interrupt(struct await *a, const void *key)
{
	struct call *c;

	MUTEX_GUARD(&a->config.capture->lock);
	c = find_locked(a, key);
	if (c)
		c->interrupted = true;
	cond_broadcast(&a->config.capture->awaited);
}

void await_close(struct await *a)
{
	MUTEX_GUARD(&a->config.capture->lock);
	a->closing = true;
	cond_broadcast(&a->config.capture->awaited);
}

void await_drain(struct await *a)
{
	struct capture *c = a->config.capture;

	MUTEX_GUARD(&c->lock);
	while (c->promises || a->busy)
		cond_wait_until(&c->awaited, &c->lock, clock_mono_ms() + TICK_MS);
}
