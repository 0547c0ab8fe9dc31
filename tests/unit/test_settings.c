/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of settings.h: files as people write them, precedence of sources, refused lines. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/io.h>
#include <syncfs/settings.h>

static char dir[] = "/tmp/test_settings.XXXXXX";
static char file[64];

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/conf", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)unlink(file);
	return rmdir(dir);
}

static int read_text(struct settings *s, const char *text, size_t len, struct buf *why)
{
	assert_int_equal(io_write_file(AT_FDCWD, file, text, len, 0600), 0);
	return settings_read_file(s, file, why);
}

static void test_file(void **state)
{
	static const char text[] = "\xef\xbb\xbf# a comment\n\n"
				   "remote_url=http://127.0.0.1:3459/a?b=c#d\r\n"
				   "  poll_interval =  5  # seconds\n"
				   "export api_key='s3 #cret'\n"
				   "local_sync_dir=\"/tmp/with space \" # quoted\n"
				   "empty=\n"
				   "\t# indented comment\n"
				   "twice=1\n"
				   "exporter=x\n"
				   "twice=2";
	struct settings *s = settings_new();
	cleanup_buf struct buf why = BUF_INIT;

	assert_int_equal(read_text(s, text, sizeof(text) - 1, &why), 0);
	assert_string_equal(settings_get(s, "remote_url"), "http://127.0.0.1:3459/a?b=c#d");
	assert_string_equal(settings_get(s, "poll_interval"), "5");
	assert_string_equal(settings_get(s, "api_key"), "s3 #cret");
	assert_string_equal(settings_get(s, "local_sync_dir"), "/tmp/with space ");
	assert_string_equal(settings_get(s, "empty"), "");
	assert_string_equal(settings_get(s, "exporter"), "x");
	assert_string_equal(settings_get(s, "twice"), "2");
	assert_null(settings_get(s, "absent"));
	settings_free(s);
	settings_free(NULL);
}

static void check_refused(const char *text, size_t len, const char *want_line)
{
	struct settings *s = settings_new();
	cleanup_buf struct buf why = BUF_INIT;
	char want[128];

	assert_int_equal(read_text(s, text, len, &why), -EINVAL);
	snprintf(want, sizeof(want), "%s %s: ", file, want_line);
	assert_non_null(strstr(buf_cstr(&why), want));
	settings_free(s);
}

#define REFUSED(text, line) check_refused(text, sizeof(text) - 1, line)

static void test_refused(void **state)
{
	char *big = malloc(70000);
	size_t len = 0;

	assert_non_null(big);
	REFUSED("a=1\n\nnonsense\n", "line 3");
	REFUSED("=1\n", "line 1");
	REFUSED("a b=1\n", "line 1");
	REFUSED("a=\"open\n", "line 1");
	REFUSED("a='x\"\n", "line 1");
	REFUSED("a=\"x\"y\n", "line 1");
	REFUSED("a=\"\n", "line 1");
	REFUSED("a=1\nb=x\0y\n", "line 2");
	REFUSED("a=\x1b[31m\n", "line 1");
	REFUSED("export\n", "line 1");
	memset(big, '\n', 70000);
	check_refused(big, 70000, "line 1");
	for (int i = 0; i <= 1000; i++)
		len += (size_t)sprintf(big + len, "k%d=\n", i);
	check_refused(big, len, "line 1001");
	free(big);
}

static void test_missing_file(void **state)
{
	struct settings *s = settings_new();
	cleanup_buf struct buf why = BUF_INIT;

	assert_int_equal(settings_read_file(s, "/nonexistent/conf", &why), -ENOENT);
	assert_int_equal(settings_read_file(s, dir, &why), -EISDIR);
	settings_free(s);
}

static void test_precedence_and_unused(void **state)
{
	struct settings *s = settings_new();
	cleanup_buf struct buf why = BUF_INIT;
	const char *origin = NULL;
	char want[80];

	assert_int_equal(settings_set(s, SETTINGS_COMMAND_LINE, "a", "cmd"), 0);
	assert_int_equal(settings_set(s, SETTINGS_ENVIRONMENT, "b", "env"), 0);
	assert_int_equal(read_text(s, "a=f\nb=f\nc=f\n", 12, &why), 0);
	assert_string_equal(settings_get(s, "a"), "cmd");
	assert_string_equal(settings_get(s, "b"), "env");
	assert_string_equal(settings_unused(s, &origin), "c");
	snprintf(want, sizeof(want), "%s:3", file);
	assert_string_equal(origin, want);
	assert_string_equal(settings_get(s, "c"), "f");
	assert_null(settings_unused(s, &origin));

	assert_int_equal(settings_set(s, SETTINGS_ENVIRONMENT, "a", "no"), 0);
	assert_int_equal(settings_set(s, SETTINGS_COMMAND_LINE, "c", "cmd"), 0);
	assert_int_equal(settings_set(s, SETTINGS_COMMAND_LINE, "c", "again"), 0);
	assert_string_equal(settings_get(s, "a"), "cmd");
	assert_string_equal(settings_get(s, "c"), "again");
	assert_int_equal(settings_set(s, SETTINGS_COMMAND_LINE, "flag", ""), 0);
	assert_string_equal(settings_unused(s, &origin), "flag");
	assert_string_equal(origin, "command line");
	settings_free(s);
}

static void test_parse(void **state)
{
	static const char *const bad[] = {
		"", " 1", "1 ", "+1", "-1", "0x1", "1e3", "18446744073709551616", "99999999999999999999999"};
	uint64_t v = 7;
	bool b = false;

	assert_int_equal(settings_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(settings_parse_u64("0010", 1, 10, &v), 0);
	assert_int_equal(v, 10);
	assert_int_equal(settings_parse_u64("0", 1, 10, &v), -EINVAL);
	assert_int_equal(settings_parse_u64("11", 1, 10, &v), -EINVAL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(settings_parse_u64(bad[i], 0, UINT64_MAX, &v), -EINVAL);
	assert_int_equal(v, 10);

	assert_int_equal(settings_parse_bool("", &b), 0);
	assert_true(b);
	assert_int_equal(settings_parse_bool("Off", &b), 0);
	assert_false(b);
	assert_int_equal(settings_parse_bool("YES", &b), 0);
	assert_true(b);
	assert_int_equal(settings_parse_bool("0", &b), 0);
	assert_false(b);
	assert_int_equal(settings_parse_bool("maybe", &b), -EINVAL);
	assert_int_equal(settings_parse_bool("yess", &b), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_precedence_and_unused),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
