/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: native batches, the feed, chunks, repeats, what survives a restart and a death between COMMIT and
 * placing. */
#include "store_fixture.h"

#include "store_internal.h"

static void creates_and_reads_back(void **state)
{
	struct fixture *f = *state;
	struct feed feed;
	struct stat st;
	size_t page;
	const struct node_state *n;
	struct id d = add_dir(f, ID_ROOT, "d");
	struct op *op;

	add_file(f, d, "a.txt", "hello");
	add_file(f, ID_ROOT, "empty", "");
	op = add_op(f, OP_CREATE, id_new());
	op->kind = KIND_SYMLINK;
	op->parent = d;
	op->name = (char *)(uintptr_t) "link";
	op->target = (char *)(uintptr_t) "a.txt";
	op->fields = OP_HAS_MTIME;
	send_all(f, OUTCOME_OK);
	disk_is(f, "d/a.txt", "hello");
	disk_is(f, "empty", "");
	disk_is(f, "d/link", "hello");
	assert_int_equal(lstat(path_in(f, "d/a.txt"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_true(timespec_to_ns(st.st_mtim) == 1234567890123456789);
	feed_read(f, NULL, 1 << 20, &feed);
	n = feed_get(&feed, "a.txt", &page);
	assert_true(n->has_data && n->data_len == 5);
	assert_memory_equal(feed.raw[page].data + n->data_at, "hello", 5);
	assert_non_null(feed_find(&feed, "link", NULL));
	feed_fini(&feed);
	assert_true(f->changes > 0);
}

static void edits_move_and_remove(void **state)
{
	struct fixture *f = *state;
	struct id d = add_dir(f, ID_ROOT, "d"), e, a, b;
	struct op *op;

	a = add_file(f, d, "a", "one");
	b = add_file(f, d, "b", "bee");
	e = add_dir(f, d, "sub");
	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_WRITE, a);
	set_data(f, op, "two two", 7);
	op = add_op(f, OP_LINK, a);
	op->parent = e;
	op->name = (char *)(uintptr_t) "a2";
	op = add_op(f, OP_WRITE, a);
	set_data(f, op, "three", 5);
	op = add_op(f, OP_RENAME, d);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "d";
	op->new_parent = ID_ROOT;
	op->new_name = (char *)(uintptr_t) "moved";
	op = add_op(f, OP_RENAME, b);
	op->parent = d;
	op->name = (char *)(uintptr_t) "b";
	op->new_parent = d;
	op->new_name = (char *)(uintptr_t) "a";
	op->other = a;
	send_all(f, OUTCOME_OK);
	assert_false(disk_has(f, "d"));
	disk_is(f, "moved/a", "bee");
	assert_false(disk_has(f, "moved/b"));
	disk_is(f, "moved/sub/a2", "three");
	op = add_op(f, OP_UNLINK, a);
	op->parent = e;
	op->name = (char *)(uintptr_t) "a2";
	op = add_op(f, OP_RMDIR, e);
	op->parent = d;
	op->name = (char *)(uintptr_t) "sub";
	op = add_op(f, OP_SETATTR, b);
	op->fields = OP_HAS_MODE;
	op->mode = 0600;
	send_all(f, OUTCOME_OK);
	assert_false(disk_has(f, "moved/sub"));
	/* a stale write brings the deleted file back */
	op = add_op(f, OP_WRITE, a);
	op->base_c = 1;
	set_data(f, op, "again", 5);
	send_all(f, OUTCOME_OK);
	disk_is(f, "moved/sub/a2", "again");
}

/* An ordinary user's server must get into what its clients have closed. */
static void closed_modes(void **state)
{
	struct fixture *f = *state;
	struct id d = add_dir(f, ID_ROOT, "d");
	struct hash chunk = hash_bytes("secret", 6);
	struct buf got = BUF_INIT;
	struct feed feed;

	f->ops[f->count - 1].mode = 0;
	add_file(f, d, "a", "secret");
	f->ops[f->count - 1].mode = 0;
	send_all(f, OUTCOME_OK);
	add_file(f, d, "b", "more");
	send_all(f, OUTCOME_OK);
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), 0);
	buf_fini(&got);
	fixture_shut(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	feed_read(f, NULL, 1 << 20, &feed);
	assert_int_equal(feed_get(&feed, "d", NULL)->mode, 0);
	assert_int_equal(feed_get(&feed, "a", NULL)->mode, 0);
	assert_int_equal(feed_get(&feed, "b", NULL)->mode, 0640);
	feed_fini(&feed);
}

static void brings_back_from_history(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "precious");
	struct op *op;

	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_UNLINK, a);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "a";
	send_all(f, OUTCOME_OK);
	assert_false(disk_has(f, "a"));
	op = add_op(f, OP_RENAME, a);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "a";
	op->new_parent = ID_ROOT;
	op->new_name = (char *)(uintptr_t) "b";
	send_all(f, OUTCOME_OK);
	disk_is(f, "b", "precious");
}

static void unlink_then_rename(struct fixture *f, struct id node, const char *name, const char *to)
{
	struct op *op = add_op(f, OP_UNLINK, node);

	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t)name;
	op = add_op(f, OP_RENAME, node);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t)name;
	op->new_parent = ID_ROOT;
	op->new_name = (char *)(uintptr_t)to;
}

/* What goes and comes back in one transaction is in the history only after it. */
static void brings_back_at_once(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "precious");

	send_all(f, OUTCOME_OK);
	unlink_then_rename(f, a, "a", "b");
	send_all(f, OUTCOME_OK);
	disk_is(f, "b", "precious");
	assert_false(disk_has(f, "a"));
	a = add_file(f, ID_ROOT, "c", "new and precious");
	unlink_then_rename(f, a, "c", "d");
	send_all(f, OUTCOME_OK);
	disk_is(f, "d", "new and precious");
	assert_false(disk_has(f, "c"));
}

static struct op *add_removal(struct fixture *f, struct id node, const char *name)
{
	struct op *op = add_op(f, OP_UNLINK, node);

	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t)name;
	return op;
}

/* What was to swap with a file that can not come back stays where it was, and goes when that was all of it.
 */
static void cannot_bring_back(void **state)
{
	static const enum outcome expected[] = {OUTCOME_OK, OUTCOME_REJECT, OUTCOME_OK};
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "precious"), b;
	struct content was = f->ops[0].content;
	struct batch_reply reply;
	uint64_t opno;
	struct op *op;

	send_all(f, OUTCOME_OK);
	add_removal(f, a, "a");
	send_all(f, OUTCOME_OK);
	assert_int_equal(content_history_drop(&f->store->content, &was.hash), 0);
	b = add_file(f, ID_ROOT, "b", "came and went");
	op = add_move(f, OP_EXCHANGE, a, "a", "b");
	op->other = b;
	op->other_base_l = -(int64_t)(op->opno - 1);
	op = add_removal(f, b, "a");
	op->base_l = -(int64_t)(op->opno - 1);
	assert_int_equal(send_ops(f, &reply, &opno), 0);
	assert_int_equal(reply.results_count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(reply.results[i].outcome, expected[i]);
	assert_int_equal(reply.results[1].code, -ENODATA);
	batch_reply_fini(&reply);
	assert_false(disk_has(f, "b"));
}

/* One operation may end two nodes: the replaced one, and the mover, which is equal to what has its name. */
static void keeps_all_that_one_operation_ends(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "precious"), b = add_file(f, ID_ROOT, "b", "same");
	struct op *op;

	add_file(f, ID_ROOT, "c", "same");
	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_RENAME, b);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "b";
	op->new_parent = ID_ROOT;
	op->new_name = (char *)(uintptr_t) "c";
	op->other = a; /* which this client has at c, not knowing what came there */
	op->other_base_c = op->other_base_l = 1;
	send_all(f, OUTCOME_SAME);
	assert_false(disk_has(f, "a"));
	assert_false(disk_has(f, "b"));
	op = add_op(f, OP_RENAME, a);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "a";
	op->new_parent = ID_ROOT;
	op->new_name = (char *)(uintptr_t) "d";
	send_all(f, OUTCOME_OK);
	disk_is(f, "d", "precious");
}

static void survives_restart(void **state)
{
	struct fixture *f = *state;
	struct cursor before, after;
	struct feed feed;
	struct session session;

	add_file(f, ID_ROOT, "a", "kept");
	send_all(f, OUTCOME_OK);
	store_cursor(f->store, &before);
	fixture_shut(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	store_cursor(f->store, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	feed_read(f, &before, 1 << 20, &feed);
	assert_int_equal(feed.pages[0].changes_count, 0);
	feed_fini(&feed);
	assert_int_equal(store_session(f->store, &f->client, &session), 0);
	assert_int_equal(session.last_opno, 1);
	disk_is(f, "a", "kept");
}

static void repeats_have_one_effect(void **state)
{
	struct fixture *f = *state;
	struct batch_reply reply;
	uint64_t expected = 0;
	struct cursor before, after;
	struct id old_run = f->run;

	add_file(f, ID_ROOT, "a", "x");
	assert_int_equal(send_ops(f, &reply, &expected), 0);
	before = reply.cursor;
	batch_reply_fini(&reply);
	assert_int_equal(send_ops(f, &reply, &expected), 0);
	assert_int_equal(reply.results[0].outcome, OUTCOME_OK);
	assert_int_equal(reply.results[0].seq, before.seq);
	after = reply.cursor;
	batch_reply_fini(&reply);
	assert_int_equal(before.seq, after.seq);
	f->ops[0].mode = 0600;
	assert_int_equal(send_ops(f, &reply, &expected), -EKEYREJECTED);
	f->ops[0].opno = 3;
	assert_int_equal(send_ops(f, &reply, &expected), -ECHILD);
	assert_int_equal(expected, 2);
	f->ops[0].opno = 2;
	f->ops[0].node = id_new();
	f->ops[0].name = (char *)(uintptr_t) "other";
	f->run = id_new();
	assert_int_equal(send_ops(f, &reply, &expected), 0);
	batch_reply_fini(&reply);
	f->run = old_run;
	assert_int_equal(send_ops(f, &reply, &expected), -EALREADY);
}

static void wrong_content_is_rejected_alone(void **state)
{
	struct fixture *f = *state;
	struct batch_reply reply;
	uint64_t expected;

	add_file(f, ID_ROOT, "bad", "abc");
	f->ops[0].content.hash.b[0] ^= 1;
	add_file(f, ID_ROOT, "good", "def");
	assert_int_equal(send_ops(f, &reply, &expected), 0);
	assert_int_equal(reply.results[0].outcome, OUTCOME_REJECT);
	assert_int_equal(reply.results[0].code, -EBADMSG);
	assert_int_equal(reply.results[1].outcome, OUTCOME_OK);
	batch_reply_fini(&reply);
	assert_false(disk_has(f, "bad"));
	disk_is(f, "good", "def");
}

static void missing_chunks_stop_the_batch(void **state)
{
	enum { LEN = 600000 };
	struct fixture *f = *state;
	uint8_t *bytes = malloc(LEN);
	struct blob manifest;
	struct content content;
	struct batch_reply reply;
	struct hash *hashes, chunk;
	uint64_t expected;
	struct op *op;
	uint32_t len, at = 0;
	struct buf got = BUF_INIT;
	size_t count;

	for (size_t i = 0; i < LEN; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	assert_int_equal(manifest_of_bytes(bytes, LEN, &content, &manifest), 0);
	count = manifest_count(&manifest);
	assert_true(count > 1);
	op = add_op(f, OP_CREATE, id_new());
	op->kind = KIND_FILE;
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "big";
	op->fields = OP_HAS_MANIFEST;
	op->content = content;
	op->manifest = manifest;
	add_file(f, ID_ROOT, "later", "z");
	assert_int_equal(send_ops(f, &reply, &expected), 0);
	assert_int_equal(reply.results_count, 1);
	assert_int_equal(reply.results[0].outcome, OUTCOME_MISSING);
	assert_int_equal(reply.results[0].missing_count, count);
	batch_reply_fini(&reply);
	assert_false(disk_has(f, "later"));
	hashes = calloc(count, sizeof(*hashes));
	for (size_t i = 0; i < count; i++) {
		manifest_entry(&manifest, i, &hashes[i], &len);
		assert_int_equal(store_chunk_put(f->store, &hashes[i], bytes + at + 1, len > 1 ? len - 1 : 1),
			-EBADMSG);
		assert_int_equal(store_chunk_put(f->store, &hashes[i], bytes + at, len), 0);
		at += len;
	}
	assert_int_equal(store_chunks_missing(f->store, hashes, count), 0);
	assert_int_equal(send_ops(f, &reply, &expected), 0);
	assert_int_equal(reply.results_count, 2);
	assert_int_equal(reply.results[0].outcome, OUTCOME_OK);
	assert_int_equal(reply.results[1].outcome, OUTCOME_OK);
	batch_reply_fini(&reply);
	manifest_entry(&manifest, 0, &chunk, &len);
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), 0);
	assert_int_equal(got.len, len);
	assert_memory_equal(got.data, bytes, len);
	buf_fini(&got);
	free(manifest.data);
	assert_int_equal(store_manifest(f->store, &content.hash, &manifest), 0);
	assert_int_equal(manifest_check(&manifest, &content), 0);
	free(manifest.data);
	free(hashes);
	free(bytes);
}

static void send_rename(struct fixture *f, struct id node, const char *from, const char *to, int64_t base,
	enum outcome outcome)
{
	struct op *op = add_move(f, OP_RENAME, node, from, to);

	op->base_l = base;
	send_all(f, outcome);
}

/* The sender still has its file under the name that it did not get: what it does there goes on from the copy.
 */
static void kept_results_stay(void **state)
{
	struct fixture *f = *state;
	struct id copy, dir;

	add_file(f, ID_ROOT, "n", "first");
	send_all(f, OUTCOME_OK);
	f->client = id_new();
	f->run = id_new();
	f->opno = 0;
	copy = add_file(f, ID_ROOT, "n", "second");
	send_all(f, OUTCOME_KEPT);
	f->acked = 1;
	dir = add_dir(f, ID_ROOT, "d");
	send_all(f, OUTCOME_OK);
	f->acked = 2;
	send_rename(f, copy, "n", "m", -1, OUTCOME_OK);
	disk_is(f, "m", "second");
	disk_is(f, "n", "first");
	/* Of other results nothing is left. */
	send_rename(f, dir, "d", "e", -2, OUTCOME_SUPERSEDED);
}

static void feed_in_small_pages(void **state)
{
	struct fixture *f = *state;
	struct feed feed;
	struct cursor bad;
	struct page page;
	struct buf raw = BUF_INIT;
	size_t total = 0;
	char names[50][16];

	for (int i = 0; i < 50; i++) {
		snprintf(names[i], sizeof(names[i]), "n%d", i);
		add_file(f, ID_ROOT, names[i], names[i]);
	}
	send_all(f, OUTCOME_OK);
	feed_read(f, NULL, 2000, &feed);
	assert_true(feed.count > 3);
	for (size_t i = 0; i < feed.count; i++)
		total += feed.pages[i].changes_count;
	assert_int_equal(total, 50);
	bad = feed.pages[0].cursor;
	feed_fini(&feed);
	assert_int_equal(store_check_cursor(f->store, &bad), 0);
	bad.tag ^= 1;
	assert_int_equal(store_check_cursor(f->store, &bad), -ESTALE);
	assert_int_equal(store_changes(f->store, &bad, false, 1000, &page, &raw), -ESTALE);
	bad.epoch = id_new();
	assert_int_equal(store_changes(f->store, &bad, false, 1000, &page, &raw), -ECHRNG);
	buf_fini(&raw);
}

/* What a client has sent is not sent back to it; to others it is, from memory or from the file. */
static void own_contents_stay_away(void **state)
{
	struct fixture *f = *state;
	struct id own = f->client, other = id_new();
	struct buf raw = BUF_INIT;
	struct page page;

	add_file(f, ID_ROOT, "own", "of this client");
	send_all(f, OUTCOME_OK);
	for (int i = 0; i < 2; i++) {
		buf_reset(&raw);
		assert_int_equal(
			store_changes_of_others(f->store, NULL, i ? &other : &own, 1 << 20, &page, &raw), 0);
		assert_int_equal(page.changes_count, 1);
		assert_int_equal(page.changes[0].has_data, i);
		assert_int_equal(raw.len, i ? strlen("of this client") : 0);
		page_fini(&page);
	}
	/* nothing is in memory any more */
	fixture_shut(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	buf_reset(&raw);
	assert_int_equal(store_changes_of_others(f->store, NULL, &other, 1 << 20, &page, &raw), 0);
	assert_int_equal(page.changes_count, 1);
	assert_true(page.changes[0].has_data);
	assert_memory_equal(raw.data, "of this client", strlen("of this client"));
	page_fini(&page);
	buf_fini(&raw);
}

static void second_store_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store *first = f->store;

	assert_int_equal(fixture_reopen(f, false), -EBUSY);
	f->store = first;
}

static void other_or_empty_root_is_refused(void **state)
{
	struct fixture *f = *state;
	struct cursor before, after;
	struct feed feed;

	add_file(f, ID_ROOT, "a", "x");
	add_file(f, ID_ROOT, "b", "y");
	send_all(f, OUTCOME_OK);
	fixture_shut(f);
	assert_int_equal(unlink(path_in(f, ".syncfs/root")), 0);
	assert_int_equal(fixture_reopen(f, false), -ENODATA);
	assert_int_equal(fixture_reopen(f, true), 0);
	store_cursor(f->store, &before);
	fixture_shut(f);
	assert_int_equal(unlink(path_in(f, "a")), 0);
	assert_int_equal(unlink(path_in(f, "b")), 0);
	assert_int_equal(fixture_reopen(f, false), -ENODATA);
	/* adopted: under a new epoch, in which clients merge and take nothing for deleted */
	assert_int_equal(fixture_reopen(f, true), 0);
	store_cursor(f->store, &after);
	assert_memory_not_equal(&before.epoch, &after.epoch, sizeof(before.epoch));
	feed_read(f, NULL, 1 << 20, &feed);
	assert_int_equal(feed.pages[0].changes_count, 0);
	feed_fini(&feed);
}

static void dies_between_commit_and_placing(void **state)
{
	struct fixture *f = *state;
	struct id d = add_dir(f, ID_ROOT, "d"), a = add_file(f, d, "a", "old"),
		  g = add_file(f, d, "gone", "g");
	struct feed feed;
	struct op *op;

	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_WRITE, a);
	set_data(f, op, "new content", 11);
	add_file(f, d, "b", "bee");
	op = add_op(f, OP_RENAME, d);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "d";
	op->new_parent = ID_ROOT;
	op->new_name = (char *)(uintptr_t) "e";
	op = add_op(f, OP_UNLINK, g);
	op->parent = d;
	op->name = (char *)(uintptr_t) "gone";
	send_and_die(f, &store_hook_committed);
	assert_true(disk_has(f, "d/a")); /* nothing is placed yet */
	assert_int_equal(fixture_reopen(f, false), 0);
	assert_false(disk_has(f, "d"));
	disk_is(f, "e/a", "new content");
	disk_is(f, "e/b", "bee");
	assert_false(disk_has(f, "e/gone"));
	feed_read(f, NULL, 1 << 20, &feed);
	assert_null(feed_find(&feed, "gone", NULL));
	assert_non_null(feed_find(&feed, "e", NULL));
	feed_fini(&feed);
}

/* All is placed, and done once more at the start: what later steps moved stays where they moved it. */
static void dies_between_placing_and_clearing(void **state)
{
	struct fixture *f = *state;
	struct id d = add_dir(f, ID_ROOT, "d"), a = add_file(f, ID_ROOT, "a", "linked"),
		  m = add_file(f, ID_ROOT, "m", "moved");
	struct op *op;

	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_LINK, a);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "h";
	(void)add_move(f, OP_RENAME, a, "h", "z");
	op = add_op(f, OP_RENAME, m);
	op->parent = ID_ROOT;
	op->name = op->new_name = (char *)(uintptr_t) "m";
	op->new_parent = d;
	(void)add_move(f, OP_RENAME, d, "d", "e");
	send_and_die(f, &store_hook_placed);
	assert_int_equal(fixture_reopen(f, false), 0);
	disk_is(f, "a", "linked");
	disk_is(f, "z", "linked");
	disk_is(f, "e/m", "moved");
	assert_false(disk_has(f, "h"));
	assert_false(disk_has(f, "d"));
	assert_false(disk_has(f, "m"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)
		STORE_TEST(creates_and_reads_back),
		STORE_TEST(edits_move_and_remove),
		STORE_TEST(closed_modes),
		STORE_TEST(brings_back_from_history),
		STORE_TEST(brings_back_at_once),
		STORE_TEST(cannot_bring_back),
		STORE_TEST(keeps_all_that_one_operation_ends),
		STORE_TEST(survives_restart),
		STORE_TEST(repeats_have_one_effect),
		STORE_TEST(wrong_content_is_rejected_alone),
		STORE_TEST(missing_chunks_stop_the_batch),
		STORE_TEST(kept_results_stay),
		STORE_TEST(feed_in_small_pages),
		STORE_TEST(own_contents_stay_away),
		STORE_TEST(second_store_is_refused),
		STORE_TEST(other_or_empty_root_is_refused),
		STORE_TEST(dies_between_commit_and_placing),
		STORE_TEST(dies_between_placing_and_clearing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
