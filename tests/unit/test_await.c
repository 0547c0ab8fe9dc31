/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of await.h with a server that the test plays: who is answered when, and with what. */
#include "client_fixture.h"
#include "await.h"

#include <syncfs/clock.h>

#define PATIENCE_MS 10000

struct call_result {
	bool answered;
	int error;
};

static struct await_server server; /* guarded by the lock */
static unsigned hurries; /* likewise */
static struct mutex lock;
static struct cond changed;

static void tell_server(void *arg, struct await_server *ret_server)
{
	(void)arg;
	MUTEX_GUARD(&lock);
	*ret_server = server;
}

static void hurry(void *arg)
{
	(void)arg;
	MUTEX_GUARD(&lock);
	hurries++;
}

static void answer(void *arg, int error)
{
	struct call_result *c = arg;

	MUTEX_GUARD(&lock);
	*c = (struct call_result){.answered = true, .error = error};
	cond_broadcast(&changed);
}

static int answer_of(struct call_result *c)
{
	uint64_t deadline = clock_mono_ms() + PATIENCE_MS;

	MUTEX_GUARD(&lock);
	while (!c->answered)
		assert_true(cond_wait_until(&changed, &lock, deadline));
	return c->error;
}

static struct await *start(struct fixture *f, enum config_offline offline, uint32_t block_s)
{
	struct await_config config = {.capture = f->capture,
		.state = f->state,
		.offline = offline,
		.block_s = block_s,
		.server = tell_server,
		.hurry = hurry};
	struct await *a;

	server = (struct await_server){.connected = true, .scanned = true, .moved_ms = clock_mono_ms()};
	assert_int_equal(await_start(&config, &a), 0);
	return a;
}

static void set_server(bool connected, bool down, uint64_t failures)
{
	MUTEX_GUARD(&lock);
	server.connected = connected;
	server.down = down;
	server.failures = failures;
}

static int park(struct fixture *f, struct await *a, const char *path, struct call_result *c)
{
	struct stat_id object = stat_of(f, path);
	int r;

	*c = (struct call_result){0};
	r = await_park(a, &object, c, true, answer, c);
	if (r > 0)
		await_arm(a, c);
	return r;
}

static void settle_first(struct fixture *f)
{
	MUTEX_GUARD(&f->capture->lock);
	pending_remove(f->capture->pending, pending_first(f->capture->pending));
	capture_settled_locked(f->capture);
}

static void finish(struct await *a)
{
	await_close(a);
	await_drain(a);
	await_stop(a);
}

static uint64_t deferred_calls(struct fixture *f)
{
	uint64_t waiting, deferred;

	capture_count_waiting(f->capture, &waiting, &deferred);
	return deferred;
}

static void test_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_EIO, 0);
	struct call_result one, two;
	int released;

	write_file(f, "old", "text");
	agree(f, &ID_ROOT, "old", 1);
	assert_int_equal(park(f, a, "old", &one), 0);
	do_create(f, "", "f", KIND_FILE);
	assert_int_equal(park(f, a, "f", &one), 1);
	assert_int_equal(park(f, a, "f", &two), 1);
	released = f->released;
	settle_first(f);
	assert_int_equal(answer_of(&one), 0);
	assert_int_equal(answer_of(&two), 0);
	finish(a);
	assert_true(f->released > released); /* the applier may have waited for it */
}

static void test_eio(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_EIO, 0);
	struct call_result c;

	do_create(f, "", "f", KIND_FILE);
	assert_int_equal(park(f, a, "f", &c), 1);
	set_server(false, true, 0); /* lost while it waits */
	assert_int_equal(answer_of(&c), -EIO);
	assert_int_equal(park(f, a, "f", &c), 1); /* known to be lost */
	assert_int_equal(answer_of(&c), -EIO);
	set_server(true, false, 0);
	assert_int_equal(park(f, a, "f", &c), 1);
	for (bool over = false; !over;) {
		/* An attempt to send it has failed since. */
		MUTEX_GUARD(&lock);
		server.failures++;
		(void)cond_wait_until(&changed, &lock, clock_mono_ms() + 50);
		over = c.answered;
	}
	assert_int_equal(answer_of(&c), -EIO);
	assert_int_equal(operations(f), 1); /* it is sent later */
	finish(a);
}

static void test_block(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_BLOCK, 1);
	uint64_t begin = clock_mono_ms();
	struct stat_id object;
	struct call_result c;

	set_server(false, true, 3);
	hurries = 0;
	do_create(f, "", "f", KIND_FILE);
	assert_int_equal(park(f, a, "f", &c), 1);
	assert_int_equal(answer_of(&c), -EIO);
	assert_true(clock_mono_ms() - begin >= 1000);
	mutex_lock(&lock);
	assert_in_range(hurries, 1, 5); /* tried for, and not all the time */
	mutex_unlock(&lock);
	finish(a);
	/* Whom nobody can interrupt is not kept so long. */
	a = start(f, OFFLINE_BLOCK, 3600);
	set_server(false, true, 3);
	c = (struct call_result){0};
	object = stat_of(f, "f");
	assert_int_equal(await_park(a, &object, &c, false, answer, &c), 1);
	await_arm(a, &c);
	assert_int_equal(answer_of(&c), -EIO);
	finish(a);
}

static void test_interrupt(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_BLOCK, 60);
	struct call_result c, other;
	struct stat_id object;

	do_create(f, "", "f", KIND_FILE);
	assert_int_equal(park(f, a, "f", &other), 1);
	/* Before it is armed: what came early counts. */
	object = stat_of(f, "f");
	c = (struct call_result){0};
	assert_int_equal(await_park(a, &object, &c, true, answer, &c), 1);
	await_interrupt(a, &c);
	await_arm(a, &c);
	assert_int_equal(answer_of(&c), -EINTR);
	assert_false(other.answered);
	await_interrupt(a, &c); /* nobody any more */
	settle_first(f);
	assert_int_equal(answer_of(&other), 0);
	finish(a);
}

static void test_defer(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_DEFER, 0);
	uint64_t deadline = clock_mono_ms() + PATIENCE_MS;
	struct call_result c;

	set_server(false, true, 0);
	do_create(f, "", "f", KIND_FILE);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(park(f, a, "f", &c), 1);
		assert_int_equal(answer_of(&c), 0);
	}
	assert_int_equal(deferred_calls(f), 2);
	finish(a);
	a = start(f, OFFLINE_DEFER, 0); /* another run, also with other options, still knows */
	assert_int_equal(deferred_calls(f), 2);
	do_create(f, "", "later", KIND_FILE); /* nothing of what was said to be done */
	settle_first(f);
	while (deferred_calls(f)) {
		MUTEX_GUARD(&lock);
		assert_true(clock_mono_ms() < deadline);
		(void)cond_wait_until(&changed, &lock, clock_mono_ms() + 20);
	}
	finish(a);
	a = start(f, OFFLINE_DEFER, 0);
	assert_int_equal(deferred_calls(f), 0);
	finish(a);
}

/* Nobody has told of the file: it is looked for, and then waited for. */
static void test_unknown(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_BLOCK, 60);
	struct call_result c;

	write_file(f, "f", "beside the mount");
	assert_false(f->capture->scan_wanted);
	assert_int_equal(park(f, a, "f", &c), 1);
	assert_true(capture_await_scan(f->capture, UINT64_MAX));
	agree(f, &ID_ROOT, "f", 1);
	assert_int_equal(answer_of(&c), 0);
	finish(a);
}

static void test_close(void **state)
{
	struct fixture *f = *state;
	struct await *a = start(f, OFFLINE_BLOCK, 60);
	struct call_result c, late;

	do_create(f, "", "f", KIND_FILE);
	assert_int_equal(park(f, a, "f", &c), 1);
	await_close(a);
	assert_int_equal(answer_of(&c), -EIO);
	assert_int_equal(park(f, a, "f", &late), 1);
	await_drain(a);
	assert_true(late.answered);
	assert_int_equal(late.error, -EIO);
	await_stop(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_acknowledged),
		TEST(test_eio),
		TEST(test_block),
		TEST(test_interrupt),
		TEST(test_defer),
		TEST(test_unknown),
		TEST(test_close),
	};
	int failed;

	mutex_init(&lock, RANK_LOG, "test");
	cond_init(&changed);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	cond_fini(&changed);
	mutex_fini(&lock);
	return failed;
}
