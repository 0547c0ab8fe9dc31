/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, and short ways to batches of operations, for test_store*.c. */
#ifndef SYNCFS_TESTS_STORE_FIXTURE_H
#define SYNCFS_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/manifest.h>
#include <syncfs/mutex.h>

#include "store.h"

#define DEADLINE_MS 20000

struct fixture {
	char root[64];
	struct store *store;
	struct id client, run;
	uint64_t opno, acked;
	struct mutex lock;
	struct cond changed;
	unsigned changes;
	/* the batch being made */
	struct op ops[600];
	size_t count;
	struct buf raw;
};

static void fixture_changed(void *arg)
{
	struct fixture *f = arg;

	MUTEX_GUARD(&f->lock);
	f->changes++;
	cond_broadcast(&f->changed);
}

__attribute__((unused)) static int fixture_reopen(struct fixture *f, bool adopt)
{
	const struct store_config config = {
		.root = f->root, .adopt = adopt, .on_change = fixture_changed, .arg = f};
	struct buf why = BUF_INIT;
	int r = store_open(&config, &f->store, &why);

	if (r < 0) {
		f->store = NULL;
		assert_true(why.len > 0);
		print_message("refused: %s\n", buf_cstr(&why));
	}
	buf_fini(&why);
	return r;
}

__attribute__((unused)) static int fixture_open(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->root, "/tmp/syncfs-store-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	f->client = id_new();
	f->run = id_new();
	mutex_init(&f->lock, RANK_LOG, "fixture");
	cond_init(&f->changed);
	assert_int_equal(fixture_reopen(f, false), 0);
	*state = f;
	return 0;
}

__attribute__((unused)) static void fixture_shut(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

__attribute__((unused)) static int fixture_close(void **state)
{
	struct fixture *f = *state;
	char command[96];

	fixture_shut(f);
	buf_fini(&f->raw);
	snprintf(command, sizeof(command), "rm -rf '%s'", f->root);
	assert_int_equal(system(command), 0);
	cond_fini(&f->changed);
	mutex_fini(&f->lock);
	free(f);
	return 0;
}

/* ---- operations; names are borrowed ---- */

__attribute__((unused)) static struct op *add_op(struct fixture *f, enum op_type type, struct id node)
{
	struct op *op = &f->ops[f->count++];

	*op = (struct op){.type = type,
		.node = node,
		.opno = ++f->opno,
		.base_c = BASE_ANY,
		.base_l = BASE_ANY,
		.base_a = BASE_ANY,
		.other_base_c = BASE_ANY,
		.other_base_l = BASE_ANY};
	return op;
}

/* In the root; type: OP_RENAME or OP_EXCHANGE. */
__attribute__((unused)) static struct op *add_move(
	struct fixture *f, enum op_type type, struct id node, const char *from, const char *to)
{
	struct op *op = add_op(f, type, node);

	op->parent = op->new_parent = ID_ROOT;
	op->name = (char *)(uintptr_t)from;
	op->new_name = (char *)(uintptr_t)to;
	return op;
}

__attribute__((unused)) static void set_data(struct fixture *f, struct op *op, const char *data, size_t len)
{
	op->fields |= OP_HAS_DATA;
	op->data_at = f->raw.len;
	op->data_len = len;
	buf_put(&f->raw, data, len);
	assert_int_equal(manifest_of_bytes(data, len, &op->content, NULL), 0);
}

__attribute__((unused)) static struct id add_file(
	struct fixture *f, struct id parent, const char *name, const char *data)
{
	struct op *op = add_op(f, OP_CREATE, id_new());

	op->kind = KIND_FILE;
	op->parent = parent;
	op->name = (char *)(uintptr_t)name;
	op->fields = OP_HAS_MODE | OP_HAS_MTIME;
	op->mode = 0640;
	op->mtime_ns = 1234567890123456789;
	set_data(f, op, data, strlen(data));
	return op->node;
}

__attribute__((unused)) static struct id add_dir(struct fixture *f, struct id parent, const char *name)
{
	struct op *op = add_op(f, OP_CREATE, id_new());

	op->kind = KIND_DIR;
	op->parent = parent;
	op->name = (char *)(uintptr_t)name;
	op->fields = OP_HAS_MODE | OP_HAS_MTIME;
	op->mode = 0755;
	return op->node;
}

__attribute__((unused)) static int send_ops(
	struct fixture *f, struct batch_reply *ret_reply, uint64_t *ret_expected)
{
	const struct batch batch = {.client = f->client,
		.run = f->run,
		.acked_opno = f->acked,
		.label = (char *)(uintptr_t) "test",
		.ops = f->ops,
		.ops_count = f->count,
		.raw = f->raw.data,
		.raw_len = f->raw.len};

	return store_sync(f->store, &batch, ret_reply, ret_expected);
}

__attribute__((unused)) static void batch_new(struct fixture *f)
{
	f->count = 0;
	buf_reset(&f->raw);
}

/* Sends and wants every outcome to be this. */
__attribute__((unused)) static void send_all(struct fixture *f, enum outcome outcome)
{
	struct batch_reply reply;
	uint64_t expected;

	assert_int_equal(send_ops(f, &reply, &expected), 0);
	assert_int_equal(reply.results_count, f->count);
	for (size_t i = 0; i < reply.results_count; i++) {
		if (reply.results[i].outcome != outcome)
			print_message("op %zu: outcome %d code %d %s\n", i, reply.results[i].outcome,
				reply.results[i].code,
				reply.results[i].reason ? reply.results[i].reason : "");
		assert_int_equal(reply.results[i].outcome, outcome);
	}
	batch_reply_fini(&reply);
	batch_new(f);
}

static void fixture_die(void)
{
	_exit(7);
}

/* Sends what was added to a server that dies where it calls the hook. Leaves the store shut. */
__attribute__((unused)) static void send_and_die(struct fixture *f, void (**hook)(void))
{
	int status;
	pid_t pid;

	fixture_shut(f);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct batch_reply reply;
		uint64_t expected;

		if (fixture_reopen(f, false) < 0)
			_exit(1);
		*hook = fixture_die;
		(void)send_ops(f, &reply, &expected);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	batch_new(f);
}

/* ---- what is there ---- */

__attribute__((unused)) static const char *path_in(struct fixture *f, const char *path)
{
	static char full[4200];

	snprintf(full, sizeof(full), "%s/%s", f->root, path);
	return full;
}

__attribute__((unused)) static bool disk_has(struct fixture *f, const char *path)
{
	struct stat st;

	return lstat(path_in(f, path), &st) == 0;
}

__attribute__((unused)) static void disk_is(struct fixture *f, const char *path, const char *data)
{
	struct buf is = BUF_INIT;

	assert_int_equal(io_read_file(AT_FDCWD, path_in(f, path), 1 << 20, &is), 0);
	assert_int_equal(is.len, strlen(data));
	assert_memory_equal(is.data ? is.data : (uint8_t *)"", data, is.len);
	buf_fini(&is);
}

__attribute__((unused)) static void disk_write(struct fixture *f, const char *path, const char *data)
{
	int fd = open(path_in(f, path), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, data, strlen(data)), 0);
	assert_int_equal(close(fd), 0);
}

/* All that the feed tells from the beginning, page by page; the caller frees with pages_fini(). */
struct feed {
	struct page pages[64];
	struct buf raw[64];
	size_t count;
};

__attribute__((unused)) static void feed_read(
	struct fixture *f, const struct cursor *from, size_t max, struct feed *ret_feed)
{
	memset(ret_feed, 0, sizeof(*ret_feed));
	do {
		size_t i = ret_feed->count;

		assert_true(i < 64);
		assert_int_equal(store_changes(f->store, i ? &ret_feed->pages[i - 1].cursor : from, true, max,
					 &ret_feed->pages[i], &ret_feed->raw[i]),
			0);
		ret_feed->count++;
	} while (ret_feed->pages[ret_feed->count - 1].more);
}

__attribute__((unused)) static void feed_fini(struct feed *feed)
{
	for (size_t i = 0; i < feed->count; i++) {
		page_fini(&feed->pages[i]);
		buf_fini(&feed->raw[i]);
	}
}

/* A live node by one of its names, "" when none; its page in *ret_page. */
__attribute__((unused)) static const struct node_state *feed_find(
	const struct feed *feed, const char *name, size_t *ret_page)
{
	for (size_t i = 0; i < feed->count; i++) {
		for (size_t k = 0; k < feed->pages[i].changes_count; k++) {
			const struct node_state *n = &feed->pages[i].changes[k];

			for (size_t d = 0; d < n->names_count; d++) {
				if (strcmp(n->names[d].name, name) == 0) {
					if (ret_page)
						*ret_page = i;
					return n;
				}
			}
		}
	}
	return NULL;
}

/* The same; there has to be one. */
__attribute__((unused)) static const struct node_state *feed_get(
	const struct feed *feed, const char *name, size_t *ret_page)
{
	const struct node_state *n = feed_find(feed, name, ret_page);

	if (!n) {
		fail_msg("the feed has no \"%s\"", name);
		abort(); /* for the compiler: the call above does not return */
	}
	return n;
}

/* Waits until the feed has a live node of this name with this content (NULL: any), or none at all (gone). */
__attribute__((unused)) static void feed_wait(
	struct fixture *f, const char *name, const char *data, bool gone)
{
	uint64_t deadline = clock_mono_ms() + DEADLINE_MS;

	for (;;) {
		const struct node_state *n;
		unsigned before;
		struct feed feed;
		size_t page;
		bool ok;

		{
			MUTEX_GUARD(&f->lock);
			before = f->changes;
		}
		feed_read(f, NULL, 1 << 20, &feed);
		n = feed_find(&feed, name, &page);
		ok = gone ? !n
			  : n &&
				(!data ||
					(n->has_data && n->data_len == strlen(data) &&
						memcmp(feed.raw[page].data + n->data_at, data, n->data_len) ==
							0));
		feed_fini(&feed);
		if (ok)
			return;
		MUTEX_GUARD(&f->lock);
		while (f->changes == before) {
			if (!cond_wait_until(&f->changed, &f->lock, deadline))
				fail_msg("\"%s\" did not come in time", name);
		}
	}
}

/* Waits until at least so many deletions by hand are held back; no event tells of that. */
__attribute__((unused)) static void held_wait(struct fixture *f, uint64_t count)
{
	uint64_t deadline = clock_mono_ms() + DEADLINE_MS;
	struct store_status status;

	for (store_status(f->store, &status); status.held_deletions < count;
		store_status(f->store, &status)) {
		assert_true(clock_mono_ms() < deadline);
		usleep(2000);
	}
}

#endif
