/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h on a real database: what is accepted and what is not, changes by another process, clients bound to
 * tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <syncfs/io.h>

#include "auth.h"
#include "token_file.h"

struct fixture {
	char dir[40], path[64], file[64];
	struct auth *auth, *other; /* other: as `syncfsd token` beside the server */
	char text[TOKEN_TEXT_BYTES], header[TOKEN_TEXT_BYTES + 16];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct buf why = BUF_INIT;

	strcpy(f->dir, "/tmp/test_auth.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/auth.db", f->dir);
	(void)snprintf(f->file, sizeof(f->file), "%s/sub/token", f->dir);
	assert_int_equal(auth_open(f->path, &f->auth, &why), 0);
	assert_int_equal(auth_open(f->path, &f->other, &why), 0);
	(void)snprintf(f->header, sizeof(f->header), "Bearer %s", auth_make_text(f->text));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];
	int r;

	auth_close(f->other);
	auth_close(f->auth);
	(void)snprintf(command, sizeof(command), "rm -r %s", f->dir);
	r = system(command);
	free(f);
	return r;
}

static void accepts_only_the_token(void **state)
{
	struct fixture *f = *state;
	struct token t;
	char wrong[TOKEN_TEXT_BYTES + 16];

	assert_int_equal(auth_check(f->auth, f->header, &t), -EACCES);
	assert_int_equal(auth_add(f->other, "laptop", f->text, "work", true, 0), 0);
	assert_int_equal(auth_check(f->auth, f->header, &t), 0);
	assert_string_equal(t.name, "laptop");
	assert_string_equal(t.ns, "work");
	assert_true(t.read_only);
	assert_false(id_is_none(&t.actor));
	strcpy(wrong, f->header);
	wrong[strlen(wrong) - 1] ^= 1;
	assert_int_equal(auth_check(f->auth, wrong, &t), -EACCES);
	assert_int_equal(auth_check(f->auth, NULL, &t), -EACCES);
	assert_int_equal(auth_check(f->auth, "", &t), -EACCES);
	assert_int_equal(auth_check(f->auth, "Bearer ", &t), -EACCES);
	assert_int_equal(auth_check(f->auth, f->text, &t), -EACCES);
	memcpy(wrong, "Basic  ", 7);
	assert_int_equal(auth_check(f->auth, wrong, &t), -EACCES);
}

static void sees_a_revocation_at_once(void **state)
{
	struct fixture *f = *state;
	struct token t;

	assert_int_equal(auth_add(f->other, "laptop", f->text, "default", false, 0), 0);
	assert_int_equal(auth_check(f->auth, f->header, &t), 0);
	(void)auth_has_changed(f->auth);
	assert_false(auth_has_changed(f->auth));
	assert_int_equal(auth_revoke(f->other, "laptop"), 0);
	assert_true(auth_has_changed(f->auth));
	assert_false(auth_has_changed(f->auth));
	assert_false(auth_is_valid(f->auth, &t));
	assert_int_equal(auth_check(f->auth, f->header, &t), -EACCES);
	assert_int_equal(auth_revoke(f->other, "laptop"), -EALREADY);
	assert_int_equal(auth_revoke(f->other, "desktop"), -ENOENT);
}

static void keeps_no_text(void **state)
{
	struct fixture *f = *state;
	struct buf all = BUF_INIT;
	char wal[80];

	assert_int_equal(auth_add(f->auth, "laptop", f->text, "default", false, 0), 0);
	(void)snprintf(wal, sizeof(wal), "%s-wal", f->path);
	assert_int_equal(io_read_file(AT_FDCWD, f->path, 1 << 20, &all), 0);
	assert_int_equal(io_read_file(AT_FDCWD, wal, 1 << 20, &all), 0);
	assert_non_null(memmem(all.data, all.len, "laptop", 6)); /* the control */
	assert_null(memmem(all.data, all.len, f->text + 7, 16));
	buf_fini(&all);
}

static void names_and_texts_are_unique(void **state)
{
	struct fixture *f = *state;
	struct buf list = BUF_INIT;
	char text[TOKEN_TEXT_BYTES];
	uint64_t count;

	assert_int_equal(auth_add(f->auth, "a", f->text, "default", false, 3), 0);
	assert_int_equal(auth_add(f->auth, "b", f->text, "default", false, 0), -EEXIST);
	assert_int_equal(auth_add(f->auth, "a", auth_make_text(text), "default", false, 0), -EEXIST);
	assert_int_equal(auth_count(f->auth, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(auth_list(f->auth, &list), 0);
	assert_non_null(strstr(buf_cstr(&list), "a\tnamespace default\tread-write"));
	assert_non_null(strstr(buf_cstr(&list), "expires"));
	buf_fini(&list);
	assert_false(auth_name_is_valid(""));
	assert_false(auth_name_is_valid("a b"));
	assert_false(auth_name_is_valid("--x"));
	assert_false(auth_name_is_valid("../x"));
	assert_true(auth_name_is_valid("my-laptop_2.home"));
}

static void binds_clients_to_valid_tokens(void **state)
{
	struct fixture *f = *state;
	struct id client = id_new();
	struct token first, second;
	char header[TOKEN_TEXT_BYTES + 16] = "Bearer ";

	assert_int_equal(auth_add(f->auth, "first", f->text, "default", false, 0), 0);
	assert_int_equal(auth_add(f->auth, "second", auth_make_text(header + 7), "default", false, 0), 0);
	assert_int_equal(auth_check(f->auth, f->header, &first), 0);
	assert_int_equal(auth_check(f->auth, header, &second), 0);
	assert_false(id_equal(&first.actor, &second.actor));
	assert_int_equal(auth_bind_client(f->auth, &first, &client), 0);
	assert_int_equal(auth_bind_client(f->auth, &first, &client), 0);
	assert_int_equal(auth_bind_client(f->auth, &second, &client), -EPERM);
	assert_int_equal(auth_revoke(f->other, "first"), 0);
	assert_int_equal(auth_bind_client(f->auth, &second, &client), 0);
}

static void reads_token_files(void **state)
{
	struct fixture *f = *state;
	struct buf why = BUF_INIT;
	char text[TOKEN_MAX_BYTES + 1];
	struct token t;
	struct stat st;

	assert_int_equal(token_file_read(f->file, text, &why), -ENOENT);
	assert_int_equal(token_file_write(f->file, f->text, &why), 0);
	assert_int_equal(stat(f->file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(token_file_read(f->file, text, &why), 0);
	assert_string_equal(text, f->text);
	auth_set_file_token(f->auth, text);
	assert_int_equal(auth_check(f->auth, f->header, &t), 0);
	assert_string_equal(t.ns, AUTH_DEFAULT_NAMESPACE);
	auth_set_file_token(f->auth, NULL);
	assert_int_equal(auth_check(f->auth, f->header, &t), -EACCES);
	assert_int_equal(chmod(f->file, 0640), 0);
	buf_reset(&why);
	assert_int_equal(token_file_read(f->file, text, &why), -EPERM);
	assert_non_null(strstr(buf_cstr(&why), "chmod 600"));
	assert_int_equal(chmod(f->file, 0600), 0);
	assert_int_equal(truncate(f->file, 0), 0);
	assert_int_equal(token_file_read(f->file, text, &why), -EINVAL);
	buf_fini(&why);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(accepts_only_the_token),
		TEST(sees_a_revocation_at_once),
		TEST(keeps_no_text),
		TEST(names_and_texts_are_unique),
		TEST(binds_clients_to_valid_tokens),
		TEST(reads_token_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
