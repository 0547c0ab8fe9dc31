/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of capture.h over a real tree and journal: what is journalled and queued, what a restart finds again,
 * and who is refused.
 */
#include "client_fixture.h"
#include "outbox.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include <syncfs/clock.h>

static struct id id_of(uint8_t n)
{
	struct id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static void ack_first(struct fixture *f)
{
	struct entry *e;
	uint64_t lsns[2];

	mutex_lock(&f->capture->lock);
	e = pending_first(f->capture->pending);
	lsns[0] = e->lsn;
	lsns[1] = e->dirty_lsn;
	assert_int_equal(journal_ack(f->capture->journal, lsns, e->dirty_lsn ? 2 : 1), 0);
	pending_remove(f->capture->pending, e);
	cond_broadcast(&f->capture->settled);
	mutex_unlock(&f->capture->lock);
}

static bool scan_is_wanted(struct fixture *f)
{
	return f->capture->scan_wanted;
}

static void do_everything(struct fixture *f)
{
	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", "f", KIND_FILE);
	do_write(f, "d/f", "text");
	do_create(f, "", "s", KIND_SYMLINK);
	do_create(f, "", "a", KIND_FILE);
	do_rename(f, "a", "b", 0);
	do_create(f, "", "c", KIND_FILE);
	do_rename(f, "b", "c", RENAME_EXCHANGE);
	do_link(f, "c", "h");
	do_unlink(f, "h");
	do_unlink(f, "s");
}

#define EVERYTHING "Cd Cf Cs Ca Ra>b Cc Xb>c Lh Uh Us"

static void test_queue(void **state)
{
	struct fixture *f = *state;
	struct id dir, node;
	cleanup_buf struct buf path = BUF_INIT;

	do_everything(f);
	/* The content of a file that is not sent yet goes with its create. */
	assert_string_equal(queue(f), EVERYTHING);
	assert_false(scan_is_wanted(f));
	dir = node_of(f, "d");
	node = node_of(f, "d/f");
	assert_int_equal(capture_path(f->capture, &node, &path), 0);
	assert_string_equal(buf_cstr(&path), "d/f");
	assert_true(capture_has_name(f->capture, &node, &dir, "f"));
	assert_false(capture_has_name(f->capture, &node, &ID_ROOT, "f"));
	assert_true(capture_is_busy(f->capture, &node));
	node = node_of(f, "c");
	assert_true(capture_has_name(f->capture, &node, &ID_ROOT, "c"));
}

static void test_restart(void **state)
{
	struct fixture *f = *state;
	struct id before, after;

	do_everything(f);
	before = node_of(f, "d/f");
	fixture_reopen(f);
	/* Whether the file was closed for good is not known any more; what was not sent of it is read when it
	 * is. */
	assert_int_equal(f->replayed, 10);
	assert_string_equal(queue(f), EVERYTHING);
	after = node_of(f, "d/f");
	assert_memory_equal(&before, &after, sizeof(before));
	assert_false(scan_is_wanted(f));
	/* Exactly what is not acknowledged. */
	for (int i = 0; i < 4; i++)
		ack_first(f);
	fixture_reopen(f);
	assert_string_equal(queue(f), "Ra>b Cc Xb>c Lh Uh Us");
	do_create(f, "", "new", KIND_FILE);
	while (operations(f))
		ack_first(f);
	for (int i = 0; i < 2; i++) {
		fixture_reopen(f);
		assert_int_equal(f->replayed, 0);
		assert_false(scan_is_wanted(f));
	}
}

static void test_failed_call(void **state)
{
	struct fixture *f = *state;
	struct intent i = {.type = OP_CREATE, .parent = root_of(f), .name = "x", .kind = KIND_FILE};

	assert_int_equal(capture_begin(f->capture, &i), 0);
	capture_end(f->capture, &i, -EEXIST, NULL);
	assert_string_equal(queue(f), "");
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
	assert_false(scan_is_wanted(f));
}

static void test_intent_without_outcome(void **state)
{
	struct fixture *f = *state;
	struct intent i = {.type = OP_CREATE, .parent = root_of(f), .name = "x", .kind = KIND_FILE};

	assert_int_equal(capture_begin(f->capture, &i), 0);
	/* We die here. */
	rwlock_unlock(&f->tree_lock);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
	assert_true(scan_is_wanted(f));
	assert_true(capture_await_scan(f->capture, UINT64_MAX));
	/* It is looked at once. */
	fixture_reopen(f);
	assert_false(scan_is_wanted(f));
}

/* We die after the call and before its outcome is written: the disk tells it. */
static void test_removal_without_outcome(void **state)
{
	struct fixture *f = *state;
	struct intent i = {.type = OP_UNLINK, .parent = root_of(f), .name = "x"};

	write_file(f, "x", "text");
	agree(f, &ID_ROOT, "x", 1);
	i.object = stat_of(f, "x");
	assert_int_equal(capture_begin(f->capture, &i), 0);
	rwlock_unlock(&f->tree_lock);
	fixture_reopen(f);
	assert_string_equal(queue(f), "");
	assert_true(scan_is_wanted(f));

	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, "x", 0), 0);
	rwlock_unlock(&f->tree_lock);
	fixture_reopen(f);
	assert_string_equal(queue(f), "Ux");
	fixture_reopen(f);
	assert_string_equal(queue(f), "Ux");
}

/* The scan would pass over a file that has something in the queue. */
static void test_attributes_without_outcome(void **state)
{
	struct fixture *f = *state;
	struct intent i = {.type = OP_SETATTR};

	write_file(f, "x", "text");
	agree(f, &ID_ROOT, "x", 1);
	do_link(f, "x", "y");
	i.object = stat_of(f, "x");
	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(fchmodat(f->tree.root_fd, "x", 0600, 0), 0);
	rwlock_unlock(&f->tree_lock);
	fixture_reopen(f);
	assert_string_equal(queue(f), "Ly S");
	fixture_reopen(f);
	assert_string_equal(queue(f), "Ly S");
}

static void test_content(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	struct id node;
	uint64_t n, writers;

	write_file(f, "f", "old");
	node = agree(f, &ID_ROOT, "f", 5);
	object = stat_of(f, "f");
	assert_string_equal(capture_state(f->capture, &object), "synced");
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	assert_string_equal(capture_state(f->capture, &object), "dirty");
	capture_count(f->capture, &n, &writers);
	assert_int_equal(n, 0);
	assert_int_equal(writers, 1);
	assert_true(capture_is_busy(f->capture, &node));
	/* One record, however often. */
	assert_int_equal(capture_mark(f->capture), 1);
	assert_int_equal(capture_closed(f->capture, &object, true), 0);
	capture_count(f->capture, &n, &writers);
	assert_int_equal(n, 1);
	assert_int_equal(writers, 0);
	assert_string_equal(capture_state(f->capture, &object), "queued");
	assert_true(pending_first(f->capture->pending)->synced);
	assert_int_equal(pending_first(f->capture->pending)->dirty_lsn, 1);
	/* Again, before it was sent: the same operation. */
	do_write(f, "f", "new");
	assert_string_equal(queue(f), "W");
	capture_released(f->capture, &object);
	assert_int_equal(f->released, 1);
	/* While it is being sent: another one. */
	pending_first(f->capture->pending)->in_flight = true;
	assert_string_equal(capture_state(f->capture, &object), "uploading");
	do_write(f, "f", "newer");
	assert_string_equal(queue(f), "W W");
	while (operations(f))
		ack_first(f);
	assert_string_equal(capture_state(f->capture, &object), "synced");
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

/* We die while a file is being written: it counts as changed. */
static void test_dirty_at_the_end(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;

	write_file(f, "f", "old");
	agree(f, &ID_ROOT, "f", 5);
	object = stat_of(f, "f");
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	for (int i = 0; i < 3; i++) {
		uint64_t n, writers;

		fixture_reopen(f);
		assert_string_equal(queue(f), "W");
		capture_count(f->capture, &n, &writers);
		assert_int_equal(writers, 0);
	}
	ack_first(f);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

static void test_attributes(void **state)
{
	struct fixture *f = *state;

	do_create(f, "", "new", KIND_FILE);
	do_chmod(f, "new", 0600);
	/* The create carries it. */
	assert_string_equal(queue(f), "Cnew");
	pending_first(f->capture->pending)->in_flight = true;
	do_chmod(f, "new", 0640);
	assert_string_equal(queue(f), "Cnew S");
	do_chmod(f, "new", 0644);
	assert_string_equal(queue(f), "Cnew S");
	/* The root's are nobody's business. */
	{
		struct intent i = {.type = OP_SETATTR, .object = root_of(f)};

		assert_int_equal(capture_begin(f->capture, &i), 0);
		capture_end(f->capture, &i, 0, NULL);
	}
	assert_string_equal(queue(f), "Cnew S");
	/* Sent between begin and end: it does not get lost. */
	{
		struct intent i = {.type = OP_SETATTR, .object = stat_of(f, "new")};

		assert_int_equal(capture_begin(f->capture, &i), 0);
		pending_first(f->capture->pending)->next->in_flight = true;
		capture_end(f->capture, &i, 0, NULL);
	}
	assert_string_equal(queue(f), "Cnew S S");
	fixture_reopen(f);
	assert_string_equal(queue(f), "Cnew S S");
}

static void test_refused_and_local(void **state)
{
	struct fixture *f = *state;
	struct intent i = {.type = OP_CREATE, .parent = root_of(f), .name = ".syncfs", .kind = KIND_DIR};
	struct stat_id fifo;

	assert_int_equal(capture_begin(f->capture, &i), -EPERM);
	i = (struct intent){.type = OP_RENAME,
		.parent = root_of(f),
		.name = "a",
		.new_parent = root_of(f),
		.new_name = ".syncfs"};
	assert_int_equal(capture_begin(f->capture, &i), -EPERM);
	/* Below the root it is a name like any other. */
	do_create(f, "", "d", KIND_DIR);
	do_create(f, "d", ".syncfs", KIND_FILE);
	assert_string_equal(queue(f), "Cd C.syncfs");
	/* What is not synced is not journalled. */
	i = (struct intent){.type = OP_CREATE, .parent = root_of(f), .name = "fifo"};
	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(mkfifoat(f->tree.root_fd, "fifo", 0644), 0);
	fifo = stat_of(f, "fifo");
	capture_end(f->capture, &i, 0, &fifo);
	do_unlink(f, "fifo");
	assert_string_equal(queue(f), "Cd C.syncfs");
	assert_string_equal(capture_state(f->capture, &fifo), "local-only");
	assert_false(scan_is_wanted(f));
	/* Nothing is held: the writer gets its turn. */
	rwlock_write(&f->tree_lock);
	rwlock_unlock(&f->tree_lock);
}

/* An object that nobody has told us of is left to the scan. */
static void test_unknown(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	struct id node;

	write_file(f, "f", "by hand");
	object = stat_of(f, "f");
	assert_int_equal(capture_resolve(f->capture, &object, &node), -ENOENT);
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	assert_true(scan_is_wanted(f));
	assert_true(capture_await_scan(f->capture, UINT64_MAX));
	do_rename(f, "f", "g", 0);
	assert_string_equal(queue(f), "");
	assert_true(scan_is_wanted(f));
}

/* The scan may be through before the call is: it is asked for again behind it. */
static void test_unknown_is_looked_at_after_the_call(void **state)
{
	struct fixture *f = *state;
	struct intent i = {.type = OP_RENAME, .name = "f", .new_name = "g"};

	write_file(f, "f", "by hand");
	i.parent = i.new_parent = root_of(f);
	i.object = stat_of(f, "f");
	assert_int_equal(capture_begin(f->capture, &i), 0);
	if (scan_is_wanted(f))
		assert_true(capture_await_scan(f->capture, UINT64_MAX));
	assert_int_equal(renameat(f->tree.root_fd, "f", f->tree.root_fd, "g"), 0);
	capture_end(f->capture, &i, 0, NULL);
	assert_true(scan_is_wanted(f));
}

/* Somebody known changes places with, or is replaced by, what is not synced or not known. */
static void test_known_and_unknown(void **state)
{
	struct fixture *f = *state;

	do_create(f, "", "known", KIND_FILE);
	write_file(f, "unknown", "by hand");
	do_rename(f, "known", "unknown", RENAME_EXCHANGE);
	assert_true(scan_is_wanted(f));
	assert_true(capture_await_scan(f->capture, UINT64_MAX));
	assert_string_equal(queue(f), "Cknown");
	do_rename(f, "known", "unknown", RENAME_EXCHANGE);
	assert_true(capture_await_scan(f->capture, UINT64_MAX));
	assert_int_equal(mkfifoat(f->tree.root_fd, "fifo", 0644), 0);
	do_rename(f, "fifo", "known", 0);
	assert_true(scan_is_wanted(f));
	fixture_reopen(f);
	assert_string_equal(queue(f), "Cknown");
}

static void *wait_for_all(void *arg)
{
	struct fixture *f = arg;

	if (capture_wait(f->capture, capture_mark(f->capture), clock_mono_ms() + 20000))
		return f;
	return NULL;
}

static void test_wait(void **state)
{
	struct fixture *f = *state;
	uint64_t mark = capture_mark(f->capture), now = clock_mono_ms();
	struct stat_id object;
	pthread_t thread;
	void *failed;

	assert_int_equal(capture_wait(f->capture, mark, now), 0);
	do_create(f, "", "a", KIND_FILE);
	do_create(f, "", "b", KIND_FILE);
	/* What came after the mark is not waited for. */
	assert_int_equal(capture_wait(f->capture, mark, now), 0);
	mark = capture_mark(f->capture);
	assert_int_equal(capture_wait(f->capture, mark, now), -ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_all, f), 0);
	ack_first(f);
	assert_int_equal(capture_wait(f->capture, mark, now), -ETIMEDOUT);
	ack_first(f);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(capture_wait(f->capture, mark, now), 0);
	/* A file that is being written counts. */
	object = stat_of(f, "a");
	agree(f, &ID_ROOT, "a", 1);
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	assert_int_equal(capture_wait(f->capture, capture_mark(f->capture), now), -ETIMEDOUT);
	capture_hold(f->capture, true);
	assert_int_equal(capture_wait(f->capture, capture_mark(f->capture), now), -ECANCELED);
	assert_false(capture_await_scan(f->capture, UINT64_MAX));
	capture_hold(f->capture, false);
}

static void test_bind(void **state)
{
	struct fixture *f = *state;
	char name[] = "other";
	struct dentry d = {.parent = ID_ROOT, .name = name};
	struct node_state where = {.node = id_of(9), .kind = KIND_FILE, .names = &d, .names_count = 1};
	struct stat_id object;
	struct id got, parent;
	char *got_name;

	write_file(f, "other", "from elsewhere");
	object = stat_of(f, "other");
	assert_int_equal(capture_bind(f->capture, &where, &object), 0);
	got = node_of(f, "other");
	assert_memory_equal(&got, &where.node, sizeof(got));
	assert_false(capture_is_busy(f->capture, &got));
	assert_int_equal(capture_location(f->capture, &got, &parent, &got_name), 0);
	assert_string_equal(got_name, "other");
	free(got_name);
	capture_unbind(f->capture, &got);
	assert_int_equal(capture_resolve(f->capture, &object, &got), -ENOENT);
	capture_unbind(f->capture, &where.node);
}

/* Who has a name: by the queue, as long as it says so, then by the agreed state. */
static void test_holder(void **state)
{
	struct fixture *f = *state;
	struct id old, node, holder;
	enum kind kind;

	write_file(f, "a", "one");
	old = agree(f, &ID_ROOT, "a", 1);
	assert_int_equal(capture_holder(f->capture, &ID_ROOT, "a", &holder, &kind), 0);
	assert_true(id_equal(&holder, &old));
	assert_int_equal(capture_holder(f->capture, &ID_ROOT, "b", &holder, &kind), -ENOENT);
	do_create(f, "", "b", KIND_FILE);
	node = node_of(f, "b");
	assert_int_equal(capture_holder(f->capture, &ID_ROOT, "b", &holder, &kind), 0);
	assert_true(id_equal(&holder, &node));
	assert_int_equal(kind, KIND_FILE);
	do_rename(f, "b", "a", 0);
	assert_int_equal(capture_holder(f->capture, &ID_ROOT, "a", &holder, &kind), 0);
	assert_true(id_equal(&holder, &node));
	assert_int_equal(capture_holder(f->capture, &ID_ROOT, "b", &holder, &kind), -ENOENT);
	do_unlink(f, "a");
	assert_int_equal(capture_holder(f->capture, &ID_ROOT, "a", &holder, &kind), -ENOENT);
}

static void test_version(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	uint64_t c, seq;

	do_create(f, "", "new", KIND_FILE);
	object = stat_of(f, "new");
	assert_int_equal(capture_version(f->capture, &object, &c, &seq), -ENODATA);
	write_file(f, "old", "");
	object = stat_of(f, "old");
	assert_int_equal(capture_version(f->capture, &object, &c, &seq), -ENODATA);
	agree(f, &ID_ROOT, "old", 7);
	assert_int_equal(capture_version(f->capture, &object, &c, &seq), 0);
	assert_int_equal(c, 7);
	assert_int_equal(seq, 7);
}

static void test_forget(void **state)
{
	struct fixture *f = *state;

	do_everything(f);
	assert_int_equal(outbox_forget(f->capture), 0);
	assert_string_equal(queue(f), "");
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

/* Who the file was that is being written is forgotten, too: its close is no news of a node that is no more.
 */
static void test_forget_while_written(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	struct id node;

	do_create(f, "", "open", KIND_FILE);
	object = stat_of(f, "open");
	assert_int_equal(capture_closed(f->capture, &object, false), 0);
	assert_int_equal(capture_dirty(f->capture, &object), 0);
	assert_int_equal(outbox_forget(f->capture), 0);
	assert_int_equal(capture_resolve(f->capture, &object, &node), -ENOENT);
	assert_int_equal(capture_closed(f->capture, &object, false), 0);
	assert_string_equal(queue(f), "");
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

/* As if the write had been settled, but for the journal. */
static int forget_dirty(struct fixture *f)
{
	struct local *l;
	size_t pos = 0;

	if (!pending_next_local(f->capture->pending, &pos, &l))
		return -ENOENT;
	pending_set_dirty(f->capture->pending, l, 0);
	pending_settle(f->capture->pending, l);
	return 0;
}

/* No room for the journal: refused before anything is touched, and nothing is held. */
static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	struct capture_config config = {.state = f->state,
		.tree = &f->tree,
		.tree_lock = &f->tree_lock,
		.inodes = f->inodes,
		.released = fixture_released,
		.arg = f};
	struct intent i;
	struct stat_id object;
	char path[96], target[4001];
	int r;

	snprintf(path, sizeof(path), "%s/small", f->path);
	assert_int_equal(mkdir(path, 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", path, "tmpfs", 0, "size=5m") < 0)
		skip(); /* needs to mount a tmpfs */
	memset(target, 't', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	write_file(f, "f", "");
	agree(f, &ID_ROOT, "f", 1);
	object = stat_of(f, "f");
	fixture_close(f);
	config.state_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(capture_open(&config, &f->capture, &f->replayed), 0);
	do {
		i = (struct intent){.type = OP_CREATE,
			.parent = root_of(f),
			.name = "link",
			.kind = KIND_SYMLINK,
			.target = target};
		r = capture_begin(f->capture, &i);
		if (r == 0)
			capture_end(f->capture, &i, -EEXIST, NULL);
	} while (r == 0);
	assert_int_equal(r, -ENOSPC);
	rwlock_write(&f->tree_lock);
	rwlock_unlock(&f->tree_lock);
	/* Small ones until that is over, too; then not even a write begins. */
	while ((r = capture_dirty(f->capture, &object)) == 0)
		assert_int_equal(forget_dirty(f), 0);
	assert_int_equal(r, -ENOSPC);
	assert_string_equal(queue(f), "");
	fixture_close(f);
	close(config.state_dirfd);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue),
		TEST(test_restart),
		TEST(test_failed_call),
		TEST(test_intent_without_outcome),
		TEST(test_removal_without_outcome),
		TEST(test_attributes_without_outcome),
		TEST(test_content),
		TEST(test_dirty_at_the_end),
		TEST(test_attributes),
		TEST(test_refused_and_local),
		TEST(test_unknown),
		TEST(test_unknown_is_looked_at_after_the_call),
		TEST(test_known_and_unknown),
		TEST(test_wait),
		TEST(test_bind),
		TEST(test_holder),
		TEST(test_version),
		TEST(test_forget),
		TEST(test_forget_while_written),
		TEST(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
