/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that serve a mount, on a real mount of a file system that knows no file: requests that do not
 * return must not keep others waiting, and the loop must end whatever its threads are doing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "mount_loop.h"

#define SLOW 4
#define ALARM_S 20

struct loop_fixture {
	char dir[32];
	struct fuse_session *session;
	struct mount_loop *loop;
	pthread_t thread;
	int result;
};

static sem_t slow_begun, slow_go;

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent, (void)name;
	(void)fuse_reply_err(req, ENOENT);
}

/* The slow one: for it the kernel holds no lock that would keep others out. */
static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	sem_post(&slow_begun);
	while (sem_wait(&slow_go) < 0)
		;
	(void)fuse_reply_err(req, ENOENT);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = {.st_ino = ino, .st_mode = S_IFDIR | 0755, .st_nlink = 2, .st_uid = getuid()};

	(void)fi;
	(void)fuse_reply_attr(req, &st, 0.0);
}

static const struct fuse_lowlevel_ops ops = {.lookup = on_lookup, .getattr = on_getattr, .statfs = on_statfs};

static char mounted_at[32];

/* Threads that wait in a mount of their own process cannot be killed: the mount has to go first. */
static void on_alarm(int signal)
{
	static const char what[] = "no end in sight\n";

	(void)signal;
	(void)!write(STDERR_FILENO, what, sizeof(what) - 1);
	(void)umount2(mounted_at, MNT_FORCE);
	(void)umount2(mounted_at, MNT_DETACH);
	(void)rmdir(mounted_at);
	_exit(1);
}

static void on_wake(int signal)
{
	(void)signal;
}

static void *run(void *arg)
{
	struct loop_fixture *f = arg;

	f->result = mount_loop_run(f->loop, SIGURG);
	return NULL;
}

static int setup(void **state)
{
	static struct loop_fixture fixture;
	struct loop_fixture *f = &fixture;
	struct sigaction wake = {.sa_handler = on_wake}, ring = {.sa_handler = on_alarm};
	char name[] = "test", *argv[] = {name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	*f = (struct loop_fixture){.dir = "/tmp/syncfs-loop-XXXXXX"};
	sem_init(&slow_begun, 0, 0);
	sem_init(&slow_go, 0, 0);
	sigaction(SIGURG, &wake, NULL);
	sigaction(SIGALRM, &ring, NULL);
	alarm(ALARM_S);
	if (access("/dev/fuse", R_OK | W_OK) < 0 || !mkdtemp(f->dir))
		return -1;
	memcpy(mounted_at, f->dir, sizeof(mounted_at));
	f->session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	fuse_opt_free_args(&args);
	if (!f->session || fuse_session_mount(f->session, f->dir) != 0)
		return -1;
	*state = f;
	return mount_loop_new(f->session, false, &f->loop) || pthread_create(&f->thread, NULL, run, f);
}

static int teardown(void **state)
{
	struct loop_fixture *f = *state;

	for (int i = 0; i < SLOW; i++)
		sem_post(&slow_go);
	mount_loop_end(f->loop);
	pthread_join(f->thread, NULL);
	fuse_session_unmount(f->session);
	mount_loop_free(f->loop);
	fuse_session_destroy(f->session);
	alarm(0);
	return rmdir(f->dir) || f->result;
}

static void *look(void *arg)
{
	struct stat st;

	return (void *)(intptr_t)(stat(arg, &st) == 0 ? 0 : errno);
}

static void *look_slowly(void *arg)
{
	struct statvfs st;

	return (void *)(intptr_t)(statvfs(arg, &st) == 0 ? 0 : errno);
}

static void test_slow_requests_do_not_block_others(void **state)
{
	struct loop_fixture *f = *state;
	pthread_t threads[SLOW];
	char quick[64];
	void *result;

	snprintf(quick, sizeof(quick), "%s/quick", f->dir);
	for (int i = 0; i < SLOW; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look_slowly, f->dir), 0);
	for (int i = 0; i < SLOW; i++)
		assert_int_equal(sem_wait(&slow_begun), 0);
	assert_int_equal((intptr_t)look(quick), ENOENT);
	for (int i = 0; i < SLOW; i++)
		sem_post(&slow_go);
	for (int i = 0; i < SLOW; i++) {
		pthread_join(threads[i], &result);
		assert_int_equal((intptr_t)result, ENOENT);
	}
}

/* After a rest nobody watches; the first request brings the watch back. */
static void test_slow_request_after_a_rest(void **state)
{
	struct loop_fixture *f = *state;
	char quick[64];
	pthread_t thread;

	snprintf(quick, sizeof(quick), "%s/quick", f->dir);
	assert_int_equal((intptr_t)look(quick), ENOENT);
	usleep(400000); /* the rest is what is tested */
	assert_int_equal(pthread_create(&thread, NULL, look_slowly, f->dir), 0);
	assert_int_equal(sem_wait(&slow_begun), 0);
	assert_int_equal((intptr_t)look(quick), ENOENT);
	sem_post(&slow_go);
	pthread_join(thread, NULL);
}

static void *look_often(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		if ((intptr_t)look(arg) != ENOENT)
			return arg;
	}
	return NULL;
}

static void test_many_at_once(void **state)
{
	struct loop_fixture *f = *state;
	char paths[SLOW][64];
	pthread_t threads[SLOW];
	void *result;

	for (int i = 0; i < SLOW; i++) {
		snprintf(paths[i], sizeof(paths[i]), "%s/quick%d", f->dir, i);
		assert_int_equal(pthread_create(&threads[i], NULL, look_often, paths[i]), 0);
	}
	for (int i = 0; i < SLOW; i++) {
		pthread_join(threads[i], &result);
		assert_null(result);
	}
}

/* The teardown does it: from a loop that has just begun, too. */
static void test_ends(void **state)
{
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_slow_requests_do_not_block_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_request_after_a_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
