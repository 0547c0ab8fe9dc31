/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of sched.h and of the simulated mutex.h: time, queues, locks, ends of processes, and that it all
 * repeats. */
#include <syncfs/clock.h>
#include <syncfs/id.h>
#include <syncfs/mutex.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "sched.h"

#define CHECK(what)                                                                                          \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			sim_fail("test", "line %d: %s", __LINE__, #what);                                    \
	} while (0)

static struct mutex low, high;
static struct rwlock rw;
static struct cond changed;
static struct waitq queue;
static unsigned counter, order[64], order_count, ended;

static void *count_up(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		unsigned seen;

		mutex_lock(&low);
		seen = counter;
		sim_point("count");
		counter = seen + 1;
		mutex_unlock(&low);
	}
	return arg;
}

static void locks(void *arg)
{
	pthread_t threads[5];
	void *result;

	for (size_t i = 0; i < 5; i++)
		CHECK(!pthread_create(&threads[i], NULL, count_up, &counter));
	for (size_t i = 0; i < 5; i++) {
		CHECK(!pthread_join(threads[i], &result));
		CHECK(result == &counter);
	}
	CHECK(counter == 5000);
}

static void sleeper(void *arg)
{
	unsigned ms = *(unsigned *)arg;

	sim_sleep_ms(ms);
	order[order_count++] = ms;
	if (ms == 30) {
		mutex_lock(&low);
		cond_broadcast(&changed);
		mutex_unlock(&low);
	}
}

static void time_passes(void *arg)
{
	static unsigned ms[] = {50, 10, 30, 20, 40};
	uint64_t start = clock_mono_ms();

	for (size_t i = 0; i < 5; i++)
		proc_spawn(proc_current(), "sleeper", sleeper, &ms[i]);
	mutex_lock(&low);
	CHECK(cond_wait_until(&changed, &low, start + 1000));
	CHECK(clock_mono_ms() >= start + 30 && clock_mono_ms() <= start + 35);
	CHECK(!cond_wait_until(&changed, &low, start + 45));
	CHECK(clock_mono_ms() >= start + 45 && clock_mono_ms() <= start + 49);
	mutex_unlock(&low);
	sim_sleep_ms(3600000);
	CHECK(order_count == 5);
	for (unsigned i = 0; i < 5; i++)
		CHECK(order[i] == 10 * (i + 1));
}

static void at_end(void *arg)
{
	ended = ended * 10 + *(unsigned *)arg;
	waitq_wake_all(&queue);
}

static void hold_for_ever(void *arg)
{
	mutex_lock(&high);
	for (;;)
		sim_sleep_ms(1);
}

static void spin(void *arg)
{
	for (;;)
		sim_point("spin");
}

static void ends(void *arg)
{
	static unsigned one = 1, two = 2;
	struct machine machine = {.name = "A", .clock_skew_ns = 5000000000};
	struct proc *p = proc_new("victim", &machine);

	CHECK(clock_wall_ns() > 0);
	proc_at_end(p, at_end, &one);
	proc_at_end(p, at_end, &two);
	proc_spawn(p, "holder", hold_for_ever, NULL);
	proc_spawn(p, "spinner", spin, NULL);
	proc_kill_at(p, 5000);
	CHECK(waitq_wait(&queue, SIM_FOREVER));
	CHECK(ended == 21);
	CHECK(!proc_is_alive(p));
	mutex_lock(&high); /* was held by who is dead */
	mutex_unlock(&high);
	CHECK(!waitq_wait(&queue, sim_now_ns() + 1000));
}

static void reader(void *arg)
{
	for (int i = 0; i < 200; i++) {
		rwlock_read(&rw);
		CHECK(counter % 2 == 0);
		sim_point("read");
		CHECK(counter % 2 == 0);
		rwlock_unlock(&rw);
	}
}

static void writer(void *arg)
{
	for (int i = 0; i < 200; i++) {
		rwlock_write(&rw);
		counter++;
		sim_point("write");
		counter++;
		rwlock_unlock(&rw);
	}
	ended++;
	waitq_wake_all(&queue);
}

static void readers(void *arg)
{
	counter = ended = 0;
	for (int i = 0; i < 3; i++)
		proc_spawn(proc_current(), "reader", reader, NULL);
	proc_spawn(proc_current(), "writer", writer, NULL);
	proc_spawn(proc_current(), "writer", writer, NULL);
	while (ended < 2)
		(void)waitq_wait(&queue, SIM_FOREVER);
	CHECK(counter == 800);
}

static void ids(void *arg)
{
	struct id id = id_new();
	char hex[2 * ID_BYTES + 1];

	sim_trace("id %s", id_to_hex(&id, hex));
}

static void all(void *arg)
{
	mutex_init(&low, RANK_INODE, "low");
	mutex_init(&high, RANK_SYNCSTATE, "high");
	rwlock_init(&rw, RANK_JOURNAL, "rw");
	cond_init(&changed);
	locks(NULL);
	time_passes(NULL);
	ends(NULL);
	readers(NULL);
	ids(NULL);
}

static void wrong_order(void *arg)
{
	all(arg);
	mutex_lock(&high);
	mutex_lock(&low);
}

static void never(void *arg)
{
	(void)waitq_wait(&queue, SIM_FOREVER);
}

/* One run in a process of its own. */
static const struct run_result *run(uint64_t seed, void (*fn)(void *arg))
{
	static struct run_result *r;
	struct run_config config = {.seed = seed, .report_lines = fn == all ? 20 : 0};
	int fds[2];
	pid_t pid;

	if (!r)
		r = calloc(1, sizeof(*r));
	if (!r || pipe(fds) < 0)
		exit(2);
	memset(r, 0, sizeof(*r));
	pid = fork();
	if (pid == 0) {
		static struct run_result mine;

		(void)alarm(30);
		run_begin(&config, &mine);
		/* sim_fail() ends the process: what it says comes by the shared pipe's other end */
		sched_run(fn, NULL);
		run_end();
		_exit(write(fds[1], &mine.digest, sizeof(mine.digest)) == sizeof(mine.digest) ? 0 : 3);
	}
	close(fds[1]);
	r->failed = true;
	if (read(fds[0], &r->digest, sizeof(r->digest)) == sizeof(r->digest))
		r->failed = false;
	close(fds[0]);
	(void)waitpid(pid, NULL, 0);
	return r;
}

int main(void)
{
	int bad = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		uint64_t digest = run(seed, all)->digest;

		if (run(seed, all)->failed || run(seed, all)->digest != digest) {
			fprintf(stderr, "seed %d failed or did not repeat\n", (int)seed);
			bad++;
		}
		if (seed > 1 && run(seed - 1, all)->digest == digest) {
			fprintf(stderr, "seeds %d and before are equal\n", (int)seed);
			bad++;
		}
	}
	if (!run(1, wrong_order)->failed || !run(1, never)->failed) {
		fprintf(stderr, "a wrong order or a deadlock was not found\n");
		bad++;
	}
	return bad != 0;
}
