/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of syncstate.h over a real database: S, R, cursor and intents there and back, transactions, damage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncfs/io.h>

#include "syncstate.h"

struct fixture {
	char dir[64], path[96];
	struct syncstate *s;
	bool is_new;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/syncfs-state-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/state.db", f->dir);
	assert_int_equal(syncstate_open(f->path, &f->s, &f->is_new), 0);
	assert_true(f->is_new);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[96];

	syncstate_close(f->s);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void reopen(struct fixture *f)
{
	syncstate_close(f->s);
	f->s = NULL;
	assert_int_equal(syncstate_open(f->path, &f->s, &f->is_new), 0);
}

static struct id id_of(uint8_t n)
{
	struct id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static uint8_t xattr_bytes[] = {0, 1, 2, 0xff};
static char strange[] = "\xff\xfe \n'\"", target[] = "../\x80", name_a[] = "a", name_b[] = "b";
static struct dentry names[3];

/* Everything set; borrowed members: never node_state_fini(). */
static struct node_state full_state(uint8_t n, enum kind kind, size_t names_count)
{
	names[0] = (struct dentry){.parent = ID_ROOT, .name = strange, .l = 7};
	names[1] = (struct dentry){.parent = id_of(200), .name = name_a, .l = 1};
	names[2] = (struct dentry){.parent = ID_ROOT, .name = name_b, .l = UINT32_MAX};
	return (struct node_state){.node = id_of(n),
		.seq = UINT64_C(1) << 40,
		.kind = kind,
		.c = 3,
		.a = 4,
		.content = {.size = UINT64_C(1) << 50, .hash.b = {1, 2, 3}},
		.target = kind == KIND_SYMLINK ? target : NULL,
		.mode = 0750,
		.mtime_ns = -5,
		.xattr = {xattr_bytes, sizeof(xattr_bytes)},
		.names = names,
		.names_count = names_count,
		.by_client = id_of(9),
		.by_opno = 77};
}

static void expect_state(const struct node_state *got, const struct node_state *want)
{
	assert_true(id_equal(&got->node, &want->node));
	assert_int_equal(got->seq, want->seq);
	assert_int_equal(got->kind, want->kind);
	assert_int_equal(got->tomb, want->tomb);
	assert_int_equal(got->c, want->c);
	assert_int_equal(got->a, want->a);
	assert_int_equal(got->content.size, want->content.size);
	assert_true(hash_equal(&got->content.hash, &want->content.hash));
	if (want->target)
		assert_string_equal(got->target, want->target);
	else
		assert_null(got->target);
	assert_int_equal(got->mode, want->mode);
	assert_int_equal(got->mtime_ns, want->mtime_ns);
	assert_int_equal(got->xattr.len, want->xattr.len);
	if (want->xattr.len)
		assert_memory_equal(got->xattr.data, want->xattr.data, want->xattr.len);
	assert_int_equal(got->names_count, want->names_count);
	for (size_t i = 0; i < want->names_count; i++) {
		size_t k = 0;

		while (k < got->names_count &&
			(strcmp(got->names[k].name, want->names[i].name) != 0 ||
				!id_equal(&got->names[k].parent, &want->names[i].parent)))
			k++;
		assert_true(k < got->names_count);
		assert_int_equal(got->names[k].l, want->names[i].l);
	}
}

static const struct stat_id disk = {.dev = 1,
	.ino = UINT64_MAX,
	.btime_ns = INT64_MIN,
	.mtime_ns = -1,
	.ctime_ns = INT64_MAX,
	.size = UINT64_C(1) << 60,
	.mode = S_IFREG | 0600,
	.nlink = 3};

static void put_base(struct fixture *f, const struct node_state *n)
{
	struct base_row row = {.state = *n, .disk = disk};

	assert_int_equal(syncstate_base_put(f->s, &row), 0);
}

static void begin(struct fixture *f)
{
	assert_int_equal(syncstate_begin(f->s, false), 0);
}

static void commit(struct fixture *f)
{
	assert_int_equal(syncstate_commit(f->s), 0);
}

static void test_base_round_trip(void **state)
{
	struct fixture *f = *state;

	for (int pass = 0; pass < 2; pass++) {
		for (unsigned kind = KIND_FILE; kind <= KIND_SYMLINK; kind++) {
			struct node_state n = full_state((uint8_t)kind, (enum kind)kind, 3);
			struct base_row row;

			if (pass == 0) {
				begin(f);
				assert_false(syncstate_peek_has_base(f->s, &n.node));
				put_base(f, &n);
				assert_int_equal(syncstate_base_get(f->s, &n.node, &row), 0);
				base_row_fini(&row);
				commit(f);
				assert_true(syncstate_peek_has_base(f->s, &n.node));
			}
			assert_int_equal(syncstate_peek_base(f->s, &n.node, &row), 0);
			/* S does not keep who it was. A name goes to the last who took it. */
			if (pass == 1 && kind != KIND_SYMLINK)
				n.names_count = 0;
			expect_state(&row.state, &n);
			assert_memory_equal(&row.disk, &disk, sizeof(disk));
			base_row_fini(&row);
		}
		reopen(f);
		assert_false(f->is_new);
	}
	assert_int_equal(syncstate_peek_count(f->s), 3);
}

static void expect_name(struct fixture *f, const struct id *parent, const char *name, uint8_t node)
{
	struct id got, want = id_of(node);

	if (node == 0) {
		assert_int_equal(syncstate_peek_name(f->s, parent, name, &got), -ENOENT);
		return;
	}
	assert_int_equal(syncstate_peek_name(f->s, parent, name, &got), 0);
	assert_true(id_equal(&got, &want));
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	struct node_state a = full_state(1, KIND_FILE, 3), b = full_state(2, KIND_DIR, 0);
	struct dentry swap;
	struct id parent, got;
	char *name;

	begin(f);
	put_base(f, &a);
	assert_int_equal(syncstate_name_get(f->s, &ID_ROOT, strange, &got), 0);
	/* Not to be seen before the commit. */
	expect_name(f, &ID_ROOT, strange, 0);
	commit(f);
	expect_name(f, &ID_ROOT, strange, 1);
	expect_name(f, &ID_ROOT, name_b, 1);
	expect_name(f, &ID_ROOT, name_a, 0);
	parent = id_of(200);
	expect_name(f, &parent, name_a, 1);
	/* Its names replace those there were. */
	a.names_count = 1;
	swap = (struct dentry){.parent = ID_ROOT, .name = name_b, .l = 1};
	b.names = &swap;
	b.names_count = 1;
	begin(f);
	put_base(f, &a);
	put_base(f, &b);
	commit(f);
	expect_name(f, &parent, name_a, 0);
	expect_name(f, &ID_ROOT, name_b, 2);
	assert_int_equal(syncstate_peek_parent(f->s, &a.node, &parent, &name), 0);
	assert_string_equal(name, strange);
	assert_true(id_equal(&parent, &ID_ROOT));
	free(name);
	/* Two swap theirs in one transaction. */
	b.names = names;
	a.names = &swap;
	begin(f);
	put_base(f, &a);
	put_base(f, &b);
	commit(f);
	expect_name(f, &ID_ROOT, strange, 2);
	expect_name(f, &ID_ROOT, name_b, 1);
	begin(f);
	assert_int_equal(syncstate_base_delete(f->s, &a.node), 0);
	assert_int_equal(syncstate_name_get(f->s, &ID_ROOT, name_b, &got), -ENOENT);
	commit(f);
	expect_name(f, &ID_ROOT, name_b, 0);
	assert_int_equal(syncstate_peek_parent(f->s, &a.node, &parent, &name), -ENOENT);
	assert_int_equal(syncstate_peek_count(f->s), 1);
}

struct seen {
	unsigned count;
	struct id ids[8];
	int stop;
};

static int see_child(void *arg, const struct child_row *row)
{
	struct seen *seen = arg;

	assert_memory_equal(&row->disk, &disk, sizeof(disk));
	assert_int_equal(row->mode, 0750);
	assert_int_equal(row->mtime_ns, -5);
	assert_true(strcmp(row->name, strange) == 0 || strcmp(row->name, name_b) == 0);
	seen->ids[seen->count++] = row->node;
	return seen->stop;
}

static int see_file(void *arg, const struct id *node, const struct hash *content)
{
	struct seen *seen = arg;

	assert_int_equal(content->b[0], 1);
	seen->ids[seen->count++] = *node;
	return seen->stop;
}

static void test_lists(void **state)
{
	struct fixture *f = *state;
	struct node_state a = full_state(1, KIND_FILE, 3), b = full_state(2, KIND_DIR, 0),
			  c = full_state(3, KIND_FILE, 0);
	struct seen seen = {0};
	struct stat_id other = disk;
	struct id got, after = ID_NONE;

	begin(f);
	put_base(f, &a);
	put_base(f, &b);
	put_base(f, &c);
	commit(f);
	assert_int_equal(syncstate_peek_children(f->s, &ID_ROOT, see_child, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_true(id_equal(&seen.ids[0], &a.node) && id_equal(&seen.ids[1], &a.node));
	seen = (struct seen){.stop = -ECANCELED};
	assert_int_equal(syncstate_peek_children(f->s, &ID_ROOT, see_child, &seen), -ECANCELED);
	assert_int_equal(seen.count, 1);
	seen = (struct seen){0};
	assert_int_equal(syncstate_peek_files(f->s, &after, see_file, &seen), 1);
	assert_int_equal(seen.count, 2);
	assert_int_equal(syncstate_peek_files(f->s, &after, see_file, &seen), 0);
	assert_int_equal(seen.count, 2);
	/* By identity: number, birth and device. */
	assert_int_equal(syncstate_peek_object(f->s, &disk, &got), 0);
	other.btime_ns++;
	assert_int_equal(syncstate_peek_object(f->s, &other, &got), -ENOENT);
	other = disk;
	other.dev++;
	assert_int_equal(syncstate_peek_object(f->s, &other, &got), -ENOENT);
}

static void test_remote(void **state)
{
	struct fixture *f = *state;
	struct node_state *list;
	struct id got;
	size_t count;

	for (uint8_t i = 1; i <= 5; i++) {
		struct node_state n = full_state(i, (enum kind)(1 + i % 3), i % 4), back;

		n.seq = (uint64_t)(100 - i);
		n.tomb = i == 4;
		begin(f);
		assert_int_equal(syncstate_remote_put(f->s, &n), 0);
		assert_int_equal(syncstate_remote_get(f->s, &n.node, &back), 0);
		node_state_fini(&back);
		assert_int_equal(syncstate_peek_remote(f->s, &n.node, &back), -ENOENT);
		commit(f);
		assert_int_equal(syncstate_peek_remote(f->s, &n.node, &back), 0);
		expect_state(&back, &n);
		assert_true(id_equal(&back.by_client, &n.by_client));
		assert_int_equal(back.by_opno, n.by_opno);
		node_state_fini(&back);
	}
	assert_int_equal(syncstate_peek_remote_count(f->s), 5);
	assert_true(syncstate_peek_has_remote(f->s));
	assert_int_equal(syncstate_peek_remotes(f->s, 95, 3, &list, &count), 0);
	assert_int_equal(count, 3);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(list[i].seq, 96 + i);
		node_state_fini(&list[i]);
	}
	free(list);
	assert_int_equal(syncstate_peek_remotes(f->s, 99, 3, &list, &count), 0);
	assert_int_equal(count, 0);
	free(list);
	assert_int_equal(syncstate_peek_remote_name(f->s, &ID_ROOT, strange, &got), 0);
	assert_int_equal(syncstate_peek_remote_name(f->s, &ID_ROOT, "nobody", &got), -ENOENT);
	/* A newer state takes the place of the older one, names and all. */
	{
		struct node_state n = full_state(3, KIND_FILE, 0);
		struct id other = id_of(200);

		assert_int_equal(syncstate_peek_remote_name(f->s, &ID_ROOT, name_b, &got), 0);
		begin(f);
		assert_int_equal(syncstate_remote_put(f->s, &n), 0);
		commit(f);
		assert_int_equal(syncstate_peek_remote_name(f->s, &ID_ROOT, name_b, &got), -ENOENT);
		assert_int_equal(syncstate_peek_remote_count(f->s), 5);
		n.node = id_of(2);
		assert_int_equal(syncstate_peek_remote_name(f->s, &other, name_a, &got), 0);
		begin(f);
		assert_int_equal(syncstate_remote_delete(f->s, &n.node), 0);
		commit(f);
		assert_int_equal(syncstate_peek_remote_name(f->s, &other, name_a, &got), -ENOENT);
		assert_int_equal(syncstate_peek_remote_count(f->s), 4);
	}
}

static void test_rollback(void **state)
{
	struct fixture *f = *state;
	struct node_state n = full_state(1, KIND_FILE, 3);
	struct cursor c = {.epoch = id_of(5), .seq = 9, .tag = 1}, got;
	struct base_row row;

	begin(f);
	put_base(f, &n);
	assert_int_equal(syncstate_remote_put(f->s, &n), 0);
	assert_int_equal(syncstate_cursor_put(f->s, &c), 0);
	syncstate_rollback(f->s);
	assert_int_equal(syncstate_peek_base(f->s, &n.node, &row), -ENOENT);
	assert_int_equal(syncstate_peek_remote_count(f->s), 0);
	assert_false(syncstate_peek_has_remote(f->s));
	assert_int_equal(syncstate_peek_cursor(f->s, &got), -ENOENT);
	/* A process that ends in the middle: the same. */
	{
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			struct syncstate *own;
			struct base_row full = {.state = n, .disk = disk};
			bool is_new;

			_exit(syncstate_open(f->path, &own, &is_new) || syncstate_begin(own, true) ||
				syncstate_base_put(own, &full));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	assert_int_equal(syncstate_peek_count(f->s), 0);
	assert_int_equal(syncstate_begin(f->s, true), 0);
	put_base(f, &n);
	commit(f);
	assert_int_equal(syncstate_peek_count(f->s), 1);
}

static int count_intent(void *arg, const struct apply_intent *i)
{
	struct seen *seen = arg;

	if (strcmp(i->stage_name, "remove") == 0)
		assert_int_equal(i->staged.ino, 0);
	else
		assert_true(i->staged.ino == UINT64_MAX && i->staged.btime_ns == -3);
	seen->ids[seen->count++] = i->node;
	return seen->stop;
}

static void test_rest(void **state)
{
	struct fixture *f = *state;
	struct cursor c = {.epoch = id_of(5), .seq = UINT64_C(1) << 50, .tag = UINT64_MAX}, got;
	struct apply_intent i = {
		.node = id_of(1), .stage_name = "put", .staged = {.ino = UINT64_MAX, .btime_ns = -3}};
	struct node_state n = full_state(1, KIND_FILE, 3);
	struct seen seen = {0};
	char value[8];
	size_t len;

	assert_int_equal(syncstate_peek_cursor(f->s, &got), -ENOENT);
	begin(f);
	assert_int_equal(syncstate_cursor_put(f->s, &c), 0);
	assert_int_equal(syncstate_meta_put(f->s, "key", "a\0b", 3), 0);
	assert_int_equal(syncstate_meta_put(f->s, "empty", NULL, 0), 0);
	assert_int_equal(syncstate_intent_put(f->s, &i), 0);
	i = (struct apply_intent){.node = id_of(2), .stage_name = "remove"};
	assert_int_equal(syncstate_intent_put(f->s, &i), 0);
	assert_int_equal(syncstate_dead_letter_put(f->s, 5, "create \"x\"", "no"), 0);
	put_base(f, &n);
	assert_int_equal(syncstate_remote_put(f->s, &n), 0);
	commit(f);
	reopen(f);
	assert_int_equal(syncstate_peek_cursor(f->s, &got), 0);
	assert_memory_equal(&got, &c, sizeof(c));
	assert_int_equal(syncstate_peek_meta(f->s, "key", value, sizeof(value), &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(value, "a\0b", 3);
	assert_int_equal(syncstate_peek_meta(f->s, "key", value, 2, &len), -EMSGSIZE);
	assert_int_equal(syncstate_peek_meta(f->s, "empty", value, 2, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(syncstate_peek_meta(f->s, "none", value, 2, &len), -ENOENT);
	assert_int_equal(syncstate_intents(f->s, count_intent, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(syncstate_peek_dead_letters(f->s), 1);
	begin(f);
	assert_int_equal(syncstate_gone(f->s, &i.node, 9), 0);
	commit(f);
	assert_int_equal(syncstate_gone_at(f->s, &i.node), 9);
	begin(f);
	assert_int_equal(syncstate_forget_all(f->s), 0);
	commit(f);
	assert_int_equal(syncstate_gone_at(f->s, &i.node), 0); /* a restored server may have it still */
	assert_int_equal(syncstate_peek_cursor(f->s, &got), -ENOENT);
	assert_int_equal(syncstate_peek_count(f->s), 0);
	assert_int_equal(syncstate_peek_remote_count(f->s), 0);
	seen.count = 0;
	assert_int_equal(syncstate_intents(f->s, count_intent, &seen), 0);
	assert_int_equal(seen.count, 0);
	/* Who we are stays, and what was refused. */
	assert_int_equal(syncstate_peek_meta(f->s, "key", value, sizeof(value), &len), 0);
	assert_int_equal(syncstate_peek_dead_letters(f->s), 1);
	begin(f);
	assert_int_equal(syncstate_intent_put(f->s, &i), 0);
	assert_int_equal(syncstate_intents_clear(f->s), 0);
	commit(f);
	assert_int_equal(syncstate_intents(f->s, count_intent, &seen), 0);
	assert_int_equal(seen.count, 0);
}

static void damage(struct fixture *f, off_t at, size_t len)
{
	cleanup_fd int fd = open(f->path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(pwrite(fd, "\xa5", 1, at + (off_t)i), 1);
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;
	struct node_state n = full_state(1, KIND_FILE, 3);
	char aside[128];

	snprintf(aside, sizeof(aside), "%s.damaged", f->path);
	/* No database at all, and one whose schema page is rubbish. */
	for (int i = 0; i < 2; i++) {
		begin(f);
		put_base(f, &n);
		commit(f);
		syncstate_close(f->s);
		f->s = NULL;
		damage(f, i ? 100 : 0, i ? 400 : 64);
		assert_int_equal(syncstate_open(f->path, &f->s, &f->is_new), 0);
		assert_true(f->is_new);
		assert_int_equal(syncstate_peek_count(f->s), 0);
		assert_int_equal(access(aside, F_OK), 0);
		assert_int_equal(unlink(aside), 0);
	}
	reopen(f);
	assert_false(f->is_new);
	assert_int_equal(access(aside, F_OK), -1);
}

static void *add_one(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < 100; i++) {
		uint64_t value = 0;
		size_t len;

		if (syncstate_begin(f->s, false))
			return f;
		/* The reader sees what was committed before our turn. */
		(void)syncstate_peek_meta(f->s, "n", &value, sizeof(value), &len);
		value++;
		if (syncstate_meta_put(f->s, "n", &value, sizeof(value)) || syncstate_commit(f->s))
			return f;
	}
	return NULL;
}

static void test_one_writer_at_a_time(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[3];
	uint64_t value;
	size_t len;

	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_one, f), 0);
	for (int i = 0; i < 3; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(syncstate_peek_meta(f->s, "n", &value, sizeof(value), &len), 0);
	assert_int_equal(value, 300);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_base_round_trip),
		TEST(test_names),
		TEST(test_lists),
		TEST(test_remote),
		TEST(test_rollback),
		TEST(test_rest),
		TEST(test_damaged),
		TEST(test_one_writer_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
