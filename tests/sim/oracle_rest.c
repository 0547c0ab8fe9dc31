/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true when all is said and done: everywhere the same, nothing lost, nothing invented, nothing
 * back that was deleted, nothing twice. Called by world.c; looks at disks and views, never changes them.
 */
#include "oracle_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syncfs/conflict.h>

#include "net.h"
#include "sim.h"

/* ---- I1 ---- */

static void differ(unsigned client, const char *path, const char *what)
{
	sim_fail("I1", "%s: %s at client %u and at the server", path, what, client);
}

/* The first name of the same object, in the order of names: equal for equal groups. */
static const char *first_name(const struct tree_look *t, const struct node *n)
{
	if (n->nlink < 2 || S_ISDIR(n->mode))
		return n->path;
	for (size_t i = 0; i < t->count; i++) {
		if (t->nodes[i].ino == n->ino)
			return t->nodes[i].path;
	}
	return n->path;
}

struct names_of {
	ino_t ino;
	const char *disk;
};

static int tell_name(void *arg, const struct disk_entry *e)
{
	const struct names_of *n = arg;

	if (e->st.st_ino == n->ino)
		sim_trace("oracle: a name of it on the disk of %s: %s", n->disk, e->path);
	return 0;
}

/* For the message: also those that no view shows. */
static void tell_names(struct oracle *o, unsigned client, ino_t here, ino_t at_server)
{
	struct names_of n = {.ino = here, .disk = o->clients[client].machine.name};

	(void)disk_walk(o->clients[client].machine.disk, "/", tell_name, &n);
	n = (struct names_of){.ino = at_server, .disk = "the server"};
	(void)disk_walk(o->server->machine.disk, "/", tell_name, &n);
}

static void compare_node(struct oracle *o, unsigned client, const struct tree_look *here,
	const struct tree_look *server, const struct node *n)
{
	const struct node *m = tree_find(server, n->path);

	if (!m)
		sim_fail("I1", "%s is at client %u, not at the server: %s", n->path, client,
			oracle_name(o, n->version));
	if ((n->mode & S_IFMT) != (m->mode & S_IFMT))
		differ(client, n->path, "another kind");
	if (n->len != m->len || n->hash != m->hash)
		sim_fail("I1", "%s: at client %u %s; at the server %s", n->path, client,
			oracle_name(o, n->version), oracle_name(o, m->version));
	if (S_ISLNK(n->mode))
		return;
	if ((n->mode & 0777) != (m->mode & 0777))
		sim_fail("I1", "%s: mode %o at client %u, %o at the server", n->path, n->mode & 0777, client,
			m->mode & 0777);
	if (S_ISDIR(n->mode))
		return;
	if (n->mtime.tv_sec != m->mtime.tv_sec || n->mtime.tv_nsec != m->mtime.tv_nsec)
		sim_fail("I1", "%s: mtime %lld.%09ld at client %u, %lld.%09ld at the server", n->path,
			(long long)n->mtime.tv_sec, n->mtime.tv_nsec, client, (long long)m->mtime.tv_sec,
			m->mtime.tv_nsec);
	if (n->nlink != m->nlink || strcmp(first_name(here, n), first_name(server, m)) != 0) {
		tell_names(o, client, n->ino, m->ino);
		sim_fail("I1", "%s: %lu names at client %u (first %s), %lu at the server (first %s)", n->path,
			(unsigned long)n->nlink, client, first_name(here, n), (unsigned long)m->nlink,
			first_name(server, m));
	}
}

static void check_same(struct oracle *o, const struct tree_look *server)
{
	for (unsigned c = 0; c < o->count; c++) {
		struct tree_look t;

		tree_look(o, o->clients[c].machine.disk, HOST_BACKING, &t);
		for (size_t i = 0; i < t.count; i++)
			compare_node(o, c, &t, server, &t.nodes[i]);
		for (size_t i = 0; i < server->count; i++) {
			if (!tree_find(&t, server->nodes[i].path))
				sim_fail("I1", "%s is at the server, not at client %u: %s",
					server->nodes[i].path, c, oracle_name(o, server->nodes[i].version));
		}
		oracle_check_view(o, c, &t);
		tree_look_free(&t);
	}
}

/* ---- I2 to I5 ---- */

struct where {
	struct oracle *o;
	unsigned version;
	const char *disk;
};

static int tell_where(void *arg, const struct disk_entry *e)
{
	struct where *w = arg;
	bool is_link = S_ISLNK(e->st.st_mode);

	if ((S_ISREG(e->st.st_mode) || is_link) && oracle_find(w->o, e->bytes, e->len, is_link) == w->version)
		sim_trace("oracle: its bytes are on the disk of %s at %s", w->disk, e->path);
	return 0;
}

/* For the message: whether the bytes are anywhere. */
static void tell_all(struct oracle *o, unsigned v)
{
	struct where w = {.o = o, .version = v, .disk = "the server"};

	(void)disk_walk(o->server->machine.disk, "/", tell_where, &w);
	for (unsigned c = 0; c < o->count; c++) {
		w.disk = o->clients[c].machine.name;
		(void)disk_walk(o->clients[c].machine.disk, "/", tell_where, &w);
	}
}

/* By version: how many objects of the server's tree hold it, and the first of them. */
struct held {
	unsigned count;
	ino_t ino;
	const char *path;
};

static struct held *hold(struct oracle *o, const struct tree_look *server)
{
	struct held *held = calloc(o->versions_count + 1, sizeof(*held));

	if (!held)
		abort();
	for (size_t i = 0; i < server->count; i++) {
		const struct node *n = &server->nodes[i];
		struct held *h = &held[n->version];

		if (S_ISDIR(n->mode))
			continue;
		if (n->version == NO_VERSION)
			sim_fail("I3", "%s has %zu bytes that nobody wrote", n->path, n->len);
		if (h->count && h->ino == n->ino)
			continue;
		h->count++;
		h->ino = n->ino;
		if (h->count == 1)
			h->path = n->path;
		else if (!o->old_comes_back && !o->versions[n->version].again)
			sim_fail("I5", "one content twice, at %s and %s: %s", h->path, n->path,
				oracle_name(o, n->version));
	}
	return held;
}

/*
 * What it was edited to was taken away by the same client, maybe before it was sent, by a call that may have
 * lost: then that is undone, and the server has only what was before the edit.
 */
static bool may_be_all_there_is(const struct oracle *o, unsigned v)
{
	for (unsigned n = 1; n < o->versions_count; n++) {
		const struct version *w = &o->versions[n];

		if (w->maybe_used_by & 1u << w->client && oracle_is_ancestor(o, v, n))
			return true;
	}
	return false;
}

static void check_version(struct oracle *o, unsigned v, const struct held *h)
{
	const struct version *w = &o->versions[v];

	if (!h->count) {
		if (!w->finished || w->used_up || w->lost)
			return;
		tell_all(o, v);
		sim_fail("I2", "lost: %s", oracle_name(o, v));
	}
	if (!w->whole && !w->published)
		sim_fail("I3", "a state in between became a file, at %s: %s", h->path, oracle_name(o, v));
	if (w->gone && !o->old_comes_back && !w->again && !(w->moved_by & ~w->used_by) &&
		!may_be_all_there_is(o, v))
		sim_fail("I4", "back again at %s although deleted or overwritten: %s", h->path,
			oracle_name(o, v));
}

static void check_versions(struct oracle *o, const struct tree_look *server)
{
	struct held *held = hold(o, server);

	for (unsigned v = 1; v < o->versions_count; v++)
		check_version(o, v, &held[v]);
	free(held);
}

void oracle_expect_copies(struct oracle *o, const char *dir, unsigned row, unsigned most)
{
	struct expected *e = calloc(1, sizeof(*e));

	if (!e)
		abort();
	*e = (struct expected){.next = o->expected, .row = row, .copies = most};
	(void)snprintf(e->dir, sizeof(e->dir), "%s", dir);
	o->expected = e;
}

static void check_expected(const struct oracle *o, const struct tree_look *server)
{
	if (o->old_comes_back || sim_options.hand_edits)
		return;
	for (const struct expected *e = o->expected; e; e = e->next) {
		unsigned copies = 0;
		size_t len = strlen(e->dir);

		for (size_t i = 0; i < server->count; i++) {
			const char *path = server->nodes[i].path;

			copies += strncmp(path, e->dir, len) == 0 && conflict_name_is(strrchr(path, '/') + 1);
		}
		if (copies > e->copies)
			sim_fail("I5",
				"row %u of the matrix made %u conflict copies in %s, at most %u are right",
				e->row, copies, e->dir, e->copies);
	}
}

static void check_copies(const struct oracle *o, const struct tree_look *server)
{
	unsigned copies = 0;

	for (size_t i = 0; i < server->count; i++) {
		const char *name = strrchr(server->nodes[i].path, '/');

		if (!conflict_name_is(name ? name + 1 : server->nodes[i].path))
			continue;
		copies++;
		if (sim_options.single_writer && !o->old_comes_back && !sim_options.hand_edits)
			sim_fail("I5", "a conflict copy with a single writer: %s", server->nodes[i].path);
	}
	if (copies)
		sim_count("run with conflict copies");
}

/* ---- I12, I16 ---- */

void oracle_restarted(struct oracle *o, unsigned client)
{
	o->cursor[client] = 0;
	o->ends[client] = false;
}

void oracle_check_safety(struct oracle *o)
{
	for (unsigned c = 0; c < o->count; c++) {
		struct control_reply reply = {0};

		if (!host_client_status(&o->clients[c], &reply))
			continue;
		if (reply.has_status) {
			uint64_t seq = reply.status.cursor_seq;

			if (seq < o->cursor[c] && !o->cursor_may_fall[c])
				sim_fail("I12", "the cursor of client %u went from %llu to %llu", c,
					(unsigned long long)o->cursor[c], (unsigned long long)seq);
			o->cursor[c] = seq;
			if (reply.status.dead_letters && !sim_options.hand_edits)
				sim_fail("I16", "client %u has %llu operations that the server refuses: %s",
					c, (unsigned long long)reply.status.dead_letters,
					reply.status.last_error ? reply.status.last_error : "");
		}
		control_reply_fini(&reply);
	}
}

static void check_counters(struct oracle *o)
{
	for (unsigned c = 0; c < o->count; c++) {
		struct control_reply reply = {0};

		if (!host_client_status(&o->clients[c], &reply))
			sim_fail("I16", "client %u does not answer at rest", c);
		/* What was deleted by hand cannot be brought back by a rename. */
		if (reply.has_status &&
			(reply.status.pending_ops || reply.status.open_writers ||
				(reply.status.dead_letters && !sim_options.hand_edits)))
			sim_fail("I16", "client %u at rest: %llu pending, %llu dead, %llu writers", c,
				(unsigned long long)reply.status.pending_ops,
				(unsigned long long)reply.status.dead_letters,
				(unsigned long long)reply.status.open_writers);
		control_reply_fini(&reply);
	}
}

void oracle_check_rest(struct oracle *o)
{
	struct tree_look server;

	oracle_check_safety(o);
	check_counters(o);
	tree_look(o, o->server->machine.disk, HOST_ROOT, &server);
	check_same(o, &server);
	check_versions(o, &server);
	check_copies(o, &server);
	check_expected(o, &server);
	tree_look_free(&server);
}

/* ---- I10 ---- */

void oracle_still(struct oracle *o, struct oracle_still *ret_still)
{
	*ret_still = (struct oracle_still){.requests = net_requests(false)};
	ret_still->changes[o->count] = disk_changes(o->server->machine.disk, HOST_ROOT);
	for (unsigned c = 0; c < o->count; c++)
		ret_still->changes[c] = disk_changes(o->clients[c].machine.disk, HOST_BACKING);
}
