/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of rescan.h: what was done to a real tree behind the mount's back, as operations. */
#include "client_fixture.h"

#include <sched.h>

#include <syncfs/clock.h>

#include "outbox.h"
#include "rebase.h"
#include "rescan.h"

#define DEADLINE_MS 30000

static int restored;

static void on_restored(void *arg)
{
	(void)arg;
	restored++;
}

enum answer { NO_ANSWER, APPROVE, RESTORE };

/* One whole scan, and one more with the answer to what it held back; gives what is held back then. */
static uint64_t scan_and_answer(struct fixture *f, enum answer answer)
{
	struct rescan_config config = {.tree = &f->tree,
		.tree_lock = &f->tree_lock,
		.apply_lock = &f->apply_lock,
		.capture = f->capture,
		.state = f->state,
		.restored = on_restored};
	uint64_t held, deadline = clock_mono_ms() + DEADLINE_MS;
	struct rescan *s;

	assert_int_equal(rescan_start(&config, &s), 0);
	while (!rescan_first_is_done(s)) {
		assert_true(clock_mono_ms() < deadline);
		sched_yield();
	}
	if (answer == NO_ANSWER) {
		assert_int_equal(rescan_answer(s, true), rescan_held(s) ? 0 : -ENOENT);
	} else {
		assert_int_equal(rescan_answer(s, answer == APPROVE), 0);
		capture_want_scan(f->capture);
		while (rescan_held(s)) {
			assert_true(clock_mono_ms() < deadline);
			sched_yield();
		}
	}
	held = rescan_held(s);
	capture_hold(f->capture, true);
	rescan_stop(s);
	capture_hold(f->capture, false);
	return held;
}

static uint64_t scan(struct fixture *f)
{
	return scan_and_answer(f, NO_ANSWER);
}

static void must_rename(struct fixture *f, const char *from, const char *to)
{
	assert_int_equal(renameat(f->tree.root_fd, from, f->tree.root_fd, to), 0);
}

static struct id make_dir(struct fixture *f, const struct id *parent, const char *path)
{
	assert_int_equal(mkdirat(f->tree.root_fd, path, 0755), 0);
	return agree(f, parent, path, 1);
}

static struct id make_file(struct fixture *f, const struct id *parent, const char *path, const char *text)
{
	write_file(f, path, text);
	return agree(f, parent, path, 1);
}

/* What is found is as if it had come through the mount: the next scan and a restart find nothing more. */
static void expect_found(struct fixture *f, const char *operations)
{
	assert_int_equal(scan(f), 0);
	assert_string_equal(queue(f), operations);
	assert_int_equal(scan(f), 0);
	assert_string_equal(queue(f), operations);
	fixture_reopen(f);
	assert_string_equal(queue(f), operations);
}

static struct entry *first(struct fixture *f)
{
	return pending_first(f->capture->pending);
}

static void test_nothing(void **state)
{
	struct fixture *f = *state;
	struct id d;

	expect_found(f, "");
	d = make_dir(f, &ID_ROOT, "d");
	make_file(f, &d, "d/f", "text");
	assert_int_equal(mkfifoat(f->tree.root_fd, "fifo", 0644), 0);
	write_file(f, "d/.syncfs.not", "x");
	assert_int_equal(unlinkat(f->tree.root_fd, "d/.syncfs.not", 0), 0);
	expect_found(f, "");
}

static void test_new(void **state)
{
	struct fixture *f = *state;
	struct id d;

	assert_int_equal(mkdirat(f->tree.root_fd, "d", 0755), 0);
	write_file(f, "d/\xff\n", "text");
	expect_found(f, "Cd C\xff\n");
	d = node_of(f, "d");
	assert_int_equal(first(f)->kind, KIND_DIR);
	assert_true(id_equal(&first(f)->parent, &ID_ROOT));
	assert_true(id_equal(&first(f)->next->parent, &d));
	assert_int_equal(symlinkat("../\x80", f->tree.root_fd, "d/link"), 0);
	expect_found(f, "Cd C\xff\n Clink");
	assert_string_equal(first(f)->next->next->target, "../\x80");
}

static void test_changed(void **state)
{
	struct fixture *f = *state;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
	struct id a = make_file(f, &ID_ROOT, "a", "text");
	struct base_row row;

	/* Only ctime moved: nothing to tell, and S follows, so that it is not hashed again. */
	assert_int_equal(fchmodat(f->tree.root_fd, "a", 0600, 0), 0);
	assert_int_equal(fchmodat(f->tree.root_fd, "a", 0644, 0), 0);
	expect_found(f, "");
	assert_int_equal(syncstate_peek_base(f->state, &a, &row), 0);
	assert_int_equal(row.disk.ctime_ns, stat_of(f, "a").ctime_ns);
	base_row_fini(&row);
	/* Other bytes of the same size. */
	write_file(f, "a", "TEXT");
	expect_found(f, "W");
	assert_true(id_equal(&first(f)->node, &a));
	assert_int_equal(outbox_forget(f->capture), 0);
	/* Attributes. */
	make_file(f, &ID_ROOT, "b", "text");
	write_file(f, "a", "text");
	assert_int_equal(unlinkat(f->tree.root_fd, "a", 0), 0);
	assert_int_equal(utimensat(f->tree.root_fd, "b", times, 0), 0);
	expect_found(f, "S Ua");
	assert_int_equal(outbox_forget(f->capture), 0);
	make_dir(f, &ID_ROOT, "d");
	assert_int_equal(fchmodat(f->tree.root_fd, "d", 0700, 0), 0);
	assert_int_equal(scan(f), 0);
	assert_non_null(strstr(queue(f), "S"));
}

/* Other bytes, and the agreed state has the identity that they have now. */
static void forge(struct fixture *f, const struct id *node, const char *name)
{
	struct base_row row;

	write_file(f, name, "TEXT");
	assert_int_equal(syncstate_peek_base(f->state, node, &row), 0);
	row.disk = stat_of(f, name);
	row.state.mtime_ns = row.disk.mtime_ns;
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_base_put(f->state, &row), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	base_row_fini(&row);
}

/* A power loss may leave new bytes with the old times: only who reads them sees that. */
static void test_doubted(void **state)
{
	struct fixture *f = *state;
	struct id a = make_file(f, &ID_ROOT, "a", "text"), b = make_file(f, &ID_ROOT, "b", "text");

	forge(f, &a, "a");
	expect_found(f, "");
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(rescan_doubt(f->state), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	expect_found(f, "W");
	assert_true(id_equal(&first(f)->node, &a));
	/* That has read all; it is not done at each start. */
	forge(f, &b, "b");
	expect_found(f, "W");
}

/* Sent from the batch that was kept, and torn on the disk since. */
static void test_torn(void **state)
{
	struct fixture *f = *state;
	struct id a = make_file(f, &ID_ROOT, "a", "text");
	struct node_state told;

	make_file(f, &ID_ROOT, "b", "text");
	write_file(f, "a", "");
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(rescan_doubt(f->state), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	restored = 0;
	expect_found(f, "");
	assert_int_equal(restored, 1);
	restored = 0;
	assert_int_equal(faccessat(f->tree.root_fd, "a", F_OK, 0), -1);
	assert_int_equal(syncstate_peek_remote(f->state, &a, &told), 0);
	assert_int_equal(told.content.size, 4);
	node_state_fini(&told);
	/* Who empties a file later means it. */
	write_file(f, "b", "");
	expect_found(f, "W");
}

static void test_renamed(void **state)
{
	struct fixture *f = *state;
	struct id d = make_dir(f, &ID_ROOT, "d"), a = make_file(f, &ID_ROOT, "a", "text");

	make_file(f, &d, "d/child", "text");
	must_rename(f, "a", "b");
	expect_found(f, "Ra>b");
	assert_true(id_equal(&first(f)->node, &a));
	assert_true(id_is_none(&first(f)->other));
	/* A directory is one operation, whatever is in it. */
	must_rename(f, "d", "e");
	expect_found(f, "Ra>b Rd>e");
	/* Into it. */
	must_rename(f, "b", "e/b");
	expect_found(f, "Ra>b Rd>e Rb>b");
	assert_true(id_equal(&first(f)->next->next->new_parent, &d));
	assert_int_equal(linkat(f->tree.root_fd, "e/b", f->tree.root_fd, "hard", 0), 0);
	expect_found(f, "Ra>b Rd>e Rb>b Lhard");
}

/* Renamed and edited while nobody looked: both are said. */
static void test_renamed_and_changed(void **state)
{
	struct fixture *f = *state;
	struct id a = make_file(f, &ID_ROOT, "a", "text");

	make_dir(f, &ID_ROOT, "d");
	write_file(f, "a", "more");
	must_rename(f, "a", "b");
	assert_int_equal(fchmodat(f->tree.root_fd, "d", 0700, 0), 0);
	must_rename(f, "d", "e");
	expect_found(f, "Ra>b W Rd>e S");
	assert_true(id_equal(&first(f)->next->node, &a));
}

/* Its old name has something new, which was taken for it before it was found. */
static void test_renamed_and_replaced(void **state)
{
	struct fixture *f = *state;
	struct id a = make_file(f, &ID_ROOT, "a", "text"), made;

	make_dir(f, &ID_ROOT, "z");
	must_rename(f, "a", "z/a");
	write_file(f, "a", "another");
	(void)scan(f);
	(void)scan(f); /* asked for by the first one */
	made = node_of(f, "a");
	assert_false(id_equal(&made, &a));
	made = node_of(f, "z/a");
	assert_true(id_equal(&made, &a));
}

static void test_replaced(void **state)
{
	struct fixture *f = *state;
	struct id doc = make_file(f, &ID_ROOT, "doc", "old"), other;

	/* As editors save: the same file, with other content. */
	write_file(f, "doc~", "new");
	must_rename(f, "doc~", "doc");
	expect_found(f, "W");
	assert_true(id_equal(&first(f)->node, &doc));
	assert_int_equal(outbox_forget(f->capture), 0);
	doc = agree(f, &ID_ROOT, "doc", 2);
	/* One that is known takes its place. */
	other = make_file(f, &ID_ROOT, "other", "other");
	must_rename(f, "other", "doc");
	expect_found(f, "Rother>doc");
	assert_true(id_equal(&first(f)->node, &other));
	assert_true(id_equal(&first(f)->other, &doc));
}

/* Something of another kind under a known name: the old node goes with all in it. */
static void test_replaced_by_another_kind(void **state)
{
	struct fixture *f = *state;
	struct id d = make_dir(f, &ID_ROOT, "d");

	make_file(f, &d, "d/child", "text");
	assert_int_equal(unlinkat(f->tree.root_fd, "d/child", 0), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d", AT_REMOVEDIR), 0);
	write_file(f, "d", "a file now");
	expect_found(f, "Uchild Dd Cd");
}

/* The same of a directory that only the queue knows. */
static void test_queued_replaced_by_another_kind(void **state)
{
	struct fixture *f = *state;

	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", "child", KIND_FILE);
	assert_int_equal(unlinkat(f->tree.root_fd, "d/child", 0), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d", AT_REMOVEDIR), 0);
	write_file(f, "d", "a file now");
	expect_found(f, "Cd Cchild Uchild Dd Cd");
}

static void test_removed(void **state)
{
	struct fixture *f = *state;
	struct id d = make_dir(f, &ID_ROOT, "d"), e;

	make_file(f, &ID_ROOT, "stays", "text");
	e = make_dir(f, &d, "d/e");
	make_file(f, &e, "d/e/f", "text");
	assert_int_equal(unlinkat(f->tree.root_fd, "d/e/f", 0), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d/e", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d", AT_REMOVEDIR), 0);
	/* What is deeper first. */
	expect_found(f, "Uf De Dd");
}

/* What the mount has queued already is no difference. */
static void test_pending_is_known(void **state)
{
	struct fixture *f = *state;

	make_file(f, &ID_ROOT, "a", "text");
	make_file(f, &ID_ROOT, "gone", "text");
	do_write(f, "a", "other");
	do_rename(f, "a", "b", 0);
	do_unlink(f, "gone");
	do_create(f, "", "new", KIND_DIR);
	expect_found(f, "W Ra>b Ugone Cnew");
}

/* What a power cut leaves when the journal got further than the disk. */
static void test_queue_is_ahead(void **state)
{
	struct fixture *f = *state;
	struct id back, gone;

	write_file(f, "stays", "so that the tree is not empty");
	agree(f, &ID_ROOT, "stays", 1);
	/* Made, and lost again: nobody need hear of the file; of the directory the deepest goes first. */
	do_create(f, "", "file", KIND_FILE);
	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", "e", KIND_DIR);
	assert_int_equal(unlinkat(f->tree.root_fd, "file", 0), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d/e", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d", AT_REMOVEDIR), 0);
	assert_int_equal(scan(f), 0);
	assert_non_null(strstr(queue(f), "Cfile Cd Ce"));
	assert_non_null(strstr(queue(f), " Ufile"));
	assert_non_null(strstr(queue(f), " De"));
	assert_non_null(strstr(strstr(queue(f), " De"), " Dd"));
	assert_int_equal(outbox_forget(f->capture), 0);
	/* Renamed, and under its old name again. */
	back = make_file(f, &ID_ROOT, "old", "text");
	do_rename(f, "old", "new", 0);
	must_rename(f, "new", "old");
	expect_found(f, "Rold>new Rnew>old");
	assert_true(id_equal(&first(f)->next->node, &back));
	assert_int_equal(outbox_forget(f->capture), 0);
	back = agree(f, &ID_ROOT, "old", 2);
	/* Removed, and there again: anew. */
	gone = make_file(f, &ID_ROOT, "gone", "text");
	assert_int_equal(linkat(f->tree.root_fd, "gone", f->tree.stage_fd, "kept", 0), 0);
	do_unlink(f, "gone");
	assert_int_equal(renameat(f->tree.stage_fd, "kept", f->tree.root_fd, "gone"), 0);
	expect_found(f, "Ugone Cgone");
	assert_true(id_equal(&first(f)->node, &gone));
	assert_false(id_equal(&first(f)->next->node, &gone));
	assert_int_equal(outbox_forget(f->capture), 0);
	agree(f, &ID_ROOT, "gone", 2);
}

#define MANY 1001

static struct id put_missing(struct fixture *f, unsigned n)
{
	char name[16];
	struct dentry d = {.parent = ID_ROOT, .name = name, .l = 1};
	struct base_row row = {
		.state = {.node = id_new(), .kind = KIND_FILE, .c = 1, .names = &d, .names_count = 1},
		.disk = {.dev = 1, .ino = 1u << 30 | n}};

	snprintf(name, sizeof(name), "m%u", n);
	assert_int_equal(syncstate_base_put(f->state, &row), 0);
	return row.state.node;
}

/* The journal has kept that a new file took the place of another one; on the disk that is there again. */
static void test_queue_is_ahead_at_a_name(void **state)
{
	struct fixture *f = *state;
	struct id old = make_file(f, &ID_ROOT, "a", "text"), fresh;

	do_create(f, "", "save", KIND_FILE);
	fresh = node_of(f, "save");
	assert_int_equal(linkat(f->tree.root_fd, "a", f->tree.root_fd, "back", 0), 0);
	do_rename(f, "save", "a", 0);
	must_rename(f, "back", "a");
	/* The new file has the old bytes, and does not wait for ever for its own. */
	expect_found(f, "Csave Rsave>a W");
	assert_true(id_equal(&pending_last(f->capture->pending)->node, &fresh));
	assert_false(id_equal(&fresh, &old));
	assert_int_equal(outbox_forget(f->capture), 0);
	/* Another one than what is known to the queue lies there, and is known, too. */
	make_file(f, &ID_ROOT, "c", "text");
	do_create(f, "", "b", KIND_FILE);
	must_rename(f, "c", "b");
	expect_found(f, "Cb Rc>b");
	assert_false(id_is_none(&pending_last(f->capture->pending)->other));
	assert_int_equal(outbox_forget(f->capture), 0);
	must_rename(f, "b", "c");
	/* No file takes the place of a directory in one step. */
	make_file(f, &ID_ROOT, "file", "text");
	do_create(f, "", "dir", KIND_DIR);
	assert_int_equal(unlinkat(f->tree.root_fd, "dir", AT_REMOVEDIR), 0);
	must_rename(f, "file", "dir");
	expect_found(f, "Cdir Ddir Rfile>dir");
	assert_true(id_is_none(&pending_last(f->capture->pending)->other));
	assert_int_equal(outbox_forget(f->capture), 0);
	must_rename(f, "dir", "file");
	/* Of another kind: one goes, the other comes. */
	do_create(f, "", "d", KIND_FILE);
	assert_int_equal(unlinkat(f->tree.root_fd, "d", 0), 0);
	assert_int_equal(mkdirat(f->tree.root_fd, "d", 0755), 0);
	expect_found(f, "Cd Ud Cd");
}

static void test_mass_deletion_is_held(void **state)
{
	struct fixture *f = *state;
	struct id nodes[MANY];

	make_file(f, &ID_ROOT, "stays", "text");
	assert_int_equal(syncstate_begin(f->state, false), 0);
	for (unsigned i = 0; i < MANY; i++)
		nodes[i] = put_missing(f, i);
	assert_int_equal(syncstate_commit(f->state), 0);
	assert_int_equal(scan(f), MANY);
	assert_int_equal(operations(f), 0);
	/* What is new is told all the same. */
	write_file(f, "new", "text");
	assert_int_equal(scan(f), MANY);
	assert_string_equal(queue(f), "Cnew");
	/* Two fewer are not too many. */
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_base_delete(f->state, &nodes[0]), 0);
	assert_int_equal(syncstate_base_delete(f->state, &nodes[1]), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	assert_int_equal(scan(f), 0);
	assert_int_equal(operations(f), MANY - 2 + 1);
}

static void test_emptied_root_is_held(void **state)
{
	struct fixture *f = *state;

	make_file(f, &ID_ROOT, "a", "text");
	make_file(f, &ID_ROOT, "b", "text");
	must_rename(f, "a", ".syncfs/a");
	must_rename(f, "b", ".syncfs/b");
	assert_int_equal(scan(f), 2);
	assert_int_equal(operations(f), 0);
	/* Back again: as if nothing had been, but for ctime. */
	must_rename(f, ".syncfs/a", "a");
	must_rename(f, ".syncfs/b", "b");
	expect_found(f, "");
	/* With one left it is a deletion. */
	assert_int_equal(unlinkat(f->tree.root_fd, "b", 0), 0);
	expect_found(f, "Ub");
}

/* All is gone, and that was meant. */
static void test_approved(void **state)
{
	struct fixture *f = *state;
	struct id d = make_dir(f, &ID_ROOT, "d");

	make_file(f, &d, "d/a", "text");
	make_file(f, &ID_ROOT, "b", "text");
	must_rename(f, "d", ".syncfs/d");
	must_rename(f, "b", ".syncfs/b");
	assert_int_equal(scan_and_answer(f, APPROVE), 0);
	assert_int_equal(operations(f), 3);
	assert_int_equal(restored, 0);
}

static uint64_t told(struct fixture *f)
{
	struct node_state *nodes;
	size_t count;

	assert_int_equal(syncstate_peek_remotes(f->state, 0, 100, &nodes, &count), 0);
	for (size_t i = 0; i < count; i++)
		node_state_fini(&nodes[i]);
	free(nodes);
	return count;
}

/* All is gone, and is to come back: nothing is sent, and the applier finds it as the server's. */
static void test_restored(void **state)
{
	struct fixture *f = *state;
	struct id d = make_dir(f, &ID_ROOT, "d"), gone;

	gone = make_file(f, &d, "d/a", "text");
	make_file(f, &ID_ROOT, "b", "text");
	must_rename(f, "d", ".syncfs/d");
	must_rename(f, "b", ".syncfs/b");
	restored = 0;
	assert_int_equal(scan_and_answer(f, RESTORE), 0);
	assert_int_equal(restored, 1);
	assert_int_equal(operations(f), 0);
	assert_int_equal(told(f), 3);
	assert_int_equal(syncstate_peek_count(f->state), 0);
	assert_false(capture_has_name(f->capture, &gone, &d, "a"));
	assert_int_equal(scan(f), 0); /* nothing is missing any more */
	assert_int_equal(operations(f), 0);
}

/* While histories are merged nothing is deleted, whoever has removed it. */
static void test_missing_in_a_merge(void **state)
{
	struct fixture *f = *state;
	struct cursor cursor = {.epoch = id_new(), .seq = 9, .tag = 1};
	struct id client = id_new();

	make_file(f, &ID_ROOT, "f", "text");
	assert_int_equal(unlinkat(f->tree.root_fd, "f", 0), 0);
	assert_int_equal(rebase_begin(f->state), 0);
	assert_true(rebase_is_due(f->state));
	assert_int_equal(syncstate_begin(f->state, false), 0);
	{
		struct id node;
		struct base_row row;

		assert_int_equal(syncstate_name_get(f->state, &ID_ROOT, "f", &node), 0);
		assert_int_equal(syncstate_base_get(f->state, &node, &row), 0);
		assert_int_equal(syncstate_remote_put(f->state, &row.state), 0);
		base_row_fini(&row);
	}
	assert_int_equal(syncstate_commit(f->state), 0);
	assert_int_equal(rebase_finish(f->state, f->capture, &client, &cursor), 0);
	assert_false(rebase_is_due(f->state));
	assert_true(rebase_is_merging(f->state));
	restored = 0;
	assert_int_equal(scan(f), 0);
	assert_int_equal(operations(f), 0);
	assert_int_equal(restored, 1);
	assert_int_equal(told(f), 1);
	assert_int_equal(syncstate_peek_count(f->state), 0);
	assert_false(rebase_is_merging(f->state));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing),
		TEST(test_new),
		TEST(test_changed),
		TEST(test_doubted),
		TEST(test_torn),
		TEST(test_renamed),
		TEST(test_renamed_and_changed),
		TEST(test_renamed_and_replaced),
		TEST(test_replaced),
		TEST(test_replaced_by_another_kind),
		TEST(test_queued_replaced_by_another_kind),
		TEST(test_removed),
		TEST(test_pending_is_known),
		TEST(test_queue_is_ahead),
		TEST(test_queue_is_ahead_at_a_name),
		TEST(test_mass_deletion_is_held),
		TEST(test_emptied_root_is_held),
		TEST(test_approved),
		TEST(test_restored),
		TEST(test_missing_in_a_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
