/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of path.h: every way out of the tree is refused, odd but legal names are not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/path.h>

#define BYTES(s) (s), sizeof(s) - 1

static void test_names(void **state)
{
	char name[NAME_MAX_BYTES + 1];

	memset(name, 'n', sizeof(name));
	assert_true(name_is_valid(name, NAME_MAX_BYTES));
	assert_false(name_is_valid(name, NAME_MAX_BYTES + 1));
	assert_true(name_is_valid(BYTES("a")));
	assert_true(name_is_valid(BYTES("...")));
	assert_true(name_is_valid(BYTES("..a")));
	assert_true(name_is_valid(BYTES(" \n\"\xff")));
	assert_true(name_is_valid(BYTES(RESERVED_NAME)));
	assert_false(name_is_valid(BYTES("")));
	assert_false(name_is_valid(BYTES(".")));
	assert_false(name_is_valid(BYTES("..")));
	assert_false(name_is_valid(BYTES("a/b")));
	assert_false(name_is_valid(BYTES("a\0b")));
}

static void test_paths(void **state)
{
	static char deep[PATH_MAX_BYTES + 2];

	assert_true(path_is_valid(BYTES("a")));
	assert_true(path_is_valid(BYTES("a/b/c d")));
	assert_true(path_is_valid(BYTES("a/" RESERVED_NAME)));
	assert_true(path_is_valid(BYTES(RESERVED_NAME "x/a")));
	assert_false(path_is_valid(BYTES("")));
	assert_false(path_is_valid(BYTES("/")));
	assert_false(path_is_valid(BYTES("/a")));
	assert_false(path_is_valid(BYTES("a/")));
	assert_false(path_is_valid(BYTES("a//b")));
	assert_false(path_is_valid(BYTES("../a")));
	assert_false(path_is_valid(BYTES("a/../b")));
	assert_false(path_is_valid(BYTES("a/..")));
	assert_false(path_is_valid(BYTES("./a")));
	assert_false(path_is_valid(BYTES("a\0/b")));
	assert_false(path_is_valid(BYTES(RESERVED_NAME)));
	assert_false(path_is_valid(BYTES(RESERVED_NAME "/token")));
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i % 2 ? '/' : 'a';
	assert_true(path_is_valid(deep, PATH_MAX_BYTES - 1));
	assert_false(path_is_valid(deep, PATH_MAX_BYTES + 1));
}

static void test_utf8(void **state)
{
	assert_true(utf8_is_valid(BYTES("")));
	assert_true(utf8_is_valid(BYTES("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80")));
	assert_true(utf8_is_valid(BYTES("\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80")));
	assert_false(utf8_is_valid(BYTES("\x80")));
	assert_false(utf8_is_valid(BYTES("\xc0\xaf"))); /* overlong '/' */
	assert_false(utf8_is_valid(BYTES("\xc1\xbf")));
	assert_false(utf8_is_valid(BYTES("\xe0\x80\xaf")));
	assert_false(utf8_is_valid(BYTES("\xf0\x80\x80\xaf")));
	assert_false(utf8_is_valid(BYTES("\xed\xa0\x80"))); /* surrogate */
	assert_false(utf8_is_valid(BYTES("\xf4\x90\x80\x80"))); /* above U+10FFFF */
	assert_false(utf8_is_valid(BYTES("\xf5\x80\x80\x80")));
	assert_false(utf8_is_valid(BYTES("\xe2\x82"))); /* cut short */
	assert_false(utf8_is_valid(BYTES("\xe2\x82x")));
	assert_false(utf8_is_valid("\xe2\x82\xac", 2)); /* reads no further than told */
}

static void check_quote(const char *in, size_t len, const char *want)
{
	cleanup_buf struct buf b = BUF_INIT;

	path_quote(&b, in, len);
	assert_string_equal(buf_cstr(&b), want);
}

static void test_quote(void **state)
{
	check_quote(BYTES(""), "\"\"");
	check_quote(BYTES("a b"), "\"a b\"");
	check_quote(BYTES("\xc3\xa4"), "\"\xc3\xa4\"");
	check_quote(BYTES("a\"\\"), "\"a\\\"\\\\\"");
	check_quote(BYTES("l1\nl2"), "\"l1\\nl2\"");
	check_quote(BYTES("\x1b[31m\0\x7f"), "\"\\x1b[31m\\x00\\x7f\"");
	check_quote(BYTES("\xff\xc3"), "\"\\xff\\xc3\"");
	check_quote(BYTES("\xc2\x9b"), "\"\\xc2\\x9b\"");
}

static void check_base64(const char *plain, size_t len, const char *text)
{
	cleanup_buf struct buf b = BUF_INIT;

	base64_encode(&b, plain, len);
	assert_string_equal(buf_cstr(&b), text);
	buf_reset(&b);
	buf_put_u8(&b, '>');
	assert_int_equal(base64_decode(&b, text, strlen(text)), 0);
	assert_int_equal(b.len, len + 1);
	assert_int_equal(b.data[0], '>');
	assert_memory_equal(b.data + 1, plain, len);
}

static void test_base64(void **state)
{
	static const char *const refused[] = {"Zg",
		"Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Zm9v\n", "Zm 9", "Zm9_", "Zm-v",
		"=m9v", "Zm=v"};
	char all[256];

	/* RFC 4648 section 10 */
	check_base64(BYTES(""), "");
	check_base64(BYTES("f"), "Zg==");
	check_base64(BYTES("fo"), "Zm8=");
	check_base64(BYTES("foo"), "Zm9v");
	check_base64(BYTES("foob"), "Zm9vYg==");
	check_base64(BYTES("fooba"), "Zm9vYmE=");
	check_base64(BYTES("foobar"), "Zm9vYmFy");
	check_base64(BYTES("\xfb\xff\xfe\0"), "+//+AA==");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		cleanup_buf struct buf b = BUF_INIT;

		assert_int_equal(base64_decode(&b, refused[i], strlen(refused[i])), -EINVAL);
		assert_int_equal(b.len, 0);
	}
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	for (size_t len = 0; len <= sizeof(all); len++) {
		cleanup_buf struct buf text = BUF_INIT, back = BUF_INIT;

		base64_encode(&text, all, len);
		assert_int_equal(base64_decode(&back, (const char *)text.data, text.len), 0);
		assert_int_equal(back.len, len);
		assert_true(len == 0 || memcmp(back.data, all, len) == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
