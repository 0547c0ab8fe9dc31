/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranked locks. A thread takes them in strictly ascending rank; builds with
 * -DSYNCFS_LOCK_CHECKS=1 (debug builds) abort on a violation and name both locks.
 * Ranks: src/README.md.
 */
#ifndef SYNCFS_MUTEX_H
#define SYNCFS_MUTEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
	RANK_APPLY = 5, /* client */
	RANK_INODE_TABLE = 10,
	RANK_TREE = 15,
	RANK_INODE = 20,
	RANK_CAPTURE = 25,
	RANK_JOURNAL = 30,
	RANK_SYNCSTATE = 40,
	RANK_SESSION = 44,
	RANK_QUEUE = 45,
	RANK_LINK = 46,
	RANK_INVALIDATE = 50,
	RANK_TRANSPORT = 60,
	RANK_STORE = 20, /* server */
	RANK_META = 40,
	RANK_FEED = 50,
	RANK_HTTP = 55,
	RANK_LOG = 90,
};

struct mutex {
	pthread_mutex_t os;
	const char *name;
	int rank;
};

struct rwlock {
	pthread_rwlock_t os; /* prefers writers, so that the applier cannot starve */
	const char *name;
	int rank;
};

/* A condition variable on CLOCK_MONOTONIC. */
struct cond {
	pthread_cond_t os;
};

void mutex_init(struct mutex *m, enum lock_rank rank, const char *name);
void mutex_fini(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

void rwlock_init(struct rwlock *l, enum lock_rank rank, const char *name);
void rwlock_fini(struct rwlock *l);
void rwlock_read(struct rwlock *l);
void rwlock_write(struct rwlock *l);
void rwlock_unlock(struct rwlock *l);

void cond_init(struct cond *c);
void cond_fini(struct cond *c);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);
void cond_wait(struct cond *c, struct mutex *m);
/* deadline_ms: clock_mono_ms() value. False when it has passed. */
bool cond_wait_until(struct cond *c, struct mutex *m, uint64_t deadline_ms);

static inline void mutex_guard_end_(struct mutex **m)
{
	mutex_unlock(*m);
}

static inline struct mutex *mutex_guard_begin_(struct mutex *m)
{
	mutex_lock(m);
	return m;
}

/* Holds the lock to the end of the scope. One per scope. */
#define MUTEX_GUARD(m)                                                                                       \
	__attribute__((cleanup(mutex_guard_end_), unused)) struct mutex *guard_ = mutex_guard_begin_(m)

#endif
