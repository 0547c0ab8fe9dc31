/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lower half of a client, without a server: a backing directory, a state directory with database and
 * journal, the table of inodes, and capture over them. For the tests of src/client.
 */
#ifndef SYNCFS_TEST_CLIENT_FIXTURE_H
#define SYNCFS_TEST_CLIENT_FIXTURE_H

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
#include <unistd.h>

#include <syncfs/io.h>

#include "capture_internal.h"
#include "recover.h"

struct fixture {
	char path[64]; /* holds all of it */
	char database[96];
	int state_dirfd;
	struct tree tree;
	struct inode_table *inodes;
	struct rwlock tree_lock;
	struct mutex apply_lock;
	struct syncstate *state;
	struct capture *capture;
	size_t replayed; /* of the last fixture_open() */
	int released;
};

static struct fixture fixture;

static inline void fixture_released(void *arg)
{
	struct fixture *f = arg;

	f->released++;
}

static inline void fixture_open(struct fixture *f)
{
	struct capture_config config = {.state_dirfd = f->state_dirfd,
		.state = f->state,
		.tree = &f->tree,
		.tree_lock = &f->tree_lock,
		.inodes = f->inodes,
		.released = fixture_released,
		.arg = f};

	assert_int_equal(capture_open(&config, &f->capture, &f->replayed), 0);
}

static inline void fixture_close(struct fixture *f)
{
	capture_close(f->capture);
	f->capture = NULL;
}

/* As a restart does it. */
static inline void fixture_reopen(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static inline int fixture_setup(void **state)
{
	struct fixture *f = &fixture;
	bool is_new;
	char path[96];

	*f = (struct fixture){0};
	strcpy(f->path, "/tmp/syncfs-client-XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	snprintf(path, sizeof(path), "%s/backing", f->path);
	if (tree_open(path, TREE_MARK | TREE_CREATE, &f->tree))
		return -1;
	snprintf(path, sizeof(path), "%s/state", f->path);
	if (mkdir(path, 0700) < 0)
		return -1;
	f->state_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(f->database, sizeof(f->database), "%s/state/state.db", f->path);
	if (syncstate_open(f->database, &f->state, &is_new) || inode_table_new(&f->tree, &f->inodes))
		return -1;
	rwlock_init(&f->tree_lock, RANK_TREE, "tree");
	mutex_init(&f->apply_lock, RANK_APPLY, "apply");
	fixture_open(f);
	*state = f;
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	char command[96];

	fixture_close(f);
	inode_table_free(f->inodes);
	syncstate_close(f->state);
	mutex_fini(&f->apply_lock);
	rwlock_fini(&f->tree_lock);
	tree_close(&f->tree);
	close(f->state_dirfd);
	snprintf(command, sizeof(command), "rm -rf %s", f->path);
	return system(command);
}

static inline struct stat_id stat_of(const struct fixture *f, const char *path)
{
	struct stat_id id;

	assert_int_equal(tree_stat(f->tree.root_fd, path, &id), 0);
	return id;
}

static inline struct stat_id root_of(const struct fixture *f)
{
	return stat_of(f, "");
}

static inline void write_file(const struct fixture *f, const char *path, const char *text)
{
	cleanup_fd int fd = openat(f->tree.root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, text, strlen(text)), 0);
}

static inline struct id node_of(struct fixture *f, const char *path)
{
	struct stat_id object = stat_of(f, path);
	struct id node;

	assert_int_equal(capture_resolve(f->capture, &object, &node), 0);
	return node;
}

static inline uint64_t operations(struct fixture *f)
{
	uint64_t n, writers;

	capture_count(f->capture, &n, &writers);
	return n;
}

/* Puts what is at path into S, as agreed under this version, with further names in the same directory. */
static inline struct id agree(struct fixture *f, const struct id *parent, const char *path, uint64_t version)
{
	const char *slash = strrchr(path, '/');
	cleanup_fd int fd = -1;
	struct base_row row = {.disk = stat_of(f, path)};
	struct node_state *n = &row.state;

	*n = (struct node_state){.node = id_new(),
		.seq = version,
		.kind = tree_kind(row.disk.mode),
		.c = version,
		.a = version,
		.mode = row.disk.mode & 0777,
		.mtime_ns = row.disk.mtime_ns};
	if (n->kind == KIND_FILE) {
		fd = openat(f->tree.root_fd, path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(tree_hash_file(fd, &n->content, NULL, &row.disk), 0);
	}
	n->names = calloc(1, sizeof(*n->names));
	assert_non_null(n->names);
	n->names_count = 1;
	n->names[0] =
		(struct dentry){.parent = *parent, .name = strdup(slash ? slash + 1 : path), .l = version};
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_base_put(f->state, &row), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	row.state.names_count = 1;
	{
		struct id node = n->node;

		base_row_fini(&row);
		return node;
	}
}

/* ---- what the view does ---- */

static inline void do_create(struct fixture *f, const char *dir, const char *name, enum kind kind)
{
	struct intent i = {.type = OP_CREATE, .parent = stat_of(f, dir), .name = name, .kind = kind};
	struct stat_id made;
	char path[512];

	snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", name);
	if (kind == KIND_SYMLINK)
		i.target = "target";
	assert_int_equal(capture_begin(f->capture, &i), 0);
	if (kind == KIND_DIR)
		assert_int_equal(mkdirat(f->tree.root_fd, path, 0755), 0);
	else if (kind == KIND_SYMLINK)
		assert_int_equal(symlinkat("target", f->tree.root_fd, path), 0);
	else
		write_file(f, path, "");
	made = stat_of(f, path);
	capture_end(f->capture, &i, 0, &made);
}

static inline void do_write(struct fixture *f, const char *path, const char *text)
{
	struct stat_id object = stat_of(f, path);

	assert_int_equal(capture_dirty(f->capture, &object), 0);
	write_file(f, path, text);
	object = stat_of(f, path);
	assert_int_equal(capture_closed(f->capture, &object, false), 0);
}

static inline void do_unlink(struct fixture *f, const char *name)
{
	struct intent i = {.parent = root_of(f), .name = name, .object = stat_of(f, name)};
	bool is_dir = S_ISDIR(i.object.mode);

	i.type = is_dir ? OP_RMDIR : OP_UNLINK;
	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(unlinkat(f->tree.root_fd, name, is_dir ? AT_REMOVEDIR : 0), 0);
	capture_end(f->capture, &i, 0, NULL);
}

/* Within the root. flags of renameat2(2). */
static inline void do_rename(struct fixture *f, const char *from, const char *to, unsigned flags)
{
	struct intent i = {.type = flags & RENAME_EXCHANGE ? OP_EXCHANGE : OP_RENAME,
		.parent = root_of(f),
		.name = from,
		.new_parent = root_of(f),
		.new_name = to,
		.object = stat_of(f, from)};

	(void)tree_stat(f->tree.root_fd, to, &i.other);
	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(renameat2(f->tree.root_fd, from, f->tree.root_fd, to, flags), 0);
	capture_end(f->capture, &i, 0, NULL);
}

static inline void do_link(struct fixture *f, const char *from, const char *to)
{
	struct intent i = {.type = OP_LINK, .parent = root_of(f), .name = to, .object = stat_of(f, from)};

	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(linkat(f->tree.root_fd, from, f->tree.root_fd, to, 0), 0);
	capture_end(f->capture, &i, 0, NULL);
}

static inline void do_chmod(struct fixture *f, const char *path, mode_t mode)
{
	struct intent i = {.type = OP_SETATTR, .object = stat_of(f, path)};

	assert_int_equal(capture_begin(f->capture, &i), 0);
	assert_int_equal(fchmodat(f->tree.root_fd, path, mode, 0), 0);
	capture_end(f->capture, &i, 0, NULL);
}

/* The queue as text: one letter an operation, names behind it. */
static inline const char *queue(struct fixture *f)
{
	static const char letters[] = "?CWRXLUDS";
	static char text[1024];
	size_t at = 0;

	text[0] = '\0';
	for (struct entry *e = pending_first(f->capture->pending); e; e = e->next)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%c%s%s%s", at ? " " : "",
			letters[e->type], e->name ? e->name : "", e->new_name ? ">" : "",
			e->new_name ? e->new_name : "");
	return text;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
