/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of pending.h: the order of the queue, and where nodes lie while operations on their names wait in it.
 */
#include "client_fixture.h"

#include <syncfs/limits.h>

#include "pending.h"

static struct pending *pending;
static uint64_t next_lsn;

static int setup(void **state)
{
	if (fixture_setup(state))
		return -1;
	next_lsn = 0;
	pending = pending_new(fixture.state);
	return pending ? 0 : -1;
}

static int teardown(void **state)
{
	pending_free(pending);
	return fixture_teardown(state);
}

static struct id id_of(uint8_t n)
{
	struct id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static struct stat_id object_of(uint8_t n)
{
	return (struct stat_id){.dev = 1, .ino = n, .btime_ns = n * 10};
}

static struct entry *enqueue(enum op_type type, uint8_t node, uint8_t other, const struct id *parent,
	const char *name, const struct id *new_parent, const char *new_name)
{
	struct entry *e = calloc(1, sizeof(*e));
	struct stat_id object = object_of(node);

	assert_non_null(e);
	e->lsn = ++next_lsn;
	e->type = type;
	e->kind = KIND_FILE;
	e->node = id_of(node);
	e->other = id_of(other);
	e->parent = parent ? *parent : ID_NONE;
	e->new_parent = new_parent ? *new_parent : ID_NONE;
	e->name = name ? strdup(name) : NULL;
	e->new_name = new_name ? strdup(new_name) : NULL;
	assert_int_equal(pending_enqueue(pending, e, &object), 0);
	return e;
}

static struct entry *create(uint8_t node, const struct id *parent, const char *name)
{
	return enqueue(OP_CREATE, node, 0, parent, name, NULL, NULL);
}

/* name NULL: nowhere. Nodes with one name. */
static void expect_at(uint8_t node, const struct id *parent, const char *name)
{
	struct id id = id_of(node), got;
	char *got_name;
	int r = pending_locate(pending, &id, &got, &got_name);

	assert_int_equal(r, name ? 0 : -ENOENT);
	if (!name)
		return;
	assert_string_equal(got_name, name);
	assert_true(id_equal(&got, parent));
	free(got_name);
}

static void put_base(uint8_t node, const struct id *parent, const char *name, enum kind kind)
{
	struct dentry d = {.parent = *parent, .name = (char *)(uintptr_t)name, .l = 1};
	struct base_row row = {
		.state = {.node = id_of(node), .kind = kind, .c = 1, .names = &d, .names_count = 1},
		.disk = object_of(node)};

	assert_int_equal(syncstate_begin(fixture.state, false), 0);
	assert_int_equal(syncstate_base_put(fixture.state, &row), 0);
	assert_int_equal(syncstate_commit(fixture.state), 0);
}

static void test_queue_order(void **state)
{
	struct entry *e[4];

	for (uint8_t i = 0; i < 4; i++) {
		char name[2] = {(char)('a' + i), 0};

		e[i] = create((uint8_t)(i + 2), &ID_ROOT, name);
	}
	assert_int_equal(pending_count(pending), 4);
	assert_ptr_equal(pending_first(pending), e[0]);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(e[i]->next, e[i + 1]);
	assert_null(e[3]->next);
	pending_remove(pending, e[1]);
	assert_ptr_equal(e[0]->next, e[2]);
	assert_ptr_equal(e[2]->prev, e[0]);
	pending_remove(pending, e[0]);
	assert_ptr_equal(pending_first(pending), e[2]);
	pending_remove(pending, e[3]);
	pending_remove(pending, e[2]);
	assert_null(pending_first(pending));
	assert_int_equal(pending_count(pending), 0);
	e[0] = create(9, &ID_ROOT, "again");
	assert_ptr_equal(pending_first(pending), e[0]);
}

static void test_locals_live_as_long_as_needed(void **state)
{
	struct id id = id_of(2), got;
	struct stat_id object = object_of(2);
	struct entry *a = create(2, &ID_ROOT, "a"), *b = enqueue(OP_WRITE, 2, 0, NULL, NULL, NULL, NULL);
	struct local *l = pending_find(pending, &id);

	assert_non_null(l);
	assert_int_equal(l->entries, 2);
	assert_int_equal(pending_resolve(pending, &object, &got), 0);
	assert_true(id_equal(&got, &id));
	pending_remove(pending, a);
	assert_ptr_equal(pending_find(pending, &id), l);
	pending_set_dirty(pending, l, 5);
	pending_remove(pending, b);
	assert_ptr_equal(pending_find(pending, &id), l);
	pending_set_dirty(pending, l, 0);
	l->pins = 1;
	pending_settle(pending, l);
	assert_ptr_equal(pending_find(pending, &id), l);
	l->pins = 0;
	pending_settle(pending, l);
	assert_null(pending_find(pending, &id));
	assert_int_equal(pending_resolve(pending, &object, &got), -ENOENT);
}

static void test_resolve(void **state)
{
	struct stat_id object = object_of(3), other;
	struct id got, want = id_of(3);
	struct local *l;
	size_t pos = 0;

	assert_int_equal(pending_resolve(pending, &object, &got), -ENOENT);
	put_base(3, &ID_ROOT, "s", KIND_DIR);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pending_resolve(pending, &object, &got), 0);
		assert_true(id_equal(&got, &want));
	}
	/* The same number, born at another time: another object. */
	other = object;
	other.btime_ns++;
	assert_int_equal(pending_resolve(pending, &other, &got), -ENOENT);
	/* A local with another object (saved anew by rename) is found by that one. */
	l = pending_local(pending, &want, KIND_FILE, &other);
	assert_non_null(l);
	assert_int_equal(pending_resolve(pending, &other, &got), 0);
	assert_int_equal(l->names_count, 1);
	object = object_of(77);
	assert_ptr_equal(pending_local(pending, &want, KIND_FILE, &object), l);
	assert_int_equal(pending_resolve(pending, &other, &got), -ENOENT);
	assert_int_equal(pending_resolve(pending, &object, &got), 0);
	assert_true(pending_next_local(pending, &pos, &l));
	assert_false(pending_next_local(pending, &pos, &l));
	/* What is remembered of S goes with S. */
	object = object_of(3);
	pending_settle(pending, l = pending_find(pending, &want));
	assert_int_equal(syncstate_begin(fixture.state, false), 0);
	assert_int_equal(syncstate_forget_all(fixture.state), 0);
	assert_int_equal(syncstate_commit(fixture.state), 0);
	pending_forget_objects(pending);
	assert_int_equal(pending_resolve(pending, &object, &got), -ENOENT);
}

static void test_names(void **state)
{
	struct id dir = id_of(50), four = id_of(4);

	put_base(50, &ID_ROOT, "dir", KIND_DIR);
	put_base(3, &ID_ROOT, "old", KIND_FILE);
	expect_at(3, &ID_ROOT, "old");
	enqueue(OP_RENAME, 3, 0, &ID_ROOT, "old", &dir, "new");
	expect_at(3, &dir, "new");
	create(4, &ID_ROOT, "old");
	expect_at(4, &ID_ROOT, "old");
	/* Over another: that one is nowhere any more. */
	enqueue(OP_RENAME, 4, 3, &ID_ROOT, "old", &dir, "new");
	expect_at(4, &dir, "new");
	expect_at(3, NULL, NULL);
	create(5, &ID_ROOT, "five");
	enqueue(OP_EXCHANGE, 5, 4, &ID_ROOT, "five", &dir, "new");
	expect_at(5, &dir, "new");
	expect_at(4, &ID_ROOT, "five");
	enqueue(OP_LINK, 4, 0, &dir, "also", NULL, NULL);
	assert_int_equal(pending_find(pending, &four)->names_count, 2);
	enqueue(OP_UNLINK, 4, 0, &ID_ROOT, "five", NULL, NULL);
	expect_at(4, &dir, "also");
	enqueue(OP_UNLINK, 4, 0, &dir, "also", NULL, NULL);
	expect_at(4, NULL, NULL);
	enqueue(OP_RMDIR, 50, 0, &ID_ROOT, "dir", NULL, NULL);
	expect_at(50, NULL, NULL);
	/* Settled, S counts again. */
	while (pending_first(pending))
		pending_remove(pending, pending_first(pending));
	expect_at(3, &ID_ROOT, "old");
	expect_at(50, &ID_ROOT, "dir");
	expect_at(4, NULL, NULL);
}

static void expect_path(uint8_t dir, int error, const char *path)
{
	cleanup_buf struct buf out = BUF_INIT;
	struct id id = id_of(dir);

	buf_put_str(&out, "in ");
	assert_int_equal(pending_dir_path(pending, dir ? &id : &ID_ROOT, &out), error);
	if (!error)
		assert_string_equal(buf_cstr(&out) + 3, path);
}

static void test_dir_path(void **state)
{
	struct id d = id_of(50), e = id_of(51);

	put_base(50, &ID_ROOT, "d", KIND_DIR);
	put_base(51, &d, "e\xff", KIND_DIR);
	expect_path(0, 0, "");
	expect_path(50, 0, "d");
	expect_path(51, 0, "d/e\xff");
	expect_path(52, -ENOENT, NULL);
	/* Two that contain each other: damage, and no endless loop. */
	enqueue(OP_RENAME, 50, 0, &ID_ROOT, "d", &e, "d");
	expect_path(50, -ELOOP, NULL);
	enqueue(OP_RENAME, 51, 0, &d, "e\xff", &ID_ROOT, "top");
	expect_path(50, 0, "top/d");
}

static void test_unsent(void **state)
{
	struct id id = id_of(2), other = id_of(3);
	struct entry *a = create(2, &ID_ROOT, "a"), *w, *r;

	create(3, &ID_ROOT, "b");
	assert_ptr_equal(pending_unsent(pending, &id, 1u << OP_CREATE), a);
	assert_null(pending_unsent(pending, &id, 1u << OP_WRITE));
	w = enqueue(OP_WRITE, 2, 0, NULL, NULL, NULL, NULL);
	assert_ptr_equal(pending_unsent(pending, &id, 1u << OP_CREATE | 1u << OP_WRITE), w);
	w->in_flight = true;
	assert_ptr_equal(pending_unsent(pending, &id, 1u << OP_CREATE | 1u << OP_WRITE), a);
	a->in_flight = true;
	assert_null(pending_unsent(pending, &id, ~0u));
	/* One in which it is the other one is not its own. */
	r = enqueue(OP_RENAME, 3, 2, &ID_ROOT, "b", &ID_ROOT, "a");
	assert_null(pending_unsent(pending, &id, ~0u));
	assert_ptr_equal(pending_unsent(pending, &other, 1u << OP_RENAME), r);
	assert_null(pending_unsent(pending, &ID_ROOT, ~0u));
}

static void test_alias(void **state)
{
	struct id from = id_of(2), to = id_of(90);
	struct stat_id object = object_of(2);
	struct entry *dir = create(2, &ID_ROOT, "dir"), *child = create(3, &from, "child"), *move;
	struct id got;

	move = enqueue(OP_RENAME, 3, 2, &from, "child", &from, "kid");
	assert_int_equal(pending_alias(pending, &from, &to), 0);
	assert_true(id_equal(&dir->node, &to));
	assert_true(id_equal(&child->parent, &to));
	assert_true(id_equal(&move->parent, &to) && id_equal(&move->new_parent, &to));
	assert_true(id_equal(&move->other, &to));
	assert_null(pending_find(pending, &from));
	assert_int_equal(pending_resolve(pending, &object, &got), 0);
	assert_true(id_equal(&got, &to));
	expect_at(3, &to, "kid");
	while (pending_first(pending))
		pending_remove(pending, pending_first(pending));
	assert_null(pending_find(pending, &to));
}

/* The node that ours became has something pending itself: one local holds both. */
static void test_alias_to_a_local(void **state)
{
	struct id from = id_of(2), to = id_of(90), got;
	struct stat_id object = object_of(2);
	struct local *l;

	put_base(90, &ID_ROOT, "theirs", KIND_FILE);
	create(2, &ID_ROOT, "ours");
	enqueue(OP_WRITE, 2, 0, NULL, NULL, NULL, NULL);
	enqueue(OP_SETATTR, 90, 0, NULL, NULL, NULL, NULL);
	assert_int_equal(pending_alias(pending, &from, &to), 0);
	l = pending_find(pending, &to);
	assert_non_null(l);
	assert_int_equal(l->entries, 3);
	assert_int_equal(l->names_count, 2);
	assert_int_equal(pending_resolve(pending, &object, &got), 0);
	assert_true(id_equal(&got, &to));
	while (pending_first(pending))
		pending_remove(pending, pending_first(pending));
	assert_null(pending_find(pending, &to));
	assert_int_equal(pending_resolve(pending, &object, &got), -ENOENT);
}

/* Made, removed and made again, and all is one with theirs: the object is the one that is there, whichever is
 * told first. */
static void test_alias_of_a_removed_one(void **state)
{
	struct id first = id_of(2), second = id_of(3), to = id_of(90), got;
	struct stat_id object = object_of(3);

	create(2, &ID_ROOT, "n");
	enqueue(OP_UNLINK, 2, 0, &ID_ROOT, "n", NULL, NULL);
	create(3, &ID_ROOT, "n");
	assert_int_equal(pending_alias(pending, &second, &to), 0);
	assert_int_equal(pending_alias(pending, &first, &to), 0);
	assert_true(stat_id_same_object(&pending_find(pending, &to)->object, &object));
	assert_int_equal(pending_resolve(pending, &object, &got), 0);
	assert_true(id_equal(&got, &to));
	while (pending_first(pending))
		pending_remove(pending, pending_first(pending));
}

/* The operations of both are one line, in the order of the queue. */
static void test_alias_keeps_the_order(void **state)
{
	struct id from = id_of(2), to = id_of(90);
	struct entry *e[4];
	struct local *l;
	int i = 0;

	put_base(90, &ID_ROOT, "theirs", KIND_FILE);
	e[0] = create(2, &ID_ROOT, "ours");
	e[1] = enqueue(OP_SETATTR, 90, 0, NULL, NULL, NULL, NULL);
	e[2] = enqueue(OP_WRITE, 2, 0, NULL, NULL, NULL, NULL);
	e[3] = enqueue(OP_RENAME, 3, 90, &ID_ROOT, "new", &ID_ROOT, "theirs");
	assert_int_equal(pending_alias(pending, &from, &to), 0);
	l = pending_find(pending, &to);
	for (struct entry_link *link = l->queued.first; link; link = link->next)
		assert_ptr_equal(link->entry, e[i++]);
	assert_int_equal(i, 4);
	assert_int_equal(l->entries, 4);
	assert_ptr_equal(pending_unsent(pending, &to, 1u << OP_CREATE | 1u << OP_SETATTR), e[1]);
	assert_ptr_equal(pending_unsent(pending, &to, 1u << OP_CREATE | 1u << OP_WRITE), e[2]);
	pending_remove(pending, e[2]);
	assert_null(pending_unsent(pending, &to, 1u << OP_WRITE));
	while (pending_first(pending))
		pending_remove(pending, pending_first(pending));
	assert_null(pending_find(pending, &to));
}

/* Who lies under a name by the queue, also when its directory becomes another in which the name is in use. */
static void test_holder(void **state)
{
	struct id ours = id_of(50), theirs = id_of(90), three = id_of(3), four = id_of(4);

	put_base(3, &ID_ROOT, "old", KIND_FILE);
	assert_null(pending_holder(pending, &ID_ROOT, "old"));
	create(50, &ID_ROOT, "dir");
	create(4, &ours, "a");
	create(5, &ours, "b");
	create(6, &theirs, "a");
	assert_ptr_equal(pending_holder(pending, &ours, "a"), pending_find(pending, &four));
	enqueue(OP_RENAME, 3, 4, &ID_ROOT, "old", &ours, "a");
	assert_ptr_equal(pending_holder(pending, &ours, "a"), pending_find(pending, &three));
	assert_null(pending_holder(pending, &ID_ROOT, "old"));
	assert_int_equal(pending_alias(pending, &ours, &theirs), 0);
	expect_at(3, &theirs, "a");
	expect_at(5, &theirs, "b");
	expect_at(6, &theirs, "a");
	assert_false(pending_has_name(pending, &ours, "a"));
	assert_null(pending_holder(pending, &ours, "b"));
	assert_non_null(pending_holder(pending, &theirs, "a"));
	/* Each takes its own from the name that is shared now; the rename is the last. */
	while (pending_first(pending)) {
		assert_true(pending_has_name(pending, &theirs, "a"));
		pending_remove(pending, pending_first(pending));
	}
	assert_false(pending_has_name(pending, &theirs, "a"));
	assert_false(pending_has_name(pending, &theirs, "b"));
	assert_null(pending_holder(pending, &theirs, "a"));
}

static void test_dirty(void **state)
{
	struct local *l[3];

	assert_null(pending_first_dirty(pending));
	for (uint8_t i = 0; i < 3; i++) {
		l[i] = pending_find(pending, &create((uint8_t)(i + 2), &ID_ROOT, "x")->node);
		pending_set_dirty(pending, l[i], i + 10u);
	}
	pending_set_dirty(pending, l[1], 20);
	pending_set_dirty(pending, l[1], 0);
	pending_set_dirty(pending, l[1], 0);
	assert_ptr_equal(pending_first_dirty(pending), l[2]);
	assert_ptr_equal(l[2]->next_dirty, l[0]);
	assert_null(l[0]->next_dirty);
	pending_set_dirty(pending, l[2], 0);
	assert_ptr_equal(pending_first_dirty(pending), l[0]);
	pending_set_dirty(pending, l[0], 0);
	assert_null(pending_first_dirty(pending));
}

#undef TEST
static void test_names_in_the_queue(void **state)
{
	struct id dir = id_of(9), server = id_of(10);
	struct entry *made, *moved;

	made = create(2, &dir, "a");
	moved = enqueue(OP_RENAME, 2, 0, &dir, "a", &ID_ROOT, "b");
	assert_true(pending_has_name(pending, &dir, "a"));
	assert_true(pending_has_name(pending, &ID_ROOT, "b"));
	assert_false(pending_has_name(pending, &ID_ROOT, "a"));
	pending_remove(pending, made);
	assert_true(pending_has_name(pending, &dir, "a"));
	assert_int_equal(pending_alias(pending, &dir, &server), 0);
	assert_false(pending_has_name(pending, &dir, "a"));
	assert_true(pending_has_name(pending, &server, "a"));
	pending_remove(pending, moved);
	assert_false(pending_has_name(pending, &server, "a"));
	assert_false(pending_has_name(pending, &ID_ROOT, "b"));
}

/* A rename over the node's own other name becomes an unlink: it names one less. */
static void test_name_given_up(void **state)
{
	struct id node = id_of(2), ghost = id_of(3);
	struct entry *e;

	put_base(2, &ID_ROOT, "a", KIND_FILE);
	create(3, &ID_ROOT, "b");
	e = enqueue(OP_RENAME, 2, 3, &ID_ROOT, "a", &ID_ROOT, "b");
	pending_remove(pending, pending_first(pending));
	assert_int_equal(pending_retarget(pending, e, &ghost, &node), 0);
	assert_int_equal(e->type, OP_UNLINK);
	assert_false(pending_has_name(pending, &ID_ROOT, "b"));
	assert_true(pending_has_name(pending, &ID_ROOT, "a"));
	pending_remove(pending, e);
	assert_false(pending_has_name(pending, &ID_ROOT, "a"));
}

/* After a power loss the agreed state may learn of a node later than the journal is read. */
static void test_names_are_asked_anew(void **state)
{
	struct id a = id_of(2), b = id_of(3);

	enqueue(OP_WRITE, 2, 0, NULL, NULL, NULL, NULL);
	enqueue(OP_RENAME, 3, 2, &ID_ROOT, "old", &ID_ROOT, "a");
	enqueue(OP_LINK, 3, 0, &ID_ROOT, "more", NULL, NULL);
	create(4, &ID_ROOT, "c");
	put_base(2, &ID_ROOT, "a", KIND_FILE);
	put_base(3, &ID_ROOT, "old", KIND_FILE);
	assert_int_equal(pending_reload_names(pending), 0);
	assert_int_equal(pending_find(pending, &a)->names_count, 0);
	assert_int_equal(pending_find(pending, &b)->names_count, 2);
	assert_true(local_has_name(pending_find(pending, &b), &ID_ROOT, "a"));
	assert_true(local_has_name(pending_find(pending, &b), &ID_ROOT, "more"));
	expect_at(4, &ID_ROOT, "c");
	pending_remove(pending, pending_first(pending)->next);
	assert_int_equal(pending_reload_names(pending), 0);
	expect_at(2, &ID_ROOT, "a");
	assert_int_equal(pending_find(pending, &a)->entries, 1);
}

/* After a restart the agreed state may have what the queue does once more. */
static void test_name_given_again(void **state)
{
	struct id node = id_of(2);

	put_base(2, &ID_ROOT, "b", KIND_FILE);
	enqueue(OP_LINK, 2, 0, &ID_ROOT, "b", NULL, NULL);
	enqueue(OP_RENAME, 2, 0, &ID_ROOT, "a", &ID_ROOT, "b");
	assert_int_equal(pending_find(pending, &node)->names_count, 1);
	assert_false(enqueue(OP_UNLINK, 2, 0, &ID_ROOT, "b", NULL, NULL)->remains);
	expect_at(2, NULL, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue_order),
		TEST(test_locals_live_as_long_as_needed),
		TEST(test_resolve),
		TEST(test_names),
		TEST(test_dir_path),
		TEST(test_unsent),
		TEST(test_alias),
		TEST(test_alias_to_a_local),
		TEST(test_alias_of_a_removed_one),
		TEST(test_alias_keeps_the_order),
		TEST(test_holder),
		TEST(test_dirty),
		TEST(test_names_in_the_queue),
		TEST(test_name_given_up),
		TEST(test_names_are_asked_anew),
		TEST(test_name_given_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
