/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of conflict.h: the form of the names, their bounds, and that they are recognised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/conflict.h>
#include <syncfs/path.h>

static const struct id client = {{1, 2, 3}};

/* The name without its eight digits is start + end. */
static void expect(const char *name, const char *label, const char *start, const char *end)
{
	char *got = conflict_name(name, label, &client, 7, 0);
	size_t start_len = strlen(start);

	assert_non_null(got);
	assert_int_equal(strlen(got), start_len + 8 + strlen(end));
	assert_memory_equal(got, start, start_len);
	assert_string_equal(got + start_len + 8, end);
	assert_true(conflict_name_is(got));
	assert_true(name_is_valid(got, strlen(got)));
	free(got);
}

static void test_form(void **state)
{
	expect("a.txt", "laptop", "a (conflict laptop ", ").txt");
	expect("a.tar.gz", "laptop", "a.tar (conflict laptop ", ").gz");
	expect("Makefile", "laptop", "Makefile (conflict laptop ", ")");
	expect(".profile", "laptop", ".profile (conflict laptop ", ")");
	expect(".a.b", "laptop", ".a (conflict laptop ", ").b");
	expect("a.", "laptop", "a (conflict laptop ", ").");
	expect("a", NULL, "a (conflict client ", ")");
	expect("a", "", "a (conflict client ", ")");
	expect("a", "x/y\nz", "a (conflict x_y_z ", ")");
	expect("a", "my (old) box", "a (conflict my (old) box ", ")");
	expect("\xff\xfe", "laptop", "\xff\xfe (conflict laptop ", ")");
}

static void test_digits(void **state)
{
	const struct id other = {{9}};
	char *names[5] = {conflict_name("a", "l", &client, 7, 0), conflict_name("a", "l", &client, 7, 1),
		conflict_name("a", "l", &client, 8, 0), conflict_name("a", "l", &other, 7, 0),
		conflict_name("a", "l", &client, 7, 0)};

	for (int i = 0; i < 4; i++) {
		for (int k = 0; k < i; k++)
			assert_string_not_equal(names[i], names[k]);
	}
	assert_string_equal(names[0], names[4]);
	for (int i = 0; i < 5; i++)
		free(names[i]);
}

static void test_long(void **state)
{
	char name[NAME_MAX_BYTES + 1], label[200];
	char *got;

	memset(label, 'l', sizeof(label));
	label[sizeof(label) - 1] = '\0';
	memset(name, 'n', NAME_MAX_BYTES);
	name[NAME_MAX_BYTES] = '\0';
	memcpy(name + NAME_MAX_BYTES - 4, ".txt", 4);
	got = conflict_name(name, label, &client, 7, 0);
	assert_int_equal(strlen(got), NAME_MAX_BYTES);
	assert_string_equal(got + NAME_MAX_BYTES - 4, ".txt");
	assert_true(conflict_name_is(got));
	free(got);
	/* An extension that would leave no stem is none. */
	name[1] = '.';
	memset(name + 2, 'e', NAME_MAX_BYTES - 2);
	got = conflict_name(name, label, &client, 7, 0);
	assert_int_equal(strlen(got), NAME_MAX_BYTES);
	assert_int_equal(got[NAME_MAX_BYTES - 1], ')');
	assert_true(conflict_name_is(got));
	free(got);
	/* Never half a character. */
	for (size_t shift = 0; shift < 3; shift++) {
		memset(name, 'x', 3);
		for (size_t i = shift; i + 3 <= 252 + shift && i + 3 <= NAME_MAX_BYTES; i += 3)
			memcpy(name + i, "\xe2\x82\xac", 3);
		name[252 + shift] = '\0';
		assert_true(utf8_is_valid(name, strlen(name)));
		got = conflict_name(name, "laptop", &client, 7, 0);
		assert_true(utf8_is_valid(got, strlen(got)));
		assert_in_range(strlen(got), NAME_MAX_BYTES - 2, NAME_MAX_BYTES);
		free(got);
	}
}

static void test_recognised(void **state)
{
	assert_true(conflict_name_is("a (conflict b 0123abcd).txt"));
	assert_true(conflict_name_is("a (conflict b 0123abcd)"));
	assert_false(conflict_name_is("a"));
	assert_false(conflict_name_is("a (conflict"));
	assert_false(conflict_name_is("a (conflict b)"));
	assert_false(conflict_name_is("a (conflict b 0123abc)"));
	assert_false(conflict_name_is("a (conflict b 0123abcX)"));
	assert_false(conflict_name_is("a (conflict b 0123ABCD)"));
	assert_false(conflict_name_is("a (conflict 0123abcd)"));
	assert_false(conflict_name_is("a (conflict  0123abcd)"));
	assert_false(conflict_name_is(" (conflict b 0123abcd)"));
	assert_false(conflict_name_is("a (conflict b 0123abcd)txt"));
	assert_false(conflict_name_is("a (conflict b 0123abcd).tar.gz"));
	assert_false(conflict_name_is(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_digits),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_recognised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
