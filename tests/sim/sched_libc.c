/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the code of syncfs calls of libc for threads, signals, clocks and randomness, on the simulated ones
 * (-Wl,--wrap, see meson.build). None of it is a place where a process can be killed: real randomness and
 * clocks are no system calls either, and id.c holds a real lock around some.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

#include "sched_internal.h"
#include "sim.h"

#define WALL_START_NS (INT64_C(1767225600) * 1000000000) /* 2026-01-01 */

int __wrap_pthread_create(
	pthread_t *ret_thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg);
int __wrap_pthread_join(pthread_t thread, void **ret_result);
pthread_t __wrap_pthread_self(void);
int __wrap_pthread_kill(pthread_t thread, int signo);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_sigaction(int signo, const struct sigaction *act, struct sigaction *old);
__sighandler_t __wrap_signal(int signo, __sighandler_t handler);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);
int __wrap_gethostname(char *name, size_t len);
int __wrap_malloc_trim(size_t pad);
int __wrap_getrlimit64(int resource, struct rlimit *ret_limit);
int __wrap_setrlimit64(int resource, const struct rlimit *limit);

int __wrap_pthread_create(
	pthread_t *ret_thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	struct fiber *f = fiber_new(proc_current(), NULL, start, arg);

	(void)attr;
	f->is_joined = true;
	*ret_thread = (pthread_t)f;
	sched_preempt();
	return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
	struct fiber *f = (struct fiber *)thread; /* NOLINT: it was made of one */

	sched.current->what = "join";
	while (f->state != FIBER_ENDED)
		(void)waitq_wait(&f->joiners, SIM_FOREVER);
	if (ret_result)
		*ret_result = f->result;
	fiber_forget(f);
	return 0;
}

pthread_t __wrap_pthread_self(void)
{
	return (pthread_t)sched.current;
}

/* Signals are not simulated: what they interrupt in syncfs is the loop of the mount, which ends by flag. */
int __wrap_pthread_kill(pthread_t thread, int signo)
{
	(void)thread, (void)signo;
	return 0;
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	(void)how, (void)set;
	if (old)
		(void)sigemptyset(old);
	return 0;
}

int __wrap_sigaction(int signo, const struct sigaction *act, struct sigaction *old)
{
	(void)signo, (void)act;
	if (old)
		*old = (struct sigaction){.sa_handler = SIG_DFL};
	return 0;
}

__sighandler_t __wrap_signal(int signo, __sighandler_t handler)
{
	(void)signo, (void)handler;
	return SIG_DFL;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	const struct machine *m = sched.current ? sched.current->proc->machine : NULL;
	int64_t ns;

	sched.now_ns += 100; /* who looks at the clock until it has moved gets there */
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		ns = WALL_START_NS + (int64_t)sched.now_ns + (m ? m->clock_skew_ns : 0);
	else
		ns = (int64_t)(MONO_START_NS + sched.now_ns);
	ret_time->tv_sec = ns / 1000000000;
	ret_time->tv_nsec = ns % 1000000000;
	return 0;
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
	uint8_t *out = buf;

	(void)flags;
	for (size_t at = 0; at < len;) {
		uint64_t v = sim_random(STREAM_SYSTEM);
		size_t n = len - at < sizeof(v) ? len - at : sizeof(v);

		memcpy(out + at, &v, n);
		at += n;
	}
	return (ssize_t)len;
}

int __wrap_gethostname(char *name, size_t len)
{
	const struct machine *m = sched.current ? sched.current->proc->machine : NULL;
	int n = snprintf(name, len, "%s", m ? m->name : "world");

	if (n >= 0 && (size_t)n < len)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* Takes real time and gives nothing here. */
int __wrap_malloc_trim(size_t pad)
{
	(void)pad;
	return 0;
}

/* The same on all real machines. */
int __wrap_getrlimit64(int resource, struct rlimit *ret_limit)
{
	(void)resource;
	*ret_limit = (struct rlimit){.rlim_cur = 65536, .rlim_max = 65536};
	return 0;
}

int __wrap_setrlimit64(int resource, const struct rlimit *limit)
{
	(void)resource, (void)limit;
	return 0;
}
