/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of promise.h over a real queue: what a file depends on, what it does not, and what ends a promise. */
#include "client_fixture.h"
#include "outbox.h"
#include "promise.h"

static int look(struct fixture *f, struct promise *p)
{
	MUTEX_GUARD(&f->capture->lock);
	return promise_look_locked(f->capture, p);
}

static void begin(struct fixture *f, struct promise *p, const char *path)
{
	*p = (struct promise){.object = stat_of(f, path)};
	MUTEX_GUARD(&f->capture->lock);
	promise_begin_locked(f->capture, p);
}

static void end(struct fixture *f, struct promise *p)
{
	MUTEX_GUARD(&f->capture->lock);
	promise_end_locked(f->capture, p);
}

/* The entry at this place of the queue is settled. */
static void settle(struct fixture *f, size_t at)
{
	struct entry *e;

	MUTEX_GUARD(&f->capture->lock);
	e = pending_first(f->capture->pending);
	while (at--)
		e = e->next;
	assert_int_equal(journal_ack(f->capture->journal, &e->lsn, 1), 0);
	pending_remove(f->capture->pending, e);
}

static void test_nothing_pending(void **state)
{
	struct fixture *f = *state;
	struct promise p;

	write_file(f, "f", "text");
	agree(f, &ID_ROOT, "f", 1);
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 0);
	end(f, &p);
	assert_null(f->capture->promises);
}

static void test_unknown(void **state)
{
	struct fixture *f = *state;
	struct promise p;

	write_file(f, "f", "beside the mount");
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), -EAGAIN);
	agree(f, &ID_ROOT, "f", 1); /* found, and merged */
	assert_int_equal(look(f, &p), 0);
	end(f, &p);
}

static void test_what_counts(void **state)
{
	struct fixture *f = *state;
	struct promise p;

	do_create(f, "", "d", KIND_DIR); /* counts */
	do_create(f, "d", "f", KIND_FILE); /* counts */
	do_create(f, "", "other", KIND_FILE);
	do_create(f, "d", "sister", KIND_FILE);
	do_rename(f, "d", "e", 0); /* counts */
	do_chmod(f, "e", 0711); /* of the directory only */
	do_write(f, "other", "text");
	begin(f, &p, "e/f");
	assert_int_equal(look(f, &p), 1);
	assert_int_equal(p.left, 3);
	/* Of others nothing is waited for. */
	do_unlink(f, "other");
	assert_int_equal(p.left, 3);
	settle(f, 4);
	settle(f, 0);
	assert_int_equal(look(f, &p), 1);
	settle(f, 0);
	assert_int_equal(look(f, &p), 0);
	end(f, &p);
}

static void test_later_work_does_not_count(void **state)
{
	struct fixture *f = *state;
	struct entry *e;
	struct promise p;

	do_create(f, "", "f", KIND_FILE);
	do_write(f, "f", "one");
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 1);
	e = pending_first(f->capture->pending);
	assert_true(e->synced); /* sent from under its writers */
	e->in_flight = true;
	do_write(f, "f", "two");
	assert_int_equal(operations(f), 2);
	settle(f, 0);
	assert_int_equal(look(f, &p), 0);
	end(f, &p);
}

static void test_busy_for_the_applier(void **state)
{
	struct fixture *f = *state;
	struct promise p;
	struct id node;

	write_file(f, "f", "text");
	node = agree(f, &ID_ROOT, "f", 1);
	assert_false(capture_is_busy(f->capture, &node));
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 0);
	assert_true(capture_is_busy(f->capture, &node));
	end(f, &p);
	assert_false(capture_is_busy(f->capture, &node));
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct promise p;

	do_create(f, "", "f", KIND_FILE);
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 1);
	pending_refuse(pending_first(f->capture->pending), -EIO);
	settle(f, 0);
	assert_int_equal(look(f, &p), -EIO);
	end(f, &p);
}

static void test_alias(void **state)
{
	struct fixture *f = *state;
	struct id from, to = id_new();
	struct promise p;

	do_create(f, "", "f", KIND_FILE);
	from = node_of(f, "f");
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 1);
	assert_int_equal(pending_alias(f->capture->pending, &from, &to), 0);
	assert_true(id_equal(&p.node, &to));
	settle(f, 0);
	assert_int_equal(look(f, &p), 0);
	assert_true(capture_is_busy(f->capture, &to));
	end(f, &p);
	assert_false(capture_is_busy(f->capture, &to));
}

/* The server's outcome of a create: 0 or what the call is to be answered with. */
static int outcome(struct fixture *f, const char *name, enum outcome outcome)
{
	struct result result = {.outcome = outcome, .opno = 1, .seq = 5, .c = 5, .l = 5, .a = 5};
	struct batch_reply reply = {.results = &result, .results_count = 1};
	struct outbox o;
	struct promise p;
	int r;

	do_create(f, "", name, KIND_FILE);
	begin(f, &p, name);
	assert_int_equal(look(f, &p), 1);
	assert_int_equal(outbox_collect(f->capture, 10, &o), 0);
	assert_int_equal(o.count, 1);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	o.items[0].disk = stat_of(f, name);
	result.node = o.items[0].op.node;
	result.name = (char[]){"kept name"};
	assert_int_equal(outbox_settle(f->capture, &o, &reply, 1), 0);
	outbox_fini(&o);
	r = look(f, &p);
	end(f, &p);
	return r;
}

static void test_outcomes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(outcome(f, "a", OUTCOME_OK), 0);
	assert_int_equal(outcome(f, "b", OUTCOME_SAME), 0);
	assert_int_equal(outcome(f, "c", OUTCOME_KEPT), 0); /* its bytes are safe */
	assert_int_equal(outcome(f, "d", OUTCOME_REJECT), -EIO);
}

/* Others go in order, and before them, by turns, what is waited for. */
static void test_goes_first(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct promise p;
	char name[8];

	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		do_create(f, "", name, KIND_FILE);
	}
	begin(f, &p, "f4");
	assert_int_equal(look(f, &p), 1);
	assert_int_equal(outbox_collect(f->capture, 2, &o), 0);
	assert_int_equal(o.count, 1);
	assert_string_equal(o.items[0].op.name, "f4");
	outbox_return(f->capture, &o);
	outbox_fini(&o);
	assert_int_equal(outbox_collect(f->capture, 2, &o), 0);
	assert_int_equal(o.count, 2);
	assert_string_equal(o.items[0].op.name, "f0");
	outbox_return(f->capture, &o);
	outbox_fini(&o);
	end(f, &p);
}

/* What a merge drops from the queue is not at the server: the promise is not kept by that. */
static void test_forgotten(void **state)
{
	struct fixture *f = *state;
	struct promise p;

	do_create(f, "", "f", KIND_FILE);
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 1);
	assert_int_equal(outbox_forget(f->capture), 0);
	assert_int_equal(operations(f), 0);
	assert_int_equal(look(f, &p), -EAGAIN);
	agree(f, &ID_ROOT, "f", 7);
	assert_int_equal(look(f, &p), 0);
	end(f, &p);
}

static void test_removed_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct promise p;

	do_create(f, "", "f", KIND_FILE);
	begin(f, &p, "f");
	assert_int_equal(look(f, &p), 1);
	do_unlink(f, "f");
	assert_int_equal(outbox_collect(f->capture, 10, &o), 0);
	assert_int_equal(o.count, 0); /* it came and went unsent */
	outbox_fini(&o);
	assert_int_equal(look(f, &p), 0);
	end(f, &p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_pending),
		TEST(test_unknown),
		TEST(test_what_counts),
		TEST(test_later_work_does_not_count),
		TEST(test_busy_for_the_applier),
		TEST(test_refused),
		TEST(test_alias),
		TEST(test_outcomes),
		TEST(test_goes_first),
		TEST(test_forgotten),
		TEST(test_removed_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
