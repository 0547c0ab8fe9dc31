/* SPDX-License-Identifier: Apache-2.0 */
/* The simple form: requests of scripts and entries of their polls. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/message.h>

static int decode_simple(const char *text, struct simple_request *ret_request, const char **ret_error)
{
	return simple_request_decode(text, strlen(text), ret_request, ret_error);
}

static void test_simple_requests(void **state)
{
	struct simple_request r;
	const char *error;

	assert_int_equal(
		decode_simple("{\"action\":\"upload\",\"file_path\":\"d/a\",\"file_content\":\"x\\u0000\","
			      "\"timestamp\":1.5}\n",
			&r, &error),
		0);
	assert_int_equal(r.action, SIMPLE_UPLOAD);
	assert_string_equal(r.path, "d/a");
	assert_int_equal(r.content.len, 2);
	assert_memory_equal(r.content.data, "x", 2);
	simple_request_fini(&r);
	assert_int_equal(decode_simple("{\"action\":\"upload\",\"file_path\":\"a\",\"file_content\":\"/wA=\","
				       "\"encoding\":\"base64\"}",
				 &r, &error),
		0);
	assert_memory_equal(r.content.data, "\xff", 2);
	simple_request_fini(&r);
	assert_int_equal(
		decode_simple("{\"action\":\"rename\",\"file_path\":\"a\",\"new_path\":\"b/c\"}", &r, &error),
		0);
	assert_string_equal(r.new_path, "b/c");
	simple_request_fini(&r);
	assert_int_equal(decode_simple("{\"action\":\"mkdir\",\"file_path\":\"a\"}", &r, &error), 0);
	simple_request_fini(&r);
	assert_int_equal(decode_simple("{\"action\":\"delete\",\"file_path\":\"a\"}", &r, &error), 0);
	assert_int_equal(r.action, SIMPLE_DELETE);
	simple_request_fini(&r);
}

static void test_simple_refused(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"", "Invalid data"},
		{"[]", "Invalid data"},
		{"{\"file_path\":\"a\"}", "Invalid data"},
		{"{\"action\":\"upload\"}", "Invalid data"},
		{"{\"action\":\"format\"}", "Invalid data"},
		{"{\"action\":\"format\",\"file_path\":\"a\"}", "Invalid action"},
		{"{\"action\":\"upload\\u0000\",\"file_path\":\"a\",\"file_content\":\"\"}",
			"Invalid action"},
		{"{\"action\":\"upload\",\"file_path\":\"a\"}", "Invalid data"},
		{"{\"action\":\"upload\",\"file_path\":\"a\",\"file_content\":1}", "Invalid data"},
		{"{\"action\":\"rename\",\"file_path\":\"a\"}", "Invalid data"},
		{"{\"action\":\"delete\",\"file_path\":\"../a\"}", "Invalid path"},
		{"{\"action\":\"delete\",\"file_path\":\"/a\"}", "Invalid path"},
		{"{\"action\":\"delete\",\"file_path\":\"a//b\"}", "Invalid path"},
		{"{\"action\":\"delete\",\"file_path\":\"a\\u0000b\"}", "Invalid path"},
		{"{\"action\":\"delete\",\"file_path\":\".syncfs/x\"}", "Invalid path"},
		{"{\"action\":\"delete\",\"file_path\":\"\"}", "Invalid path"},
		{"{\"action\":\"rename\",\"file_path\":\"a\",\"new_path\":\"..\"}", "Invalid path"},
		{"{\"action\":\"upload\",\"file_path\":\"a\",\"file_content\":\"=\",\"encoding\":\"base64\"}",
			"Invalid encoding"},
		{"{\"action\":\"upload\",\"file_path\":\"a\",\"file_content\":\"\",\"encoding\":\"rot13\"}",
			"Invalid encoding"},
		{"{\"action\":\"delete\",\"action\":\"delete\",\"file_path\":\"a\"}", "Invalid data"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct simple_request r;
		const char *error = NULL;

		assert_int_equal(decode_simple(cases[i].text, &r, &error), -EPROTO);
		assert_string_equal(error, cases[i].error);
	}
}

static void test_simple_entries(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;

	assert_int_equal(simple_entry_encode_upload(&out, "d/\"a\"", "x\ny", 3), 0);
	assert_string_equal(buf_cstr(&out),
		"{\"action\":\"upload\",\"file_path\":\"d/\\\"a\\\"\",\"file_content\":\"x\\ny\"}");
	buf_reset(&out);
	assert_int_equal(simple_entry_encode_upload(&out, "a", "\xff", 2), 0);
	assert_string_equal(buf_cstr(&out),
		"{\"action\":\"upload\",\"file_path\":\"a\",\"file_content\":\"/"
		"wA=\",\"encoding\":\"base64\"}");
	buf_reset(&out);
	assert_int_equal(simple_entry_encode_upload(&out, "a", NULL, 0), 0);
	assert_string_equal(
		buf_cstr(&out), "{\"action\":\"upload\",\"file_path\":\"a\",\"file_content\":\"\"}");
	buf_reset(&out);
	assert_int_equal(simple_entry_encode_url(&out, "a", "/files/a", 9), 0);
	assert_string_equal(buf_cstr(&out),
		"{\"action\":\"upload\",\"file_path\":\"a\",\"url\":\"/files/a\",\"size\":9}");
	buf_reset(&out);
	assert_int_equal(simple_entry_encode_delete(&out, "a"), 0);
	assert_string_equal(buf_cstr(&out), "{\"action\":\"delete\",\"file_path\":\"a\"}");
	buf_reset(&out);
	assert_int_equal(simple_answer_encode("File uploaded successfully", &out), 0);
	assert_string_equal(
		buf_cstr(&out), "{\"status\":\"success\",\"message\":\"File uploaded successfully\"}");
	buf_reset(&out);
	assert_int_equal(simple_entry_encode_delete(&out, "\xff"), -EILSEQ);
	assert_int_equal(out.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simple_requests),
		cmocka_unit_test(test_simple_refused),
		cmocka_unit_test(test_simple_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
