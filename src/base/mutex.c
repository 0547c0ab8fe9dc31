/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranked locks over pthreads. Debug builds keep, per thread, the stack of what it holds and
 * abort when a lock is taken out of order, so a possible deadlock shows on the first run that
 * takes the two locks, not on the one that meets it. Misuse is our bug: it aborts, always.
 */
#include <syncfs/mutex.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <syncfs/log.h>

/* pthread calls on our own locks fail only by misuse (EDEADLK, EPERM, EINVAL). */
static void check(int error, const char *what, const char *name)
{
	if (!error)
		return;
	log_error("lock %s: %s: %s", name, what, err_str(-error));
	abort();
}

#if defined(SYNCFS_LOCK_CHECKS) && SYNCFS_LOCK_CHECKS

#define HELD_MAX 16

struct held {
	const void *lock;
	const char *name;
	int rank;
};

/* In the order taken; ranks strictly ascend from the bottom to the top. */
static _Thread_local struct held held[HELD_MAX];
static _Thread_local size_t held_count;

static void note_take(const void *lock, int rank, const char *name)
{
	if (held_count) {
		/* Unlocking out of order keeps the rest ascending, so the top is the highest. */
		const struct held *top = &held[held_count - 1];

		if (rank <= top->rank) {
			log_error("lock order: taking %s (rank %d) while holding %s (rank %d)", name, rank,
				top->name, top->rank);
			abort();
		}
	}
	if (held_count == HELD_MAX) {
		log_error("lock order: %s is one lock too many for a thread", name);
		abort();
	}
	held[held_count++] = (struct held){.lock = lock, .name = name, .rank = rank};
}

static void note_drop(const void *lock, const char *name)
{
	size_t i = held_count;

	while (i > 0 && held[i - 1].lock != lock)
		i--;
	if (i == 0) {
		log_error("lock order: %s is unlocked by a thread that does not hold it", name);
		abort();
	}
	memmove(&held[i - 1], &held[i], (held_count - i) * sizeof(held[0]));
	held_count--;
}

/* Waking up takes m again: with a higher lock held, that would be out of order. */
static void note_wait(const struct mutex *m)
{
	if (held_count == 0 || held[held_count - 1].lock != m) {
		log_error("lock order: waiting with %s, which is not the last lock taken", m->name);
		abort();
	}
}

#else

static void note_take(const void *lock, int rank, const char *name)
{
	(void)lock, (void)rank, (void)name;
}

static void note_drop(const void *lock, const char *name)
{
	(void)lock, (void)name;
}

static void note_wait(const struct mutex *m)
{
	(void)m;
}

#endif

void mutex_init(struct mutex *m, enum lock_rank rank, const char *name)
{
	pthread_mutexattr_t attr;

	m->name = name;
	m->rank = (int)rank;
	check(pthread_mutexattr_init(&attr), "init", name);
#if defined(SYNCFS_LOCK_CHECKS) && SYNCFS_LOCK_CHECKS
	check(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK), "init", name);
#endif
	check(pthread_mutex_init(&m->os, &attr), "init", name);
	pthread_mutexattr_destroy(&attr);
}

void mutex_fini(struct mutex *m)
{
	check(pthread_mutex_destroy(&m->os), "destroy", m->name);
}

void mutex_lock(struct mutex *m)
{
	note_take(m, m->rank, m->name);
	check(pthread_mutex_lock(&m->os), "lock", m->name);
}

void mutex_unlock(struct mutex *m)
{
	note_drop(m, m->name);
	check(pthread_mutex_unlock(&m->os), "unlock", m->name);
}

void rwlock_init(struct rwlock *l, enum lock_rank rank, const char *name)
{
	pthread_rwlockattr_t attr;

	l->name = name;
	l->rank = (int)rank;
	check(pthread_rwlockattr_init(&attr), "init", name);
	/* The plain PREFER_WRITER has no effect in glibc (pthread_rwlockattr_setkind_np(3)). */
	check(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP), "init",
		name);
	check(pthread_rwlock_init(&l->os, &attr), "init", name);
	pthread_rwlockattr_destroy(&attr);
}

void rwlock_fini(struct rwlock *l)
{
	check(pthread_rwlock_destroy(&l->os), "destroy", l->name);
}

void rwlock_read(struct rwlock *l)
{
	note_take(l, l->rank, l->name);
	check(pthread_rwlock_rdlock(&l->os), "read lock", l->name);
}

void rwlock_write(struct rwlock *l)
{
	note_take(l, l->rank, l->name);
	check(pthread_rwlock_wrlock(&l->os), "write lock", l->name);
}

void rwlock_unlock(struct rwlock *l)
{
	note_drop(l, l->name);
	check(pthread_rwlock_unlock(&l->os), "unlock", l->name);
}

void cond_init(struct cond *c)
{
	pthread_condattr_t attr;

	check(pthread_condattr_init(&attr), "init", "condition");
	check(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "init", "condition");
	check(pthread_cond_init(&c->os, &attr), "init", "condition");
	pthread_condattr_destroy(&attr);
}

void cond_fini(struct cond *c)
{
	check(pthread_cond_destroy(&c->os), "destroy", "condition");
}

void cond_signal(struct cond *c)
{
	check(pthread_cond_signal(&c->os), "signal", "condition");
}

void cond_broadcast(struct cond *c)
{
	check(pthread_cond_broadcast(&c->os), "broadcast", "condition");
}

void cond_wait(struct cond *c, struct mutex *m)
{
	note_wait(m);
	check(pthread_cond_wait(&c->os, &m->os), "wait", m->name);
}

bool cond_wait_until(struct cond *c, struct mutex *m, uint64_t deadline_ms)
{
	struct timespec at = {
		.tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000,
	};
	int r;

	note_wait(m);
	r = pthread_cond_timedwait(&c->os, &m->os, &at);
	if (r == ETIMEDOUT)
		return false;
	check(r, "wait", m->name);
	return true;
}
