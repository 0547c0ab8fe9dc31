/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages there and back, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/control.h>

static void test_request_round_trip(void **state)
{
	char path[] = "/mnt/a b\n\"\xff", token[] = "abc.1.2";

	for (enum control_command c = CONTROL_STATUS; c <= CONTROL_RESTORE; c++) {
		struct control_request r = {
			.command = c, .path = path, .timeout_ms = INT64_MAX, .token = token};
		cleanup_buf struct buf out = BUF_INIT;
		struct control_request back;

		assert_int_equal(control_request_encode(&r, &out), 0);
		assert_ptr_equal(memchr(out.data, '\n', out.len), out.data + out.len - 1);
		assert_int_equal(control_request_decode(out.data, out.len, &back, NULL), 0);
		assert_int_equal(back.command, c);
		assert_string_equal(back.path, path);
		assert_string_equal(back.token, token);
		assert_true(back.timeout_ms == INT64_MAX);
		control_request_fini(&back);
	}
}

static void test_request_defaults(void **state)
{
	static const char text[] = "{\"command\":\"wait\"}";
	struct control_request r;

	assert_int_equal(control_request_decode(text, strlen(text), &r, NULL), 0);
	assert_int_equal(r.timeout_ms, CONTROL_TIMEOUT_NONE);
	assert_null(r.path);
	assert_null(r.token);
	control_request_fini(&r);
}

static void test_request_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"\n",
		"{}",
		"[]",
		"{\"command\":\"stop\"}",
		"{\"command\":1}",
		"{\"command\":\"wait\",\"timeout_ms\":-1}",
		"{\"command\":\"wait\",\"timeout_ms\":1.0}",
		"{\"command\":\"wait\",\"path\":\"\"}",
		"{\"command\":\"wait\",\"path\":\"a\\u0000\"}",
		"{\"command\":\"wait\",\"command\":\"wait\"}",
		"{\"command\":\"wait\"}{}",
	};
	struct control_request r;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cleanup_buf struct buf why = BUF_INIT;

		assert_int_equal(control_request_decode(wrong[i], strlen(wrong[i]), &r, &why), -EPROTO);
		assert_true(why.len > 0);
	}
}

static void test_status_round_trip(void **state)
{
	struct control_reply r = {
		.ok = true,
		.has_status = true,
		.status = {.connected = true,
			.paused = true,
			.since_s = 7,
			.url = (char[]){"http://x"},
			.mountpoint = (char[]){"/m\xff"},
			.backing = (char[]){"/b"},
			.state = (char[]){"/s"},
			.pending_ops = 1,
			.pending_bytes = INT64_MAX,
			.open_writers = 2,
			.dead_letters = 3,
			.held_deletions = 6,
			.waiting_calls = 4,
			.deferred_calls = 5,
			.last_error = (char[]){"bad \xff byte"},
			.cursor_seq = 99,
			.file_state = (char[]){"dirty"}},
	};
	cleanup_buf struct buf out = BUF_INIT;
	struct control_reply back;

	assert_int_equal(control_reply_encode(&r, &out), 0);
	assert_int_equal(control_reply_decode(out.data, out.len, &back, NULL), 0);
	assert_true(back.ok && back.has_status && !back.has_conflicts);
	assert_true(back.status.connected && back.status.paused && !back.status.passthrough);
	assert_string_equal(back.status.mountpoint, "/m\xff");
	assert_string_equal(back.status.url, "http://x");
	assert_string_equal(back.status.backing, "/b");
	assert_string_equal(back.status.state, "/s");
	assert_string_equal(back.status.last_error, "bad ? byte");
	assert_string_equal(back.status.file_state, "dirty");
	assert_int_equal(back.status.since_s, 7);
	assert_true(back.status.pending_bytes == INT64_MAX);
	assert_int_equal(back.status.pending_ops + back.status.open_writers + back.status.dead_letters, 6);
	assert_int_equal(back.status.held_deletions, 6);
	assert_int_equal(back.status.waiting_calls, 4);
	assert_int_equal(back.status.deferred_calls, 5);
	assert_int_equal(back.status.cursor_seq, 99);
	control_reply_fini(&back);
}

static void test_reply_round_trip(void **state)
{
	char *paths[] = {(char[]){"/m/a (conflict x 01234567)"}, (char[]){"/m/\xfe"}};
	struct control_reply failed = {.code = -ETIMEDOUT, .error = (char[]){"3 operations wait"}};
	struct control_reply listed = {.ok = true,
		.token = (char[]){"T"},
		.has_conflicts = true,
		.conflicts = paths,
		.conflicts_count = 2};
	cleanup_buf struct buf out = BUF_INIT;
	struct control_reply back;

	assert_int_equal(control_reply_encode(&failed, &out), 0);
	assert_int_equal(control_reply_decode(out.data, out.len, &back, NULL), 0);
	assert_false(back.ok);
	assert_int_equal(back.code, -ETIMEDOUT);
	assert_string_equal(back.error, "3 operations wait");
	control_reply_fini(&back);
	buf_reset(&out);
	assert_int_equal(control_reply_encode(&listed, &out), 0);
	assert_int_equal(control_reply_decode(out.data, out.len, &back, NULL), 0);
	assert_true(back.ok && back.has_conflicts);
	assert_int_equal(back.conflicts_count, 2);
	assert_string_equal(back.conflicts[1], "/m/\xfe");
	assert_string_equal(back.token, "T");
	control_reply_fini(&back);
}

static void test_reply_refused(void **state)
{
	static const char *const wrong[] = {
		"{}",
		"{\"ok\":1}",
		"{\"ok\":false}",
		"{\"ok\":true,\"status\":[]}",
		"{\"ok\":true,\"status\":{}}",
		"{\"ok\":true,\"conflicts\":[1]}",
		"{\"ok\":true,\"conflicts\":[{\"path\":\"a\"},{}]}",
	};
	struct control_reply r;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(control_reply_decode(wrong[i], strlen(wrong[i]), &r, NULL), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_round_trip),
		cmocka_unit_test(test_request_defaults),
		cmocka_unit_test(test_request_refused),
		cmocka_unit_test(test_status_round_trip),
		cmocka_unit_test(test_reply_round_trip),
		cmocka_unit_test(test_reply_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
