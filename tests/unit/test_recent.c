/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of recent.h: what was put in last is found, whole; what is older goes; the ring's end is no end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/limits.h>

#include "recent.h"

static struct hash content_of(uint32_t i, uint8_t *bytes, size_t len)
{
	memset(bytes, (int)(i & 255), len);
	memcpy(bytes, &i, sizeof(i));
	return hash_bytes(bytes, len);
}

static bool has(struct recent *r, uint32_t i, size_t len)
{
	uint8_t bytes[INLINE_DOWN_MAX_BYTES];
	struct hash hash = content_of(i, bytes, len);
	struct buf out = BUF_INIT;
	bool found;

	buf_put_str(&out, "before");
	found = recent_get(r, &hash, len, &out);
	if (found) {
		assert_int_equal(out.len, 6 + len);
		assert_memory_equal(out.data, "before", 6);
		assert_memory_equal(out.data + 6, bytes, len);
	} else {
		assert_int_equal(out.len, 6);
	}
	buf_fini(&out);
	return found;
}

static size_t len_of(uint32_t i)
{
	return 100 + i * 37 % 9000;
}

static void the_last_are_found(void **state)
{
	uint8_t bytes[INLINE_DOWN_MAX_BYTES];
	struct recent *r = recent_new();
	const uint32_t many = 12000;

	assert_non_null(r);
	for (uint32_t i = 0; i < many; i++) {
		struct hash hash = content_of(i, bytes, len_of(i));

		recent_put(r, &hash, bytes, len_of(i));
		assert_true(has(r, i, len_of(i)));
		if (i >= 500)
			assert_true(has(r, i - 500, len_of(i - 500)));
		if (i >= 5000)
			assert_false(has(r, i - 5000, len_of(i - 5000)));
	}
	recent_free(r);
}

static void only_what_fits(void **state)
{
	uint8_t bytes[INLINE_DOWN_MAX_BYTES + 1];
	struct recent *r = recent_new();
	struct buf out = BUF_INIT;
	struct hash hash;

	assert_non_null(r);
	hash = content_of(1, bytes, sizeof(bytes));
	recent_put(r, &hash, bytes, sizeof(bytes));
	assert_false(recent_get(r, &hash, sizeof(bytes), &out));
	hash = content_of(2, bytes, 4096);
	recent_put(r, &hash, bytes, 4096);
	recent_put(r, &hash, bytes, 4096);
	assert_true(has(r, 2, 4096));
	assert_false(recent_get(r, &hash, 4095, &out));
	assert_int_equal(out.len, 0);
	recent_free(r);
	recent_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_are_found),
		cmocka_unit_test(only_what_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
