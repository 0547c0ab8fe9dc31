/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the parts of one mount together, in the order in which they need each other, and takes them down in
 * the other. Called by main; does no work of its own.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#include "applier.h"
#include "await.h"
#include "capture.h"
#include "control.h"
#include "inflight.h"
#include "journal.h"
#include "link.h"
#include "mount.h"
#include "recover.h"
#include "power.h"
#include "session.h"
#include "syncstate.h"

#define FIRST_CONTACT_MS 1500 /* a server that takes longer counts as one that cannot be reached */

struct client {
	const struct client_config *config;
	struct tree tree;
	struct rwlock tree_lock;
	struct syncstate *state;
	struct mount *mount;
	struct capture *capture;
	struct session_run *_Atomic session; /* its own threads call back before it is known here */
	struct await *await;
	struct control *control;
	int state_dirfd, state_lock, backing_lock;
	bool tree_is_open;
};

static int __attribute__((format(printf, 3, 4))) fail(struct buf *why, int error, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	buf_put_str(why, text);
	return error;
}

/* Held to the end of the process: a second syncfs must not work on the same directory. */
static int take_lock(int dirfd, int *ret_fd)
{
	cleanup_fd int fd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int open_tree(struct client *c, struct buf *why)
{
	const char *path = c->config->backing;
	int r = tree_open(path, TREE_MARK, &c->tree);

	if (r == -EROFS || r == -EACCES || r == -EPERM)
		return fail(why, r,
			"the backing directory %s cannot be written: choose another with -o backing=, or "
			"remount it writable",
			path);
	if (r == -EBADMSG)
		return fail(why, r,
			"the marker .syncfs/root in %s is damaged: restore it, or remove it and mount with "
			"-o adopt",
			path);
	if (r)
		return fail(why, r, "the backing directory %s cannot be opened: check it", path);
	c->tree_is_open = true;
	r = take_lock(c->tree.own_fd, &c->backing_lock);
	if (r == -EWOULDBLOCK)
		return fail(why, -EBUSY,
			"the backing directory %s is in use by another syncfs: unmount that first", path);
	if (r)
		return fail(why, r, "the backing directory %s cannot be locked", path);
	return 0;
}

static int open_state(struct client *c, bool *ret_is_new, struct buf *why)
{
	cleanup_buf struct buf path = BUF_INIT;
	const char *dir = c->config->state;
	int r;

	c->state_dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->state_dirfd < 0)
		return fail(why, -errno, "the state directory %s cannot be opened", dir);
	r = take_lock(c->state_dirfd, &c->state_lock);
	if (r)
		return fail(why, r == -EWOULDBLOCK ? -EBUSY : r,
			"the state directory %s is in use by another syncfs: unmount that first", dir);
	buf_printf(&path, "%s/state.db", dir);
	if (!buf_cstr(&path))
		return -ENOMEM;
	r = syncstate_open(buf_cstr(&path), &c->state, ret_is_new);
	return r
		? fail(why, r,
			  "the state database in %s cannot be opened: free the disk or check its permissions",
			  dir)
		: 0;
}

static int any_entry(void *arg, const struct scan_entry *e)
{
	(void)e;
	*(bool *)arg = true;
	return -ECANCELED;
}

static int dir_done(void *arg, const char *path, const struct stat_id *dir, bool complete)
{
	(void)arg;
	(void)path;
	(void)dir;
	(void)complete;
	return 0;
}

static bool is_empty(struct client *c)
{
	bool found = false;
	struct scan_ops ops = {.arg = &found, .entry = any_entry, .dir_done = dir_done};

	return tree_scan(&c->tree, "", false, &ops) == 0 && !found;
}

static int adopt(struct client *c)
{
	int r = syncstate_begin(c->state, true);

	if (r)
		return r;
	r = syncstate_forget_all(c->state);
	if (!r)
		r = syncstate_meta_put(c->state, "marker", c->tree.marker.b, ID_BYTES);
	return syncstate_end(c->state, r);
}

/* What looks like an unmounted disk is not a mass deletion. */
static int check_root(struct client *c, struct buf *why)
{
	struct id known;
	size_t len;
	int r = syncstate_peek_meta(c->state, "marker", known.b, ID_BYTES, &len);

	if (r == -ENOENT || c->config->adopt)
		return adopt(c);
	if (r)
		return r;
	if (len != ID_BYTES || !id_equal(&known, &c->tree.marker))
		return fail(why, -ESTALE,
			"the backing directory %s is not the one this state belongs to (an unmounted disk?): "
			"mount the disk, or use -o "
			"adopt to merge what is there with the server",
			c->config->backing);
	return 0;
}

/* Nor is an emptied directory. What the last run was removing or applying when it was killed has been told by
 * now. */
static int check_emptied(struct client *c, struct buf *why)
{
	if (syncstate_peek_count(c->state) <= 0 || !is_empty(c) || capture_has_emptied(c->capture))
		return 0;
	return fail(why, -ENODATA,
		"the backing directory %s is empty but was not: put its files back, or use -o adopt "
		"to fetch all from the server",
		c->config->backing);
}

static void on_released(void *arg)
{
	struct client *c = arg;

	session_released(atomic_load(&c->session));
}

/*
 * A damaged journal tells nothing that can be relied on: it is kept aside, and what is here is merged with
 * the server by content. The agreed state goes first, so that dying in between deletes nothing either.
 */
static int start_over(struct client *c)
{
	int r = adopt(c);

	if (!r)
		r = inflight_remove(c->state_dirfd);
	if (!r)
		r = journal_set_aside(c->state_dirfd);
	if (!r)
		log_error("the journal in %s is damaged, its files are kept as *.damaged: what is here and "
			  "at the "
			  "server is merged by content, nothing is deleted; check the disk",
			c->config->state);
	return r;
}

static int make_capture(struct client *c, struct buf *why)
{
	struct capture_config config = {
		.state_dirfd = c->state_dirfd,
		.state = c->state,
		.tree = &c->tree,
		.tree_lock = &c->tree_lock,
		.inodes = mount_table(c->mount),
		.released = on_released,
		.arg = c,
	};
	size_t replayed;
	int r = capture_open(&config, &c->capture, &replayed);

	if (r == -EBADMSG) {
		r = start_over(c);
		if (!r)
			r = capture_open(&config, &c->capture, &replayed);
	}
	if (r)
		return fail(why, r,
			"the journal in %s cannot be opened: free the disk or check its permissions",
			c->config->state);
	if (replayed)
		log_info("%zu changes of the last run are waiting to be sent", replayed);
	mount_set_capture(c->mount, c->capture);
	return 0;
}

/* Before anything else looks: what was being applied is neither damage nor a change made here. */
static int finish_applying(struct client *c, struct buf *why)
{
	const struct applier_config applier = {.tree = &c->tree, .capture = c->capture, .state = c->state};
	int r = applier_recover(&applier);

	return r ? fail(why, r, "what was being applied in %s cannot be finished: %s", c->config->backing,
			   err_str(r))
		 : 0;
}

/* Before anything of it is sent or seen. */
static int look_after_power(struct client *c, struct buf *why)
{
	size_t count = 0;
	bool lost;
	int r = power_was_lost(c->state, &lost);

	if (!r && lost)
		r = power_repair(c->state, &c->tree, &c->tree_lock, c->capture, c->state_dirfd, &count);
	if (!r)
		r = power_running(c->state, lost);
	return r ? fail(why, r, "the backing directory %s cannot be checked after a power loss: %s",
			   c->config->backing, err_str(r))
		 : 0;
}

static int make_mount(struct client *c, struct buf *why)
{
	struct mount_config config = {
		.mountpoint = c->config->mountpoint,
		.source = c->config->backing,
		.fuse_options = c->config->fuse_options,
		.tree = &c->tree,
		.tree_lock = &c->tree_lock,
		.debug = c->config->debug,
		.read_only = c->config->read_only,
		.sync_at_close = c->config->durable == DURABLE_LOCAL || c->config->durable == DURABLE_CLOSE,
		.wait_at_fsync = c->config->durable >= DURABLE_FSYNC,
		.wait_at_close = c->config->durable == DURABLE_CLOSE,
	};

	return mount_new(&config, &c->mount, why);
}

static void ask_server(void *arg, struct await_server *ret_server)
{
	struct client *c = arg;

	session_server(atomic_load(&c->session), ret_server);
}

static void hurry(void *arg)
{
	struct client *c = arg;

	session_hurry(atomic_load(&c->session));
}

static int make_await(struct client *c, struct buf *why)
{
	struct await_config config = {
		.capture = c->capture,
		.state = c->state,
		.offline = c->config->offline,
		.block_s = c->config->offline_block_s,
		.server = ask_server,
		.hurry = hurry,
		.arg = c,
	};
	int r = await_start(&config, &c->await);

	if (r)
		return fail(why, r, "waiting for the server cannot be prepared: %s", err_str(r));
	mount_set_await(c->mount, c->await);
	return 0;
}

static int make_session(struct client *c, struct buf *why)
{
	struct session_parts parts = {
		.config = c->config,
		.tree = &c->tree,
		.tree_lock = &c->tree_lock,
		.capture = c->capture,
		.state = c->state,
		.inodes = mount_table(c->mount),
		.invalidate = mount_invalidate(c->mount),
		.state_dirfd = c->state_dirfd,
	};
	struct session_run *session;
	int r = session_start(&parts, &session);

	if (r)
		return fail(why, r, "synchronisation cannot be started: %s", err_str(r));
	atomic_store(&c->session, session);
	session_released(session); /* what was called before that */
	r = control_start(c->config->mountpoint, &session_control_ops, session, &c->control);
	if (r)
		log_warn("syncfsctl cannot ask this mount: %s", err_str(r));
	return 0;
}

/*
 * A server that refuses us, or none at all, is a mistake of the command line: said now. One that cannot be
 * reached is not: changes wait in the journal.
 */
static int check_server(struct client *c, struct buf *why)
{
	cleanup_buf struct buf said = BUF_INIT;
	int r = session_first_contact(c->session, clock_mono_ms() + FIRST_CONTACT_MS, &said);
	const char *words = buf_cstr(&said) ? buf_cstr(&said) : "";

	if (!link_is_refusal(r))
		return 0;
	if (r == -EACCES || r == -EPERM)
		return fail(why, r,
			"%s does not accept the token (%s): make one with `syncfsd token add`, and name its "
			"file with -o "
			"token_file=",
			c->config->url, words);
	return fail(why, r, "there is no syncfsd at %s (%s): check -o url=", c->config->url, words);
}

static int open_all(struct client *c, struct buf *why)
{
	bool is_new;
	int r = open_tree(c, why);

	if (!r)
		r = open_state(c, &is_new, why);
	if (!r)
		r = check_root(c, why);
	if (!r)
		r = make_mount(c, why);
	if (!r)
		r = make_capture(c, why);
	if (!r)
		r = finish_applying(c, why);
	if (!r)
		r = check_emptied(c, why);
	if (!r)
		r = look_after_power(c, why);
	if (!r)
		r = make_session(c, why);
	if (!r)
		r = make_await(c, why);
	return r ? r : check_server(c, why);
}

static void close_all(struct client *c, bool was_running)
{
	control_stop(c->control);
	await_stop(c->await);
	session_stop(c->session);
	capture_close(c->capture);
	mount_free(c->mount);
	if (was_running && power_ended(c->state, &c->tree))
		log_warn("the backing directory could not be synced: the next start looks for damage");
	syncstate_close(c->state);
	if (c->tree_is_open)
		tree_close(&c->tree);
	cleanup_fd_(&c->backing_lock);
	cleanup_fd_(&c->state_lock);
	cleanup_fd_(&c->state_dirfd);
	rwlock_fini(&c->tree_lock);
}

int client_run(const struct client_config *config, void (*ready)(void *arg, struct mount *mount), void *arg,
	struct buf *why)
{
	struct client c = {.config = config, .state_dirfd = -1, .state_lock = -1, .backing_lock = -1};
	bool was_running;
	int r;

	rwlock_init(&c.tree_lock, RANK_TREE, "tree");
	r = open_all(&c, why);
	was_running = !r;
	if (!r) {
		ready(arg, c.mount);
		r = mount_run(c.mount);
		if (r)
			buf_printf(why, "the mount at %s ended: %s", config->mountpoint, err_str(r));
	}
	close_all(&c, was_running);
	return r;
}
