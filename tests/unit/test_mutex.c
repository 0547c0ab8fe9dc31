/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of mutex.h: locks exclude, conditions wake and time out, and wrong order aborts. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/mutex.h>

static struct mutex low, same, high;
static struct rwlock rw;

static int setup(void **state)
{
	mutex_init(&low, RANK_INODE, "low");
	mutex_init(&same, RANK_INODE, "same");
	mutex_init(&high, RANK_SYNCSTATE, "high");
	rwlock_init(&rw, RANK_JOURNAL, "middle");
	return 0;
}

static int teardown(void **state)
{
	mutex_fini(&low);
	mutex_fini(&same);
	mutex_fini(&high);
	rwlock_fini(&rw);
	return 0;
}

/* Runs body in a child; true when it aborted, and then its last words are in text. */
static bool aborts(void (*body)(void), char *text, size_t size)
{
	int fds[2], status = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		/* cmocka's own handlers would turn the abort into a failed test. */
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		body();
		_exit(0);
	}
	close(fds[1]);
	n = io_read(fds[0], text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void ascending(void)
{
	mutex_lock(&low);
	rwlock_write(&rw);
	mutex_lock(&high);
	mutex_unlock(&low); /* unlocking in any order is fine */
	mutex_unlock(&high);
	rwlock_unlock(&rw);
	rwlock_read(&rw);
	rwlock_unlock(&rw);
}

static void descending(void)
{
	mutex_lock(&high);
	mutex_lock(&low);
}

static void equal_rank(void)
{
	mutex_lock(&low);
	mutex_lock(&same);
}

static void twice(void)
{
	mutex_lock(&low);
	mutex_lock(&low);
}

static void read_below(void)
{
	mutex_lock(&high);
	rwlock_read(&rw);
}

static void read_twice(void)
{
	rwlock_read(&rw);
	rwlock_read(&rw);
}

static void below_the_rest(void)
{
	mutex_lock(&low);
	mutex_lock(&high);
	mutex_unlock(&low);
	rwlock_read(&rw); /* low is gone, high is still held */
}

static void not_mine(void)
{
	mutex_unlock(&low);
}

static void test_order(void **state)
{
#if defined(SYNCFS_LOCK_CHECKS) && SYNCFS_LOCK_CHECKS
	static void (*const wrong[])(void) = {
		equal_rank, twice, read_below, read_twice, below_the_rest, not_mine};
	char text[512];

	assert_false(aborts(ascending, text, sizeof(text)));
	assert_string_equal(text, "");
	assert_true(aborts(descending, text, sizeof(text)));
	assert_non_null(strstr(text, "low (rank 20)"));
	assert_non_null(strstr(text, "high (rank 40)"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(aborts(wrong[i], text, sizeof(text)));
#else
	(void)aborts, (void)ascending, (void)descending, (void)equal_rank, (void)twice;
	(void)read_below, (void)read_twice, (void)below_the_rest, (void)not_mine;
	skip();
#endif
}

#define ROUNDS 20000

static unsigned int counter;

static void *count_up(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		MUTEX_GUARD(&low);
		counter++;
	}
	return arg;
}

static void test_exclusion(void **state)
{
	pthread_t threads[4];

	counter = 0;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(counter, 4 * ROUNDS);
}

static struct cond changed;
static int turn;

static void *answer(void *arg)
{
	MUTEX_GUARD(&high);

	while (turn != 1)
		cond_wait(&changed, &high);
	turn = 2;
	cond_broadcast(&changed);
	return arg;
}

static void test_condition(void **state)
{
	uint64_t start = clock_mono_ms(), deadline;
	bool in_time = true;
	pthread_t thread;

	cond_init(&changed);
	turn = 0;
	assert_int_equal(pthread_create(&thread, NULL, answer, NULL), 0);
	mutex_lock(&high);
	turn = 1;
	cond_signal(&changed);
	deadline = clock_mono_ms() + 20000;
	while (turn != 2 && in_time)
		in_time = cond_wait_until(&changed, &high, deadline);
	mutex_unlock(&high);
	assert_true(in_time);
	pthread_join(thread, NULL);

	mutex_lock(&high);
	assert_false(cond_wait_until(&changed, &high, 1)); /* long past */
	start = clock_mono_ms();
	while (cond_wait_until(&changed, &high, start + 30))
		;
	assert_true(clock_mono_ms() >= start + 30);
	mutex_unlock(&high);
	cond_fini(&changed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_exclusion),
		cmocka_unit_test(test_condition),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
