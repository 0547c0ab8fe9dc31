/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of manifest.h: the same bytes in any portions give the same manifest; what is not one is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/limits.h>
#include <syncfs/manifest.h>

#define BYTES (4u << 20)

static uint8_t *bytes;

static int setup(void **state)
{
	uint64_t x = UINT64_C(88172645463325252);

	bytes = malloc(BYTES);
	if (!bytes)
		return -1;
	for (size_t i = 0; i < BYTES; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		for (int k = 0; k < 8; k++)
			bytes[i + (size_t)k] = (uint8_t)(x >> (8 * k));
	}
	return 0;
}

static int teardown(void **state)
{
	free(bytes);
	return 0;
}

/* The hash of the content is the protocol's: pinned by an independent implementation. */
static void test_pinned(void **state)
{
	char hex[HASH_HEX_BYTES];
	struct content content;
	struct blob m;

	assert_int_equal(manifest_of_bytes(bytes, BYTES, &content, &m), 0);
	assert_int_equal(content.size, BYTES);
	assert_string_equal(hash_to_hex(&content.hash, hex),
		"c6444bf07d65771bd15a302f6914d1e9dc48552c5190ea69e5ba9dd9311dc30c");
	assert_int_equal(manifest_count(&m), 56);
	assert_int_equal(manifest_check(&m, &content), 0);
	free(m.data);
}

static void test_portions(void **state)
{
	static const size_t portions[] = {1000, 4096, 131072, 262144, 262145, 1 << 20, BYTES};
	struct content whole;
	struct blob m;

	assert_int_equal(manifest_of_bytes(bytes, BYTES, &whole, &m), 0);
	for (size_t i = 0; i < sizeof(portions) / sizeof(portions[0]); i++) {
		struct manifest_builder *b = manifest_builder_new();
		struct content content;
		struct blob again;

		assert_non_null(b);
		for (size_t at = 0; at < BYTES; at += portions[i]) {
			size_t len = BYTES - at < portions[i] ? BYTES - at : portions[i];

			assert_int_equal(manifest_builder_feed(b, bytes + at, len), 0);
		}
		assert_int_equal(manifest_builder_finish(b, &content, &again), 0);
		assert_int_equal(content.size, BYTES);
		assert_true(hash_equal(&content.hash, &whole.hash));
		assert_int_equal(again.len, m.len);
		assert_memory_equal(again.data, m.data, m.len);
		free(again.data);
	}
	free(m.data);
}

static void test_entries(void **state)
{
	struct content content;
	struct blob m;
	uint64_t at = 0;

	assert_int_equal(manifest_of_bytes(bytes, BYTES / 4, &content, &m), 0);
	for (size_t i = 0; i < manifest_count(&m); i++) {
		struct hash h, want;
		uint32_t len;

		manifest_entry(&m, i, &h, &len);
		assert_true(at + len <= BYTES / 4);
		want = hash_bytes(bytes + at, len);
		assert_true(hash_equal(&h, &want));
		at += len;
	}
	assert_int_equal(at, BYTES / 4);
	free(m.data);
}

static void test_empty_and_small(void **state)
{
	struct manifest_builder *b = manifest_builder_new();
	struct hash nothing = hash_bytes("", 0);
	struct content content, again;
	struct blob m;

	assert_int_equal(manifest_of_bytes(NULL, 0, &content, &m), 0);
	assert_int_equal(m.len, 0);
	assert_int_equal(content.size, 0);
	assert_true(hash_equal(&content.hash, &nothing));
	assert_int_equal(manifest_check(&m, &content), 0);
	assert_int_equal(manifest_builder_finish(b, &again, NULL), 0);
	assert_true(hash_equal(&again.hash, &nothing));
	free(m.data);
	assert_int_equal(manifest_of_bytes("x", 1, &content, &m), 0);
	assert_int_equal(manifest_count(&m), 1);
	assert_int_equal(content.size, 1);
	free(m.data);
	manifest_builder_free(NULL);
}

static int check_with(const uint8_t *data, size_t len, uint64_t size)
{
	struct blob m = {.data = (uint8_t *)data, .len = len};
	struct content content = {.size = size, .hash = hash_bytes(data, len)};

	return manifest_check(&m, &content);
}

static void test_refused(void **state)
{
	uint8_t e[2 * MANIFEST_ENTRY_BYTES] = {0, 0, 0, 5};
	struct content content;
	struct blob m;

	e[MANIFEST_ENTRY_BYTES + 3] = 7;
	assert_int_equal(check_with(e, sizeof(e), 12), 0); /* the control */
	assert_int_equal(check_with(e, sizeof(e), 11), -EBADMSG);
	assert_int_equal(check_with(e, sizeof(e) - 1, 12), -EBADMSG);
	assert_int_equal(check_with(e, MANIFEST_ENTRY_BYTES + 4, 12), -EBADMSG);
	e[3] = 0; /* an empty chunk */
	assert_int_equal(check_with(e, sizeof(e), 7), -EBADMSG);
	e[1] = 4; /* the largest chunk, and one more */
	assert_int_equal(check_with(e, sizeof(e), CHUNK_MAX_BYTES + 7), 0);
	e[3] = 1;
	assert_int_equal(check_with(e, sizeof(e), CHUNK_MAX_BYTES + 8), -EBADMSG);
	assert_int_equal(manifest_of_bytes("abc", 3, &content, &m), 0);
	m.data[10] ^= 1; /* another hash */
	assert_int_equal(manifest_check(&m, &content), -EBADMSG);
	free(m.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_portions),
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_empty_and_small),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
