/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE session: mounting, the handlers' table, what is negotiated with the kernel, and the end of the
 * threads that serve (mount_loop.c). main calls it in the order of mount.h. Knows no journal and no network;
 * never exits and writes nothing to stderr.
 *
 * The end: mount_stop() only sets a flag that a thread waits for. The thread first unmounts while the session
 * still serves, so that dirty pages of mappings and all releases come in; when somebody is still inside
 * (EBUSY) it has those pages written file by file, ends the loop, and the mount is detached when the
 * session closes. In both cases nothing is left mounted.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#include "fs_view.h"
#include "mount_loop.h"
#include "unmount.h"

#define MAX_WRITE_BYTES (1u << 20) /* what libfuse's buffers take (256 pages) */
#define BACKGROUND_MAX 64
#define WAKE_SIGNAL SIGURG /* interrupts the reads of the device at the end */

struct mount {
	struct view view;
	struct fuse_session *session;
	struct mount_loop *loop;
	char *mountpoint;
	struct stop *stop;
	bool mounted;

	pthread_t end_thread;
	atomic_bool loop_ended; /* seq_cst: read by the end thread only */
};

/*
 * No getlk, setlk, flock: without them the kernel keeps locks itself, for this mount, with the right owners
 * and lifetimes. Handing them down would make every lock of every process one of ours on the backing file,
 * where our threads do not exclude each other. No poll: for regular files always ready, says the kernel
 * itself. No ioctl, bmap: nothing to hand through.
 */
static const struct fuse_lowlevel_ops *operations(void);

/* ---- what libfuse says ---- */

static struct buf *said; /* while mounting: what libfuse complains of, for the sentence to the user */

__attribute__((format(printf, 2, 0))) static void on_fuse_log(
	enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[512];
	size_t len;

	vsnprintf(line, sizeof(line), fmt, ap);
	len = strcspn(line, "\n");
	line[len] = '\0';
	if (len == 0)
		return;
	if (said) {
		/* A complaint comes in pieces, the first with a prefix. */
		buf_put_str(said, strncmp(line, "fuse: ", 6) == 0 ? line + 6 : line);
	} else if (level <= FUSE_LOG_WARNING) {
		log_warn("libfuse: %s", line);
	} else {
		log_debug("libfuse: %s", line);
	}
}

/* ---- negotiation ---- */

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	/*
	 * AUTO_INVAL_DATA: cached pages go when mtime or size turn out changed, which covers changes in the
	 * backing directory. No WRITEBACK_CACHE: it makes the kernel the authority on size and mtime and
	 * hides writes from the journal. No HANDLE_KILLPRIV: then we would have to drop set-id bits; the
	 * kernel does it by setattr.
	 */
	const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_WRITE |
		FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
		FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS;

	(void)userdata;
	conn->want = wanted & conn->capable;
	conn->max_write = MAX_WRITE_BYTES;
	conn->max_background = BACKGROUND_MAX;
	conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops *operations(void)
{
	static const struct fuse_lowlevel_ops ops = {
		.init = on_init,
		.lookup = fs_lookup,
		.forget = fs_forget,
		.forget_multi = fs_forget_multi,
		.getattr = fs_getattr,
		.setattr = fs_setattr,
		.readlink = fs_readlink,
		.mknod = fs_mknod,
		.mkdir = fs_mkdir,
		.unlink = fs_unlink,
		.rmdir = fs_rmdir,
		.symlink = fs_symlink,
		.rename = fs_rename,
		.link = fs_link,
		.open = fs_open,
		.create = fs_create,
		.read = fs_read,
		.write_buf = fs_write_buf,
		.flush = fs_flush,
		.release = fs_release,
		.fsync = fs_fsync,
		.opendir = fs_opendir,
		.readdir = fs_readdir,
		.readdirplus = fs_readdirplus,
		.releasedir = fs_releasedir,
		.fsyncdir = fs_fsyncdir,
		.statfs = fs_statfs,
		.setxattr = fs_setxattr,
		.getxattr = fs_getxattr,
		.listxattr = fs_listxattr,
		.removexattr = fs_removexattr,
		.access = fs_access,
		.fallocate = fs_fallocate,
		.copy_file_range = fs_copy_file_range,
		.lseek = fs_lseek,
	};

	return &ops;
}

/* ---- mounting ---- */

static int build_arguments(const struct mount_config *config, struct fuse_args *args)
{
	cleanup_buf struct buf source = BUF_INIT;
	cleanup_free char *options = NULL;
	int failed = 0;

	buf_printf(&source, "fsname=%s", config->source);
	if (!buf_cstr(&source))
		return -ENOMEM;
	/* Escaped: a path may hold commas and backslashes. */
	failed |= fuse_opt_add_opt_escaped(&options, buf_cstr(&source));
	failed |= fuse_opt_add_opt(&options, "subtype=syncfs");
	/* The kernel checks permissions: we run with rights of our own (and libfuse caches results, README of
	 * libfuse). */
	failed |= fuse_opt_add_opt(&options, "default_permissions");
	if (config->read_only)
		failed |= fuse_opt_add_opt(&options, "ro");
	if (config->fuse_options && *config->fuse_options)
		failed |= fuse_opt_add_opt(&options, config->fuse_options);
	failed |= fuse_opt_add_arg(args, "syncfs");
	failed |= fuse_opt_add_arg(args, "-o");
	failed |= fuse_opt_add_arg(args, options ? options : "");
	if (config->debug)
		failed |= fuse_opt_add_arg(args, "-d");
	return failed ? -ENOMEM : 0;
}

static int open_session(struct mount *m, const struct mount_config *config, struct buf *why)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	cleanup_buf struct buf detail = BUF_INIT;
	int r = build_arguments(config, &args);

	if (!r) {
		said = &detail;
		m->session = fuse_session_new(&args, operations(), sizeof(*operations()), &m->view);
		if (!m->session)
			r = -EINVAL;
		else if (fuse_session_mount(m->session, m->mountpoint) != 0)
			r = -EACCES;
		else
			m->mounted = true;
		said = NULL;
	}
	fuse_opt_free_args(&args);
	if (r == -EINVAL)
		buf_printf(why, "libfuse refuses the mount options: %s",
			detail.len ? buf_cstr(&detail) : "no reason given");
	else if (r)
		buf_printf(why, "cannot mount at %s: %s", m->mountpoint,
			detail.len ? buf_cstr(&detail) : "libfuse gives no reason; is /dev/fuse there?");
	return r;
}

/* Every open file of every program is one of ours, and the usual soft limit (1024) is there for select(2)
 * only. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_debug("RLIMIT_NOFILE: %s", err_str(-errno));
}

int mount_new(const struct mount_config *config, struct mount **ret_mount, struct buf *why)
{
	struct mount *m = calloc(1, sizeof(*m));
	int r = -ENOMEM;

	fuse_set_log_func(on_fuse_log);
	if (!m) {
		buf_put_str(why, "out of memory");
		return r;
	}
	raise_descriptors();
	mutex_init(&m->view.dirs_lock, RANK_INODE_TABLE, "directory handles");
	m->view.tree = config->tree;
	m->view.tree_lock = config->tree_lock;
	m->view.sync_at_close = config->sync_at_close;
	m->view.wait_at_fsync = config->wait_at_fsync;
	m->view.wait_at_close = config->wait_at_close;
	m->mountpoint = strdup(config->mountpoint);
	m->stop = stop_new();
	if (m->mountpoint && m->stop)
		r = inode_table_new(config->tree, &m->view.inodes);
	if (!r && !(m->view.invalidate = invalidate_new(m->view.inodes)))
		r = -ENOMEM;
	if (r)
		buf_printf(why, "cannot prepare the mount: %s", err_str(r));
	else
		r = open_session(m, config, why);
	if (!r) {
		r = mount_loop_new(m->session, config->sync_at_close, &m->loop);
		if (r)
			buf_put_str(why, "out of memory");
	}
	if (r) {
		mount_free(m);
		return r;
	}
	*ret_mount = m;
	return 0;
}

struct inode_table *mount_table(struct mount *m)
{
	return m->view.inodes;
}

struct invalidate *mount_invalidate(struct mount *m)
{
	return m->view.invalidate;
}

void mount_set_capture(struct mount *m, struct capture *capture)
{
	m->view.capture = capture;
}

void mount_set_await(struct mount *m, struct await *await)
{
	m->view.await = await;
}

void mount_free(struct mount *m)
{
	if (!m)
		return;
	if (m->mounted)
		fuse_session_unmount(m->session);
	mount_loop_free(m->loop);
	if (m->session)
		fuse_session_destroy(m->session);
	invalidate_free(m->view.invalidate);
	inode_table_free(m->view.inodes);
	mutex_fini(&m->view.dirs_lock);
	stop_free(m->stop);
	free(m->mountpoint);
	free(m);
}

/* ---- the end of the loop ---- */

/*
 * Pages of mappings that only the kernel has. Not syncfs(2): for FUSE it starts the writing and does not wait
 * (sync_inodes_sb() passes over mappings without data integrity; measured on 6.18). fsync through the mount
 * waits, file by file.
 */
static void write_mappings(struct mount *m)
{
	cleanup_fd int root = open(m->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_buf struct buf paths = BUF_INIT;
	const char *path;
	int r = inode_writer_paths(m->view.inodes, &paths);

	for (size_t at = 0; !r && at < paths.len; at += strlen(path) + 1) {
		cleanup_fd int fd = -1;

		path = (const char *)paths.data + at;
		fd = openat(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fsync(fd) < 0)
			log_warn("unmount %s: %s may lack the last changes of a mapping: %s", m->mountpoint,
				path, err_str(-errno));
	}
	if (r)
		log_warn("unmount %s: mapped files may lack their last changes: %s", m->mountpoint,
			err_str(r));
}

/* 0: the loop ends by itself, its device is gone. */
static int end_mount(struct mount *m)
{
	int r = unmount(m->mountpoint);

	if (r && !fuse_session_exited(m->session)) {
		log_info("unmount %s: %s, detaching it", m->mountpoint, err_str(r));
		write_mappings(m);
	}
	return r;
}

static void *wait_for_end(void *arg)
{
	struct mount *m = arg;
	struct pollfd p = {.fd = stop_fd(m->stop), .events = POLLIN};

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	if (atomic_load(&m->loop_ended))
		return NULL;
	await_close(m->view.await); /* or who waits would keep its file open */
	(void)end_mount(m);
	mount_loop_end(m->loop);
	return NULL;
}

static void on_wake(int signal)
{
	(void)signal; /* its coming is all: read(2) gives EINTR */
}

void mount_stop(struct mount *m)
{
	stop_set(m->stop);
}

/* What the kernel could not release any more; reported complete as by a close. */
static void drop_handles(struct mount *m)
{
	struct handle *h;

	while ((h = inode_any_handle(m->view.inodes)))
		fs_drop_handle(&m->view, h);
	fs_drop_dirs(&m->view);
}

int mount_run(struct mount *m)
{
	/* No SA_RESTART: the wait must end. */
	struct sigaction wake = {.sa_handler = on_wake}, before;
	sigset_t set;
	int r;

	atomic_store(&m->loop_ended, false);
	r = invalidate_start(m->view.invalidate, m->session);
	if (r)
		return r;
	(void)sigaction(WAKE_SIGNAL, &wake, &before);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, WAKE_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	r = -pthread_create(&m->end_thread, NULL, wait_for_end, m);
	if (!r) {
		r = mount_loop_run(m->loop, WAKE_SIGNAL);
		atomic_store(&m->loop_ended, true);
		stop_set(m->stop);
		(void)pthread_join(m->end_thread, NULL);
		await_close(m->view.await);
		await_drain(m->view.await);
		drop_handles(m);
	}
	(void)sigaction(WAKE_SIGNAL, &before, NULL);
	invalidate_stop(m->view.invalidate);
	return r;
}
