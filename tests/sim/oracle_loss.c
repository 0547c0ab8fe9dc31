/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disks may take along: which versions were only on a machine that lost power or was put back to an
 * older state, and what torn files may look like then. Called by faults.c through oracle.h, before the disk
 * changes.
 */
#include "oracle_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* Marks the versions that lie on a disk. */
struct holding {
	struct oracle *o;
	bool *held;
};

static int note_held(void *arg, const struct disk_entry *e)
{
	struct holding *h = arg;
	bool is_link = S_ISLNK(e->st.st_mode);

	if (S_ISREG(e->st.st_mode) || is_link)
		h->held[oracle_find(h->o, e->bytes, e->len, is_link)] = true;
	return 0;
}

/* except: a client whose disk does not count; ORACLE_CLIENTS: the server's. */
static bool *held_elsewhere(struct oracle *o, unsigned except)
{
	struct holding h = {.o = o, .held = calloc(o->versions_count + 1, sizeof(bool))};

	if (!h.held)
		abort();
	if (except != ORACLE_CLIENTS)
		(void)disk_walk(o->server->machine.disk, HOST_ROOT, note_held, &h);
	for (unsigned c = 0; c < o->count; c++) {
		if (c != except)
			(void)disk_walk(o->clients[c].machine.disk, HOST_BACKING, note_held, &h);
	}
	return h.held;
}

/* Nobody makes durable what is edited by hand, before the server does to tell of it. */
static void lose_by_hand(struct oracle *o)
{
	bool *held = held_elsewhere(o, ORACLE_CLIENTS);

	for (unsigned v = 1; v < o->versions_count; v++) {
		if (o->versions[v].client == BY_HAND && !held[v])
			o->versions[v].lost = true;
	}
	free(held);
}

/* The people of the client had it last, and it may not have left yet. */
static bool is_only_of(const struct version *w, unsigned client)
{
	return w->client == client || (w->again && w->whole);
}

static bool *held_by(struct oracle *o, unsigned client)
{
	struct holding h = {.o = o, .held = calloc(o->versions_count + 1, sizeof(bool))};

	if (!h.held)
		abort();
	if (client < o->count) /* a clone is still to come */
		(void)disk_walk(o->clients[client].machine.disk, HOST_BACKING, note_held, &h);
	return h.held;
}

/* What others have made may be here only, too: since the server was put back. */
static void lose(struct oracle *o, unsigned client, bool synced_too)
{
	bool *held = held_elsewhere(o, client), *here = held_by(o, client);

	for (unsigned v = 1; v < o->versions_count; v++) {
		struct version *w = &o->versions[v];

		if (held[v] || (w->synced && !synced_too) || (!here[v] && !is_only_of(w, client)))
			continue;
		if (!w->lost && w->finished && !w->used_up)
			sim_trace("oracle: client %u may lose v%u", client, v);
		w->lost = true;
	}
	free(held);
	free(here);
}

void oracle_image(struct oracle *o, unsigned client)
{
	o->cursor_may_fall[client] = true; /* the server cannot tell which of two is the copy */
	for (unsigned v = 1; v < o->versions_count; v++) {
		if (o->versions[v].client == client)
			o->versions[v].published = true;
	}
}

void oracle_ends(struct oracle *o, unsigned client)
{
	struct holding h = {.o = o, .held = calloc(o->versions_count + 1, sizeof(bool))};

	if (!h.held)
		abort();
	o->ends[client] = true;
	(void)disk_walk(o->clients[client].machine.disk, HOST_BACKING, note_held, &h);
	for (unsigned v = 1; v < o->versions_count; v++)
		o->versions[v].published |= h.held[v];
	free(h.held);
}

static void own_forget_all(struct oracle *o, unsigned client)
{
	for (struct own_write *w = o->own; w; w = w->next) {
		if (w->client == client)
			w->version = NO_VERSION;
	}
}

void oracle_loss(struct oracle *o, enum oracle_loss what, unsigned client)
{
	switch (what) {
	case LOSS_CLIENT_CUT:
		lose(o, client, false);
		oracle_image(o, client);
		own_forget_all(o, client);
		o->torn[client] = true;
		o->old_comes_back = true;
		o->cursor_may_fall[client] = true;
		break;
	case LOSS_CLIENT_RESTORE:
		lose(o, client, true);
		oracle_image(o, client);
		own_forget_all(o, client);
		o->old_comes_back = true;
		o->cursor_may_fall[client] = true;
		break;
	case LOSS_CLIENT_CLONED:
		o->old_comes_back = true;
		o->cursor_may_fall[client] = true;
		break;
	case LOSS_SERVER_CUT:
		lose_by_hand(o);
		o->torn[BY_HAND] |= sim_options.hand_edits > 0;
		break;
	case LOSS_SERVER_RESTORE: {
		bool *held = held_elsewhere(o, ORACLE_CLIENTS);

		for (unsigned v = 1; v < o->versions_count; v++)
			o->versions[v].lost |= !held[v];
		free(held);
		o->old_comes_back = true;
		for (unsigned c = 0; c < ORACLE_CLIENTS; c++)
			o->cursor_may_fall[c] = true;
		break;
	}
	}
}

/* ---- torn files ---- */

/* Pieces of what people write, and zeros. */
static bool is_torn(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] && !strchr("abcdefghijklmnopqrstuvwxyz0123456789 .\n", p[i]))
			return false;
	}
	return true;
}

unsigned oracle_find_torn(struct oracle *o, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	bool any = false;
	unsigned v;

	for (unsigned c = 0; c <= BY_HAND; c++)
		any |= o->torn[c];
	if (!any)
		return NO_VERSION;
	if (!is_torn(p, len))
		return NO_VERSION;
	v = oracle_version(o, 0, bytes, len, false);
	oracle_published(o, v);
	sim_count("torn file after a power cut");
	return v;
}
