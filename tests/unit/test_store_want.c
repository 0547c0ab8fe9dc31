/* SPDX-License-Identifier: Apache-2.0 */
/* Contents that rows have and the disk has not: asked for, sent again, placed. */
#include "store_fixture.h"

#include <sqlite3.h>

#include <syncfs/limits.h>

#define LARGE_BYTES ((size_t)700 * 1024)

static char *large_text(void)
{
	char *text = malloc(LARGE_BYTES + 1);
	uint32_t x = 1;

	assert_non_null(text);
	for (size_t i = 0; i < LARGE_BYTES; i++) {
		x = x * 1664525 + 1013904223;
		text[i] = (char)('a' + (x >> 24) % 26);
	}
	text[LARGE_BYTES] = '\0';
	return text;
}

static struct hash content_hash(const char *text)
{
	struct content c;

	assert_int_equal(manifest_of_bytes(text, strlen(text), &c, NULL), 0);
	return c.hash;
}

/* Whether the pages ask for the content; the number of all that they ask for. */
static size_t wanted(struct fixture *f, const struct hash *content, bool *ret_found)
{
	struct cursor at;
	struct page page;
	struct buf raw = BUF_INIT;
	size_t count;

	*ret_found = false;
	store_cursor(f->store, &at);
	assert_int_equal(store_changes(f->store, &at, true, 1 << 20, &page, &raw), 0);
	count = page.want_count;
	for (size_t i = 0; content && i < count; i++)
		*ret_found = *ret_found || hash_equal(&page.want[i], content);
	page_fini(&page);
	buf_fini(&raw);
	return count;
}

static size_t wanted_count(struct fixture *f)
{
	bool found;

	return wanted(f, NULL, &found);
}

static bool is_wanted(struct fixture *f, const char *text)
{
	struct hash hash = content_hash(text);
	bool found;

	wanted(f, &hash, &found);
	return found;
}

/* Sends the chunks of text but for the first `without`. */
static void put_chunks(struct fixture *f, const char *text, size_t without)
{
	struct blob manifest;
	struct content c;
	size_t at = 0;

	assert_int_equal(manifest_of_bytes(text, strlen(text), &c, &manifest), 0);
	for (size_t i = 0; i < manifest_count(&manifest); i++) {
		struct hash chunk;
		uint32_t len;

		manifest_entry(&manifest, i, &chunk, &len);
		if (i >= without)
			assert_int_equal(store_chunk_put(f->store, &chunk, text + at, len), 0);
		at += len;
	}
	free(manifest.data);
}

/* How many contents are left after the server was told that the chunks of this one are there. */
static size_t supply(struct fixture *f, const char *text)
{
	struct hash hash = content_hash(text);
	size_t count = 1;

	assert_int_equal(store_supply(f->store, &hash, &count), 0);
	return count;
}

static void run(struct fixture *f, const char *what)
{
	char command[160];

	snprintf(command, sizeof(command), "cd '%s' && %s", f->root, what);
	assert_int_equal(system(command), 0);
}

/* All is removed by hand, and wanted back. */
static void empty_and_reject(struct fixture *f)
{
	run(f, "rm -r [a-z]*");
	held_wait(f, 1);
	assert_int_equal(store_answer_held(f->store, false), 0);
}

static void reopen(struct fixture *f)
{
	fixture_shut(f);
	assert_int_equal(fixture_reopen(f, false), 0);
}

static void rejected_files_come_back(void **state)
{
	struct fixture *f = *state;
	char *large = large_text();
	struct store_status status;
	struct id dir, node;
	uint64_t news, since_ms, seq;
	struct stat st, second;
	unsigned changes;
	struct op *op;

	dir = add_dir(f, ID_ROOT, "dir");
	add_file(f, dir, "small", "bytes of small");
	add_file(f, ID_ROOT, "twin", "bytes of small");
	add_file(f, dir, "none", "");
	node = add_file(f, ID_ROOT, "large", large);
	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_LINK, node);
	op->parent = dir;
	op->name = (char[]){"second"};
	send_all(f, OUTCOME_OK);
	news = store_want_news(f->store, &since_ms);
	assert_int_equal(wanted_count(f), 0);
	store_status(f->store, &status);
	seq = status.seq;
	{
		MUTEX_GUARD(&f->lock);
		changes = f->changes;
	}
	empty_and_reject(f);
	/* told at once, twins once, and empty files need nobody */
	assert_true(store_want_news(f->store, &since_ms) != news && since_ms > 0);
	{
		MUTEX_GUARD(&f->lock);
		assert_true(f->changes > changes);
	}
	assert_int_equal(wanted_count(f), 2);
	assert_true(is_wanted(f, "bytes of small") && is_wanted(f, large));
	disk_is(f, "dir/none", "");
	assert_false(disk_has(f, "dir/small"));
	/* the chunks are not taken for held, although rows say where they lie */
	{
		struct hash chunk = hash_bytes("bytes of small", 14);

		assert_int_equal(store_chunks_missing(f->store, &chunk, 1), 1);
	}
	/* outlives the process, in which absence is still no deletion */
	reopen(f);
	store_status(f->store, &status);
	assert_int_equal(status.nodes, 5);
	assert_int_equal(status.seq, seq);
	assert_int_equal(wanted_count(f), 2);
	/* incomplete: nothing is placed, never an empty or partial file */
	assert_int_equal(supply(f, "bytes of small"), 1);
	put_chunks(f, large, 1);
	assert_int_equal(supply(f, large), 1);
	assert_false(disk_has(f, "large"));
	assert_int_equal(wanted_count(f), 2);
	put_chunks(f, "bytes of small", 0);
	assert_int_equal(supply(f, "bytes of small"), 0);
	disk_is(f, "dir/small", "bytes of small");
	disk_is(f, "twin", "bytes of small");
	put_chunks(f, large, 0);
	assert_int_equal(supply(f, large), 0);
	disk_is(f, "large", large);
	assert_int_equal(lstat(path_in(f, "large"), &st), 0);
	assert_int_equal(lstat(path_in(f, "dir/second"), &second), 0);
	assert_int_equal(st.st_ino, second.st_ino);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(timespec_to_ns(st.st_mtim), 1234567890123456789);
	assert_int_equal(wanted_count(f), 0);
	/* a second client's is nothing new */
	assert_int_equal(supply(f, large), 0);
	reopen(f);
	store_status(f->store, &status);
	assert_int_equal(status.seq, seq);
	assert_int_equal(status.nodes, 5);
	free(large);
}

static void changed_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct id a, b;
	struct op *op;

	a = add_file(f, ID_ROOT, "a", "old a");
	b = add_file(f, ID_ROOT, "b", "old b");
	add_file(f, ID_ROOT, "c", "old c");
	add_file(f, ID_ROOT, "d", "old d");
	send_all(f, OUTCOME_OK);
	empty_and_reject(f);
	assert_int_equal(wanted_count(f), 4);
	/* written and deleted by a client: what no file has is not asked for */
	op = add_op(f, OP_WRITE, a);
	set_data(f, op, "new a", 5);
	op = add_op(f, OP_UNLINK, b);
	op->parent = ID_ROOT;
	op->name = (char[]){"b"};
	send_all(f, OUTCOME_OK);
	disk_is(f, "a", "new a");
	assert_int_equal(wanted_count(f), 2);
	/* made by hand at the name: stays */
	disk_write(f, "c", "by hand");
	put_chunks(f, "old c", 0);
	assert_int_equal(supply(f, "old c"), 0);
	disk_is(f, "c", "by hand");
	feed_wait(f, "c", "by hand", false);
	put_chunks(f, "old b", 0);
	assert_int_equal(supply(f, "old b"), 0);
	assert_false(disk_has(f, "b"));
	put_chunks(f, "old d", 0);
	assert_int_equal(supply(f, "old d"), 0);
	disk_is(f, "d", "old d");
	feed_wait(f, "d", "old d", false);
	assert_int_equal(wanted_count(f), 0);
	/* it is there again, so that its deletion is one */
	run(f, "rm d");
	feed_wait(f, "d", NULL, true);
}

/* More than a page tells: all come in time, and each group that is placed makes place for news. */
static void more_than_a_page(void **state)
{
	static char names[WANT_PER_PAGE + 40][16];
	struct fixture *f = *state;
	uint64_t news, since_ms;

	for (size_t i = 0; i < WANT_PER_PAGE + 40; i++) {
		snprintf(names[i], sizeof(names[i]), "m%zu", i);
		add_file(f, ID_ROOT, names[i], names[i]);
	}
	send_all(f, OUTCOME_OK);
	empty_and_reject(f);
	for (size_t left = WANT_PER_PAGE + 40; left;) {
		cleanup_free struct hash *told = NULL;
		struct buf raw = BUF_INIT;
		struct cursor at;
		struct page page;
		size_t count;

		news = store_want_news(f->store, &since_ms);
		store_cursor(f->store, &at);
		assert_int_equal(store_changes(f->store, &at, true, 1 << 20, &page, &raw), 0);
		told = page.want;
		count = page.want_count;
		page.want = NULL;
		page_fini(&page);
		buf_fini(&raw);
		assert_int_equal(count, left < WANT_PER_PAGE ? left : WANT_PER_PAGE);
		for (size_t i = 0; i < WANT_PER_PAGE + 40; i++)
			put_chunks(f, names[i], 0);
		assert_int_equal(store_supply(f->store, told, &count), 0);
		assert_int_equal(count, 0);
		assert_int_equal(store_want_news(f->store, &since_ms) != news, left > WANT_PER_PAGE);
		left -= left < WANT_PER_PAGE ? left : WANT_PER_PAGE;
	}
	assert_int_equal(wanted_count(f), 0);
	disk_is(f, "m7", "m7");
}

/* Bytes that change by themselves: the row knows the file as it is, but for them. */
static void rot(struct fixture *f, const char *name, const char *bytes)
{
	struct stat st;
	char sql[200];
	sqlite3 *db;

	fixture_shut(f);
	disk_write(f, name, bytes);
	assert_int_equal(lstat(path_in(f, name), &st), 0);
	assert_int_equal(sqlite3_open(path_in(f, ".syncfs/meta.db"), &db), SQLITE_OK);
	snprintf(sql, sizeof(sql), "UPDATE node SET disk_mtime = %lld, disk_ctime = %lld WHERE ino = %llu",
		(long long)timespec_to_ns(st.st_mtim), (long long)timespec_to_ns(st.st_ctim),
		(unsigned long long)st.st_ino);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_changes(db), 1);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(fixture_reopen(f, false), 0);
}

static void rotten_file_is_mended(void **state)
{
	struct fixture *f = *state;
	struct hash chunk = hash_bytes("sound bytes", 11);
	struct buf got = BUF_INIT;
	struct store_status status;

	add_file(f, ID_ROOT, "file", "sound bytes");
	send_all(f, OUTCOME_OK);
	rot(f, "file", "sound bytez");
	assert_int_equal(wanted_count(f), 0);
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), -EBADMSG);
	assert_int_equal(got.len, 0);
	assert_true(is_wanted(f, "sound bytes"));
	put_chunks(f, "sound bytes", 0);
	assert_int_equal(supply(f, "sound bytes"), 0);
	disk_is(f, "file", "sound bytes");
	assert_int_equal(wanted_count(f), 0);
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), 0);
	store_status(f->store, &status);
	assert_int_equal(status.seq, 1);
	buf_fini(&got);
}

static void deletion_by_hand_is_not_undone(void **state)
{
	struct fixture *f = *state;
	struct hash chunk = hash_bytes("y", 1);
	struct buf got = BUF_INIT;

	add_file(f, ID_ROOT, "keep", "x");
	add_file(f, ID_ROOT, "file", "y");
	send_all(f, OUTCOME_OK);
	run(f, "rm file");
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), -ENOENT);
	assert_int_equal(wanted_count(f), 0);
	feed_wait(f, "file", NULL, true);
	buf_fini(&got);
}

static void damaged_chunk_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct hash chunk = hash_bytes("chunk", 5);
	struct buf got = BUF_INIT;

	assert_int_equal(store_chunk_put(f->store, &chunk, "chunk", 5), 0);
	run(f, "for i in .syncfs/chunks/*/*; do echo damaged >$i; done");
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), -EBADMSG);
	assert_int_equal(store_chunk_put(f->store, &chunk, "chunk", 5), 0);
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), 0);
	assert_int_equal(got.len, 5);
	buf_fini(&got);
}

static void links_stay_links(void **state)
{
	static char names[1100][16];
	struct fixture *f = *state;
	struct id dir = add_dir(f, ID_ROOT, "many"), kept = add_file(f, ID_ROOT, "kept", "of two names");
	struct store_status status;
	struct stat a, b;
	struct op *op = add_op(f, OP_LINK, kept);

	op->parent = dir;
	op->name = (char[]){"second"};
	for (size_t i = 0; i < 1100; i++) {
		snprintf(names[i], sizeof(names[i]), "m%zu", i);
		add_file(f, dir, names[i], "");
		if (f->count == 500)
			send_all(f, OUTCOME_OK);
	}
	send_all(f, OUTCOME_OK);
	fixture_shut(f);
	run(f, "rm -r many");
	assert_int_equal(fixture_reopen(f, false), 0);
	assert_int_equal(store_answer_held(f->store, false), 0);
	disk_is(f, "many/m7", "");
	disk_is(f, "many/second", "of two names");
	assert_int_equal(lstat(path_in(f, "kept"), &a), 0);
	assert_int_equal(lstat(path_in(f, "many/second"), &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(wanted_count(f), 0);
	store_status(f->store, &status);
	assert_int_equal(status.held_deletions, 0);
	assert_int_equal(status.nodes, 1102);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)
		STORE_TEST(rejected_files_come_back),
		STORE_TEST(changed_meanwhile),
		STORE_TEST(more_than_a_page),
		STORE_TEST(rotten_file_is_mended),
		STORE_TEST(deletion_by_hand_is_not_undone),
		STORE_TEST(damaged_chunk_is_replaced),
		STORE_TEST(links_stay_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
