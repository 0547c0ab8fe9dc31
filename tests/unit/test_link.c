/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of link.h: what is told of the connection, and who is let go when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <syncfs/clock.h>

#include "link.h"

#define LONG_MS 60000 /* no test waits that long */

static void test_status(void **state)
{
	struct link *l = link_new("http://x");
	struct link_status s;
	uint64_t before = clock_mono_ms();

	assert_non_null(l);
	link_get(l, &s);
	assert_false(s.connected || s.paused);
	assert_string_equal(s.last_error, "");
	link_down(l, -ENOTCONN, "no route");
	link_get(l, &s);
	assert_false(s.connected);
	assert_string_equal(s.last_error, "no route");
	link_up(l);
	link_get(l, &s);
	assert_true(s.connected && s.since_ms >= before);
	assert_string_equal(s.last_error, "");
	link_note_error(l, "slow");
	link_get(l, &s);
	assert_true(s.connected);
	assert_string_equal(s.last_error, "slow");
	link_pause(l, true);
	link_get(l, &s);
	assert_true(s.connected && s.paused);
	/* Too long: cut, not refused. */
	{
		char text[1000];

		memset(text, 'e', sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		link_down(l, -ENOTCONN, text);
		link_get(l, &s);
		assert_int_equal(strlen(s.last_error), sizeof(s.last_error) - 1);
	}
	link_free(l);
	link_free(NULL);
}

static void test_refusals(void **state)
{
	assert_true(link_is_refusal(-EACCES));
	assert_true(link_is_refusal(-EPROTO));
	assert_false(link_is_refusal(-ENOTCONN));
	assert_false(link_is_refusal(-ETIMEDOUT));
	assert_false(link_is_refusal(-EREMOTEIO));
	assert_false(link_is_refusal(0));
}

static void test_first_outcome(void **state)
{
	struct link *l = link_new("http://x");

	assert_int_equal(link_await_first(l, clock_mono_ms()), -ETIMEDOUT);
	link_down(l, -EACCES, "token");
	assert_int_equal(link_await_first(l, 0), -EACCES);
	/* The first one stays the first one. */
	link_up(l);
	assert_int_equal(link_await_first(l, 0), -EACCES);
	link_free(l);
	l = link_new("http://x");
	link_up(l);
	link_down(l, -ENOTCONN, "gone");
	assert_int_equal(link_await_first(l, 0), 0);
	link_free(l);
}

static void test_retry_by_time(void **state)
{
	struct link *l = link_new("http://x");
	uint64_t start = clock_mono_ms();

	assert_true(link_wait_retry(l, 5));
	assert_true(clock_mono_ms() >= start + 5);
	link_stop(l);
	assert_false(link_wait_retry(l, LONG_MS));
	assert_false(link_wait_up(l));
	assert_false(link_wait_resumed(l));
	link_free(l);
}

enum wait { WAIT_UP, WAIT_RETRY, WAIT_RESUMED, WAIT_FIRST };

struct waiter {
	struct link *l;
	enum wait what;
	pthread_t thread;
	int result;
};

static void *wait_thread(void *arg)
{
	struct waiter *w = arg;

	if (w->what == WAIT_UP)
		w->result = link_wait_up(w->l);
	else if (w->what == WAIT_RETRY)
		w->result = link_wait_retry(w->l, LONG_MS);
	else if (w->what == WAIT_RESUMED)
		w->result = link_wait_resumed(w->l);
	else
		w->result = link_await_first(w->l, clock_mono_ms() + LONG_MS);
	return NULL;
}

static void start(struct waiter *w, struct link *l, enum wait what)
{
	*w = (struct waiter){.l = l, .what = what, .result = -1};
	assert_int_equal(pthread_create(&w->thread, NULL, wait_thread, w), 0);
}

static int finish(struct waiter *w)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 20;
	assert_int_equal(pthread_timedjoin_np(w->thread, NULL, &deadline), 0);
	return w->result;
}

static void test_waiters(void **state)
{
	struct link *l = link_new("http://x");
	struct waiter up, first, resumed, retry;
	uint64_t begin = clock_mono_ms();

	link_pause(l, true);
	start(&up, l, WAIT_UP);
	start(&first, l, WAIT_FIRST);
	start(&resumed, l, WAIT_RESUMED);
	link_up(l);
	assert_int_equal(finish(&first), 0);
	/* Connected, but paused. */
	link_pause(l, false);
	assert_int_equal(finish(&up), 1);
	assert_int_equal(finish(&resumed), 1);
	start(&retry, l, WAIT_RETRY);
	/* It may not wait yet: ask until it has gone. */
	while (pthread_tryjoin_np(retry.thread, NULL) != 0) {
		assert_true(clock_mono_ms() < begin + 20000);
		link_reconnect(l);
	}
	assert_int_equal(retry.result, 1);
	link_down(l, -ENOTCONN, "gone");
	start(&up, l, WAIT_UP);
	start(&retry, l, WAIT_RETRY);
	link_stop(l);
	assert_int_equal(finish(&up), 0);
	assert_int_equal(finish(&retry), 0);
	link_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_first_outcome),
		cmocka_unit_test(test_retry_by_time),
		cmocka_unit_test(test_waiters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
