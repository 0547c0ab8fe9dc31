/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/client/control.h: real sockets, several askers at once, hang-ups, nonsense, stopping. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/control_path.h>

#include "control.h"

#define MOUNTPOINT "/some/where"

static char dir[] = "/tmp/test_control.XXXXXX";

struct daemon {
	struct control *control;
	atomic_int waiting, over; /* calls in wait, calls that ended because they were over */
	atomic_int paused, reconnects;
	int reached_fds[2]; /* a byte each time a wait has begun */
	atomic_bool reached; /* what the waits wait for */
};

static void op_status(void *arg, const char *path, struct control_reply *reply)
{
	reply->has_status = true;
	reply->status.connected = true;
	reply->status.url = strdup("http://server");
	reply->status.file_state = path ? strdup("synced") : NULL;
}

static int op_wait(void *arg, const char *path, const char *token, uint64_t timeout_ms,
	const struct control_call *call, struct control_reply *reply)
{
	struct daemon *d = arg;

	if (token != NULL && strcmp(token, "bad") == 0) {
		reply->error = strdup("no such token");
		return -EPROTO;
	}
	atomic_fetch_add(&d->waiting, 1);
	(void)!write(d->reached_fds[1], "w", 1);
	while (!atomic_load(&d->reached)) {
		if (control_call_is_over(call)) {
			atomic_fetch_add(&d->over, 1);
			(void)!write(d->reached_fds[1], "o", 1);
			return -ECANCELED;
		}
		if (timeout_ms != UINT64_MAX)
			return -ETIMEDOUT;
		(void)poll(NULL, 0, 5);
	}
	return 0;
}

static void op_token(void *arg, const char *path, struct control_reply *reply)
{
	reply->token = strdup("abc.1.2");
}

static void op_pause(void *arg, bool paused)
{
	struct daemon *d = arg;

	atomic_store(&d->paused, paused ? 1 : 2);
}

static void op_reconnect(void *arg)
{
	struct daemon *d = arg;

	atomic_fetch_add(&d->reconnects, 1);
}

static void op_answer_held(void *arg, bool approve, struct control_reply *reply)
{
	reply->ok = false;
	reply->code = -ENOENT;
	reply->error = strdup(approve ? "approve" : "restore");
}

static void op_conflicts(void *arg, const char *path, struct control_reply *reply)
{
	reply->has_conflicts = true;
	reply->conflicts = calloc(1, sizeof(char *));
	reply->conflicts[0] = strdup(MOUNTPOINT "/a (conflict x 1).txt");
	reply->conflicts_count = 1;
}

static const struct control_ops ops = {
	.status = op_status,
	.wait = op_wait,
	.token = op_token,
	.pause = op_pause,
	.reconnect = op_reconnect,
	.answer_held = op_answer_held,
	.conflicts = op_conflicts,
};

static int group_setup(void **state)
{
	return mkdtemp(dir) && setenv("XDG_RUNTIME_DIR", dir, 1) == 0 ? 0 : -1;
}

static int group_teardown(void **state)
{
	char own[64];

	(void)snprintf(own, sizeof(own), "%s/syncfs", dir);
	return rmdir(own) == 0 ? rmdir(dir) : -1; /* so the sockets are gone */
}

static void begin(struct daemon *d)
{
	*d = (struct daemon){0};
	assert_int_equal(pipe(d->reached_fds), 0);
	assert_int_equal(control_start(MOUNTPOINT, &ops, d, &d->control), 0);
}

static void end(struct daemon *d)
{
	control_stop(d->control);
	(void)close(d->reached_fds[0]);
	(void)close(d->reached_fds[1]);
}

static void await_byte(const struct daemon *d, char expected)
{
	struct pollfd p = {.fd = d->reached_fds[0], .events = POLLIN};
	char byte;

	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(read(d->reached_fds[0], &byte, 1), 1);
	assert_int_equal(byte, expected);
}

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char name[CONTROL_NAME_BYTES], *at = control_dir(0, (int64_t)geteuid());
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)snprintf(
		address.sun_path, sizeof(address.sun_path), "%s/%s", at, control_name(MOUNTPOINT, name));
	free(at);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void say(int fd, const struct control_request *q)
{
	struct buf line = BUF_INIT;

	assert_int_equal(control_request_encode(q, &line), 0);
	assert_int_equal(send(fd, line.data, line.len, MSG_NOSIGNAL), line.len);
	buf_fini(&line);
}

/* The reply; false when the socket is closed without one. Closes fd. */
static bool hear(int fd, struct control_reply *reply)
{
	struct buf line = BUF_INIT;
	char bytes[4096];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		buf_put(&line, bytes, (size_t)n);
	(void)close(fd);
	if (line.len > 0)
		assert_int_equal(control_reply_decode(line.data, line.len, reply, NULL), 0);
	n = (ssize_t)line.len;
	buf_fini(&line);
	return n > 0;
}

static void ask(enum control_command command, char *path, char *token, int64_t timeout_ms,
	struct control_reply *reply)
{
	struct control_request q = {
		.command = command, .path = path, .token = token, .timeout_ms = timeout_ms};
	int fd = dial();

	say(fd, &q);
	assert_true(hear(fd, reply));
}

static char inside[] = MOUNTPOINT "/f", outside[] = "/some/whereelse", bad[] = "bad";

static void test_commands(void **state)
{
	struct daemon d;
	struct control_reply r;

	begin(&d);
	ask(CONTROL_STATUS, inside, NULL, -1, &r);
	assert_true(r.ok && r.has_status && r.status.connected);
	assert_string_equal(r.status.file_state, "synced");
	control_reply_fini(&r);
	ask(CONTROL_TOKEN, NULL, NULL, -1, &r);
	assert_string_equal(r.token, "abc.1.2");
	control_reply_fini(&r);
	ask(CONTROL_APPROVE, NULL, NULL, -1, &r);
	assert_string_equal(r.error, "approve");
	control_reply_fini(&r);
	ask(CONTROL_RESTORE, NULL, NULL, -1, &r);
	assert_string_equal(r.error, "restore");
	control_reply_fini(&r);
	ask(CONTROL_CONFLICTS, NULL, NULL, -1, &r);
	assert_int_equal(r.conflicts_count, 1);
	control_reply_fini(&r);
	ask(CONTROL_PAUSE, NULL, NULL, -1, &r);
	assert_true(r.ok && atomic_load(&d.paused) == 1);
	ask(CONTROL_RESUME, NULL, NULL, -1, &r);
	assert_true(r.ok && atomic_load(&d.paused) == 2);
	ask(CONTROL_RECONNECT, NULL, NULL, -1, &r);
	assert_true(r.ok && atomic_load(&d.reconnects) == 1);
	ask(CONTROL_WAIT, NULL, NULL, 0, &r);
	assert_true(!r.ok && r.code == -ETIMEDOUT);
	control_reply_fini(&r);
	ask(CONTROL_WAIT, NULL, bad, 0, &r);
	assert_true(!r.ok && r.code == -EPROTO);
	assert_string_equal(r.error, "no such token");
	control_reply_fini(&r);
	ask(CONTROL_STATUS, outside, NULL, -1, &r);
	assert_true(!r.ok && r.code == -EINVAL && !r.has_status);
	control_reply_fini(&r);
	end(&d);
}

static void test_a_wait_holds_up_nobody(void **state)
{
	struct control_request forever = {.command = CONTROL_WAIT, .timeout_ms = CONTROL_TIMEOUT_NONE};
	struct daemon d;
	struct control_reply r;
	int fds[5];

	begin(&d);
	for (size_t i = 0; i < 5; i++) {
		fds[i] = dial();
		say(fds[i], &forever);
		await_byte(&d, 'w');
	}
	ask(CONTROL_STATUS, NULL, NULL, -1, &r);
	assert_true(r.ok);
	control_reply_fini(&r);
	/* one hangs up: its call ends, the others go on */
	(void)close(fds[0]);
	await_byte(&d, 'o');
	atomic_store(&d.reached, true);
	for (size_t i = 1; i < 5; i++) {
		assert_true(hear(fds[i], &r));
		assert_true(r.ok);
	}
	assert_int_equal(atomic_load(&d.over), 1);
	end(&d);
}

static void test_stop_ends_waits(void **state)
{
	struct control_request forever = {.command = CONTROL_WAIT, .timeout_ms = CONTROL_TIMEOUT_NONE};
	struct daemon d;
	struct control_reply r;
	int fd, silent;

	begin(&d);
	fd = dial();
	say(fd, &forever);
	await_byte(&d, 'w');
	silent = dial(); /* says nothing */
	control_stop(d.control);
	assert_int_equal(atomic_load(&d.over), 1);
	assert_false(hear(silent, &r));
	if (hear(fd, &r)) {
		assert_false(r.ok);
		control_reply_fini(&r);
	}
	d.control = NULL;
	end(&d);
}

static void test_too_many(void **state)
{
	struct control_request forever = {.command = CONTROL_WAIT, .timeout_ms = CONTROL_TIMEOUT_NONE};
	struct daemon d;
	struct control_reply r;
	int fds[16], fd;

	begin(&d);
	for (size_t i = 0; i < 16; i++) {
		fds[i] = dial();
		say(fds[i], &forever);
		await_byte(&d, 'w');
	}
	fd = dial();
	assert_false(hear(fd, &r));
	for (size_t i = 0; i < 16; i++)
		(void)close(fds[i]);
	for (size_t i = 0; i < 16; i++)
		await_byte(&d, 'o');
	end(&d);
}

static void test_nonsense(void **state)
{
	struct daemon d;
	struct control_reply r;
	static char much[CONTROL_REQUEST_MAX_BYTES + 8192];
	int fd;

	begin(&d);
	fd = dial();
	assert_int_equal(send(fd, "hello\n", 6, MSG_NOSIGNAL), 6);
	assert_true(hear(fd, &r));
	assert_true(!r.ok && r.code == -EPROTO);
	control_reply_fini(&r);
	fd = dial();
	(void)close(fd);
	fd = dial();
	memset(much, 'x', sizeof(much));
	(void)send(fd, much, sizeof(much), MSG_NOSIGNAL);
	if (hear(fd, &r)) { /* or reset, as it did not read all */
		assert_true(!r.ok && r.code == -EMSGSIZE);
		control_reply_fini(&r);
	}
	ask(CONTROL_STATUS, NULL, NULL, -1, &r);
	assert_true(r.ok);
	control_reply_fini(&r);
	end(&d);
}

static void test_place(void **state)
{
	struct daemon d;
	struct control *second;
	struct control_reply r;
	char path[128], name[CONTROL_NAME_BYTES];
	struct stat st;

	begin(&d);
	(void)snprintf(path, sizeof(path), "%s/syncfs", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	(void)snprintf(path, sizeof(path), "%s/syncfs/%s", dir, control_name(MOUNTPOINT, name));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* a later daemon takes the name over; the end of the earlier one leaves it alone */
	assert_int_equal(control_start(MOUNTPOINT, &ops, &d, &second), 0);
	end(&d);
	ask(CONTROL_STATUS, NULL, NULL, -1, &r);
	assert_true(r.ok);
	control_reply_fini(&r);
	control_stop(second);
	assert_int_equal(stat(path, &st), -1);
	/* a directory that others may write to is no place for it */
	(void)snprintf(path, sizeof(path), "%s/syncfs", dir);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(control_start(MOUNTPOINT, &ops, &d, &second), -EPERM);
	assert_int_equal(chmod(path, 0700), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_a_wait_holds_up_nobody),
		cmocka_unit_test(test_stop_ends_waits),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_place),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
