/* SPDX-License-Identifier: Apache-2.0 */
/* What sched.c shares with sched_lock.c (mutex.h) and sched_libc.c (pthreads, clocks, randomness). */
#ifndef SIM_SCHED_INTERNAL_H
#define SIM_SCHED_INTERNAL_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fiber.h"
#include "sched.h"

#define HELD_MAX 16
#define AT_END_MAX 64
#define MONO_START_NS (UINT64_C(1000) * 1000000000) /* CLOCK_MONOTONIC at the start of the run */

enum fiber_state { FIBER_READY, FIBER_RUNNING, FIBER_WAITING, FIBER_ENDED };

struct held {
	void *lock;
	const char *name;
	int rank;
	bool is_rw;
};

struct fiber {
	struct context context;
	struct proc *proc;
	struct fiber *sibling, *sibling_before; /* of the same process */
	enum fiber_state state;
	uint64_t number;
	char name[32];
	const char *what; /* where it was last */

	/* waiting */
	struct waitq *queue;
	struct fiber *next, *previous;
	uint64_t deadline_ns, wait_no;
	size_t timer_at, ready_at;
	bool in_time;

	struct held held[HELD_MAX]; /* ranks ascend */
	size_t held_count;
	int saved_errno;

	void *(*start)(void *arg);
	void *arg, *result;
	struct waitq joiners;
	bool is_joined; /* somebody will: it is kept until then */
};

struct at_end {
	void (*fn)(void *arg);
	void *arg;
};

struct proc {
	struct proc *next;
	const char *name;
	struct machine *machine;
	struct fiber *fibers;
	unsigned running; /* threads that have not ended */
	bool is_alive;
	uint64_t kill_in; /* points; 0: never */
	void *files;
	struct at_end at_end[AT_END_MAX];
	size_t at_end_count;
	unsigned threads_named;
};

struct sched {
	struct fiber *current; /* NULL before and after the run */
	struct context outside;
	struct proc *procs; /* that live, in the order of their start */
	struct fiber *unused;
	struct fiber **ready, **timers;
	size_t ready_count, ready_size, timers_count, timers_size;
	uint64_t now_ns, waits, fibers;
	unsigned points; /* since the running thread was chosen */
	unsigned no_switch; /* > 0: nobody else may run */
	bool failed;
	volatile sig_atomic_t cpu_is_over;
};

extern struct sched sched;

struct fiber *fiber_new(struct proc *p, const char *name, void *(*start)(void *), void *arg);
/* One that has ended. */
void fiber_forget(struct fiber *f);
void sched_yield_now(void);
void sched_preempt(void); /* another one goes on, if drawn so */
void sched_trace_all(void); /* where all threads are */
void sched_names_load(void);
void sched_thread_name(struct fiber *f, uintptr_t start);
/* The locks that threads of a process that has ended held. */
void sched_locks_drop(struct proc *p);

void *sim_realloc(void *p, size_t size); /* ends the program when there is no memory */
void sim_mix(uint64_t value); /* into the digest of the trace */

pthread_t __real_pthread_self(void);
int __real_sigaction(int signo, const struct sigaction *act, struct sigaction *old);

#endif
