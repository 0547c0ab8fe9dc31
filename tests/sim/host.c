/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfsd and syncfs as simulated processes, see host.h, and what main.c of each does around them. Also
 * client/control.c: what a mount would answer to syncfsctl is kept here, and asked by a thread of the
 * client's process, since it takes locks. Called by the world's thread.
 */
#include "host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "capture_internal.h"
#include "client.h"
#include "config.h"
#include "control.h"
#include "disk.h"
#include "host_server.h"
#include "mount.h"
#include "session_internal.h"
#include "sim.h"
#include "syncstate.h"

#define MS 1000000ull
#define END_MS 900000 /* a stop that takes longer hangs */

/* One run of client_run(). The process's, read by the world. */
struct run {
	struct run *next;
	struct client_host *host;
	struct proc *proc;
	struct client_config config;
	struct mount *mount;
	const struct control_ops *ops; /* NULL: nothing answers */
	void *ops_arg;
	bool is_ready, is_over;
	struct waitq changed;
};

struct control {
	struct run *run;
};

static struct run *runs;

static struct run *run_of(const struct proc *p)
{
	struct run *r = runs;

	while (r && r->proc != p)
		r = r->next;
	return r;
}

void host_new_boot(struct machine *m)
{
	static unsigned boots;

	(void)snprintf(m->boot_id, sizeof(m->boot_id), "00000000-0000-4000-8000-%012x", ++boots);
}

/* ---- control.h ---- */

int control_start(
	const char *mountpoint, const struct control_ops *ops, void *arg, struct control **ret_control)
{
	struct control *c = calloc(1, sizeof(*c));
	struct run *r = run_of(proc_current());

	(void)mountpoint;
	if (!c || !r)
		return -ENOMEM;
	c->run = r;
	c->run->ops_arg = arg;
	c->run->ops = ops;
	*ret_control = c;
	return 0;
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	c->run->ops = NULL;
	free(c);
}

bool control_call_is_over(const struct control_call *call)
{
	(void)call;
	return false;
}

/* ---- clients ---- */

void host_client_new(struct client_host *c, unsigned number)
{
	static const char *const names[] = {"A", "B", "C", "D", "E", "F", "G", "H"};

	*c = (struct client_host){.number = number, .token = number};
	c->machine.name = names[number % (sizeof(names) / sizeof(names[0]))];
	c->machine.disk = disk_new(c->machine.name);
	host_new_boot(&c->machine);
	if (disk_mkdirs(c->machine.disk, HOST_BACKING, 0700) ||
		disk_mkdirs(c->machine.disk, HOST_STATE, 0700) ||
		disk_mkdirs(c->machine.disk, "/home/view", 0700))
		sim_fail("simulator", "the disk of a new machine cannot be filled");
}

static void on_ready(void *arg, struct mount *mount)
{
	struct run *r = arg;

	r->mount = mount;
	r->is_ready = true;
	r->host->view = view_of(&r->host->machine);
	waitq_wake_all(&r->changed);
}

static void on_client_end(void *arg)
{
	struct run *r = arg;

	r->is_over = true;
	r->ops = NULL;
	if (r->host->proc == r->proc) {
		r->host->proc = NULL;
		r->host->view = NULL;
	}
	waitq_wake_all(&r->changed);
}

static void client_main(void *arg)
{
	struct run *r = arg;
	struct buf why = BUF_INIT;

	r->host->ended = client_run(&r->config, on_ready, r, &why);
	(void)snprintf(r->host->why, sizeof(r->host->why), "%s", why.len ? buf_cstr(&why) : "");
	buf_fini(&why);
	sim_trace("syncfs of %s has ended with %d: %s", r->host->machine.name, r->host->ended, r->host->why);
	proc_kill(r->proc); /* exit(3) */
}

static char *copy(const char *text)
{
	char *own = strdup(text);

	if (!own)
		abort();
	return own;
}

static void fill_client_config(struct client_config *config, const struct client_host *c, bool adopt)
{
	*config = (struct client_config){
		.action = CONFIG_MOUNT,
		.mountpoint = copy("/home/view"),
		.url = copy("http://server:3459"),
		.token = copy(host_token(c->token)),
		.backing = copy(HOST_BACKING),
		.state = copy(HOST_STATE),
		.label = copy(c->machine.name),
		.fuse_options = copy(""),
		.uid = -1,
		.gid = -1,
		.durable = c->number % 3 == 2 ? DURABLE_LOCAL : DURABLE_NONE,
		.poll_wait_s = 55,
		.adopt = adopt,
		.foreground = true,
	};
}

int host_client_start(struct client_host *c, bool adopt)
{
	struct run *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->host = c;
	fill_client_config(&r->config, c, adopt);
	c->why[0] = '\0';
	c->ended = 0;
	c->view = NULL;
	r->proc = c->proc = proc_new(c->machine.name, &c->machine);
	r->next = runs;
	runs = r;
	proc_at_end(r->proc, on_client_end, r);
	proc_spawn(r->proc, "main", client_main, r);
	while (!r->is_ready && !r->is_over)
		(void)waitq_wait(&r->changed, SIM_FOREVER);
	return r->is_ready ? 0 : c->ended ? c->ended : -ECANCELED;
}

static void on_sigterm(void *arg)
{
	struct run *r = arg;

	mount_stop(r->mount);
}

static void await_client_end(struct run *r)
{
	uint64_t until = sim_now_ns() + END_MS * MS;

	while (!r->is_over) {
		if (waitq_wait(&r->changed, until))
			continue;
		sim_fail("hang", "syncfs of %s does not end", r->host->machine.name);
	}
}

void host_client_stop(struct client_host *c)
{
	struct run *r = c->proc ? run_of(c->proc) : NULL;

	if (!r)
		return;
	if (c->view && view_is_idle(c->view) && sim_below(STREAM_SCHEDULE, 2))
		view_unmount(c->view);
	else if (c->view)
		proc_spawn(r->proc, "SIGTERM", on_sigterm, r);
	await_client_end(r);
}

void host_client_kill(struct client_host *c)
{
	if (!c->proc)
		return;
	sim_trace("kill -9 of syncfs on %s", c->machine.name);
	proc_kill(c->proc);
}

void host_client_cut(struct client_host *c)
{
	host_client_kill(c);
	disk_power_cut(c->machine.disk);
	host_new_boot(&c->machine);
}

struct disk *host_backup(const struct machine *m)
{
	return disk_copy(m->disk);
}

void host_restore(struct machine *m, const struct disk *backup)
{
	disk_free(m->disk);
	m->disk = disk_copy(backup);
	host_new_boot(m);
}

/* ---- syncfsctl ---- */

struct question {
	struct run *run;
	struct control_reply *reply;
	uint64_t server_seq;
	struct cursor cursor; /* is_idle: of the client */
	bool is_idle, is_over;
	struct waitq over;
};

static void ask_status(void *arg)
{
	struct question *q = arg;

	if (q->run->ops) {
		q->reply->ok = true;
		q->run->ops->status(q->run->ops_arg, NULL, q->reply);
	}
	q->is_over = true;
	waitq_wake_all(&q->over);
}

static bool has_nothing_to_apply(struct session_run *s)
{
	struct node_state *first;
	size_t count = 1;
	bool scanned;

	if (syncstate_peek_remotes(s->parts.state, 0, 1, &first, &count))
		return false;
	for (size_t i = 0; i < count; i++)
		node_state_fini(&first[i]);
	free(first);
	MUTEX_GUARD(&s->lock);
	scanned = s->rescan && rescan_first_is_done(s->rescan);
	return !count && scanned && !s->merge;
}

static void ask_idle(void *arg)
{
	struct question *q = arg;
	struct control_reply reply = {.ok = true};

	if (q->run->ops) {
		struct session_run *s = q->run->ops_arg;

		q->run->ops->status(s, NULL, &reply);
		q->is_idle = !reply.status.pending_ops && !reply.status.open_writers &&
			reply.status.cursor_seq == q->server_seq && has_nothing_to_apply(s) &&
			!syncstate_peek_cursor(s->parts.state, &q->cursor);
		control_reply_fini(&reply);
	}
	q->is_over = true;
	waitq_wake_all(&q->over);
}

/* ---- what is left to apply, for the trace ---- */

static const char *hex_end(const struct id *id)
{
	static char hex[8][64];
	static unsigned turn;
	char *h = hex[turn = (turn + 1) % 8];

	(void)id_to_hex(id, h);
	return h + strlen(h) - 8;
}

static void tell_node(const char *what, const struct node_state *n)
{
	sim_trace("  %s %s kind %d%s, seq %llu, c %lld, a %lld", what, hex_end(&n->node), (int)n->kind,
		n->tomb ? ", dead" : "", (unsigned long long)n->seq, (long long)n->c, (long long)n->a);
	for (size_t i = 0; i < n->names_count; i++)
		sim_trace("    %s in %s, l %lld", n->names[i].name, hex_end(&n->names[i].parent),
			(long long)n->names[i].l);
}

static void tell_holders(struct syncstate *s, const struct node_state *r)
{
	for (size_t i = 0; i < r->names_count; i++) {
		struct base_row row;
		struct id holder;

		if (syncstate_peek_name(s, &r->names[i].parent, r->names[i].name, &holder) ||
			id_equal(&holder, &r->node) || syncstate_peek_base(s, &holder, &row))
			continue;
		tell_node("its name is held by", &row.state);
		base_row_fini(&row);
	}
}

static void tell_left(struct session_run *s, const struct node_state *r)
{
	struct base_row row;

	tell_node("R", r);
	if (capture_is_busy(s->parts.capture, &r->node))
		sim_trace("    something of it is pending here");
	if (syncstate_peek_base(s->parts.state, &r->node, &row)) {
		sim_trace("    not in S");
	} else {
		tell_node("S", &row.state);
		base_row_fini(&row);
	}
	tell_holders(s->parts.state, r);
}

static void tell_queue(struct capture *c)
{
	static const char *const words[] = {
		"?", "create", "write", "rename", "exchange", "link", "unlink", "rmdir", "setattr"};
	unsigned n = 0;

	mutex_lock(&c->lock);
	for (const struct entry *e = pending_first(c->pending); e && n < 20; e = e->next, n++) {
		char *now = NULL;
		struct id at;

		if (pending_locate(c->pending, &e->node, &at, &now))
			at = ID_NONE;
		sim_trace("  pending: %s %s kind %d, %s in %s to %s in %s, other %s%s, now %s in %s, put off "
			  "to "
			  "%llu",
			words[e->type < 9 ? e->type : 0], hex_end(&e->node), (int)e->kind,
			e->name ? e->name : "-", hex_end(&e->parent), e->new_name ? e->new_name : "-",
			hex_end(&e->new_parent), hex_end(&e->other), e->in_flight ? ", in flight" : "",
			now ? now : "nowhere", hex_end(&at), (unsigned long long)e->not_before_ms);
		free(now);
	}
	mutex_unlock(&c->lock);
}

static void ask_left(void *arg)
{
	struct question *q = arg;
	struct node_state *nodes;
	size_t count = 0;

	if (q->run->ops) {
		struct session_run *s = q->run->ops_arg;

		tell_queue(s->parts.capture);
		if (syncstate_peek_remotes(s->parts.state, 0, 20, &nodes, &count) == 0) {
			for (size_t i = 0; i < count; i++) {
				tell_left(s, &nodes[i]);
				node_state_fini(&nodes[i]);
			}
			free(nodes);
		}
	}
	q->is_over = true;
	waitq_wake_all(&q->over);
}

/* False: it is not running, or has ended meanwhile. */
static bool ask(struct client_host *c, struct question *q, void (*fn)(void *arg))
{
	struct run *r = c->proc ? run_of(c->proc) : NULL;

	if (!r || !r->ops)
		return false;
	q->run = r;
	proc_spawn(r->proc, "control", fn, q);
	while (!q->is_over && !r->is_over)
		(void)waitq_wait(&q->over, sim_now_ns() + 1000 * MS);
	return q->is_over;
}

/* The question is the process's to write to, also after a kill has ended our waiting: never freed. */
static struct question *question_new(void)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q || !(q->reply = calloc(1, sizeof(*q->reply))))
		abort();
	return q;
}

bool host_client_status(struct client_host *c, struct control_reply *ret_reply)
{
	struct question *q = question_new();

	if (!ask(c, q, ask_status) || !q->reply->ok)
		return false;
	*ret_reply = *q->reply;
	return true;
}

/* Without the lock: no other thread runs meanwhile. */
bool host_client_owes(const struct client_host *c)
{
	const struct run *r = c->proc ? run_of(c->proc) : NULL;
	const struct session_run *s = r && r->ops ? r->ops_arg : NULL;

	return !s || pending_count(s->parts.capture->pending) > 0;
}

void host_client_tell_left(struct client_host *c)
{
	(void)ask(c, question_new(), ask_left);
}

bool host_client_is_idle(struct client_host *c)
{
	struct question *q = question_new();

	if (!host_server_seq(&q->server_seq))
		return false;
	/* A server that was put back may have come to the same number meanwhile. */
	return ask(c, q, ask_idle) && q->is_idle && host_server_knows(&q->cursor);
}
