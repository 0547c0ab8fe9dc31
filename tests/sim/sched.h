/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated machines, processes and threads, and simulated time. Threads are coroutines of one operating
 * system thread (swapcontext or like); which one goes on is drawn from STREAM_SCHEDULE. Time stands still
 * while anything can run, but for the few microseconds that each step takes, and jumps to the next deadline
 * when nothing can.
 *
 * sched.c also is, for all code of syncfs linked into the simulator, base/mutex.c (all of mutex.h, with its
 * check of ranks per thread) and, by -Wl,--wrap: pthread_create, pthread_join, pthread_kill, pthread_sigmask,
 * sigaction, clock_gettime, getrandom. What blocks there lets other threads run; each lock and each simulated
 * system call may, with sim_options.preempt_ppm.
 */
#ifndef SIM_SCHED_H
#define SIM_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

/* A computer: its disk survives its processes. */
struct machine {
	const char *name; /* "server", "A", "B", ... */
	struct disk *disk;
	int64_t clock_skew_ns; /* CLOCK_REALTIME only */
	char boot_id[37]; /* another one after each power cut */
};

struct proc; /* a process of a machine */

struct proc *proc_new(const char *name, struct machine *machine);
/* A thread. It ends by returning; the process ends with its last thread, or by proc_kill(). */
void proc_spawn(struct proc *p, const char *name, void (*fn)(void *arg), void *arg);
/* kill -9: no thread of it runs again, its memory is forgotten. Also of the running process: then it does not
 * return. No-op when it has ended. */
void proc_kill(struct proc *p);
bool proc_is_alive(const struct proc *p);
struct proc *proc_current(void);
struct machine *proc_machine(const struct proc *p);
const char *proc_name(const struct proc *p);
/* Called once when the process has ended, however, latest first: what the kernel does for it (closing
 * descriptors, dropping locks). Must not block; sim_point() does nothing there. The same again: once. */
void proc_at_end(struct proc *p, void (*fn)(void *arg), void *arg);
/* A slot for the file table of sysio.c. */
void **proc_files(struct proc *p);

/* Runs main_fn as a thread of a process "world" without a machine, until it returns. */
void sched_run(void (*main_fn)(void *arg), void *arg);

uint64_t sim_now_ns(void); /* since the start of the run */
void sim_sleep_ms(uint64_t ms);
/* Where another thread may go on; what: for the trace. Every simulated system call begins with it. A process
 * that has been told to die at its n-th point (proc_kill_at) dies here. */
void sim_point(const char *what);
void proc_kill_at(struct proc *p, uint64_t points); /* kill -9 after so many more points; 0: never */

/* Where threads wait. Zeroed at first. Threads of processes that end leave it by themselves. */
struct waitq {
	struct fiber *first, *last;
};
#define SIM_FOREVER UINT64_MAX
/* False when deadline_ns has passed. Wakes without reason do not happen. */
bool waitq_wait(struct waitq *q, uint64_t deadline_ns);
void waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);

#endif
