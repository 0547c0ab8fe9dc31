/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's base/mutex.c: all of mutex.h on waiting coroutines, with the check of ranks for each
 * thread, in all builds. The space of the pthread objects holds the queues. Called by the code of syncfs;
 * never by the simulator itself, which needs no locks.
 */
#include <syncfs/mutex.h>

#include <stddef.h>
#include <string.h>

#include "sched_internal.h"
#include "sim.h"

struct lock_state { /* in mutex.os */
	struct fiber *owner;
	struct waitq waiting;
};
_Static_assert(sizeof(struct lock_state) <= sizeof(pthread_mutex_t), "a lock fits where the real one was");

struct rw_state { /* in rwlock.os */
	struct fiber *writer;
	size_t readers, writers_waiting;
	struct waitq want_read, want_write;
};
_Static_assert(sizeof(struct rw_state) <= sizeof(pthread_rwlock_t), "a lock fits where the real one was");
_Static_assert(sizeof(struct waitq) <= sizeof(pthread_cond_t), "a queue fits where the real one was");

static struct lock_state *lock_state(struct mutex *m)
{
	return (struct lock_state *)(void *)&m->os;
}

static struct rw_state *rw_state(struct rwlock *l)
{
	return (struct rw_state *)(void *)&l->os;
}

static struct waitq *cond_state(struct cond *c)
{
	return (struct waitq *)(void *)&c->os;
}

/* ---- ranks ---- */

static void note_take(void *lock, int rank, const char *name, bool is_rw)
{
	struct fiber *f = sched.current;
	const struct held *top = f->held_count ? &f->held[f->held_count - 1] : NULL;

	if (top && rank <= top->rank)
		sim_fail("lock", "taking %s (rank %d) while holding %s (rank %d)", name, rank, top->name,
			top->rank);
	if (f->held_count == HELD_MAX)
		sim_fail("lock", "%s is one lock too many for a thread", name);
	f->held[f->held_count++] = (struct held){.lock = lock, .name = name, .rank = rank, .is_rw = is_rw};
}

static void note_drop(const void *lock, const char *name)
{
	struct fiber *f = sched.current;
	size_t i = f->held_count;

	while (i > 0 && f->held[i - 1].lock != lock)
		i--;
	if (!i)
		sim_fail("lock", "%s is unlocked by a thread that does not hold it", name);
	memmove(&f->held[i - 1], &f->held[i], (f->held_count - i) * sizeof(f->held[0]));
	f->held_count--;
}

/* ---- mutexes ---- */

void mutex_init(struct mutex *m, enum lock_rank rank, const char *name)
{
	*m = (struct mutex){.name = name, .rank = (int)rank};
	*lock_state(m) = (struct lock_state){0};
}

void mutex_fini(struct mutex *m)
{
	if (lock_state(m)->owner)
		sim_fail("lock", "%s is destroyed while it is held", m->name);
}

static void take(struct mutex *m)
{
	struct lock_state *s = lock_state(m);

	while (s->owner) {
		sched.current->what = m->name;
		(void)waitq_wait(&s->waiting, SIM_FOREVER);
	}
	s->owner = sched.current;
}

static void release(struct mutex *m)
{
	struct lock_state *s = lock_state(m);

	s->owner = NULL;
	waitq_wake_one(&s->waiting);
}

void mutex_lock(struct mutex *m)
{
	sched_preempt();
	note_take(m, m->rank, m->name, false);
	/* What is noted is held, also when the process is killed while waiting. */
	sched.current->held_count--;
	take(m);
	sched.current->held_count++;
}

void mutex_unlock(struct mutex *m)
{
	note_drop(m, m->name);
	release(m);
	sched_preempt();
}

/* ---- locks for reading and writing ---- */

void rwlock_init(struct rwlock *l, enum lock_rank rank, const char *name)
{
	*l = (struct rwlock){.name = name, .rank = (int)rank};
	*rw_state(l) = (struct rw_state){0};
}

void rwlock_fini(struct rwlock *l)
{
	if (rw_state(l)->writer || rw_state(l)->readers)
		sim_fail("lock", "%s is destroyed while it is held", l->name);
}

void rwlock_read(struct rwlock *l)
{
	struct rw_state *s = rw_state(l);

	sched_preempt();
	note_take(l, l->rank, l->name, true);
	sched.current->held_count--;
	while (s->writer || s->writers_waiting) {
		sched.current->what = l->name;
		(void)waitq_wait(&s->want_read, SIM_FOREVER);
	}
	sched.current->held_count++;
	s->readers++;
}

void rwlock_write(struct rwlock *l)
{
	struct rw_state *s = rw_state(l);

	sched_preempt();
	note_take(l, l->rank, l->name, true);
	sched.current->held_count--;
	s->writers_waiting++;
	while (s->writer || s->readers) {
		sched.current->what = l->name;
		(void)waitq_wait(&s->want_write, SIM_FOREVER);
	}
	s->writers_waiting--;
	sched.current->held_count++;
	s->writer = sched.current;
}

static void rw_release(struct rw_state *s, const struct fiber *f)
{
	if (s->writer == f)
		s->writer = NULL;
	else
		s->readers--;
	if (s->readers)
		return;
	waitq_wake_one(&s->want_write);
	if (!s->writers_waiting)
		waitq_wake_all(&s->want_read);
}

void rwlock_unlock(struct rwlock *l)
{
	note_drop(l, l->name);
	rw_release(rw_state(l), sched.current);
	sched_preempt();
}

void sched_locks_drop(struct proc *p)
{
	/* In memory that nobody sees any more, as a rule; but for locks of variables with static storage. */
	for (struct fiber *f = p->fibers; f; f = f->sibling) {
		while (f->held_count) {
			struct held *h = &f->held[--f->held_count];

			if (h->is_rw)
				rw_release(rw_state(h->lock), f);
			else
				release(h->lock);
		}
	}
}

/* ---- conditions ---- */

void cond_init(struct cond *c)
{
	*cond_state(c) = (struct waitq){0};
}

void cond_fini(struct cond *c)
{
	if (cond_state(c)->first)
		sim_fail(
			"lock", "a condition is destroyed while %s waits for it", cond_state(c)->first->name);
}

void cond_signal(struct cond *c)
{
	waitq_wake_one(cond_state(c));
}

void cond_broadcast(struct cond *c)
{
	waitq_wake_all(cond_state(c));
}

static bool wait_with(struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
	struct fiber *f = sched.current;
	struct held held;
	bool in_time;

	if (!f->held_count || f->held[f->held_count - 1].lock != m)
		sim_fail("lock", "waiting with %s, which is not the last lock taken", m->name);
	held = f->held[--f->held_count];
	release(m);
	f->what = m->name;
	in_time = waitq_wait(cond_state(c), deadline_ns);
	take(m);
	f->held[f->held_count++] = held;
	return in_time;
}

void cond_wait(struct cond *c, struct mutex *m)
{
	(void)wait_with(c, m, SIM_FOREVER);
}

bool cond_wait_until(struct cond *c, struct mutex *m, uint64_t deadline_ms)
{
	uint64_t ns = deadline_ms > UINT64_MAX / 2000000 ? SIM_FOREVER : deadline_ms * 1000000;

	if (ns != SIM_FOREVER)
		ns = ns > MONO_START_NS ? ns - MONO_START_NS : 0;
	return wait_with(c, m, ns);
}
