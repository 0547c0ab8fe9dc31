/* SPDX-License-Identifier: Apache-2.0 */
/* The error table: words and statuses there and back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <syncfs/error.h>

static void test_both_ways(void **state)
{
	static const struct {
		int err, status;
	} cases[] = {
		{-ENOENT, 404},
		{-EEXIST, 409},
		{-ESTALE, 412},
		{-EAGAIN, 503},
		{-EPROTO, 400},
		{-EINVAL, 400},
		{-EBADMSG, 500},
		{-EIO, 500},
		{-EMSGSIZE, 413},
		{-EACCES, 401},
		{-EPERM, 403},
		{-EROFS, 403},
		{-ENOSPC, 507},
		{-EDQUOT, 507},
		{-ETIMEDOUT, 408},
		{-EUSERS, 429},
		{-EBUSY, 409},
		{-ENOTDIR, 409},
		{-EISDIR, 409},
		{-ENOTEMPTY, 409},
		{-ELOOP, 409},
		{-EMLINK, 409},
		{-ENAMETOOLONG, 414},
		{-E2BIG, 431},
		{-EOPNOTSUPP, 501},
		{-EXDEV, 410},
		{-ERANGE, 410},
		{-ENODATA, 410},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *word;

		assert_int_equal(error_to_http(cases[i].err, &word), cases[i].status);
		assert_int_equal(error_from_http(cases[i].status, word), cases[i].err);
		assert_int_equal(error_from_http(0, word), cases[i].err);
	}
}

static void test_words_that_are_fixed(void **state)
{
	assert_int_equal(error_from_http(410, "epoch"), -EXDEV);
	assert_int_equal(error_from_http(410, "diverged"), -ERANGE);
	assert_int_equal(error_from_http(410, "gone"), -ENODATA);
}

static void test_one_way(void **state)
{
	const char *word;

	assert_int_equal(error_to_http(0, &word), 200);
	assert_string_equal(word, "ok");
	assert_int_equal(error_to_http(-ENOMEM, &word), 503);
	assert_int_equal(error_from_http(503, word), -EAGAIN);
	assert_int_equal(error_to_http(-ECANCELED, NULL), 503);
	assert_int_equal(error_to_http(-EXFULL, &word), 500);
	assert_string_equal(word, "failed");
	assert_int_equal(error_to_http(5, &word), 500);
}

static void test_by_status(void **state)
{
	assert_int_equal(error_from_http(204, NULL), 0);
	assert_int_equal(error_from_http(200, "not-found"), 0);
	assert_int_equal(error_from_http(404, NULL), -ENOENT);
	assert_int_equal(error_from_http(401, ""), -EACCES);
	assert_int_equal(error_from_http(410, "no such word"), -ENODATA);
	assert_int_equal(error_from_http(429, NULL), -EUSERS);
	assert_int_equal(error_from_http(500, NULL), -EIO);
	assert_int_equal(error_from_http(302, NULL), -EPROTO);
	assert_int_equal(error_from_http(418, NULL), -EPROTO);
	assert_int_equal(error_from_http(0, "no such word"), -EIO);
	assert_int_equal(error_from_http(0, NULL), -EIO);
}

/* A proxy's 502 stays "try later" whatever its body says. */
static void test_word_of_another_status(void **state)
{
	assert_int_equal(error_from_http(502, "not-found"), -EAGAIN);
	assert_int_equal(error_from_http(404, "not-found"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_words_that_are_fixed),
		cmocka_unit_test(test_one_way),
		cmocka_unit_test(test_by_status),
		cmocka_unit_test(test_word_of_another_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
