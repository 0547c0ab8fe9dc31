/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of buf.h: what a writer puts, a reader takes; short and hostile input is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/buf.h>

static void test_round_trip(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	struct reader r;
	size_t len = 99;
	char *s;

	buf_put_u8(&b, 0xfe);
	buf_put_u16(&b, 0x1234);
	buf_put_u32(&b, 0xdeadbeef);
	buf_put_u64(&b, 0x0123456789abcdef);
	buf_put_blob(&b, "a\0b", 3);
	buf_put_blob(&b, "name", 4);
	buf_put_blob(&b, NULL, 0);
	assert_int_equal(b.error, 0);

	r = READER_INIT(b.data, b.len);
	assert_int_equal(reader_u8(&r), 0xfe);
	assert_int_equal(reader_u16(&r), 0x1234);
	assert_int_equal(reader_u32(&r), 0xdeadbeef);
	assert_true(reader_u64(&r) == 0x0123456789abcdef);
	assert_memory_equal(reader_blob(&r, &len), "a\0b", 3);
	assert_int_equal(len, 3);
	s = reader_str(&r);
	assert_string_equal(s, "name");
	free(s);
	assert_false(reader_at_end(&r));
	assert_non_null(reader_blob(&r, &len));
	assert_int_equal(len, 0);
	assert_true(reader_at_end(&r));
}

static void test_byte_order(void **state)
{
	static const uint8_t want[] = {1, 0, 2, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d};
	cleanup_buf struct buf b = BUF_INIT;

	buf_put_u16(&b, 1);
	buf_put_u32(&b, 2);
	buf_put_be32(&b, 0x0a0b0c0d);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
}

static void test_reader_short(void **state)
{
	static const uint8_t three[] = {1, 2, 3};
	struct reader r = READER_INIT(three, sizeof(three));

	assert_int_equal(reader_u32(&r), 0);
	assert_int_equal(r.error, -EBADMSG);
	/* The error stays: what would fit is not given out either. */
	assert_int_equal(reader_u8(&r), 0);
	assert_null(reader_take(&r, 1));
	assert_false(reader_at_end(&r));

	r = READER_INIT(NULL, 0);
	assert_true(reader_at_end(&r));
	assert_null(reader_take(&r, 1));
	assert_int_equal(r.error, -EBADMSG);
}

static void test_blob_length_lies(void **state)
{
	static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 'x'};
	static const uint8_t by_one[] = {2, 0, 0, 0, 'x'};
	struct reader r = READER_INIT(huge, sizeof(huge));
	size_t len = 7;

	assert_null(reader_blob(&r, &len));
	assert_int_equal(len, 7);
	assert_int_equal(r.error, -EBADMSG);
	r = READER_INIT(by_one, sizeof(by_one));
	assert_null(reader_str(&r));
	assert_int_equal(r.error, -EBADMSG);
}

static void test_str_refuses_nul(void **state)
{
	static const uint8_t nul[] = {3, 0, 0, 0, 'a', 0, 'b'};
	struct reader r = READER_INIT(nul, sizeof(nul));

	assert_null(reader_str(&r));
	assert_int_equal(r.error, -EBADMSG);
}

static void test_printf_and_cstr(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	char long_text[500];

	assert_string_equal(buf_cstr(&b), "");
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	buf_printf(&b, "%d-%s", 7, "a");
	assert_int_equal(b.len, 3);
	buf_printf(&b, "%s", long_text);
	buf_put_str(&b, "!");
	assert_int_equal(b.len, 3 + 499 + 1);
	assert_memory_equal(buf_cstr(&b), "7-axxx", 6);
	assert_int_equal(strlen(buf_cstr(&b)), b.len);
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(buf_cstr(&b), "");
}

static void test_writer_remembers_failure(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;

	buf_put_u8(&b, 1);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
	assert_int_equal(b.error, -ENOMEM);
	buf_put_u8(&b, 2);
	buf_printf(&b, "x");
	assert_int_equal(b.len, 1);
	assert_null(buf_cstr(&b));
	buf_reset(&b);
	buf_put_u8(&b, 3);
	assert_int_equal(b.len, 1);
	assert_int_equal(b.data[0], 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_byte_order),
		cmocka_unit_test(test_reader_short),
		cmocka_unit_test(test_blob_length_lies),
		cmocka_unit_test(test_str_refuses_nul),
		cmocka_unit_test(test_printf_and_cstr),
		cmocka_unit_test(test_writer_remembers_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
