/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of map.h: entries survive growth and removal, a walk sees each once and may remove. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/map.h>

#define MANY 5000

static char values[MANY];

static void put_many(struct map *m)
{
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(map_put(m, &i, sizeof(i), &values[i]), 0);
}

static void test_put_get_remove(void **state)
{
	struct map *m = map_new();
	int a, b;

	assert_non_null(m);
	assert_null(map_get(m, "k", 1));
	assert_null(map_remove(m, "k", 1));
	assert_int_equal(map_put(m, "k", 1, &a), 0);
	assert_ptr_equal(map_get(m, "k", 1), &a);
	assert_int_equal(map_put(m, "k", 1, &b), 0);
	assert_int_equal(map_count(m), 1);
	assert_ptr_equal(map_get(m, "k", 1), &b);
	assert_ptr_equal(map_remove(m, "k", 1), &b);
	assert_null(map_get(m, "k", 1));
	assert_int_equal(map_count(m), 0);
	map_free(m);
	map_free(NULL);
}

/* That none is freed twice or forgotten is for the sanitizers and valgrind to see. */
static void test_free_values(void **state)
{
	struct map *m = map_new();

	assert_non_null(m);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(map_put(m, &i, sizeof(i), strdup("value")), 0);
	for (uint32_t i = 0; i < 100; i += 2)
		free(map_remove(m, &i, sizeof(i)));
	map_free_values(m);
	map_free_values(NULL);
}

static void test_keys_are_bytes(void **state)
{
	struct map *m = map_new();
	char longest[512], copy[3] = "ab";
	int v[5];

	memset(longest, 'x', sizeof(longest));
	assert_int_equal(map_put(m, "", 0, &v[0]), 0);
	assert_int_equal(map_put(m, "\0", 1, &v[1]), 0);
	assert_int_equal(map_put(m, "\0\0", 2, &v[2]), 0);
	assert_int_equal(map_put(m, longest, sizeof(longest), &v[3]), 0);
	assert_int_equal(map_put(m, copy, 2, &v[4]), 0);
	copy[0] = 'z'; /* keys are copied */
	assert_ptr_equal(map_get(m, "", 0), &v[0]);
	assert_ptr_equal(map_get(m, "\0", 1), &v[1]);
	assert_ptr_equal(map_get(m, "\0\0", 2), &v[2]);
	assert_ptr_equal(map_get(m, longest, sizeof(longest)), &v[3]);
	assert_null(map_get(m, longest, sizeof(longest) - 1));
	assert_ptr_equal(map_get(m, "ab", 2), &v[4]);
	map_free(m);
}

static void test_many(void **state)
{
	struct map *m = map_new();

	put_many(m);
	assert_int_equal(map_count(m), MANY);
	for (uint32_t i = 0; i < MANY; i += 2)
		assert_ptr_equal(map_remove(m, &i, sizeof(i)), &values[i]);
	assert_int_equal(map_count(m), MANY / 2);
	for (uint32_t i = 0; i < MANY; i++)
		assert_ptr_equal(map_get(m, &i, sizeof(i)), i % 2 ? &values[i] : NULL);
	map_free(m);
}

/* Tombstones must be swept: a small map that sees a million keys stays small and quick. */
static void test_churn(void **state)
{
	struct map *m = map_new();
	size_t pos;

	for (uint32_t i = 0; i < 300000; i++) {
		uint32_t old = i - 8;

		assert_int_equal(map_put(m, &i, sizeof(i), &values[i % MANY]), 0);
		if (i >= 8)
			assert_non_null(map_remove(m, &old, sizeof(old)));
	}
	assert_int_equal(map_count(m), 8);
	/* pos counts slots: at the end it tells how large the table has become. */
	pos = 0;
	while (map_next(m, &pos, NULL, NULL, NULL))
		;
	assert_true(pos <= 128);
	map_free(m);
}

static void test_walk_and_remove(void **state)
{
	struct map *m = map_new();
	static uint8_t seen[MANY];
	const void *key;
	void *value;
	size_t pos = 0, len, n = 0;

	put_many(m);
	while (map_next(m, &pos, &key, &len, &value)) {
		uint32_t i;

		assert_int_equal(len, sizeof(i));
		memcpy(&i, key, sizeof(i));
		assert_true(i < MANY);
		assert_ptr_equal(value, &values[i]);
		assert_int_equal(seen[i]++, 0);
		n++;
		assert_ptr_equal(map_remove(m, &i, sizeof(i)), value);
	}
	assert_int_equal(n, MANY);
	assert_int_equal(map_count(m), 0);
	pos = 0;
	assert_false(map_next(m, &pos, &key, &len, &value));
	map_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get_remove),
		cmocka_unit_test(test_free_values),
		cmocka_unit_test(test_keys_are_bytes),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_walk_and_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
