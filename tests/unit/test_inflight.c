/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of inflight.h: the batch on its way is read back as it was, or refused whole. */
#include "client_fixture.h"

#include "inflight.h"

static struct id id_of(uint8_t n)
{
	struct id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static char name_a[] = "\xff a", name_b[] = "b";

static void make(struct item items[2], struct outbox *o, struct buf *encoded)
{
	struct op ops[2];
	struct batch b = {.client = id_of(1), .run = id_of(2), .ops = ops, .ops_count = 2};

	memset(items, 0, 2 * sizeof(*items));
	items[0].lsn = 11;
	items[0].op = (struct op){.type = OP_UNLINK,
		.opno = 41,
		.node = id_of(3),
		.parent = id_of(4),
		.name = name_a,
		.base_c = 5,
		.base_l = -40};
	items[0].disk = (struct stat_id){1, UINT64_MAX, -3, INT64_MIN, 5, 6, 7, 8};
	items[1].lsn = UINT64_MAX;
	items[1].op = (struct op){.type = OP_RENAME,
		.opno = 42,
		.node = id_of(3),
		.parent = id_of(4),
		.name = name_a,
		.new_parent = ID_ROOT,
		.new_name = name_b,
		.base_l = BASE_ANY};
	ops[0] = items[0].op;
	ops[1] = items[1].op;
	*o = (struct outbox){.items = items, .count = 2};
	assert_int_equal(batch_encode(&b, encoded), 0);
}

static void save(struct fixture *f, struct buf *encoded)
{
	struct item items[2];
	struct outbox o;

	make(items, &o, encoded);
	assert_int_equal(inflight_save(f->state_dirfd, &o, encoded), 0);
}

static int load(struct fixture *f)
{
	cleanup_buf struct buf encoded = BUF_INIT;
	struct outbox o;
	uint64_t last;
	int r = inflight_load(f->state_dirfd, &o, &encoded, &last);

	if (!r)
		outbox_fini(&o);
	return r;
}

static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	cleanup_buf struct buf encoded = BUF_INIT, again = BUF_INIT;
	struct item items[2];
	struct outbox want, got;
	uint64_t last = 0;

	assert_int_equal(load(f), -ENOENT);
	assert_int_equal(inflight_remove(f->state_dirfd), 0);
	make(items, &want, &encoded);
	assert_int_equal(inflight_save(f->state_dirfd, &want, &encoded), 0);
	assert_int_equal(inflight_load(f->state_dirfd, &got, &again, &last), 0);
	/* The very same bytes under the same numbers. */
	assert_int_equal(again.len, encoded.len);
	assert_memory_equal(again.data, encoded.data, encoded.len);
	assert_int_equal(last, 42);
	assert_int_equal(got.count, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct item *w = &items[i], *g = &got.items[i];

		assert_null(g->entry);
		assert_int_equal(g->lsn, w->lsn);
		assert_memory_equal(&g->disk, &w->disk, sizeof(w->disk));
		assert_int_equal(g->op.type, w->op.type);
		assert_int_equal(g->op.opno, w->op.opno);
		assert_string_equal(g->op.name, w->op.name);
		assert_int_equal(g->op.base_l, w->op.base_l);
		assert_true(id_equal(&g->op.node, &w->op.node));
	}
	assert_int_equal(got.items[0].op.base_c, 5);
	assert_string_equal(got.items[1].op.new_name, name_b);
	outbox_fini(&got);
	assert_int_equal(inflight_remove(f->state_dirfd), 0);
	assert_int_equal(load(f), -ENOENT);
}

static void test_torn_and_flipped(void **state)
{
	struct fixture *f = *state;
	cleanup_buf struct buf encoded = BUF_INIT, file = BUF_INIT;
	cleanup_fd int fd = -1;

	save(f, &encoded);
	assert_int_equal(io_read_file(f->state_dirfd, "inflight", 1 << 20, &file), 0);
	assert_int_equal(file.len, 16 + 2 * 68 + encoded.len);
	fd = openat(f->state_dirfd, "inflight", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t len = 0; len < file.len; len++) {
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		assert_int_equal(load(f), -EBADMSG);
		/* The tail that was not written is zeros. */
		assert_int_equal(ftruncate(fd, (off_t)file.len), 0);
		if (len < file.len - 1)
			assert_int_equal(load(f), -EBADMSG);
		assert_int_equal(io_pwrite(fd, file.data, file.len, 0), 0);
	}
	for (size_t i = 0; i < file.len; i++) {
		uint8_t byte = file.data[i] ^ 0x40;

		assert_int_equal(io_pwrite(fd, &byte, 1, (off_t)i), 0);
		assert_int_equal(load(f), -EBADMSG);
		assert_int_equal(io_pwrite(fd, &file.data[i], 1, (off_t)i), 0);
	}
	assert_int_equal(load(f), 0);
	/* Bytes behind it. */
	assert_int_equal(io_pwrite(fd, "x", 1, (off_t)file.len), 0);
	assert_int_equal(load(f), -EBADMSG);
	/* The next one takes its place. */
	buf_reset(&encoded);
	save(f, &encoded);
	assert_int_equal(load(f), 0);
}

/* After a restart the operations of the batch are found in the queue again. */
static void test_claim(void **state)
{
	struct fixture *f = *state;
	cleanup_buf struct buf encoded = BUF_INIT, again = BUF_INIT;
	struct outbox o;
	uint64_t last;

	do_create(f, "", "d", KIND_DIR);
	do_create(f, "", "e", KIND_DIR);
	do_create(f, "", "g", KIND_DIR);
	assert_int_equal(outbox_collect(f->capture, 2, &o), 0);
	assert_int_equal(o.count, 2);
	assert_int_equal(outbox_number(f->capture, &o, 7), 0);
	{
		struct op ops[2] = {o.items[0].op, o.items[1].op};
		struct batch b = {.client = id_of(1), .run = id_of(2), .ops = ops, .ops_count = 2};

		assert_int_equal(batch_encode(&b, &encoded), 0);
	}
	assert_int_equal(inflight_save(f->state_dirfd, &o, &encoded), 0);
	outbox_fini(&o);
	fixture_reopen(f);
	assert_int_equal(inflight_load(f->state_dirfd, &o, &again, &last), 0);
	assert_int_equal(last, 8);
	assert_int_equal(outbox_claim(f->capture, &o), 0);
	assert_non_null(o.items[0].entry);
	assert_non_null(o.items[1].entry);
	{
		struct outbox rest;

		assert_int_equal(outbox_collect(f->capture, 10, &rest), 0);
		assert_int_equal(rest.count, 1);
		assert_string_equal(rest.items[0].op.name, "g");
		outbox_return(f->capture, &rest);
		outbox_fini(&rest);
	}
	outbox_return(f->capture, &o);
	outbox_fini(&o);
	assert_int_equal(operations(f), 3);
}

/* Sends what is queued, dies before the answer, and comes back with the batch claimed. */
static struct outbox die_and_claim(struct fixture *f, size_t count, const char *written_meanwhile)
{
	cleanup_buf struct buf encoded = BUF_INIT, again = BUF_INIT;
	struct op ops[8];
	struct batch b = {.client = id_of(1), .run = id_of(2), .ops = ops, .ops_count = count};
	struct outbox o;
	uint64_t last;

	assert_int_equal(outbox_collect(f->capture, 100, &o), 0);
	assert_int_equal(o.count, count);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	for (size_t i = 0; i < count; i++) {
		o.items[i].disk = o.items[i].object;
		o.items[i].op.fields |= OP_HAS_DATA;
		ops[i] = o.items[i].op;
	}
	assert_int_equal(batch_encode(&b, &encoded), 0);
	assert_int_equal(inflight_save(f->state_dirfd, &o, &encoded), 0);
	outbox_fini(&o);
	if (written_meanwhile) {
		struct stat_id object = stat_of(f, written_meanwhile);

		assert_int_equal(capture_dirty(f->capture, &object), 0);
	}
	fixture_reopen(f);
	assert_int_equal(inflight_load(f->state_dirfd, &o, &again, &last), 0);
	assert_int_equal(outbox_claim(f->capture, &o), 0);
	return o;
}

static void settle(struct fixture *f, struct outbox *o)
{
	struct result results[8] = {{0}};
	struct batch_reply reply = {.results = results, .results_count = o->count};

	for (size_t i = 0; i < o->count; i++)
		results[i] = (struct result){.outcome = OUTCOME_OK,
			.opno = o->items[i].op.opno,
			.seq = 50 + i,
			.c = 50,
			.l = 50,
			.a = 50,
			.node = o->items[i].op.node};
	assert_int_equal(outbox_settle(f->capture, o, &reply, o->items[o->count - 1].op.opno), 0);
	outbox_fini(o);
}

/* A file that was made and written: its answer settles both; also after a restart nothing is left of it. */
static void test_claim_covers_the_writing(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	do_write(f, "f", "text");
	o = die_and_claim(f, 1, NULL);
	settle(f, &o);
	assert_int_equal(operations(f), 0);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

/* What was written while the batch was on its way is sent once more, by whoever comes back from a crash. */
static void test_claim_leaves_what_is_newer(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	do_create(f, "", "f", KIND_FILE);
	do_write(f, "f", "text");
	o = die_and_claim(f, 1, "f");
	settle(f, &o);
	assert_int_equal(outbox_collect(f->capture, 100, &o), 0);
	assert_int_equal(o.count, 1);
	assert_int_equal(o.items[0].op.type, OP_WRITE);
	outbox_return(f->capture, &o);
	outbox_fini(&o);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 1);
}

/* Saves that were taken together: the answer to the last one settles all of them. */
static void test_claim_covers_the_absorbed(void **state)
{
	struct fixture *f = *state;
	struct outbox o;

	write_file(f, "f", "text");
	agree(f, &ID_ROOT, "f", 9);
	for (int i = 0; i < 3; i++) {
		do_create(f, "", "f.tmp", KIND_FILE);
		do_write(f, "f.tmp", "saved");
		do_rename(f, "f.tmp", "f", 0);
	}
	o = die_and_claim(f, 2, NULL);
	settle(f, &o);
	assert_int_equal(operations(f), 0);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_torn_and_flipped),
		TEST(test_claim),
		TEST(test_claim_covers_the_writing),
		TEST(test_claim_leaves_what_is_newer),
		TEST(test_claim_covers_the_absorbed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
