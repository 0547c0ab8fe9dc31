/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfuse for the client that is linked into the simulator (-Wl,--wrap), and the kernel's queue of requests
 * behind it: sessions, the device. Called by client/mount*.c and by the system calls of view*.c.
 * Answers are in view_reply.c, notifications in view_notify.c. Never looks into what a request means.
 */
#include "view_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "sysio.h"

/* What libfuse keeps of a mount, in the process. */
struct fuse_session {
	struct fuse_lowlevel_ops ops;
	void *userdata;
	struct view *view; /* NULL: not mounted */
	bool exited;
};

/* What a read of the device gives. */
struct device_read {
	struct fuse_in_header in; /* its number is all that is looked at */
	struct fuse_req *req;
};

static struct view *views;

void *__wrap_fuse_req_userdata(fuse_req_t req);
void *__wrap_fuse_req_userdata(fuse_req_t req)
{
	return req->view->session->userdata;
}

/* ---- requests ---- */

struct fuse_req *req_new(struct view *v, enum call call, const struct kinode *k)
{
	struct fuse_req *q = malloc(sizeof(*q));

	if (!q)
		abort();
	memset(q, 0, offsetof(struct fuse_req, name));
	q->name[0] = q->new_name[0] = '\0';
	q->view = v;
	q->refs = 2; /* the worker's, and the one of whoever answers */
	q->call = call;
	q->nodeid = k->nodeid;
	q->serial = k->serial;
	q->version = v->attr_version;
	return q;
}

void req_set_bytes(struct fuse_req *q, const void *bytes, size_t len)
{
	q->bytes = malloc(len + 1);
	if (!q->bytes)
		abort();
	if (len)
		memcpy(q->bytes, bytes, len);
	q->bytes[len] = 0;
	q->len = len;
}

void req_put(struct fuse_req *q)
{
	if (--q->refs > 0)
		return;
	free(q->bytes);
	free(q);
}

static void forget_known(struct fuse_req *q)
{
	*q->known_at = q->known_next;
	if (q->known_next)
		q->known_next->known_at = q->known_at;
}

static void finish(struct fuse_req *q, int error)
{
	forget_known(q);
	q->done = true;
	q->error = error;
	waitq_wake_all(&q->answered);
}

int req_answer(struct fuse_req *q, int error)
{
	bool is_late = q->done;

	if (!is_late)
		finish(q, error);
	req_put(q);
	return is_late ? -ENOENT : 0;
}

static void enqueue(struct fuse_req *q)
{
	struct view *v = q->view;

	q->known_next = v->known;
	q->known_at = &v->known;
	if (v->known)
		v->known->known_at = &q->known_next;
	v->known = q;
	q->next = NULL;
	if (v->last)
		v->last->next = q;
	else
		v->first = q;
	v->last = q;
	sysio_set_event(v->proc, v->fd, true);
	waitq_wake_one(&v->work);
}

static const char *const call_names[] = {
	[CALL_LOOKUP] = "LOOKUP",
	[CALL_FORGET] = "FORGET",
	[CALL_GETATTR] = "GETATTR",
	[CALL_SETATTR] = "SETATTR",
	[CALL_READLINK] = "READLINK",
	[CALL_MKDIR] = "MKDIR",
	[CALL_UNLINK] = "UNLINK",
	[CALL_RMDIR] = "RMDIR",
	[CALL_SYMLINK] = "SYMLINK",
	[CALL_RENAME] = "RENAME",
	[CALL_LINK] = "LINK",
	[CALL_OPEN] = "OPEN",
	[CALL_CREATE] = "CREATE",
	[CALL_READ] = "READ",
	[CALL_WRITE] = "WRITE",
	[CALL_FLUSH] = "FLUSH",
	[CALL_RELEASE] = "RELEASE",
	[CALL_FSYNC] = "FSYNC",
	[CALL_OPENDIR] = "OPENDIR",
	[CALL_READDIR] = "READDIR",
	[CALL_READDIRPLUS] = "READDIRPLUS",
	[CALL_RELEASEDIR] = "RELEASEDIR",
	[CALL_FSYNCDIR] = "FSYNCDIR",
	[CALL_SETXATTR] = "SETXATTR",
	[CALL_GETXATTR] = "GETXATTR",
};

static const uint32_t opcodes[] = {
	[CALL_GETXATTR] = 0, /* those that are looked at, and the last one */
	[CALL_FLUSH] = FUSE_FLUSH,
	[CALL_FSYNC] = FUSE_FSYNC,
	[CALL_FSYNCDIR] = FUSE_FSYNCDIR,
};

int req_send(struct fuse_req *q)
{
	struct view *v = q->view;

	if (!v->connected) {
		q->refs = 1;
		return -ENOTCONN;
	}
	q->refs++;
	enqueue(q);
	while (!q->done)
		(void)waitq_wait(&q->answered, SIM_FOREVER);
	sim_trace("%s #%llu %s %s = %d", call_names[q->call], (unsigned long long)q->serial, q->name,
		q->new_name, q->error);
	return q->error;
}

void req_send_async(struct fuse_req *q)
{
	q->is_async = true;
	if (!q->view->connected) {
		q->refs = 1;
		req_put(q);
		return;
	}
	enqueue(q);
}

void view_abort(struct view *v)
{
	struct fuse_req *q, *next;

	if (!v->connected)
		return;
	v->connected = false;
	sim_trace("view of %s is gone", v->machine->name);
	for (q = v->first; q; q = next) {
		next = q->next;
		finish(q, -ENOTCONN);
		q->refs--; /* no worker takes it */
		req_put(q); /* nobody answers it */
	}
	v->first = v->last = NULL;
	while (v->known)
		finish(v->known, -ENOTCONN); /* whoever answers it is told -ENOENT */
	waitq_wake_all(&v->work);
}

/* ---- the loop ---- */

static void dispatch_write(const struct fuse_lowlevel_ops *o, struct fuse_req *q)
{
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(q->len);

	in.buf[0].mem = q->bytes;
	o->write_buf(q, q->nodeid, &in, q->at, &q->fi);
}

static void dispatch_names(const struct fuse_lowlevel_ops *o, struct fuse_req *q)
{
	switch (q->call) {
	case CALL_LOOKUP:
		o->lookup(q, q->nodeid, q->name);
		break;
	case CALL_READLINK:
		o->readlink(q, q->nodeid);
		break;
	case CALL_MKDIR:
		o->mkdir(q, q->nodeid, q->name, q->mode);
		break;
	case CALL_UNLINK:
		o->unlink(q, q->nodeid, q->name);
		break;
	case CALL_RMDIR:
		o->rmdir(q, q->nodeid, q->name);
		break;
	case CALL_SYMLINK:
		o->symlink(q, (const char *)q->bytes, q->nodeid, q->name);
		break;
	case CALL_RENAME:
		o->rename(q, q->nodeid, q->name, q->new_nodeid, q->new_name, q->flags);
		break;
	case CALL_LINK:
		o->link(q, q->nodeid, q->new_nodeid, q->new_name);
		break;
	case CALL_CREATE:
		o->create(q, q->nodeid, q->name, q->mode, &q->fi);
		break;
	case CALL_SETXATTR:
		o->setxattr(q, q->nodeid, q->name, (const char *)q->bytes, q->len, (int)q->flags);
		break;
	case CALL_GETXATTR:
		o->getxattr(q, q->nodeid, q->name, q->count);
		break;
	default:
		abort();
	}
}

static void dispatch(const struct fuse_lowlevel_ops *o, struct fuse_req *q)
{
	switch (q->call) {
	case CALL_FORGET:
		o->forget(q, q->nodeid, q->count);
		break;
	case CALL_GETATTR:
		o->getattr(q, q->nodeid, q->has_fi ? &q->fi : NULL);
		break;
	case CALL_SETATTR:
		o->setattr(q, q->nodeid, &q->attr, q->to_set, q->has_fi ? &q->fi : NULL);
		break;
	case CALL_OPEN:
		o->open(q, q->nodeid, &q->fi);
		break;
	case CALL_READ:
		o->read(q, q->nodeid, q->count, q->at, &q->fi);
		break;
	case CALL_WRITE:
		dispatch_write(o, q);
		break;
	case CALL_FLUSH:
		o->flush(q, q->nodeid, &q->fi);
		break;
	case CALL_RELEASE:
		o->release(q, q->nodeid, &q->fi);
		break;
	case CALL_FSYNC:
		o->fsync(q, q->nodeid, (int)q->flags, &q->fi);
		break;
	case CALL_OPENDIR:
		o->opendir(q, q->nodeid, &q->fi);
		break;
	case CALL_READDIR:
		o->readdir(q, q->nodeid, q->count, q->at, &q->fi);
		break;
	case CALL_READDIRPLUS:
		o->readdirplus(q, q->nodeid, q->count, q->at, &q->fi);
		break;
	case CALL_RELEASEDIR:
		o->releasedir(q, q->nodeid, &q->fi);
		break;
	case CALL_FSYNCDIR:
		o->fsyncdir(q, q->nodeid, (int)q->flags, &q->fi);
		break;
	default:
		dispatch_names(o, q);
	}
}

static void start(struct fuse_session *se)
{
	struct view *v = se->view;

	v->is_started = true;
	v->conn.proto_major = 7;
	v->conn.proto_minor = 38;
	v->conn.max_write = 1u << 20;
	v->conn.max_readahead = 1u << 17;
	v->conn.capable = ~(uint32_t)0;
	se->ops.init(se->userdata, &v->conn);
}

int __wrap_fuse_session_receive_buf(struct fuse_session *se, struct fuse_buf *buf);
int __wrap_fuse_session_receive_buf(struct fuse_session *se, struct fuse_buf *buf)
{
	struct view *v = se->view;
	struct device_read *read = buf->mem;

	sim_point("fuse device");
	if (!v->is_started)
		start(se);
	while (!v->first && v->connected && !se->exited)
		(void)waitq_wait(&v->work, SIM_FOREVER);
	if (se->exited)
		return -EINTR;
	if (!v->connected) {
		se->exited = true;
		return 0;
	}
	if (!read && !(buf->mem = read = calloc(1, sizeof(*read))))
		return -ENOMEM;
	read->req = v->first;
	v->first = read->req->next;
	if (!v->first) {
		v->last = NULL;
		sysio_set_event(v->proc, v->fd, false);
	}
	read->in.opcode = opcodes[read->req->call];
	buf->size = sizeof(*read);
	return (int)buf->size;
}

void __wrap_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf);
void __wrap_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf)
{
	struct fuse_req *q = ((const struct device_read *)buf->mem)->req;

	dispatch(&se->ops, q);
	req_put(q);
}

int __wrap_fuse_session_fd(struct fuse_session *se);
int __wrap_fuse_session_fd(struct fuse_session *se)
{
	return se->view->fd;
}

void __wrap_fuse_session_reset(struct fuse_session *se);
void __wrap_fuse_session_reset(struct fuse_session *se)
{
	se->exited = false;
}

/* People of the simulator send no signals to each other. */
void __wrap_fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void *data);
void __wrap_fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void *data)
{
	(void)req, (void)func, (void)data;
}

/* ---- sessions ---- */

void __wrap_fuse_set_log_func(fuse_log_func_t func);
void __wrap_fuse_set_log_func(fuse_log_func_t func)
{
	(void)func;
}

struct fuse_session *__wrap_fuse_session_new(
	struct fuse_args *args, const struct fuse_lowlevel_ops *op, size_t op_size, void *userdata);
struct fuse_session *__wrap_fuse_session_new(
	struct fuse_args *args, const struct fuse_lowlevel_ops *op, size_t op_size, void *userdata)
{
	struct fuse_session *se = calloc(1, sizeof(*se));

	(void)args;
	if (!se)
		return NULL;
	memcpy(&se->ops, op, op_size < sizeof(se->ops) ? op_size : sizeof(se->ops));
	se->userdata = userdata;
	return se;
}

static void on_process_end(void *arg)
{
	view_abort(arg);
}

int __wrap_fuse_session_mount(struct fuse_session *se, const char *mountpoint);
int __wrap_fuse_session_mount(struct fuse_session *se, const char *mountpoint)
{
	struct view *v = calloc(1, sizeof(*v));

	if (!v || !(v->mountpoint = strdup(mountpoint)))
		abort();
	v->session = se;
	v->proc = proc_current();
	v->machine = proc_machine(v->proc);
	v->connected = true;
	v->fd = eventfd(0, EFD_CLOEXEC);
	v->attr_version = 1;
	cache_init(v);
	v->next = views;
	views = v;
	se->view = v;
	proc_at_end(v->proc, on_process_end, v);
	return 0;
}

void __wrap_fuse_session_unmount(struct fuse_session *se);
void __wrap_fuse_session_unmount(struct fuse_session *se)
{
	if (se->view)
		view_abort(se->view);
}

void __wrap_fuse_session_destroy(struct fuse_session *se);
void __wrap_fuse_session_destroy(struct fuse_session *se)
{
	if (se->view)
		se->view->session = NULL;
	free(se);
}

void __wrap_fuse_session_exit(struct fuse_session *se);
void __wrap_fuse_session_exit(struct fuse_session *se)
{
	se->exited = true;
	if (se->view)
		waitq_wake_all(&se->view->work);
}

int __wrap_fuse_session_exited(struct fuse_session *se);
int __wrap_fuse_session_exited(struct fuse_session *se)
{
	return se->exited;
}

struct view *view_of(const struct machine *m)
{
	for (struct view *v = views; v; v = v->next)
		if (v->machine == m && v->connected)
			return v;
	return NULL;
}

bool view_is_idle(const struct view *v)
{
	return !v->calls && !v->open_files;
}

void view_unmount(struct view *v)
{
	if (v->connected)
		view_abort(v);
}

int __wrap_umount2(const char *target, int flags);
int __wrap_umount2(const char *target, int flags)
{
	struct view *v = view_of(proc_machine(proc_current()));

	(void)flags;
	sim_point("umount2");
	if (!v || strcmp(v->mountpoint, target) != 0) {
		errno = EINVAL;
		return -1;
	}
	if (!view_is_idle(v)) {
		errno = EBUSY;
		return -1;
	}
	view_abort(v);
	return 0;
}

struct view *session_view(struct fuse_session *se)
{
	return se->view;
}
