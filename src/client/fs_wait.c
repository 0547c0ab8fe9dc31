/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that wait for the server: with durable=fsync and durable=close, fsync and flush are answered by
 * await's thread. Called by fs_file at the end of a handler whose local part is done; holds no thread and no
 * lock meanwhile.
 */
#include "fs_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/io.h>

struct waiting {
	fuse_req_t req;
	struct handle *handle; /* the kernel keeps it open until it is answered */
	uint64_t changes;
};

static void answer(void *arg, int error)
{
	struct waiting *w = arg;

	if (!error && atomic_load(&w->handle->kept) < w->changes)
		atomic_store(&w->handle->kept, w->changes);
	reply_result(w->req, error);
	free(w);
}

/* libfuse holds a lock of the request, not of ours. The request cannot be freed before this returns, so its
 * address names no other one. */
static void on_interrupt(fuse_req_t req, void *await)
{
	await_interrupt(await, req);
}

/* A file without a name is nobody's but its descriptors'. */
static bool is_nameless(const struct handle *h)
{
	struct stat_id st;

	return tree_stat(h->fd, "", &st) == 0 && st.nlink == 0;
}

/*
 * The caller ends, and this is one of the files that it had open: no signal reaches it any more, and it does
 * not hear the answer. Its parent waits for it all the same. Flags are the ninth field of proc_pid_stat(5),
 * and this one is PF_EXITING of the kernel's include/linux/sched.h.
 */
static bool is_exiting(pid_t pid)
{
	char path[32], text[1024];
	cleanup_fd int fd = -1;
	unsigned flags = 0;
	const char *end;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	end = strrchr(text, ')'); /* of the name, which may hold anything */
	return end && sscanf(end, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && (flags & 4);
}

void fs_reply_when_kept(fuse_req_t req, struct handle *h, uint64_t changes)
{
	struct view *v = view_of(req);
	struct waiting *w;
	struct stat_id id;
	int r;

	/* Our own call at the end of the mount (write_mappings() of mount.c) has nobody to promise to. */
	if (fuse_req_ctx(req)->pid == getpid() || is_nameless(h)) {
		reply_result(req, 0);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w) {
		reply_result(req, -ENOMEM);
		return;
	}
	*w = (struct waiting){.req = req, .handle = h, .changes = changes};
	inode_identity(v->inodes, h->inode, &id);
	r = await_park(v->await, &id, req, !is_exiting(fuse_req_ctx(req)->pid), answer, w);
	if (r <= 0) {
		answer(w, r);
		return;
	}
	/* In this order: an interrupt that came already finds the call, and nobody answers it before it is
	 * armed. */
	fuse_req_interrupt_func(req, on_interrupt, v->await);
	await_arm(v->await, req);
}
