/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that serve the kernel's requests, called by mount.c. One thread is on duty: it reads a request,
 * serves it, reads the next. Several readers would take turns, and each request would wake one that has slept
 * on another core: with small files that costs more than all the rest. The others stand by and come when
 * requests queue up, when the one on duty starts something that waits for a disk by its nature, and when it
 * has not come back for a while. Knows no request but by its number.
 */
#include "mount_loop.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/mutex.h>

/* More than cores, since they wait for disks. Each holds a buffer, touched as far as requests are large. */
#define THREADS_MAX 10
#define QUEUED_MAX 16 /* requests in a row that were there already: one thread is not enough */
#define AT_ONCE_US 2 /* a read that took no longer did not wait */
#define TICK_MS 10 /* so long may one request keep the others waiting, about */
#define QUIET_TICKS 10 /* without requests: the watch sleeps, too */
#define WAKE_AGAIN_MS 20

struct mount_loop {
	struct fuse_session *session;
	bool slow_close;

	atomic_ulong begun; /* requests read. seq_cst, with watched: one of the two sides sees the other */
	atomic_uint reading; /* threads inside of a read */
	atomic_bool watched; /* somebody looks at begun every TICK_MS */
	atomic_bool crowded; /* on_duty > 1; a hint */

	struct mutex lock; /* guards all below */
	struct cond duty; /* wanted or has_watch changed, for who stands by; ended */
	struct cond watch; /* wanted or watched changed, for who keeps watch; ended */
	struct cond gone; /* ended, alive */
	bool ended, has_watch;
	int error;
	unsigned on_duty, wanted, standing, alive;
	pthread_t threads[THREADS_MAX];
	unsigned threads_count;
};

static void *serve(void *arg);

/* ---- who is on duty ---- */

/* One more thread that stands by, when there may be one. */
static int add_thread_locked(struct mount_loop *l)
{
	int r;

	if (l->threads_count == THREADS_MAX)
		return 0;
	r = -pthread_create(&l->threads[l->threads_count], NULL, serve, l);
	if (r)
		return r;
	l->threads_count++;
	l->alive++;
	l->standing++;
	return 0;
}

/* One more comes on duty, as soon as one is free. */
static void call_locked(struct mount_loop *l)
{
	l->wanted++;
	if (l->standing < l->wanted + 1) {
		int r = add_thread_locked(l);

		if (r && !l->standing)
			log_warn("threads for requests: %s", err_str(r));
	}
	/* Who keeps watch comes only when there is nobody else. */
	if (l->standing > l->wanted)
		cond_signal(&l->duty);
	else
		cond_signal(&l->watch);
}

static void call(struct mount_loop *l)
{
	MUTEX_GUARD(&l->lock);
	if (l->on_duty + l->wanted < THREADS_MAX)
		call_locked(l);
}

static void leave_duty(struct mount_loop *l)
{
	MUTEX_GUARD(&l->lock);
	l->on_duty--;
	atomic_store(&l->crowded, l->on_duty > 1);
	if (l->on_duty + l->wanted == 0)
		call_locked(l);
}

/* Requests have come to a rest, or one keeps the thread on duty: then somebody else is called. */
static void watch_locked(struct mount_loop *l)
{
	unsigned long before = atomic_load(&l->begun);
	unsigned quiet = 0;

	atomic_store(&l->watched, true);
	while (!l->ended && l->standing > l->wanted) {
		unsigned long now;

		if (quiet >= QUIET_TICKS) {
			atomic_store(&l->watched, false);
			if (atomic_load(&l->begun) == before)
				cond_wait(&l->watch, &l->lock);
			atomic_store(&l->watched, true);
			quiet = 0;
		} else {
			(void)cond_wait_until(&l->watch, &l->lock, clock_mono_ms() + TICK_MS);
		}
		now = atomic_load(&l->begun);
		if (now != before)
			quiet = 0;
		else if (atomic_load(&l->reading))
			quiet++;
		else if (l->on_duty + l->wanted < THREADS_MAX)
			call_locked(l);
		before = now;
	}
}

/* False: the end. is_new: counted among those that stand by when it was made. */
static bool stand_by(struct mount_loop *l, bool is_new)
{
	bool come;

	mutex_lock(&l->lock);
	l->standing += !is_new;
	while (!l->ended && !l->wanted) {
		if (l->has_watch) {
			cond_wait(&l->duty, &l->lock);
			continue;
		}
		l->has_watch = true;
		watch_locked(l);
		l->has_watch = false;
	}
	come = !l->ended;
	l->standing--;
	if (come) {
		l->wanted--;
		l->on_duty++;
		atomic_store(&l->crowded, l->on_duty > 1);
	} else {
		l->alive--;
		cond_signal(&l->gone);
	}
	mutex_unlock(&l->lock);
	return come;
}

/* ---- serving ---- */

static void wake_watch(struct mount_loop *l)
{
	MUTEX_GUARD(&l->lock);
	cond_signal(&l->watch);
}

/* What waits for a disk by its nature. */
static bool is_slow(const struct mount_loop *l, const struct fuse_buf *request)
{
	const struct fuse_in_header *in = request->mem;

	if (request->size < sizeof(*in))
		return false;
	switch (in->opcode) {
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	case FUSE_FLUSH:
		return l->slow_close;
	default:
		return false;
	}
}

static void end_locked(struct mount_loop *l, int error)
{
	l->ended = true;
	if (!l->error)
		l->error = error;
	cond_broadcast(&l->duty);
	cond_broadcast(&l->watch);
	cond_broadcast(&l->gone);
}

/*
 * One request, or none. -ESHUTDOWN: the end. *ret_slow: the thread went off duty to serve it. *ret_at_once:
 * it was there already.
 */
static int serve_one(struct mount_loop *l, struct fuse_buf *request, bool *ret_slow, bool *ret_at_once)
{
	uint64_t before = clock_mono_us();
	int n;

	atomic_fetch_add(&l->reading, 1);
	n = fuse_session_receive_buf(l->session, request);
	atomic_fetch_sub(&l->reading, 1);
	*ret_at_once = clock_mono_us() - before <= AT_ONCE_US;
	if (n == -EINTR || n == -EAGAIN) {
		if (!fuse_session_exited(l->session))
			return 0;
		n = 0;
	}
	if (n <= 0 || fuse_session_exited(l->session)) {
		MUTEX_GUARD(&l->lock);
		end_locked(l, n < 0 ? n : 0);
		return -ESHUTDOWN;
	}
	atomic_fetch_add(&l->begun, 1);
	if (!atomic_load(&l->watched))
		wake_watch(l);
	*ret_slow = is_slow(l, request);
	if (*ret_slow)
		leave_duty(l);
	fuse_session_process_buf(l->session, request);
	return 0;
}

/* When nothing is to be read, a second thread may go. The last one stays and waits. */
static bool retire(struct mount_loop *l)
{
	struct pollfd p = {.fd = fuse_session_fd(l->session), .events = POLLIN};

	if (!atomic_load(&l->crowded) || poll(&p, 1, 0) == 1)
		return false;
	MUTEX_GUARD(&l->lock);
	if (l->on_duty < 2)
		return false;
	l->on_duty--;
	atomic_store(&l->crowded, l->on_duty > 1);
	return true;
}

static void fall_out(struct mount_loop *l)
{
	MUTEX_GUARD(&l->lock);
	l->on_duty--;
	l->alive--;
	cond_signal(&l->gone);
}

/* Until others do it. False: the end. */
static bool on_duty(struct mount_loop *l, struct fuse_buf *request)
{
	unsigned queued = 0;

	while (!retire(l)) {
		bool slow = false, at_once = false;

		if (serve_one(l, request, &slow, &at_once) < 0) {
			fall_out(l);
			return false;
		}
		if (slow)
			break;
		queued = at_once ? queued + 1 : 0;
		if (queued >= QUEUED_MAX) {
			call(l);
			queued = 0;
		}
	}
	return true;
}

static void *serve(void *arg)
{
	struct mount_loop *l = arg;
	struct fuse_buf request = {.mem = NULL};
	bool is_new = true;

	while (stand_by(l, is_new) && on_duty(l, &request))
		is_new = false;
	free(request.mem);
	return NULL;
}

/* ---- life ---- */

int mount_loop_new(struct fuse_session *session, bool slow_close, struct mount_loop **ret_loop)
{
	struct mount_loop *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->session = session;
	l->slow_close = slow_close;
	mutex_init(&l->lock, RANK_QUEUE, "request threads");
	cond_init(&l->duty);
	cond_init(&l->watch);
	cond_init(&l->gone);
	*ret_loop = l;
	return 0;
}

void mount_loop_free(struct mount_loop *l)
{
	if (!l)
		return;
	cond_fini(&l->duty);
	cond_fini(&l->watch);
	cond_fini(&l->gone);
	mutex_fini(&l->lock);
	free(l);
}

void mount_loop_end(struct mount_loop *l)
{
	fuse_session_exit(l->session);
	MUTEX_GUARD(&l->lock);
	end_locked(l, 0);
}

/* Again and again: a signal may come before the read that it is to interrupt. */
static void wait_for_threads(struct mount_loop *l, int wake_signal)
{
	mutex_lock(&l->lock);
	while (!l->ended)
		cond_wait(&l->gone, &l->lock);
	fuse_session_exit(l->session);
	while (l->alive) {
		for (unsigned i = 0; i < l->threads_count; i++)
			(void)pthread_kill(l->threads[i], wake_signal);
		(void)cond_wait_until(&l->gone, &l->lock, clock_mono_ms() + WAKE_AGAIN_MS);
	}
	mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->threads_count; i++)
		(void)pthread_join(l->threads[i], NULL);
}

int mount_loop_run(struct mount_loop *l, int wake_signal)
{
	int r;

	mutex_lock(&l->lock);
	call_locked(l);
	r = l->threads_count ? 0 : -EAGAIN;
	if (!r && l->threads_count == 1)
		r = add_thread_locked(l);
	if (r)
		end_locked(l, r);
	mutex_unlock(&l->lock);
	wait_for_threads(l, wake_signal);
	fuse_session_reset(l->session);
	return r ? r : l->error;
}
