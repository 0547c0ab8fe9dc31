/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes, threads and time of the simulator, see sched.h. A thread is a coroutine that runs until it
 * waits, or until a draw says that it is another one's turn. Called by everything in the simulator, from the
 * one operating system thread that there is. Never waits for real.
 */
#include "sched.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "sched_internal.h"
#include "sim.h"

#define STEP_NS_MAX 20000 /* of simulated time for each point */
#define POINTS_MAX 2000 /* a thread lets others go on after so many points */
#define SIMULATED_NS_MAX (4 * 3600 * UINT64_C(1000000000))
#ifdef __SANITIZE_ADDRESS__
#define CPU_SECONDS_MAX 120
#else
#define CPU_SECONDS_MAX 12 /* a run takes a fifth of one */
#endif

struct sched sched;

/* ---- queues ---- */

static void ready_add(struct fiber *f)
{
	if (sched.ready_count == sched.ready_size) {
		sched.ready_size = sched.ready_size ? 2 * sched.ready_size : 64;
		sched.ready = sim_realloc(sched.ready, sched.ready_size * sizeof(struct fiber *));
	}
	f->state = FIBER_READY;
	f->ready_at = sched.ready_count;
	sched.ready[sched.ready_count++] = f;
}

static void ready_remove(struct fiber *f)
{
	struct fiber *moved = sched.ready[--sched.ready_count];

	sched.ready[f->ready_at] = moved;
	moved->ready_at = f->ready_at;
}

static bool is_earlier(const struct fiber *a, const struct fiber *b)
{
	return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->wait_no < b->wait_no;
}

static void timer_put(struct fiber *f, size_t i)
{
	sched.timers[i] = f;
	f->timer_at = i;
}

static void timer_up(struct fiber *f, size_t i)
{
	while (i && is_earlier(f, sched.timers[(i - 1) / 2])) {
		timer_put(sched.timers[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	timer_put(f, i);
}

static void timer_down(struct fiber *f, size_t i)
{
	for (size_t child; (child = 2 * i + 1) < sched.timers_count; i = child) {
		if (child + 1 < sched.timers_count &&
			is_earlier(sched.timers[child + 1], sched.timers[child]))
			child++;
		if (!is_earlier(sched.timers[child], f))
			break;
		timer_put(sched.timers[child], i);
	}
	timer_put(f, i);
}

static void timer_add(struct fiber *f)
{
	if (sched.timers_count == sched.timers_size) {
		sched.timers_size = sched.timers_size ? 2 * sched.timers_size : 64;
		sched.timers = sim_realloc(sched.timers, sched.timers_size * sizeof(struct fiber *));
	}
	timer_up(f, sched.timers_count++);
}

static void timer_remove(struct fiber *f)
{
	struct fiber *last = sched.timers[--sched.timers_count];
	size_t i = f->timer_at;

	if (last == f)
		return;
	if (i && is_earlier(last, sched.timers[(i - 1) / 2]))
		timer_up(last, i);
	else
		timer_down(last, i);
}

static void waitq_remove(struct fiber *f)
{
	struct waitq *q = f->queue;

	if (!q)
		return;
	*(f->previous ? &f->previous->next : &q->first) = f->next;
	*(f->next ? &f->next->previous : &q->last) = f->previous;
	f->queue = NULL;
	f->next = f->previous = NULL;
}

static void fiber_wake(struct fiber *f, bool in_time)
{
	waitq_remove(f);
	if (f->deadline_ns != SIM_FOREVER)
		timer_remove(f);
	f->in_time = in_time;
	ready_add(f);
}

static void timers_expire(void)
{
	while (sched.timers_count && sched.timers[0]->deadline_ns <= sched.now_ns)
		fiber_wake(sched.timers[0], false);
}

/* ---- switching ---- */

static const char *state_word(const struct fiber *f)
{
	return f->state == FIBER_WAITING ? "waits" : f->state == FIBER_ENDED ? "has ended" : "can run";
}

static void trace_thread(const struct fiber *f)
{
	char until[40] = "", holds[200] = "";
	size_t len = 0;

	if (f->state == FIBER_WAITING && f->deadline_ns != SIM_FOREVER)
		(void)snprintf(until, sizeof(until), " until %.6f s", (double)f->deadline_ns / 1e9);
	for (size_t i = 0; i < f->held_count && len < sizeof(holds); i++)
		len += (size_t)snprintf(holds + len, sizeof(holds) - len, ", holds %s", f->held[i].name);
	sim_trace("%s/%s %s at %s%s%s", f->proc->name, f->name, state_word(f),
		f->what ? f->what : "its start", until, holds);
}

void sched_trace_all(void)
{
	for (struct proc *p = sched.procs; p; p = p->next)
		for (struct fiber *f = p->fibers; f; f = f->sibling)
			if (f->state != FIBER_ENDED)
				trace_thread(f);
}

static void check_limits(void)
{
	if (sched.now_ns > SIMULATED_NS_MAX && !sched.failed) {
		sched.failed = true;
		sched_trace_all();
		sim_fail("hang", "not at its end after %llu simulated seconds",
			(unsigned long long)(sched.now_ns / 1000000000));
	}
	if (sched.cpu_is_over && !sched.failed) {
		sched.failed = true;
		sched_trace_all();
		sim_fail("hang", "not at its end after %d s of processor time", CPU_SECONDS_MAX);
	}
}

/* Who goes on next. Time jumps to the next deadline when nobody can. */
static struct fiber *next_fiber(void)
{
	struct fiber *f;

	timers_expire();
	if (!sched.ready_count) {
		if (!sched.timers_count) {
			sched_trace_all();
			sim_fail("deadlock", "no thread can run, and none waits for a time");
		}
		sched.now_ns = sched.timers[0]->deadline_ns;
		timers_expire();
	}
	check_limits();
	f = sched.ready[sched.ready_count > 1 ? sim_below(STREAM_SCHEDULE, sched.ready_count) : 0];
	ready_remove(f);
	return f;
}

/* Leaves the running thread, which is in some queue or has ended, for another one. */
static void leave(void)
{
	struct fiber *from = sched.current, *to = next_fiber();

	to->state = FIBER_RUNNING;
	if (to == from)
		return;
	from->saved_errno = errno;
	sched.current = to;
	sched.points = 0;
	context_switch(&from->context, &to->context, from->state == FIBER_ENDED);
	errno = from->saved_errno;
}

void sched_yield_now(void)
{
	if (sched.no_switch || !sched.current)
		return;
	ready_add(sched.current);
	leave();
}

void sched_preempt(void)
{
	if (sched.current && sim_chance(STREAM_SCHEDULE, sim_options.preempt_ppm))
		sched_yield_now();
}

bool waitq_wait(struct waitq *q, uint64_t deadline_ns)
{
	struct fiber *f = sched.current;

	if (sched.no_switch)
		sim_fail("simulator", "waiting where nobody may");
	f->queue = q;
	f->next = NULL;
	if (q) {
		f->previous = q->last;
		*(q->last ? &q->last->next : &q->first) = f;
		q->last = f;
	}
	f->deadline_ns = deadline_ns;
	f->wait_no = ++sched.waits;
	if (deadline_ns != SIM_FOREVER)
		timer_add(f);
	f->state = FIBER_WAITING;
	leave();
	return f->in_time;
}

void waitq_wake_one(struct waitq *q)
{
	if (q->first)
		fiber_wake(q->first, true);
}

void waitq_wake_all(struct waitq *q)
{
	while (q->first)
		fiber_wake(q->first, true);
}

uint64_t sim_now_ns(void)
{
	return sched.now_ns;
}

void sim_sleep_ms(uint64_t ms)
{
	sched.current->what = "sleep";
	(void)waitq_wait(NULL, sched.now_ns + ms * 1000000);
}

void sim_point(const char *what)
{
	struct fiber *f = sched.current;
	uint64_t draw;

	if (!f || sched.no_switch)
		return;
	draw = sim_random(STREAM_SCHEDULE);
	f->what = what;
	sched.now_ns += 1000 + (draw >> 32) % (STEP_NS_MAX - 1000);
	sim_mix(sched.now_ns ^ f->number << 48);
	if (f->proc->kill_in && !--f->proc->kill_in) {
		sim_trace("killed at %s", what);
		proc_kill(f->proc);
	}
	if ((draw & 0xffffffff) * PPM >> 32 < sim_options.preempt_ppm || ++sched.points > POINTS_MAX)
		sched_yield_now();
}

/* ---- threads and processes ---- */

void fiber_forget(struct fiber *f)
{
	*(f->sibling_before ? &f->sibling_before->sibling : &f->proc->fibers) = f->sibling;
	if (f->sibling)
		f->sibling->sibling_before = f->sibling_before;
	f->sibling = sched.unused;
	sched.unused = f;
}

static void fiber_end(struct fiber *f)
{
	struct proc *p = f->proc;

	f->state = FIBER_ENDED;
	waitq_wake_all(&f->joiners);
	stack_put(f->context.stack); /* both stay as they are until another thread is made */
	if (!f->is_joined)
		fiber_forget(f);
	if (!--p->running)
		proc_kill(p); /* does not return, since f is of it */
	leave();
}

static void fiber_entry(void)
{
	struct fiber *f = sched.current;

	context_arrived(&f->context);
	errno = 0;
	f->result = f->start(f->arg);
	if (f->held_count)
		sim_fail("lock", "a thread ends while it holds %s", f->held[0].name);
	fiber_end(f);
	abort();
}

struct fiber *fiber_new(struct proc *p, const char *name, void *(*start)(void *), void *arg)
{
	struct fiber *f = sched.unused;

	if (f)
		sched.unused = f->sibling;
	else
		f = sim_realloc(NULL, sizeof(*f));
	memset(f, 0, sizeof(*f));
	f->proc = p;
	f->number = ++sched.fibers;
	f->start = start;
	f->arg = arg;
	if (name)
		(void)snprintf(f->name, sizeof(f->name), "%s", name);
	else
		sched_thread_name(f, (uintptr_t)start);
	f->sibling = p->fibers;
	if (f->sibling)
		f->sibling->sibling_before = f;
	p->fibers = f;
	p->running++;
	context_make(&f->context, stack_get(), fiber_entry);
	ready_add(f);
	return f;
}

struct plain_start {
	void (*fn)(void *arg);
	void *arg;
};

static void *run_plain(void *arg)
{
	struct plain_start start = *(struct plain_start *)arg;

	free(arg);
	start.fn(start.arg);
	return NULL;
}

void proc_spawn(struct proc *p, const char *name, void (*fn)(void *arg), void *arg)
{
	struct plain_start *start = sim_realloc(NULL, sizeof(*start));

	*start = (struct plain_start){fn, arg};
	(void)fiber_new(p, name, run_plain, start);
}

struct proc *proc_new(const char *name, struct machine *machine)
{
	struct proc *p = sim_realloc(NULL, sizeof(*p)), **last = &sched.procs;

	memset(p, 0, sizeof(*p));
	p->name = name;
	p->machine = machine;
	p->is_alive = true;
	while (*last)
		last = &(*last)->next;
	*last = p;
	return p;
}

static void fiber_kill(struct fiber *f)
{
	if (f->state == FIBER_READY)
		ready_remove(f);
	if (f->state == FIBER_WAITING) {
		waitq_remove(f);
		if (f->deadline_ns != SIM_FOREVER)
			timer_remove(f);
	}
	f->state = FIBER_ENDED; /* its stack is kept: others may still look at what lies there */
}

void proc_kill(struct proc *p)
{
	struct proc **at = &sched.procs;

	if (!p->is_alive)
		return;
	p->is_alive = false;
	for (struct fiber *f = p->fibers; f; f = f->sibling)
		fiber_kill(f);
	sched_locks_drop(p);
	sched.no_switch++;
	while (p->at_end_count) {
		struct at_end *e = &p->at_end[--p->at_end_count];

		e->fn(e->arg);
	}
	sched.no_switch--;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (sched.current && sched.current->proc == p)
		leave();
}

bool proc_is_alive(const struct proc *p)
{
	return p->is_alive;
}

struct proc *proc_current(void)
{
	return sched.current ? sched.current->proc : NULL;
}

struct machine *proc_machine(const struct proc *p)
{
	return p->machine;
}

const char *proc_name(const struct proc *p)
{
	return p->name;
}

void **proc_files(struct proc *p)
{
	return &p->files;
}

void proc_at_end(struct proc *p, void (*fn)(void *arg), void *arg)
{
	for (size_t i = 0; i < p->at_end_count; i++)
		if (p->at_end[i].fn == fn && p->at_end[i].arg == arg)
			return;
	if (p->at_end_count == sizeof(p->at_end) / sizeof(p->at_end[0]))
		sim_fail("simulator", "too many calls at the end of %s", p->name);
	p->at_end[p->at_end_count++] = (struct at_end){fn, arg};
}

void proc_kill_at(struct proc *p, uint64_t points)
{
	p->kill_in = points;
}

/* ---- the run ---- */

static void cpu_is_over(int signo)
{
	(void)signo;
	if (sched.cpu_is_over++) /* it has had a second to come to a point */
		sim_fail("hang", "not at a point after %d s of processor time", CPU_SECONDS_MAX);
}

struct main_call {
	void (*fn)(void *arg);
	void *arg;
};

static void run_main(void *arg)
{
	struct main_call *call = arg;
	struct fiber *f = sched.current;

	call->fn(call->arg);
	f->state = FIBER_ENDED;
	sched.current = NULL;
	context_switch(&f->context, &sched.outside, 1);
}

void sched_run(void (*main_fn)(void *arg), void *arg)
{
	struct main_call call = {main_fn, arg};
	struct sigaction over = {.sa_handler = cpu_is_over, .sa_flags = SA_RESTART};
	struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS_MAX}, .it_interval = {.tv_sec = 1}};
	pthread_attr_t attr;

	if (!pthread_getattr_np(__real_pthread_self(), &attr)) {
		(void)pthread_attr_getstack(&attr, &sched.outside.stack.low, &sched.outside.stack.size);
		(void)pthread_attr_destroy(&attr);
	}
	(void)__real_sigaction(SIGPROF, &over, NULL);
	(void)setitimer(ITIMER_PROF, &limit, NULL);
	proc_spawn(proc_new("world", NULL), "main", run_main, &call);
	sched.current = next_fiber();
	sched.current->state = FIBER_RUNNING;
	context_switch(&sched.outside, &sched.current->context, 0);
	(void)setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
}
