/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of inodes over real directories: lives, places, pins, displacement, and that few descriptors
 * serve many directories.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inode.h"

struct fixture {
	char path[64];
	struct tree tree;
	struct inode_table *table;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->path, "/tmp/syncfs-inode-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(tree_open(f->path, TREE_MARK, &f->tree), 0);
	assert_int_equal(inode_table_new(&f->tree, &f->table), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[96];

	inode_table_free(f->table);
	tree_close(&f->tree);
	snprintf(command, sizeof(command), "rm -rf %s", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static struct inode *root_of(const struct fixture *f)
{
	return inode_from_nodeid(f->table, 1);
}

static void make_file(const struct fixture *f, const char *path)
{
	int fd = openat(f->tree.root_fd, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	close(fd);
}

static struct stat_id id_of(const struct fixture *f, const char *path)
{
	struct stat_id id;

	assert_int_equal(tree_stat(f->tree.root_fd, path, &id), 0);
	return id;
}

/* path: where it is below the root; name: its last component. */
static struct inode *intern(const struct fixture *f, struct inode *parent, const char *path, const char *name)
{
	struct stat_id id = id_of(f, path);
	struct inode *i;

	assert_int_equal(inode_intern(f->table, parent, name, &id, &i), 0);
	return i;
}

static void test_lives(void **state)
{
	struct fixture *f = *state;
	struct inode *dir, *file;

	assert_int_equal(mkdirat(f->tree.root_fd, "d", 0755), 0);
	make_file(f, "d/f");
	dir = intern(f, root_of(f), "d", "d");
	file = intern(f, dir, "d/f", "f");
	assert_ptr_equal(intern(f, dir, "d/f", "f"), file);
	assert_ptr_equal(inode_from_nodeid(f->table, inode_nodeid(f->table, file)), file);
	assert_int_equal(inode_table_count(f->table), 3);
	/* The child needs its parent, whatever the kernel forgets first. */
	inode_forget(f->table, dir, 1);
	assert_int_equal(inode_table_count(f->table), 3);
	inode_forget(f->table, file, 1);
	assert_int_equal(inode_table_count(f->table), 3);
	inode_forget(f->table, file, 1);
	assert_int_equal(inode_table_count(f->table), 1);
}

static void test_reach_checks_identity(void **state)
{
	struct fixture *f = *state;
	struct inode *i;
	struct stat st;
	struct stat_id old;
	int fd;

	make_file(f, "f");
	old = id_of(f, "f");
	i = intern(f, root_of(f), "f", "f");
	assert_int_equal(inode_stat(f->table, i, &st, NULL), 0);
	assert_int_equal(st.st_ino, old.ino);
	/* Another object under the name; the old one is kept alive, so that its number is not used again. */
	assert_int_equal(renameat(f->tree.root_fd, "f", f->tree.root_fd, "g"), 0);
	make_file(f, "f");
	assert_int_equal(inode_stat(f->table, i, &st, NULL), -ESTALE);
	assert_int_equal(inode_open_path(f->table, i, &fd), -ESTALE);
	inode_named(f->table, &old, root_of(f), "g");
	assert_int_equal(inode_stat(f->table, i, &st, NULL), 0);
	assert_int_equal(inode_open_path(f->table, i, &fd), 0);
	close(fd);
	assert_true(inode_take_unsynced(f->table, i));
	assert_false(inode_take_unsynced(f->table, i));
}

static void test_pin(void **state)
{
	struct fixture *f = *state;
	struct stat_id id;
	struct inode *i;
	struct stat st;
	int pin;

	make_file(f, "f");
	id = id_of(f, "f");
	assert_false(inode_wants_pin(f->table, &id));
	i = intern(f, root_of(f), "f", "f");
	assert_true(inode_wants_pin(f->table, &id));
	pin = openat(f->tree.root_fd, "f", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	assert_true(pin >= 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "f", 0), 0);
	inode_unnamed(f->table, &id, root_of(f), "f", pin);
	assert_int_equal(inode_stat(f->table, i, &st, NULL), 0);
	assert_int_equal(st.st_nlink, 0);
	inode_forget(f->table, i, 1);
	/* Closed with the inode. */
	assert_int_equal(fcntl(pin, F_GETFD), -1);
	assert_int_equal(errno, EBADF);
}

static void test_writers_and_displacement(void **state)
{
	struct fixture *f = *state;
	struct handle h = {.writable = true};
	struct stat_id id;
	struct inode *i;
	struct stat st;

	make_file(f, "f");
	id = id_of(f, "f");
	assert_int_equal(inode_writers(f->table, &id), 0);
	assert_int_equal(inode_generation(f->table, &id), 0);
	i = intern(f, root_of(f), "f", "f");
	h.fd = openat(f->tree.root_fd, "f", O_RDWR | O_CLOEXEC);
	assert_true(h.fd >= 0);
	inode_handle_add(f->table, i, &h);
	inode_changed(i);
	assert_int_equal(inode_writers(f->table, &id), 1);
	assert_int_equal(inode_generation(f->table, &id), 1);

	inode_displaced(f->table, &id);
	assert_int_equal(unlinkat(f->tree.root_fd, "f", 0), 0);
	assert_true(inode_is_displaced(f->table, i));
	assert_int_equal(inode_stat(f->table, i, &st, NULL), 0); /* by the handle */
	inode_handle_remove(f->table, &h);
	close(h.fd);
	assert_int_equal(inode_writers(f->table, &id), 0);
	assert_int_equal(inode_stat(f->table, i, &st, NULL), -ESTALE);
	inode_forget(f->table, i, 1);
	assert_int_equal(inode_table_count(f->table), 1);
}

static void test_moved_by_the_applier(void **state)
{
	struct fixture *f = *state;
	struct inode *a, *file;
	struct stat_id id, a_id;
	struct stat st;

	assert_int_equal(mkdirat(f->tree.root_fd, "a", 0755), 0);
	make_file(f, "f");
	id = id_of(f, "f");
	a_id = id_of(f, "a");
	a = intern(f, root_of(f), "a", "a");
	file = intern(f, root_of(f), "f", "f");
	assert_int_equal(renameat(f->tree.root_fd, "f", f->tree.root_fd, "a/g"), 0);
	inode_moved(f->table, &id, &a_id, "g");
	assert_int_equal(inode_stat(f->table, file, &st, NULL), 0);
	inode_forget(f->table, a, 1);
	inode_forget(f->table, file, 1);
	assert_int_equal(inode_table_count(f->table), 1);
}

/* a/b becomes b/a behind our back, and the table hears of the new places one by one. */
static void test_ring_of_places(void **state)
{
	struct fixture *f = *state;
	struct inode *a, *b;
	struct dir_ref held, ref;
	struct stat_id id;
	struct stat st;

	assert_int_equal(mkdirat(f->tree.root_fd, "a", 0755), 0);
	assert_int_equal(mkdirat(f->tree.root_fd, "a/b", 0755), 0);
	a = intern(f, root_of(f), "a", "a");
	b = intern(f, a, "a/b", "b");
	assert_int_equal(inode_dir(f->table, b, &held), 0); /* reachable by its descriptor */
	assert_int_equal(renameat(f->tree.root_fd, "a/b", f->tree.root_fd, "b"), 0);
	assert_int_equal(renameat(f->tree.root_fd, "a", f->tree.root_fd, "b/a"), 0);
	id = id_of(f, "b/a");
	assert_int_equal(inode_intern(f->table, b, "a", &id, &a), 0);
	assert_int_equal(inode_dir(f->table, a, &ref), 0);
	inode_dir_put(f->table, &ref);
	inode_dir_put(f->table, &held);
	assert_ptr_equal(intern(f, root_of(f), "b", "b"), b);
	assert_int_equal(inode_stat(f->table, a, &st, NULL), 0);
	inode_forget(f->table, a, 2);
	inode_forget(f->table, b, 2);
	assert_int_equal(inode_table_count(f->table), 1);
}

static unsigned open_descriptors(void)
{
	DIR *stream = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(stream);
	while (readdir(stream))
		count++;
	closedir(stream);
	return count;
}

#define MANY_DIRS 200
#define FEW_DESCRIPTORS 96

static void test_many_directories(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, few;
	struct inode *dirs[MANY_DIRS];
	unsigned n, start;
	char name[32];
	int round;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){.rlim_cur = FEW_DESCRIPTORS, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	inode_table_free(f->table);
	assert_int_equal(inode_table_new(&f->tree, &f->table), 0);
	start = open_descriptors();
	for (n = 0; n < MANY_DIRS; n++) {
		snprintf(name, sizeof(name), "d%u", n);
		assert_int_equal(mkdirat(f->tree.root_fd, name, 0755), 0);
		dirs[n] = intern(f, root_of(f), name, name);
	}
	for (round = 0; round < 2; round++) {
		for (n = 0; n < MANY_DIRS; n++) {
			struct dir_ref ref;
			struct stat_id id;

			assert_int_equal(inode_dir(f->table, dirs[n], &ref), 0);
			assert_int_equal(tree_stat(ref.fd, "", &id), 0);
			inode_dir_put(f->table, &ref);
			snprintf(name, sizeof(name), "d%u", n);
			assert_int_equal(id.ino, id_of(f, name).ino);
		}
	}
	assert_true(open_descriptors() <= start + FEW_DESCRIPTORS / 4);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_last_open(void **state)
{
	struct fixture *f = *state;
	struct inode *i;
	struct stat_id id;

	make_file(f, "f");
	id = id_of(f, "f");
	i = intern(f, root_of(f), "f", "f");
	assert_false(inode_same_as_last_open(f->table, i, &id));
	assert_true(inode_same_as_last_open(f->table, i, &id));
	id.size++;
	assert_false(inode_same_as_last_open(f->table, i, &id));
	inode_forget_open(f->table, i);
	assert_false(inode_same_as_last_open(f->table, i, &id));
}

struct writing {
	struct inode_table *table;
	struct inode *inode;
	_Atomic unsigned long done;
	atomic_bool stop;
};

static void *write_on(void *arg)
{
	struct writing *w = arg;

	while (!atomic_load(&w->stop)) {
		inode_change_begin(w->table, w->inode);
		atomic_fetch_add(&w->done, 1);
		inode_change_end(w->table, w->inode);
	}
	return NULL;
}

static void await_more(struct writing *w, unsigned long than)
{
	while (atomic_load(&w->done) <= than)
		sched_yield();
}

/* A holder sees no change begin, and writers go on afterwards. */
static void test_hold(void **state)
{
	struct fixture *f = *state;
	struct writing w = {.table = f->table};
	pthread_t threads[2];
	struct stat_id id, stranger;

	make_file(f, "f");
	id = id_of(f, "f");
	stranger = id;
	stranger.ino++;
	w.inode = intern(f, root_of(f), "f", "f");
	assert_null(inode_hold(f->table, &stranger));
	inode_let_go(f->table, NULL);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_on, &w), 0);
	for (int round = 0; round < 50; round++) {
		unsigned long done;
		struct inode *held;

		await_more(&w, atomic_load(&w.done));
		held = inode_hold(f->table, &id);
		assert_ptr_equal(held, w.inode);
		done = atomic_load(&w.done);
		for (int i = 0; i < 20; i++)
			sched_yield();
		assert_int_equal(atomic_load(&w.done), done);
		inode_let_go(f->table, held);
	}
	atomic_store(&w.stop, true);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reach_checks_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writers_and_displacement, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved_by_the_applier, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ring_of_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hold, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
