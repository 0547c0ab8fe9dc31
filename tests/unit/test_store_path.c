/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: changes and reads by path, and the simple poll. */
#include "store_fixture.h"

static const struct store_actor *actor(void)
{
	static struct store_actor a = {.label = "curl"};

	memset(a.id.b, 7, sizeof(a.id.b));
	return &a;
}

static int upload(struct fixture *f, const char *path, const char *text)
{
	const struct store_source source = {.bytes = text, .len = strlen(text), .fd = -1};

	return store_upload(f->store, actor(), path, &source, NULL);
}

static void uploads_and_deletes(void **state)
{
	struct fixture *f = *state;
	struct cursor before, after;

	assert_int_equal(upload(f, "x/y/a.txt", "text"), 0);
	disk_is(f, "x/y/a.txt", "text");
	store_cursor(f->store, &before);
	assert_int_equal(upload(f, "x/y/a.txt", "text"), 0);
	store_cursor(f->store, &after);
	assert_int_equal(before.seq, after.seq); /* the same content is no change */
	assert_int_equal(upload(f, "x/y/a.txt", "other"), 0);
	disk_is(f, "x/y/a.txt", "other");
	assert_int_equal(upload(f, "x/y", "other"), -EISDIR);
	assert_int_equal(upload(f, "x/y/a.txt/b", "other"), -ENOTDIR);
	assert_int_equal(upload(f, "../x", "other"), -EINVAL);
	assert_int_equal(upload(f, ".syncfs/root", "other"), -EINVAL);
	assert_int_equal(store_delete(f->store, actor(), "x"), 0);
	assert_false(disk_has(f, "x"));
	assert_int_equal(store_delete(f->store, actor(), "x"), -ENOENT);
	assert_int_equal(store_mkdir(f->store, actor(), "m/n"), 0);
	assert_int_equal(store_mkdir(f->store, actor(), "m/n"), 0);
	assert_true(disk_has(f, "m/n"));
}

static void renames(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(upload(f, "d/a", "a"), 0);
	assert_int_equal(upload(f, "d/b", "b"), 0);
	assert_int_equal(store_rename(f->store, actor(), "d", "e"), 0);
	assert_false(disk_has(f, "d"));
	disk_is(f, "e/a", "a");
	assert_int_equal(store_rename(f->store, actor(), "e/a", "e/b"), 0);
	disk_is(f, "e/b", "a");
	assert_false(disk_has(f, "e/a"));
	assert_int_equal(store_rename(f->store, actor(), "e", "e/in"), -EINVAL);
	assert_int_equal(store_rename(f->store, actor(), "none", "x"), -ENOENT);
	assert_int_equal(store_mkdir(f->store, actor(), "empty"), 0);
	assert_int_equal(store_rename(f->store, actor(), "empty", "e"), -ENOTEMPTY);
	assert_int_equal(store_rename(f->store, actor(), "e", "empty"), 0);
	disk_is(f, "empty/b", "a");
}

static void conditions_and_reading(void **state)
{
	struct fixture *f = *state;
	const struct store_source one = {.bytes = "one", .len = 3, .fd = -1},
				  two = {.bytes = "two", .len = 3, .fd = -1};
	char tag[HASH_HEX_BYTES], *path;
	struct store_condition condition = {.if_none_match = "*"};
	struct node_state n;
	char bytes[8];
	int fd;

	assert_int_equal(store_upload(f->store, actor(), "a", &one, &condition), 0);
	assert_int_equal(store_upload(f->store, actor(), "a", &two, &condition), -ECANCELED);
	assert_int_equal(store_open_file(f->store, "a", &fd, &n), 0);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 3);
	assert_memory_equal(bytes, "one", 3);
	assert_int_equal(close(fd), 0);
	hash_to_hex(&n.content.hash, tag);
	assert_int_equal(store_path(f->store, &n.node, &path), 0);
	assert_string_equal(path, "a");
	free(path);
	node_state_fini(&n);
	condition = (struct store_condition){.if_match = tag};
	assert_int_equal(store_upload(f->store, actor(), "a", &two, &condition), 0);
	assert_int_equal(store_upload(f->store, actor(), "a", &one, &condition), -ECANCELED);
	assert_int_equal(store_open_file(f->store, "none", &fd, &n), -ENOENT);
	assert_int_equal(store_mkdir(f->store, actor(), "d"), 0);
	assert_int_equal(store_open_file(f->store, "d", &fd, &n), -EISDIR);
}

static void upload_by_descriptor(void **state)
{
	struct fixture *f = *state;
	struct store_source source = {.fd = open("/proc/self/exe", O_RDONLY)};
	struct node_state n;
	struct stat st;
	int fd;

	assert_true(source.fd >= 0);
	assert_int_equal(fstat(source.fd, &st), 0);
	assert_int_equal(store_upload(f->store, actor(), "big", &source, NULL), 0);
	assert_int_equal(store_open_file(f->store, "big", &fd, &n), 0);
	assert_int_equal(n.content.size, st.st_size);
	node_state_fini(&n);
	assert_int_equal(close(fd), 0);
	assert_int_equal(close(source.fd), 0);
}

static char *poll_once(struct fixture *f, ssize_t *ret_count)
{
	struct buf out = BUF_INIT;
	char *text;

	*ret_count = store_simple_poll(f->store, actor(), "/files/", &out);
	assert_true(*ret_count >= 0);
	text = strdup(buf_cstr(&out));
	buf_fini(&out);
	return text;
}

static void simple_poll_tells_each_once(void **state)
{
	struct fixture *f = *state;
	ssize_t count;
	char *text;

	assert_int_equal(upload(f, "d/a", "first"), 0);
	assert_int_equal(upload(f, "b", "second"), 0);
	text = poll_once(f, &count);
	assert_int_equal(count, 2);
	assert_non_null(strstr(text, "first"));
	assert_true(strstr(text, "first") < strstr(text, "second"));
	free(text);
	text = poll_once(f, &count);
	assert_string_equal(text, "[]");
	free(text);
	/* uploading back what was told is no change */
	assert_int_equal(upload(f, "d/a", "first"), 0);
	text = poll_once(f, &count);
	assert_int_equal(count, 0);
	free(text);
	assert_int_equal(store_rename(f->store, actor(), "d", "e"), 0);
	text = poll_once(f, &count);
	assert_int_equal(count, 2);
	assert_non_null(strstr(text, "\"d/a\""));
	assert_non_null(strstr(text, "\"e/a\""));
	assert_non_null(strstr(text, "delete"));
	free(text);
	assert_int_equal(store_delete(f->store, actor(), "e"), 0);
	fixture_shut(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	text = poll_once(f, &count);
	assert_int_equal(count, 1);
	assert_non_null(strstr(text, "delete"));
	free(text);
	text = poll_once(f, &count);
	assert_int_equal(count, 0);
	free(text);
}

static void simple_poll_in_parts(void **state)
{
	struct fixture *f = *state;
	char *big = malloc((5 << 20) + 1), *text;
	ssize_t count, total = 0;

	memset(big, 'x', 5 << 20);
	big[5 << 20] = '\0';
	for (int i = 0; i < 3; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(upload(f, name, big), 0);
	}
	do {
		text = poll_once(f, &count);
		assert_true(strlen(text) <= (8u << 20));
		total += count;
		free(text);
	} while (count);
	assert_int_equal(total, 3);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)
		STORE_TEST(uploads_and_deletes),
		STORE_TEST(renames),
		STORE_TEST(conditions_and_reading),
		STORE_TEST(upload_by_descriptor),
		STORE_TEST(simple_poll_tells_each_once),
		STORE_TEST(simple_poll_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
