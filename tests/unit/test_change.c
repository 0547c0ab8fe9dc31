/* SPDX-License-Identifier: Apache-2.0 */
/* Cursor text, deep copies, and that _fini leaves nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/change.h>

static void test_cursor_round_trip(void **state)
{
	struct cursor cursors[] = {
		{.epoch = id_new(), .seq = 0, .tag = 0},
		{.epoch = id_new(), .seq = 42, .tag = 0xfedcba9876543210},
		{.epoch = id_new(), .seq = INT64_MAX, .tag = UINT64_MAX},
	};

	for (size_t i = 0; i < 3; i++) {
		char text[CURSOR_TEXT_BYTES];
		struct cursor back;

		assert_ptr_equal(cursor_to_text(&cursors[i], text), text);
		assert_int_equal(cursor_from_text(text, strlen(text), &back), 0);
		assert_true(id_equal(&back.epoch, &cursors[i].epoch));
		assert_int_equal(back.seq, cursors[i].seq);
		assert_int_equal(back.tag, cursors[i].tag);
	}
}

#define EPOCH "0123456789abcdef0123456789abcdef"

static void test_cursor_text_is_strict(void **state)
{
	static const char *const wrong[] = {
		"",
		"0",
		EPOCH,
		EPOCH ".",
		EPOCH ".5",
		EPOCH ".5.",
		EPOCH "..00000000000000ab",
		EPOCH ".05.00000000000000ab",
		EPOCH ".-5.00000000000000ab",
		EPOCH ".+5.00000000000000ab",
		EPOCH ".5.ab",
		EPOCH ".5.00000000000000AB",
		EPOCH ".5.00000000000000ab0",
		EPOCH ".5.00000000000000ab ",
		EPOCH ".5.00000000000000ab.",
		EPOCH ".9223372036854775808.00000000000000ab",
		EPOCH ".99999999999999999999.00000000000000ab",
		"0123456789ABCDEF0123456789abcdef.5.00000000000000ab",
		"00000000000000000000000000000000.5.00000000000000ab",
	};
	struct cursor c;

	assert_int_equal(cursor_from_text(EPOCH ".5.00000000000000ab", 51, &c), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(cursor_from_text(wrong[i], strlen(wrong[i]), &c), -EINVAL);
	assert_int_equal(cursor_from_text(EPOCH ".5.00000000000000ab", 50, &c), -EINVAL);
}

static void test_copy_is_deep(void **state)
{
	struct dentry names[2] = {{.parent = id_new(), .name = strdup("a\xff"), .l = 3},
		{.parent = id_new(), .name = strdup("b"), .l = 4}};
	struct node_state from = {
		.node = id_new(),
		.seq = 9,
		.kind = KIND_SYMLINK,
		.target = strdup("t"),
		.names_count = 2,
		.xattr = {.data = (uint8_t *)strdup("xattr"), .len = 5},
	};
	struct node_state to;

	from.names = calloc(2, sizeof(names[0]));
	memcpy(from.names, names, sizeof(names));
	assert_int_equal(node_state_copy(&from, &to), 0);
	assert_int_equal(to.seq, 9);
	assert_ptr_not_equal(to.target, from.target);
	assert_string_equal(to.target, "t");
	assert_int_equal(to.xattr.len, 5);
	assert_memory_equal(to.xattr.data, "xattr", 5);
	assert_int_equal(to.names_count, 2);
	assert_string_equal(to.names[0].name, "a\xff");
	assert_ptr_not_equal(to.names[1].name, from.names[1].name);
	assert_int_equal(to.names[1].l, 4);
	node_state_fini(&from);
	assert_null(from.names);
	assert_int_equal(from.names_count, 0);
	assert_string_equal(to.names[1].name, "b"); /* its own */
	node_state_fini(&to);
	node_state_fini(&to);
}

static void test_names(void **state)
{
	struct id p = id_new(), q = id_new();
	struct node_state n = {0};

	(void)state;
	assert_int_equal(node_state_name_find(&n, &p, "a"), -1);
	assert_int_equal(node_state_name_add(&n, &p, "a", 1), 0);
	assert_int_equal(node_state_name_add(&n, &q, "a", 2), 0);
	assert_int_equal(node_state_name_add(&n, &p, "b", 3), 0);
	assert_int_equal(node_state_name_add(&n, &q, "a", 4), 0);
	assert_int_equal(n.names_count, 3);
	assert_int_equal(n.names[node_state_name_find(&n, &q, "a")].l, 4);
	assert_int_equal(n.names[node_state_name_find(&n, &p, "b")].l, 3);
	assert_int_equal(node_state_name_find(&n, &q, "b"), -1);
	node_state_name_remove(&n, &q, "b");
	assert_int_equal(n.names_count, 3);
	node_state_name_remove(&n, &p, "a");
	assert_int_equal(n.names_count, 2);
	assert_int_equal(node_state_name_find(&n, &p, "a"), -1);
	assert_int_equal(n.names[node_state_name_find(&n, &q, "a")].l, 4);
	node_state_fini(&n);
}

static void test_fini_twice(void **state)
{
	struct op op = {.name = strdup("n"), .new_name = strdup("m"), .target = strdup("t")};
	struct result r = {
		.name = strdup("n"), .reason = strdup("r"), .missing = malloc(32), .missing_count = 1};

	op_fini(&op);
	op_fini(&op);
	assert_null(op.name);
	result_fini(&r);
	result_fini(&r);
	assert_null(r.missing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cursor_round_trip),
		cmocka_unit_test(test_cursor_text_is_strict),
		cmocka_unit_test(test_copy_is_deep),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_fini_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
