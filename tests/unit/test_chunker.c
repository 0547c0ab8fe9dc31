/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of chunker.h: the boundaries are part of the protocol, so they are pinned (computed by an independent
 * implementation in Python, 2026-11-22).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/chunker.h>
#include <syncfs/limits.h>

#define BYTES (4u << 20)
#define COUNT_MAX (BYTES / CHUNK_MIN_BYTES + 1)

static uint8_t *content;

/* xorshift64, each value little-endian. */
static int setup(void **state)
{
	uint64_t x = UINT64_C(88172645463325252);

	content = malloc(BYTES + 64);
	if (!content)
		return -1;
	for (size_t i = 0; i < BYTES; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		for (int k = 0; k < 8; k++)
			content[i + (size_t)k] = (uint8_t)(x >> (8 * k));
	}
	return 0;
}

static int teardown(void **state)
{
	free(content);
	return 0;
}

static size_t cut_all(const uint8_t *bytes, size_t len, size_t *ends)
{
	size_t count = 0;

	for (size_t at = 0; at < len; count++) {
		at += chunk_next(bytes + at, len - at);
		assert_true(count < COUNT_MAX);
		ends[count] = at;
	}
	return count;
}

static void test_pinned(void **state)
{
	static const size_t lens[] = {76232, 110921, 78854, 87412, 69208, 106693, 70493, 73165, 72017, 82607,
		117481, 67680, 69473, 75364, 65170, 88658, 37001, 120088, 30720, 72331, 69251, 77801, 67077,
		76735, 65619, 45482, 103146, 95130, 25494, 79736, 78610, 65537, 25219, 109915, 73953, 68148,
		66305, 89450, 76239, 68052, 72872, 86463, 66869, 67978, 92024, 68956, 132618, 80022, 99152,
		66854, 65866, 67152, 84473, 66629, 71408, 6501};
	size_t at = 0;

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		assert_int_equal(chunk_next(content + at, BYTES - at), lens[i]);
		at += lens[i];
	}
	assert_int_equal(at, BYTES);
}

/* Bytes put in move no boundary but those near them. */
static void test_insertion(void **state)
{
	size_t before[COUNT_MAX], after[COUNT_MAX], same = 0;
	size_t before_count = cut_all(content, BYTES, before), after_count;
	uint8_t *changed = malloc(BYTES + 7);

	assert_non_null(changed);
	memcpy(changed, content, BYTES / 2);
	memcpy(changed + BYTES / 2, "insert!", 7);
	memcpy(changed + BYTES / 2 + 7, content + BYTES / 2, BYTES / 2);
	after_count = cut_all(changed, BYTES + 7, after);
	for (size_t i = 0; i < before_count; i++) {
		size_t want = before[i] + (before[i] > BYTES / 2 ? 7 : 0);

		for (size_t k = 0; k < after_count; k++)
			same += after[k] == want;
	}
	assert_true(same + 6 >= before_count);
	free(changed);
}

static void test_bounds(void **state)
{
	uint8_t *zeros = calloc(1, CHUNK_MAX_BYTES * 2);
	size_t ends[COUNT_MAX], count = cut_all(content, BYTES, ends), least = CHUNK_MAX_BYTES, most = 0;

	assert_non_null(zeros);
	/* Constant bytes have either no cut, or the first one possible. */
	assert_true(chunk_next(zeros, (size_t)CHUNK_MAX_BYTES * 2) <= CHUNK_MAX_BYTES);
	assert_int_equal(chunk_next(zeros, 1), 1);
	assert_int_equal(chunk_next(zeros, CHUNK_MIN_BYTES), CHUNK_MIN_BYTES);
	free(zeros);
	for (size_t i = 0; i + 1 < count; i++) {
		size_t len = ends[i] - (i ? ends[i - 1] : 0);

		least = len < least ? len : least;
		most = len > most ? len : most;
	}
	assert_true(least > CHUNK_MIN_BYTES);
	assert_true(most <= CHUNK_MAX_BYTES);
	assert_in_range(BYTES / count, CHUNK_AVG_BYTES * 3 / 4, CHUNK_AVG_BYTES * 3 / 2);
	assert_int_equal(chunk_next(content, 0), 0);
}

/* What lies behind the longest chunk has no say. */
static void test_pure(void **state)
{
	for (size_t at = 0; at + CHUNK_MAX_BYTES * 2 < BYTES; at += 99991)
		assert_int_equal(
			chunk_next(content + at, CHUNK_MAX_BYTES), chunk_next(content + at, BYTES - at));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_insertion),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_pure),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
