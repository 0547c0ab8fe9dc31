/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of applier_recover(): rounds that were ended half-way, as disk and intents; the scan that follows
 * takes nothing of it for a change made here. */
#include "client_fixture.h"

#include <sched.h>

#include <syncfs/clock.h>

#include "applier.h"
#include "apply_spot.h"
#include "rescan.h"

#define DEADLINE_MS 30000
#define OLD 1 /* version of what is agreed */
#define NEW 9 /* of what is being applied */

static void on_restored(void *arg)
{
	(void)arg;
}

static void scan(struct fixture *f)
{
	struct rescan_config config = {.tree = &f->tree,
		.tree_lock = &f->tree_lock,
		.apply_lock = &f->apply_lock,
		.capture = f->capture,
		.state = f->state,
		.restored = on_restored};
	uint64_t deadline = clock_mono_ms() + DEADLINE_MS;
	struct rescan *s;

	assert_int_equal(rescan_start(&config, &s), 0);
	while (!rescan_first_is_done(s)) {
		assert_true(clock_mono_ms() < deadline);
		sched_yield();
	}
	capture_hold(f->capture, true);
	rescan_stop(s);
	capture_hold(f->capture, false);
}

/* What the next start makes of it: this is to be sent. */
static void expect_to_send(struct fixture *f, const char *operations)
{
	struct applier_config config = {.tree = &f->tree,
		.tree_lock = &f->tree_lock,
		.apply_lock = &f->apply_lock,
		.capture = f->capture,
		.state = f->state,
		.inodes = f->inodes};

	assert_int_equal(applier_recover(&config), 0);
	scan(f);
	assert_string_equal(queue(f), operations);
}

/* ---- what is agreed, and what is being applied ---- */

static struct node_state agreed(struct fixture *f, const struct id *node)
{
	struct base_row row;

	assert_int_equal(syncstate_peek_base(f->state, node, &row), 0);
	return row.state;
}

static void add_name(struct node_state *n, const struct id *parent, const char *name, uint64_t l)
{
	assert_int_equal(node_state_name_add(n, parent, name, l), 0);
}

static struct id agree_file(struct fixture *f, const struct id *parent, const char *path)
{
	write_file(f, path, "old");
	return agree(f, parent, path, OLD);
}

/* A directory of the root, and a file in it. */
static void agree_dir(
	struct fixture *f, const char *dir, const char *path, struct id *ret_dir, struct id *ret_file)
{
	assert_int_equal(mkdirat(f->tree.root_fd, dir, 0755), 0);
	*ret_dir = agree(f, &ID_ROOT, dir, OLD);
	*ret_file = agree_file(f, ret_dir, path);
}

/* A file of the root with two names. */
static struct id agree_linked(struct fixture *f, const char *a, const char *b)
{
	struct base_row row;
	struct id node;

	write_file(f, a, "old");
	assert_int_equal(linkat(f->tree.root_fd, a, f->tree.root_fd, b, 0), 0);
	node = agree(f, &ID_ROOT, a, OLD);
	assert_int_equal(syncstate_peek_base(f->state, &node, &row), 0);
	add_name(&row.state, &ID_ROOT, b, OLD);
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_base_put(f->state, &row), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	base_row_fini(&row);
	return node;
}

/* staged: a name in staging, or NULL. R is told and the intent is there; r goes. */
static void begin_round(struct fixture *f, struct node_state *r, const char *staged)
{
	struct apply_intent i = {.node = r->node, .state = *r};

	r->seq = i.state.seq = NEW;
	if (staged) {
		snprintf(i.stage_name, sizeof(i.stage_name), "%s", staged);
		assert_int_equal(tree_stat(f->tree.stage_fd, staged, &i.staged), 0);
	} else {
		stage_name(i.stage_name);
	}
	assert_int_equal(syncstate_begin(f->state, true), 0);
	assert_int_equal(syncstate_intent_put(f->state, &i), 0);
	assert_int_equal(syncstate_remote_put(f->state, &i.state), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	node_state_fini(r);
}

static void begin_removal(struct fixture *f, const struct id *node, enum kind kind)
{
	struct node_state r = {.node = *node, .kind = kind, .tomb = true};

	begin_round(f, &r, NULL);
}

/* Stages new content for r. */
static void stage(struct fixture *f, struct node_state *r, char name[STAGE_NAME_BYTES])
{
	cleanup_fd int fd = -1;
	struct stat_id st;

	stage_name(name);
	fd = openat(f->tree.stage_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, "newer", 5), 0);
	assert_int_equal(tree_hash_file(fd, &r->content, NULL, &st), 0);
	r->kind = KIND_FILE;
	r->mode = st.mode & 0777;
	r->mtime_ns = st.mtime_ns;
	r->c = r->a = NEW;
}

static void put(struct fixture *f, const char *staged, const char *path)
{
	struct stat_id expected, placed;
	bool is_there = tree_stat(f->tree.root_fd, path, &expected) == 0;

	assert_int_equal(
		place_put(&f->tree, staged, f->tree.root_fd, path, is_there ? &expected : NULL, &placed), 0);
}

static size_t names_agreed(struct fixture *f, const struct id *node)
{
	struct node_state n = agreed(f, node);
	size_t count = n.names_count;

	node_state_fini(&n);
	return count;
}

static bool is_told(struct fixture *f, const struct id *node)
{
	struct node_state r;

	if (syncstate_peek_remote(f->state, node, &r))
		return false;
	node_state_fini(&r);
	return true;
}

/* So many names are agreed, and R has more to say, or not. */
static void expect_node(struct fixture *f, const struct id *node, size_t names, bool told)
{
	assert_int_equal(names_agreed(f, node), names);
	assert_int_equal(is_told(f, node), told);
}

/* ---- tests ---- */

static void test_removal_of_one_of_several_names(void **state)
{
	struct fixture *f = *state;
	struct id node = agree_linked(f, "a", "b");
	struct node_state r = agreed(f, &node);

	node_state_name_remove(&r, &ID_ROOT, "b");
	begin_round(f, &r, NULL);
	expect_to_send(f, "");
	expect_node(f, &node, 2, true);
}

static void test_content_before_a_removal(void **state)
{
	struct fixture *f = *state;
	struct id node = agree_linked(f, "a", "b");
	struct node_state r = agreed(f, &node);
	char staged[STAGE_NAME_BYTES];

	node_state_name_remove(&r, &ID_ROOT, "b");
	stage(f, &r, staged);
	begin_round(f, &r, staged);
	put(f, staged, "a");
	expect_to_send(f, "");
	assert_int_equal(stat_of(f, "b").ino, stat_of(f, "a").ino);
	expect_node(f, &node, 2, true);
}

static void test_content_before_a_further_name(void **state)
{
	struct fixture *f = *state;
	char staged[STAGE_NAME_BYTES];
	struct id node = agree_file(f, &ID_ROOT, "a");
	struct node_state r = agreed(f, &node);

	add_name(&r, &ID_ROOT, "b", NEW);
	stage(f, &r, staged);
	begin_round(f, &r, staged);
	put(f, staged, "a");
	expect_to_send(f, "");
	expect_node(f, &node, 1, true);
}

static void test_one_of_two_further_names(void **state)
{
	struct fixture *f = *state;
	struct id node = agree_file(f, &ID_ROOT, "a");
	struct node_state r = agreed(f, &node);

	add_name(&r, &ID_ROOT, "b", NEW);
	add_name(&r, &ID_ROOT, "c", NEW);
	begin_round(f, &r, NULL);
	assert_int_equal(linkat(f->tree.root_fd, "a", f->tree.root_fd, "b", 0), 0);
	expect_to_send(f, "");
	expect_node(f, &node, 2, true);
}

static void test_first_name_of_a_new_file(void **state)
{
	struct fixture *f = *state;
	struct node_state r = {.node = id_new()};
	struct id node = r.node;
	char staged[STAGE_NAME_BYTES];

	add_name(&r, &ID_ROOT, "a", NEW);
	add_name(&r, &ID_ROOT, "b", NEW);
	stage(f, &r, staged);
	begin_round(f, &r, staged);
	put(f, staged, "a");
	expect_to_send(f, "");
	expect_node(f, &node, 1, true);
}

static void test_whole(void **state)
{
	struct fixture *f = *state;
	struct node_state r = {.node = id_new()};
	struct id node = r.node;
	char staged[STAGE_NAME_BYTES];

	add_name(&r, &ID_ROOT, "a", NEW);
	stage(f, &r, staged);
	begin_round(f, &r, staged);
	put(f, staged, "a");
	expect_to_send(f, "");
	expect_node(f, &node, 1, false);
}

/* What is to go from a directory that was moved in the same round has not gone: it lies elsewhere. */
static void test_removal_in_a_moved_directory(void **state)
{
	struct fixture *f = *state;
	struct node_state moved;
	struct id d, file;

	agree_dir(f, "d", "d/f", &d, &file);
	begin_removal(f, &file, KIND_FILE);
	moved = agreed(f, &d);
	node_state_name_remove(&moved, &ID_ROOT, "d");
	add_name(&moved, &ID_ROOT, "e", NEW);
	begin_round(f, &moved, NULL);
	assert_int_equal(renameat(f->tree.root_fd, "d", f->tree.root_fd, "e"), 0);
	expect_to_send(f, "");
	expect_node(f, &file, 1, true);
}

/* A directory that is to go and had to step aside with what is in it. */
static void test_dead_directory_aside(void **state)
{
	struct fixture *f = *state;
	char aside[APPLY_ASIDE_BYTES];
	struct id d, file;

	agree_dir(f, "d", "d/f", &d, &file);
	begin_removal(f, &file, KIND_FILE);
	begin_removal(f, &d, KIND_DIR);
	apply_aside_name(&d, aside);
	assert_int_equal(renameat(f->tree.root_fd, "d", f->tree.root_fd, aside), 0);
	expect_to_send(f, "");
	expect_node(f, &d, 1, true);
	expect_node(f, &file, 1, true);
}

/* It took the name of one that is to go, which lies at the old one until it is taken out. */
static void test_changed_places_with_a_dead_file(void **state)
{
	struct fixture *f = *state;
	struct node_state moved;
	struct id file = agree_file(f, &ID_ROOT, "a"), dead = agree_file(f, &ID_ROOT, "b");

	begin_removal(f, &dead, KIND_FILE);
	moved = agreed(f, &file);
	node_state_name_remove(&moved, &ID_ROOT, "a");
	add_name(&moved, &ID_ROOT, "b", NEW);
	begin_round(f, &moved, NULL);
	assert_int_equal(renameat2(f->tree.root_fd, "a", f->tree.root_fd, "b", RENAME_EXCHANGE), 0);
	expect_to_send(f, "");
	assert_int_equal(names_agreed(f, &file), 1);
	expect_node(f, &dead, 1, true);
}

static void test_removed(void **state)
{
	struct fixture *f = *state;
	struct base_row row;
	struct id d, file;

	agree_dir(f, "d", "d/f", &d, &file);
	begin_removal(f, &file, KIND_FILE);
	begin_removal(f, &d, KIND_DIR);
	assert_int_equal(unlinkat(f->tree.root_fd, "d/f", 0), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "d", AT_REMOVEDIR), 0);
	write_file(f, "other", "so that the root is not empty");
	(void)agree(f, &ID_ROOT, "other", OLD);
	expect_to_send(f, "");
	assert_int_equal(syncstate_peek_base(f->state, &d, &row), -ENOENT);
	assert_int_equal(syncstate_peek_base(f->state, &file, &row), -ENOENT);
	assert_false(is_told(f, &d));
	assert_false(is_told(f, &file));
}

/* Of three attributes the first was set: the others follow, and none is sent as one that was set here. */
static void test_attributes_half_set(void **state)
{
	struct fixture *f = *state;
	struct id node = agree_file(f, &ID_ROOT, "a");
	struct node_state r = agreed(f, &node);
	struct stat_id now;

	r.a = NEW;
	r.mode = 0600;
	r.mtime_ns = 1000000000;
	begin_round(f, &r, NULL);
	assert_int_equal(fchmodat(f->tree.root_fd, "a", 0600, 0), 0);
	expect_to_send(f, "");
	now = stat_of(f, "a");
	assert_int_equal(now.mode & 0777, 0600);
	assert_true(now.mtime_ns == 1000000000);
	r = agreed(f, &node);
	assert_int_equal(r.a, NEW);
	node_state_fini(&r);
	assert_false(is_told(f, &node));
}

/* Not set yet, or set by somebody else to something else: it is as it would be without a kill. */
static void test_attributes_not_set(void **state)
{
	struct fixture *f = *state;
	struct id node = agree_file(f, &ID_ROOT, "a");
	struct node_state r = agreed(f, &node);

	r.a = NEW;
	r.mode = 0600;
	begin_round(f, &r, NULL);
	expect_to_send(f, "");
	assert_int_equal(stat_of(f, "a").mode & 0777, 0644);
	assert_true(is_told(f, &node));
}

/* What was written by somebody to what had just been placed is a change, of nothing but the content. */
static void test_written_after_it_was_placed(void **state)
{
	struct fixture *f = *state;
	struct id node = agree_linked(f, "a", "b");
	struct node_state r = agreed(f, &node);
	char staged[STAGE_NAME_BYTES];

	stage(f, &r, staged);
	begin_round(f, &r, staged);
	put(f, staged, "a");
	assert_int_equal(unlinkat(f->tree.root_fd, "b", 0), 0);
	assert_int_equal(linkat(f->tree.root_fd, "a", f->tree.root_fd, "b", 0), 0);
	write_file(f, "a", "by hand, and longer");
	expect_to_send(f, "W");
	r = agreed(f, &node);
	assert_int_equal(r.c, NEW);
	node_state_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_removal_of_one_of_several_names),
		TEST(test_content_before_a_removal),
		TEST(test_content_before_a_further_name),
		TEST(test_one_of_two_further_names),
		TEST(test_first_name_of_a_new_file),
		TEST(test_whole),
		TEST(test_removal_in_a_moved_directory),
		TEST(test_dead_directory_aside),
		TEST(test_changed_places_with_a_dead_file),
		TEST(test_removed),
		TEST(test_attributes_half_set),
		TEST(test_attributes_not_set),
		TEST(test_written_after_it_was_placed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
