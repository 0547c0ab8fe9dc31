/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of outbox.h: what goes into a batch, in which order and on which bases, and what becomes of the
 * agreed state by each outcome.
 */
#include "client_fixture.h"

#include <syncfs/clock.h>

#include "outbox.h"

static struct id id_of(uint8_t n)
{
	struct id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static struct outbox collect(struct fixture *f)
{
	struct outbox o;

	assert_int_equal(outbox_collect(f->capture, 100, &o), 0);
	return o;
}

static void give_back(struct fixture *f, struct outbox *o)
{
	outbox_return(f->capture, o);
	outbox_fini(o);
}

static struct outbox collect_numbered(struct fixture *f, size_t count, uint64_t first)
{
	struct outbox o = collect(f);

	assert_int_equal(o.count, count);
	assert_int_equal(outbox_number(f->capture, &o, first), 0);
	/* What the uploader reads of the object. */
	for (size_t i = 0; i < o.count; i++) {
		struct item *item = &o.items[i];
		char path[512];

		if (!item->name)
			continue;
		snprintf(
			path, sizeof(path), "%s%s%s", item->dir_path, *item->dir_path ? "/" : "", item->name);
		item->disk = stat_of(f, path);
		item->op.fields |= OP_HAS_MODE | OP_HAS_MTIME;
		item->op.mode = item->disk.mode & 0777;
		item->op.mtime_ns = item->disk.mtime_ns;
		item->op.content.size = item->disk.size;
	}
	return o;
}

/* As the server answers: done under this seq. */
static struct result done(enum outcome outcome, const struct op *op, uint64_t seq)
{
	return (struct result){.outcome = outcome,
		.opno = op->opno,
		.seq = seq,
		.c = seq,
		.l = seq,
		.a = seq,
		.node = op->node};
}

static void settle(struct fixture *f, struct outbox *o, struct result *results)
{
	const struct cursor cursor = {.epoch = id_of(0xe), .seq = 1000, .tag = 7};
	struct batch_reply reply = {.results = results, .results_count = o->count, .cursor = cursor};
	struct cursor acked;
	uint64_t opno;
	size_t len;

	assert_int_equal(outbox_settle(f->capture, o, &reply, 77), 0);
	assert_int_equal(syncstate_peek_meta(f->state, "opno", &opno, sizeof(opno), &len), 0);
	assert_int_equal(opno, 77);
	/* After a restart, too, a server that does not know of this is one that was put back. */
	assert_int_equal(syncstate_peek_acked(f->state, &acked), 0);
	assert_true(id_equal(&acked.epoch, &cursor.epoch) && acked.seq == 1000 && acked.tag == 7);
	outbox_fini(o);
}

static struct base_row base_of(struct fixture *f, const struct id *node)
{
	struct base_row row;

	assert_int_equal(syncstate_peek_base(f->state, node, &row), 0);
	return row;
}

/* The row has this one name under this version, and c. */
static void expect_base(struct fixture *f, const struct id *node, const char *name, uint64_t l, uint64_t c)
{
	struct base_row row = base_of(f, node);

	assert_int_equal(row.state.names_count, 1);
	assert_string_equal(row.state.names[0].name, name);
	assert_int_equal(row.state.names[0].l, l);
	assert_int_equal(row.state.c, c);
	base_row_fini(&row);
}

static void expect_no_base(struct fixture *f, const struct id *node)
{
	struct base_row row;

	assert_int_equal(syncstate_peek_base(f->state, node, &row), -ENOENT);
}

static void test_order_and_limit(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	uint64_t seen = 0;

	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", "f", KIND_FILE);
	do_create(f, "", "g", KIND_FILE);
	assert_true(outbox_wait(f->capture, &seen, clock_mono_ms()));
	assert_int_equal(outbox_collect(f->capture, 2, &o), 0);
	assert_int_equal(o.count, 2);
	assert_string_equal(o.items[0].op.name, "d");
	assert_string_equal(o.items[1].op.name, "f");
	assert_string_equal(o.items[1].dir_path, "d");
	assert_true(outbox_depends(&o.items[1], &o.items[0]));
	assert_false(outbox_depends(&o.items[0], &o.items[1]));
	/* What is on its way is not picked again. */
	{
		struct outbox rest = collect(f);

		assert_int_equal(rest.count, 1);
		assert_string_equal(rest.items[0].op.name, "g");
		give_back(f, &rest);
	}
	give_back(f, &o);
	o = collect(f);
	assert_int_equal(o.count, 3);
	give_back(f, &o);
	capture_hold(f->capture, true);
	assert_false(outbox_wait(f->capture, &seen, clock_mono_ms() + 60000));
}

#define FAR_MS 600000 /* longer than the test may take */

static void *make_many(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < 40; i++) {
		char name[16];

		snprintf(name, sizeof(name), "many%d", i);
		do_create(f, "", name, KIND_FILE);
		usleep(1000);
	}
	return NULL;
}

static void *make_late(void *arg)
{
	do_create(arg, "", "late", KIND_FILE);
	return NULL;
}

static void test_gather(void **state)
{
	struct fixture *f = *state;
	uint64_t seen = 0, operations, writers;
	pthread_t thread;

	/* Nothing comes. */
	outbox_gather(f->capture, 1, clock_mono_ms() + FAR_MS);
	/* There is enough. */
	do_create(f, "", "f", KIND_FILE);
	outbox_gather(f->capture, 1, clock_mono_ms() + FAR_MS);
	/* It keeps coming: until nothing does for a moment. */
	assert_int_equal(pthread_create(&thread, NULL, make_many, f), 0);
	outbox_gather(f->capture, 1000, clock_mono_ms() + FAR_MS);
	outbox_gather(f->capture, 1000, clock_mono_ms());
	assert_int_equal(pthread_join(thread, NULL), 0);
	capture_count(f->capture, &operations, &writers);
	assert_int_equal(operations, 41);
	/* Afterwards each operation wakes the uploader again. */
	assert_true(outbox_wait(f->capture, &seen, clock_mono_ms()));
	assert_int_equal(pthread_create(&thread, NULL, make_late, f), 0);
	assert_true(outbox_wait(f->capture, &seen, clock_mono_ms() + FAR_MS));
	assert_int_equal(pthread_join(thread, NULL), 0);
	capture_hold(f->capture, true);
	outbox_gather(f->capture, 1000, clock_mono_ms() + FAR_MS);
}

/* Who makes a file writes to it next: it must not look as if nobody had written to it for long. */
static void test_made_is_not_idle(void **state)
{
	struct fixture *f = *state;
	uint64_t before = clock_mono_ms();
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	o = collect(f);
	assert_int_equal(o.count, 1);
	assert_true(o.items[0].changed_ms >= before);
	give_back(f, &o);
}

/* Of several names one goes: no content may go with it, whatever became of the others elsewhere. */
static void test_one_of_several_names(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	do_link(f, "f", "g");
	do_unlink(f, "f");
	do_create(f, "", "x", KIND_FILE);
	o = collect(f);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 4);
	assert_int_equal(o.items[2].op.base_c, 0);
	assert_int_equal(o.items[2].op.base_l, -1);
	give_back(f, &o);
	assert_int_equal(outbox_forget(f->capture), 0);
	do_create(f, "", "f", KIND_FILE);
	do_link(f, "f", "h");
	do_create(f, "", "y", KIND_FILE);
	do_rename(f, "y", "f", 0);
	o = collect(f);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 4);
	assert_int_equal(o.items[3].op.other_base_c, 0);
	give_back(f, &o);
}

/* All of several names go: each may be the only one that others have left, or have not refused. */
static void test_all_of_several_names(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	do_link(f, "f", "g");
	do_unlink(f, "f");
	do_unlink(f, "g");
	o = collect(f);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 4);
	assert_int_equal(o.items[2].op.base_c, -1);
	assert_int_equal(o.items[3].op.base_c, -1);
	give_back(f, &o);
	assert_int_equal(outbox_forget(f->capture), 0);
	do_create(f, "", "f", KIND_FILE);
	do_link(f, "f", "g");
	do_create(f, "", "x", KIND_FILE);
	do_rename(f, "x", "f", 0);
	do_create(f, "", "y", KIND_FILE);
	do_rename(f, "y", "g", 0);
	o = collect(f);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 6);
	assert_int_equal(o.items[3].op.other_base_c, -1);
	assert_int_equal(o.items[5].op.other_base_c, -1);
	give_back(f, &o);
}

/* A ghost takes one of two names and goes, after the other name went: the last removal knows the content. */
static void test_last_name_by_ghost(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	write_file(f, "f", "text");
	agree(f, &ID_ROOT, "f", 9);
	do_link(f, "f", "g");
	do_create(f, "", "t", KIND_FILE);
	do_rename(f, "t", "f", 0);
	do_unlink(f, "g");
	do_unlink(f, "f");
	o = collect(f);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 3);
	assert_string_equal(o.items[1].op.name, "g");
	assert_string_equal(o.items[2].op.name, "f");
	assert_int_equal(o.items[2].op.base_c, 9);
	give_back(f, &o);
}

static void test_put_off(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", "f", KIND_FILE);
	do_create(f, "", "other", KIND_FILE);
	o = collect(f);
	assert_int_equal(o.count, 3);
	assert_int_equal(o.next_due_ms, 0);
	outbox_put_off(f->capture, &o.items[0], 3600000);
	outbox_put_off(f->capture, &o.items[1], 0);
	assert_int_equal(outbox_number(f->capture, &o, 5), 0);
	assert_int_equal(o.count, 1);
	assert_string_equal(o.items[0].op.name, "other");
	assert_int_equal(o.items[0].op.opno, 5);
	give_back(f, &o);
	/* The directory waits, and with it what is in it. */
	o = collect(f);
	assert_int_equal(o.count, 1);
	assert_string_equal(o.items[0].op.name, "other");
	assert_true(o.next_due_ms > clock_mono_ms());
	assert_int_equal(outbox_drop(f->capture, &o.items[0]), 0);
	outbox_fini(&o);
	assert_int_equal(operations(f), 2);
}

/* A file that came and went, and that more hangs on: nobody may see it half told, so all of it goes at once.
 */
static void test_dead_goes_whole(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	write_file(f, "b", "");
	agree(f, &ID_ROOT, "b", 1);
	do_create(f, "", "g", KIND_FILE);
	do_rename(f, "g", "b", RENAME_EXCHANGE);
	do_create(f, "", "other", KIND_FILE);
	do_unlink(f, "b");
	assert_int_equal(outbox_collect(f->capture, 3, &o), 0);
	assert_int_equal(o.count, 3);
	assert_int_equal(outbox_put_off_dead(f->capture, &o, true, 0), 0);
	assert_int_equal(outbox_put_off_dead(f->capture, &o, false, 0), 1);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 1);
	assert_string_equal(o.items[0].op.name, "other");
	give_back(f, &o);
	o = collect(f);
	assert_int_equal(o.count, 4);
	assert_int_equal(outbox_put_off_dead(f->capture, &o, false, 0), 0);
	give_back(f, &o);
}

/* The last writer goes while the file is found to be open still: it is not left for the time of open files.
 */
static void test_released_while_read(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	do_write(f, "f", "text");
	o = collect(f);
	assert_int_equal(o.count, 1);
	object = stat_of(f, "f");
	capture_released(f->capture, &object);
	outbox_put_off(f->capture, &o.items[0], 60000);
	outbox_fini(&o);
	o = collect(f);
	assert_int_equal(o.count, 1);
	/* Control: nobody has gone since. */
	outbox_put_off(f->capture, &o.items[0], 60000);
	outbox_fini(&o);
	o = collect(f);
	assert_int_equal(o.count, 0);
	outbox_fini(&o);
}

/* Closed while its create is being read, released after that was put off: neither is left waiting. */
static void test_closed_while_read(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	object = stat_of(f, "f");
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	o = collect(f);
	assert_int_equal(o.count, 1);
	assert_int_equal(capture_closed(f->capture, &object, false), 0);
	outbox_put_off(f->capture, &o.items[0], 60000);
	outbox_fini(&o);
	capture_released(f->capture, &object);
	o = collect(f);
	assert_true(o.count > 0);
	assert_int_equal(o.items[0].op.type, OP_CREATE);
	give_back(f, &o);
}

static void test_bases(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct id old;

	write_file(f, "old", "text");
	old = agree(f, &ID_ROOT, "old", 9);
	do_create(f, "", "new", KIND_FILE);
	do_write(f, "old", "changed");
	do_rename(f, "new", "moved", 0);
	do_rename(f, "moved", "old", 0);
	do_link(f, "old", "keep");
	do_unlink(f, "old");
	do_create(f, "", "last", KIND_DIR);
	do_unlink(f, "last");
	o = collect_numbered(f, 8, 100);
	assert_int_equal(o.items[0].op.type, OP_CREATE);
	assert_int_equal(o.items[1].op.base_c, 9);
	assert_true(id_equal(&o.items[1].op.node, &old));
	/* The name was made by operation 100, then by 102, the content by 100. */
	assert_int_equal(o.items[2].op.base_l, -100);
	assert_int_equal(o.items[3].op.base_l, -102);
	assert_true(id_equal(&o.items[3].op.other, &old));
	assert_int_equal(o.items[3].op.other_base_c, -101);
	assert_int_equal(o.items[5].op.type, OP_UNLINK);
	assert_int_equal(o.items[5].op.base_c, 0); /* another name remains */
	assert_int_equal(o.items[5].op.base_l, -103);
	assert_int_equal(o.items[7].op.type, OP_RMDIR);
	assert_int_equal(o.items[7].op.base_l, -106);
	give_back(f, &o);
	/* Both halves of an exchange, of the agreed state and of the batch. */
	assert_int_equal(outbox_forget(f->capture), 0);
	write_file(f, "a", "");
	agree(f, &ID_ROOT, "a", 20);
	do_create(f, "", "b", KIND_FILE);
	do_rename(f, "a", "b", RENAME_EXCHANGE);
	do_rename(f, "a", "c", 0);
	do_rename(f, "b", "e", 0);
	o = collect_numbered(f, 4, 1);
	assert_int_equal(o.items[1].op.base_l, 20);
	assert_int_equal(o.items[1].op.other_base_l, -1);
	assert_int_equal(o.items[2].op.base_l, -2);
	assert_int_equal(o.items[3].op.base_l, -2);
	give_back(f, &o);
}

static void test_came_and_went(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "temporary", KIND_FILE);
	do_write(f, "temporary", "text");
	do_create(f, "", "stays", KIND_FILE);
	do_unlink(f, "temporary");
	o = collect(f);
	assert_int_equal(o.count, 1);
	assert_string_equal(o.items[0].op.name, "stays");
	assert_int_equal(operations(f), 1);
	give_back(f, &o);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 1);
	/* Replaced by another that is removed: nothing is left to tell. */
	do_create(f, "", "t", KIND_FILE);
	do_rename(f, "t", "stays", 0);
	do_unlink(f, "stays");
	o = collect(f);
	assert_int_equal(o.count, 0);
	assert_int_equal(operations(f), 0);
	outbox_fini(&o);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

/* However much has happened between its making and its end. */
static void test_came_and_went_long_after(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "temporary", KIND_FILE);
	do_create(f, "", "a", KIND_FILE);
	for (int i = 0; i < 2500; i++) {
		do_rename(f, "a", "b", 0);
		do_rename(f, "b", "a", 0);
	}
	do_unlink(f, "temporary");
	o = collect(f);
	for (size_t i = 0; i < o.count; i++)
		assert_string_not_equal(o.items[i].op.name, "temporary");
	assert_int_equal(operations(f), 5001);
	outbox_return(f->capture, &o);
	outbox_fini(&o);
}

/* An editor's saves, faster than they are sent: only the last one is, in the place of what the server has. */
static void test_saves_in_a_row(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct id old;

	write_file(f, "f", "text");
	old = agree(f, &ID_ROOT, "f", 9);
	for (int i = 0; i < 3; i++) {
		do_create(f, "", "f.tmp", KIND_FILE);
		do_write(f, "f.tmp", "saved");
		do_rename(f, "f.tmp", "f", 0);
	}
	for (int run = 0; run < 2; run++) {
		o = collect_numbered(f, 2, 1);
		assert_int_equal(o.items[0].op.type, OP_CREATE);
		assert_int_equal(o.items[1].op.type, OP_RENAME);
		assert_true(id_equal(&o.items[1].op.node, &o.items[0].op.node));
		assert_true(id_equal(&o.items[1].op.other, &old));
		assert_int_equal(o.items[1].op.other_base_c, 9);
		give_back(f, &o);
		/* The journal still has all of them: a replay comes to the same. */
		fixture_reopen(f);
	}
	/* Removed in the end: so is what the server has. */
	do_unlink(f, "f");
	o = collect_numbered(f, 1, 1);
	assert_int_equal(o.items[0].op.type, OP_UNLINK);
	assert_true(id_equal(&o.items[0].op.node, &old));
	assert_int_equal(o.items[0].op.base_c, 9);
	assert_int_equal(o.items[0].op.base_l, 9);
	give_back(f, &o);
}

/* A file of two names: another takes one of them, and is replaced by the file under its other name, unsent.
 */
static void test_name_lent(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct id old;

	write_file(f, "x", "text");
	old = agree(f, &ID_ROOT, "x", 9);
	do_link(f, "x", "h");
	do_create(f, "", "t", KIND_FILE);
	do_rename(f, "t", "h", 0);
	do_rename(f, "x", "h", 0);
	for (int run = 0; run < 2; run++) {
		o = collect_numbered(f, 2, 1);
		assert_int_equal(o.items[0].op.type, OP_LINK);
		assert_int_equal(o.items[1].op.type, OP_UNLINK);
		assert_true(id_equal(&o.items[1].op.node, &old));
		assert_string_equal(o.items[1].op.name, "x");
		assert_int_equal(o.items[1].op.base_c, 0); /* another name remains */
		assert_int_equal(o.items[1].op.base_l, 9);
		give_back(f, &o);
		fixture_reopen(f);
	}
}

static void test_settle_ok(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct result r[5];
	struct id file, dir;
	struct base_row row;

	do_create(f, "", "dir", KIND_DIR);
	do_create(f, "", "f", KIND_FILE);
	do_rename(f, "f", "g", 0);
	do_link(f, "g", "h");
	do_chmod(f, "dir", 0700);
	file = node_of(f, "g");
	dir = node_of(f, "dir");
	o = collect_numbered(f, 4, 1);
	for (size_t i = 0; i < 4; i++)
		r[i] = done(OUTCOME_OK, &o.items[i].op, 10 + i);
	f->released = 0;
	settle(f, &o, r);
	assert_int_equal(f->released, 1);
	assert_int_equal(operations(f), 0);
	expect_base(f, &dir, "dir", 10, 10);
	row = base_of(f, &file);
	assert_int_equal(row.state.names_count, 2);
	assert_int_equal(row.state.c, 11);
	assert_int_equal(row.state.seq, 13);
	base_row_fini(&row);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
	/* Content, attributes, the end of a name. */
	do_write(f, "g", "text");
	do_chmod(f, "dir", 0750);
	do_unlink(f, "h");
	o = collect_numbered(f, 3, 5);
	assert_int_equal(o.items[0].op.base_c, 11);
	r[0] = done(OUTCOME_OK, &o.items[0].op, 20);
	r[1] = done(OUTCOME_SAME, &o.items[1].op, 21);
	r[2] = done(OUTCOME_OK, &o.items[2].op, 22);
	settle(f, &o, r);
	expect_base(f, &file, "g", 12, 20);
	row = base_of(f, &dir);
	assert_int_equal(row.state.a, 21);
	assert_int_equal(row.state.mode, 0750);
	base_row_fini(&row);
	assert_int_equal(syncstate_peek_remote_count(f->state), 0);
	do_unlink(f, "g");
	o = collect_numbered(f, 1, 8);
	r[0] = done(OUTCOME_OK, &o.items[0].op, 30);
	settle(f, &o, r);
	expect_no_base(f, &file);
}

static void test_settle_exchange(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct result r;
	struct id a, b;

	write_file(f, "a", "");
	write_file(f, "b", "");
	a = agree(f, &ID_ROOT, "a", 1);
	b = agree(f, &ID_ROOT, "b", 2);
	do_rename(f, "a", "b", RENAME_EXCHANGE);
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_OK, &o.items[0].op, 7);
	settle(f, &o, &r);
	expect_base(f, &a, "b", 7, 1);
	expect_base(f, &b, "a", 7, 2);
	/* Lost: here they lie so, at the server as before, which is to be applied; in the versions of before,
	 * on which more may be based. */
	do_rename(f, "a", "b", RENAME_EXCHANGE);
	o = collect_numbered(f, 1, 2);
	r = done(OUTCOME_SUPERSEDED, &o.items[0].op, 8);
	settle(f, &o, &r);
	expect_base(f, &a, "a", 7, 1);
	expect_base(f, &b, "b", 7, 2);
	assert_int_equal(syncstate_peek_remote_count(f->state), 2);
}

/* Our bytes got another name at the server: R says so, S says where they lie here. */
static void test_settle_kept(void **state)
{
	struct fixture *f = *state;
	static char conflict[] = "f (conflict)";
	struct node_state remote;
	struct outbox o;
	struct result r;
	struct id node;

	do_create(f, "", "f", KIND_FILE);
	node = node_of(f, "f");
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_KEPT, &o.items[0].op, 5);
	r.parent = ID_ROOT;
	r.name = conflict;
	settle(f, &o, &r);
	expect_base(f, &node, "f", (uint64_t)-1, 5); /* based on what operation 1 made */
	assert_int_equal(syncstate_peek_remote(f->state, &node, &remote), 0);
	assert_int_equal(remote.names_count, 1);
	assert_string_equal(remote.names[0].name, conflict);
	assert_int_equal(remote.names[0].l, 5);
	node_state_fini(&remote);
	/* A rename the same. */
	write_file(f, "x", "");
	node = agree(f, &ID_ROOT, "x", 6);
	do_rename(f, "x", "y", 0);
	o = collect_numbered(f, 1, 2);
	r = done(OUTCOME_KEPT, &o.items[0].op, 7);
	r.parent = ID_ROOT;
	r.name = conflict;
	settle(f, &o, &r);
	expect_base(f, &node, "y", (uint64_t)-2, 6);
	assert_int_equal(syncstate_peek_remote(f->state, &node, &remote), 0);
	assert_string_equal(remote.names[0].name, conflict);
	node_state_fini(&remote);
	/* A write: our bytes are a copy's now; here what the server has may take their place. */
	write_file(f, "w", "");
	node = agree(f, &ID_ROOT, "w", 8);
	do_write(f, "w", "ours");
	o = collect_numbered(f, 1, 3);
	r = done(OUTCOME_KEPT, &o.items[0].op, 9);
	r.node = id_of(99);
	r.parent = ID_ROOT;
	r.name = conflict;
	settle(f, &o, &r);
	expect_base(f, &node, "w", 8, (uint64_t)-3);
	{
		struct base_row row = base_of(f, &node);

		assert_int_equal(row.state.content.size, 4);
		base_row_fini(&row);
	}
}

static void test_settle_superseded(void **state)
{
	struct fixture *f = *state;
	struct node_state remote;
	struct outbox o;
	struct result r[2];
	struct id gone, moved;

	write_file(f, "gone", "");
	write_file(f, "moved", "");
	gone = agree(f, &ID_ROOT, "gone", 3);
	moved = agree(f, &ID_ROOT, "moved", 4);
	do_unlink(f, "gone");
	do_rename(f, "moved", "here", 0);
	o = collect_numbered(f, 2, 1);
	r[0] = done(OUTCOME_SUPERSEDED, &o.items[0].op, 5);
	r[1] = done(OUTCOME_CYCLE, &o.items[1].op, 5);
	settle(f, &o, r);
	/* Not here any more, and to come back. */
	expect_no_base(f, &gone);
	assert_int_equal(syncstate_peek_remote(f->state, &gone, &remote), 0);
	assert_string_equal(remote.names[0].name, "gone");
	node_state_fini(&remote);
	expect_base(f, &moved, "here", 4, 4);
	assert_int_equal(syncstate_peek_remote(f->state, &moved, &remote), 0);
	assert_string_equal(remote.names[0].name, "moved");
	node_state_fini(&remote);
	/* What the server has told since is newer than what we expected of it. */
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_peek_remote(f->state, &moved, &remote), 0);
	remote.seq = 50;
	assert_int_equal(syncstate_remote_put(f->state, &remote), 0);
	node_state_fini(&remote);
	assert_int_equal(syncstate_commit(f->state), 0);
	do_rename(f, "here", "there", 0);
	o = collect_numbered(f, 1, 3);
	r[0] = done(OUTCOME_SUPERSEDED, &o.items[0].op, 6);
	settle(f, &o, r);
	assert_int_equal(syncstate_peek_remote(f->state, &moved, &remote), 0);
	assert_int_equal(remote.seq, 50);
	node_state_fini(&remote);
}

static void test_settle_replacing_rename(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct result r[2];
	struct id old, saved;

	write_file(f, "doc", "old");
	old = agree(f, &ID_ROOT, "doc", 3);
	do_create(f, "", "doc.tmp", KIND_FILE);
	do_rename(f, "doc.tmp", "doc", 0);
	saved = node_of(f, "doc");
	o = collect_numbered(f, 2, 1);
	assert_int_equal(o.items[1].op.other_base_c, 3);
	r[0] = done(OUTCOME_OK, &o.items[0].op, 4);
	r[1] = done(OUTCOME_OK, &o.items[1].op, 5);
	settle(f, &o, r);
	expect_no_base(f, &old);
	expect_base(f, &saved, "doc", 5, 4);
	assert_int_equal(syncstate_peek_remote_count(f->state), 0);
}

/* The replaced one may live on where others had moved it: what the feed tells of that is news; but not what
 * is older than what was agreed. */
static void test_settle_replaced_lives_on(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct result r;
	struct id old;

	write_file(f, "f", "f");
	write_file(f, "g", "g");
	old = agree(f, &ID_ROOT, "f", 3);
	(void)agree(f, &ID_ROOT, "g", 4);
	do_rename(f, "g", "f", 0);
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_OK, &o.items[0].op, 9);
	settle(f, &o, &r);
	expect_no_base(f, &old);
	assert_int_equal(syncstate_gone_at(f->state, &old), 3);
}

/* What was done to a copy that the server had kept is not done to the node here. */
static void test_settle_another_node(void **state)
{
	struct fixture *f = *state;
	struct outbox o;
	struct result r;
	struct base_row row;
	struct id node, copy = id_of(77);

	write_file(f, "f", "f");
	node = agree(f, &ID_ROOT, "f", 3);
	do_write(f, "f", "more");
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_OK, &o.items[0].op, 20);
	r.node = copy;
	settle(f, &o, &r);
	row = base_of(f, &node);
	assert_true(row.state.seq < 20);
	base_row_fini(&row);
	do_rename(f, "f", "g", 0);
	o = collect_numbered(f, 1, 2);
	r = done(OUTCOME_SAME, &o.items[0].op, 21);
	r.node = copy;
	settle(f, &o, &r);
	row = base_of(f, &node);
	assert_true(row.state.seq < 20);
	base_row_fini(&row);
	do_unlink(f, "g");
	o = collect_numbered(f, 1, 3);
	r = done(OUTCOME_OK, &o.items[0].op, 22);
	r.node = copy;
	settle(f, &o, &r);
	expect_no_base(f, &node);
	assert_int_equal(syncstate_gone_at(f->state, &node), 3);
}

/* Made here and moved there, to one name: ours dies here, for the one that comes. */
static void test_settle_doubled(void **state)
{
	struct fixture *f = *state;
	struct node_state remote;
	struct outbox o;
	struct result r;
	struct id node, ours;

	write_file(f, "f", "alike");
	node = agree(f, &ID_ROOT, "f", 3);
	do_create(f, "", "n", KIND_FILE);
	ours = node_of(f, "n");
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_SAME, &o.items[0].op, 9);
	r.node = node;
	settle(f, &o, &r);
	expect_base(f, &node, "f", 3, 3);
	expect_base(f, &ours, "n", 9, 9);
	assert_int_equal(syncstate_peek_remote(f->state, &ours, &remote), 0);
	assert_true(remote.tomb);
	node_state_fini(&remote);
}

static void test_settle_reject(void **state)
{
	struct fixture *f = *state;
	static char reason[] = "name is too long";
	struct outbox o;
	struct result r[2];
	struct id node;

	do_create(f, "", "f", KIND_FILE);
	do_chmod(f, "f", 0600);
	do_link(f, "f", "l");
	node = node_of(f, "f");
	o = collect_numbered(f, 2, 1);
	r[0] = done(OUTCOME_REJECT, &o.items[0].op, 0);
	r[0].code = -EINVAL;
	r[0].reason = reason;
	r[1] = done(OUTCOME_REJECT, &o.items[1].op, 0);
	r[1].code = -ENOENT;
	settle(f, &o, r);
	assert_int_equal(syncstate_peek_dead_letters(f->state), 2);
	expect_no_base(f, &node);
	assert_int_equal(operations(f), 0);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

/* The server does not know what it had taken: it is another one by now, and nothing is given up. */
static void test_settle_forgotten(void **state)
{
	struct fixture *f = *state;
	struct batch_reply reply = {.results_count = 1};
	struct outbox o;
	struct result r;
	struct id node;

	do_create(f, "", "f", KIND_FILE);
	node = node_of(f, "f");
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_OK, &o.items[0].op, 4);
	settle(f, &o, &r);
	expect_base(f, &node, "f", 4, 4);
	do_chmod(f, "f", 0600);
	o = collect_numbered(f, 1, 2);
	r = done(OUTCOME_REJECT, &o.items[0].op, 0);
	r.code = -ENOENT;
	reply.results = &r;
	assert_int_equal(outbox_settle(f->capture, &o, &reply, 2), -ECHILD);
	give_back(f, &o);
	assert_int_equal(syncstate_peek_dead_letters(f->state), 0);
	assert_int_equal(operations(f), 1);
}

/* Our new directory is one that the server has: what waits for it follows. */
/* It died, and its death was told, before the answer came that ours is one with it. */
static void test_settle_alias_of_dead(void **state)
{
	struct fixture *f = *state;
	struct cursor cursor = {.epoch = id_of(9), .seq = 7, .tag = 1};
	struct id theirs = id_of(44);
	struct node_state remote;
	struct outbox o;
	struct result r;

	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_cursor_put(f->state, &cursor), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	do_create(f, "", "d", KIND_DIR);
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_SAME, &o.items[0].op, 5);
	r.node = theirs;
	settle(f, &o, &r);
	assert_int_equal(syncstate_peek_remote(f->state, &theirs, &remote), 0);
	assert_true(remote.tomb);
	assert_int_equal(remote.seq, 7);
	node_state_fini(&remote);
	/* Not told of yet, it lives for all that is known. */
	theirs = id_of(45);
	do_create(f, "", "e", KIND_DIR);
	o = collect_numbered(f, 1, 2);
	r = done(OUTCOME_SAME, &o.items[0].op, 8);
	r.node = theirs;
	settle(f, &o, &r);
	assert_int_equal(syncstate_peek_remote(f->state, &theirs, &remote), -ENOENT);
}

static void test_settle_alias(void **state)
{
	struct fixture *f = *state;
	struct id theirs = id_of(44), child;
	struct outbox o;
	struct result r[2];
	struct base_row row;

	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", "f", KIND_FILE);
	child = node_of(f, "d/f");
	o = collect_numbered(f, 2, 1);
	r[0] = done(OUTCOME_SAME, &o.items[0].op, 5);
	r[0].node = theirs;
	r[1] = done(OUTCOME_OK, &o.items[1].op, 6);
	do_create(f, "d", "later", KIND_FILE);
	settle(f, &o, r);
	row = base_of(f, &theirs);
	assert_int_equal(row.state.c, 5);
	/* Its attributes are still to be taken. */
	assert_int_equal(row.state.a, 0);
	base_row_fini(&row);
	row = base_of(f, &child);
	assert_true(id_equal(&row.state.names[0].parent, &theirs));
	base_row_fini(&row);
	child = node_of(f, "d");
	assert_true(id_equal(&child, &theirs));
	o = collect_numbered(f, 1, 3);
	assert_string_equal(o.items[0].op.name, "later");
	assert_true(id_equal(&o.items[0].op.parent, &theirs));
	assert_string_equal(o.items[0].dir_path, "d");
	give_back(f, &o);
}

/* A call that has named its directory before that became one with the server's, and ends after it. */
static void test_alias_while_a_call_is_under_way(void **state)
{
	struct fixture *f = *state;
	struct id theirs = id_of(44), parent;
	struct record found = {
		.op = OP_CREATE, .kind = KIND_FILE, .node = id_of(45), .name = (char *)"found"};
	struct intent i = {.type = OP_CREATE, .name = "f", .kind = KIND_FILE};
	struct stat_id made;
	struct outbox o;
	struct result r;
	uint64_t aliases;

	do_create(f, "", "d", KIND_DIR);
	i.parent = stat_of(f, "d");
	o = collect_numbered(f, 1, 1);
	r = done(OUTCOME_SAME, &o.items[0].op, 5);
	r.node = theirs;
	found.parent = node_of(f, "d");
	aliases = capture_aliases(f->capture);
	assert_int_equal(capture_begin(f->capture, &i), 0);
	settle(f, &o, &r);
	write_file(f, "d/f", "");
	made = stat_of(f, "d/f");
	capture_end(f->capture, &i, 0, &made);
	/* The scan, which has named it as well, looks again. */
	assert_int_equal(capture_found(f->capture, aliases, &found, &made), -EAGAIN);
	o = collect_numbered(f, 1, 2);
	assert_string_equal(o.items[0].op.name, "f");
	parent = o.items[0].op.parent;
	assert_true(id_equal(&parent, &theirs));
	give_back(f, &o);
}

/* Recognised as what the server has told: S takes it over and nothing is sent. */
static void test_settle_adopted(void **state)
{
	struct fixture *f = *state;
	static char name[] = "f";
	struct dentry d = {.parent = ID_ROOT, .name = name, .l = 8};
	struct node_state remote = {.node = id_of(55), .seq = 9, .kind = KIND_FILE, .c = 9, .a = 9};
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	remote.mode = stat_of(f, "f").mode & 0777;
	remote.mtime_ns = stat_of(f, "f").mtime_ns;
	remote.names = &d;
	remote.names_count = 1;
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &remote), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	o = collect(f);
	assert_int_equal(o.count, 1);
	o.items[0].adopt = true;
	o.items[0].disk = stat_of(f, "f");
	assert_int_equal(node_state_copy(&remote, &o.items[0].remote), 0);
	assert_int_equal(outbox_adopt(f->capture, &o), 0);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 0);
	outbox_fini(&o);
	expect_base(f, &remote.node, "f", 8, 9);
	assert_int_equal(syncstate_peek_remote_count(f->state), 0);
	assert_int_equal(operations(f), 0);
}

/* The applier has placed it, or the server has told more of it, between the look at it and its turn. */
static void test_adopted_too_late(void **state)
{
	struct fixture *f = *state;
	static char name[] = "f";
	struct dentry d = {.parent = ID_ROOT, .name = name, .l = 8};
	struct node_state remote = {.node = id_of(55), .seq = 9, .kind = KIND_FILE, .c = 9, .a = 9};
	struct base_row row;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	remote.names = &d;
	remote.names_count = 1;
	o = collect(f);
	o.items[0].adopt = true;
	assert_int_equal(node_state_copy(&remote, &o.items[0].remote), 0);
	remote.seq = 10;
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &remote), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	assert_int_equal(outbox_adopt(f->capture, &o), -EAGAIN);
	assert_int_equal(syncstate_peek_base(f->state, &remote.node, &row), -ENOENT);
	give_back(f, &o);
	assert_int_equal(operations(f), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order_and_limit),
		TEST(test_gather),
		TEST(test_made_is_not_idle),
		TEST(test_one_of_several_names),
		TEST(test_all_of_several_names),
		TEST(test_last_name_by_ghost),
		TEST(test_put_off),
		TEST(test_dead_goes_whole),
		TEST(test_released_while_read),
		TEST(test_closed_while_read),
		TEST(test_bases),
		TEST(test_came_and_went),
		TEST(test_came_and_went_long_after),
		TEST(test_saves_in_a_row),
		TEST(test_name_lent),
		TEST(test_settle_ok),
		TEST(test_settle_exchange),
		TEST(test_settle_kept),
		TEST(test_settle_superseded),
		TEST(test_settle_replacing_rename),
		TEST(test_settle_replaced_lives_on),
		TEST(test_settle_another_node),
		TEST(test_settle_doubled),
		TEST(test_settle_reject),
		TEST(test_settle_forgotten),
		TEST(test_settle_alias),
		TEST(test_settle_alias_of_dead),
		TEST(test_alias_while_a_call_is_under_way),
		TEST(test_settle_adopted),
		TEST(test_adopted_too_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
