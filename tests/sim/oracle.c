/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle's knowledge: versions, who used them up, what may have been lost with a disk. Called by the
 * people (user_*.c) and faults.c around what they do. Never changes a disk; looking at rest is oracle_rest.c.
 */
#include "oracle_own.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct oracle *oracle_new(struct server_host *server, struct client_host *clients, unsigned count)
{
	struct oracle *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	o->server = server;
	o->clients = clients;
	o->count = count;
	o->versions_count = 1;
	o->next_number = 1;
	return o;
}

void oracle_add_client(struct oracle *o)
{
	o->count++;
}

void oracle_bytes(unsigned client, uint32_t number, uint8_t *buf, size_t len)
{
	for (size_t block = 0; block * 64 < len; block++) {
		char text[65];
		int n = snprintf(
			text, sizeof(text), "client %u content %u block %zu ", client, number, block);

		memset(text + n, '.', sizeof(text) - (size_t)n);
		text[63] = '\n';
		memcpy(buf + block * 64, text, len - block * 64 < 64 ? len - block * 64 : 64);
	}
}

uint32_t oracle_number(struct oracle *o)
{
	return o->next_number++;
}

uint64_t oracle_hash(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t h = 0x9e3779b97f4a7c15u ^ len, w;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
		h ^= h >> 29;
	}
	for (; len; len--)
		h = (h ^ *p++) * 0xff51afd7ed558ccdu;
	return h ^ (h >> 32);
}

const char *oracle_name(const struct oracle *o, unsigned v)
{
	static char text[4][160];
	static unsigned turn;
	const struct version *w = &o->versions[v];
	char *t = text[turn = (turn + 1) % 4];

	if (v == NO_VERSION)
		return "nothing known";
	(void)snprintf(t, sizeof(text[0]), "v%u (client %u, %zu bytes%s%s, \"%.45s\", at %.40s, from v%u)", v,
		w->client, w->len, w->whole ? "" : ", in between", w->finished ? "" : ", unfinished",
		w->bytes ? (const char *)w->bytes : "", w->path, w->pred);
	return t;
}

/* ---- versions ---- */

unsigned oracle_find(struct oracle *o, const void *bytes, size_t len, bool symlink)
{
	uint64_t hash = oracle_hash(bytes, len);

	for (unsigned v = o->buckets[hash % ORACLE_BUCKETS]; v; v = o->versions[v].next) {
		const struct version *w = &o->versions[v];

		if (w->hash == hash && w->len == len && w->symlink == symlink &&
			(len == 0 || !w->bytes || memcmp(w->bytes, bytes, len) == 0))
			return v;
	}
	return NO_VERSION;
}

/* The bytes of large states in between are not kept: their hash will do. */
static unsigned add(struct oracle *o, unsigned client, const void *bytes, size_t len, bool symlink, bool keep)
{
	struct version *w;
	unsigned v = o->versions_count;

	if (v >= o->versions_size) {
		o->versions_size = o->versions_size ? 2 * o->versions_size : 1024;
		o->versions = realloc(o->versions, o->versions_size * sizeof(*o->versions));
		if (!o->versions)
			abort();
		memset(&o->versions[v ? v - 1 : 0], 0, v == 1 ? sizeof(*o->versions) : 0);
	}
	o->versions_count++;
	w = &o->versions[v];
	*w = (struct version){
		.hash = oracle_hash(bytes, len), .len = len, .client = client, .symlink = symlink};
	if (keep || len <= 4096) {
		w->bytes = malloc(len + 1);
		if (!w->bytes)
			abort();
		if (len)
			memcpy(w->bytes, bytes, len);
		w->bytes[len] = '\0';
	}
	w->next = o->buckets[w->hash % ORACLE_BUCKETS];
	o->buckets[w->hash % ORACLE_BUCKETS] = v;
	return v;
}

static unsigned version(
	struct oracle *o, unsigned client, const void *bytes, size_t len, bool symlink, bool whole)
{
	unsigned v = oracle_find(o, bytes, len, symlink);
	struct version *w;

	if (v == NO_VERSION) {
		v = add(o, client, bytes, len, symlink, whole);
	} else {
		o->versions[v].again = true;
		/* Two have it: each may see it. */
		if (o->versions[v].client != client)
			o->versions[v].published = true;
	}
	w = &o->versions[v];
	w->whole |= whole;
	w->published |= client < ORACLE_CLIENTS && o->ends[client];
	return v;
}

unsigned oracle_version(struct oracle *o, unsigned client, const void *bytes, size_t len, bool whole)
{
	return version(o, client, bytes, len, false, whole);
}

unsigned oracle_prefix(struct oracle *o, unsigned client, unsigned v, size_t len)
{
	const struct version *w = &o->versions[v];

	return w->bytes && len <= w->len ? oracle_version(o, client, w->bytes, len, false) : NO_VERSION;
}

unsigned oracle_target(struct oracle *o, unsigned client, const char *target)
{
	return version(o, client, target, strlen(target), true, true);
}

static void own_put(struct oracle *o, unsigned client, const char *path, unsigned v)
{
	struct own_write *w;

	for (w = o->own; w; w = w->next) {
		if (w->client == client && strcmp(w->path, path) == 0)
			break;
	}
	if (!w) {
		w = calloc(1, sizeof(*w) + strlen(path) + 1);
		if (!w)
			abort();
		w->client = client;
		strcpy(w->path, path);
		w->next = o->own;
		o->own = w;
	}
	w->version = v;
}

/* Whatever is at or below the path is not any more what the client wrote there. */
static void own_forget(struct oracle *o, unsigned client, const char *path)
{
	size_t len = strlen(path);

	for (struct own_write *w = o->own; w; w = w->next) {
		if (w->client == client && strncmp(w->path, path, len) == 0 &&
			(!w->path[len] || w->path[len] == '/'))
			w->version = NO_VERSION;
	}
}

void oracle_finished(struct oracle *o, unsigned v, unsigned client, const char *path, unsigned pred)
{
	struct version *w = &o->versions[v];

	if (w->finished)
		w->again = true;
	w->finished = w->whole = true;
	if (pred != v && !w->pred)
		w->pred = pred;
	if (!w->path[0])
		(void)snprintf(w->path, sizeof(w->path), "%s", path);
	own_put(o, client, path, v);
	sim_trace("oracle: %u has v%u at %s, from v%u", client, v, path, pred);
}

void oracle_published(struct oracle *o, unsigned v)
{
	if (v != NO_VERSION)
		o->versions[v].published = true;
}

void oracle_synced(struct oracle *o, unsigned v)
{
	o->versions[v].synced = true;
}

static void use_up(struct oracle *o, unsigned v, unsigned client, bool sure)
{
	struct version *w = &o->versions[v];

	if (v == NO_VERSION)
		return;
	sim_trace("oracle: %u %s up v%u", client, sure ? "uses" : "maybe uses", v);
	w->used_up = true;
	w->maybe_used_by |= sure ? 0 : 1u << client;
	if (sure) {
		w->gone = true;
		w->used_by |= 1u << client;
	}
}

bool oracle_is_ancestor(const struct oracle *o, unsigned old, unsigned v)
{
	for (unsigned n = 0; v && n < o->versions_count; n++) {
		v = o->versions[v].pred;
		if (v == old)
			return old != NO_VERSION;
	}
	return false;
}

/* ---- names ---- */

static bool entry_at(struct disk *d, const char *root, const char *path, struct disk_entry *ret_entry)
{
	char full[PATH_MAX];

	(void)snprintf(full, sizeof(full), "%s/%s", root, path);
	return disk_get(d, full, ret_entry) == 0;
}

static unsigned version_of(struct oracle *o, const struct disk_entry *e)
{
	if (S_ISREG(e->st.st_mode))
		return oracle_find(o, e->bytes, e->len, false);
	if (S_ISLNK(e->st.st_mode))
		return oracle_find(o, e->bytes, e->len, true);
	return NO_VERSION;
}

static unsigned on_server(struct oracle *o, const char *path)
{
	struct disk_entry e;

	return entry_at(o->server->machine.disk, HOST_ROOT, path, &e) ? version_of(o, &e) : NO_VERSION;
}

unsigned oracle_at(struct oracle *o, unsigned client, const char *path)
{
	struct disk_entry e;

	if (client == BY_HAND)
		return on_server(o, path);
	return entry_at(o->clients[client].machine.disk, HOST_BACKING, path, &e) ? version_of(o, &e)
										 : NO_VERSION;
}

/* Who moved it or what it came from: the node goes on with what others have written into it meanwhile. */
static uint32_t movers(const struct oracle *o, unsigned v)
{
	uint32_t who = o->versions[v].moved_by;

	for (unsigned n = 0; v != NO_VERSION && n < o->versions_count; n++) {
		v = o->versions[v].pred;
		who |= o->versions[v].moved_by & ~(1u << BY_HAND);
	}
	return who;
}

/* A call of another client that may give it another name has begun, and not ended. */
static bool is_being_moved(const struct oracle *o, const struct oracle_spot *s, uint32_t who)
{
	for (const struct oracle_watch *w = o->watches; w; w = w->next) {
		if (w->moves && w->client != s->watch.client && who & 1u << w->client)
			return true;
	}
	return false;
}

static bool has_it_there(struct oracle *o, const struct oracle_spot *s, unsigned client)
{
	struct disk_entry e;

	return entry_at(o->clients[client].machine.disk, HOST_BACKING, s->watch.path, &e) &&
		version_of(o, &e) == s->here && e.st.st_nlink == 1;
}

/* Nobody else who ever moved it has it elsewhere, is at it, or has yet to tell what he did, even if he has
 * taken it back. */
static bool others_agree(struct oracle *o, const struct oracle_spot *s)
{
	uint32_t who = movers(o, s->here);

	if (is_being_moved(o, s, who))
		return false;
	for (unsigned c = 0; c < o->count; c++) {
		if (who & 1u << c && c != s->watch.client &&
			(host_client_owes(&o->clients[c]) || !has_it_there(o, s, c)))
			return false;
	}
	return !(who & 1u << BY_HAND);
}

/*
 * Who deletes it now does so after all moves. What a state in between comes from is not known, so who moved
 * that is not, either.
 */
static bool is_agreed(struct oracle *o, const struct oracle_spot *s)
{
	if (s->here == NO_VERSION || s->watch.client == BY_HAND || !o->versions[s->here].finished)
		return false;
	/* The server may have given it a conflict name that is not here yet. */
	return s->server == s->here && has_it_there(o, s, s->watch.client) && others_agree(o, s);
}

struct moving {
	struct oracle *o;
	unsigned client;
};

static int mark_moved(void *arg, const struct disk_entry *e)
{
	struct moving *m = arg;
	unsigned v = version_of(m->o, e);

	if (v == NO_VERSION)
		return 0;
	m->o->versions[v].moved_by |= 1u << m->client;
	m->o->versions[v].used_by &= ~(1u << m->client); /* that was before */
	return 0;
}

static void mark_all_moved(struct oracle *o, unsigned client, const char *path)
{
	struct disk *d = client == BY_HAND ? o->server->machine.disk : o->clients[client].machine.disk;
	const char *root = client == BY_HAND ? HOST_ROOT : HOST_BACKING;
	struct moving m = {.o = o, .client = client};
	struct disk_entry e;
	char full[PATH_MAX];

	if (!entry_at(d, root, path, &e))
		return;
	(void)mark_moved(&m, &e);
	(void)snprintf(full, sizeof(full), "%s/%s", root, path);
	if (S_ISDIR(e.st.st_mode))
		(void)disk_walk(d, full, mark_moved, &m);
}

static void watch_saw(struct oracle_watch *w, unsigned v)
{
	for (unsigned i = 0; i < w->seen_count; i++) {
		if (w->seen[i] == v)
			return;
	}
	if (v != NO_VERSION && w->seen_count < sizeof(w->seen) / sizeof(w->seen[0]))
		w->seen[w->seen_count++] = v;
}

static void watch_look(struct oracle *o, struct oracle_watch *w)
{
	if (w->moves)
		mark_all_moved(o, w->client, w->path);
	else
		watch_saw(w, oracle_at(o, w->client, w->path));
}

/*
 * In the tree of a client, files lose their last name or bytes only by what people do, one at a time: the
 * applier moves away what goes. The kernel may know a directory or a file by a name that is another's on the
 * disk since a moment ago; then the call is about what had that name.
 */
static void watch_taken(struct oracle *o, struct oracle_watch *w, const struct disk_entry *taken)
{
	const char *path = taken->path;

	if (w->moves || w->client == BY_HAND ||
		(path &&
			(strncmp(path, HOST_BACKING "/", strlen(HOST_BACKING "/")) != 0 ||
				strncmp(path, HOST_BACKING "/.syncfs/", strlen(HOST_BACKING "/.syncfs/")) ==
					0)))
		return;
	w->taken = version_of(o, taken);
	watch_saw(w, w->taken);
}

static void before_change(void *arg, const struct disk *d, const struct disk_entry *taken)
{
	struct oracle *o = arg;

	for (struct oracle_watch *w = o->watches; w; w = w->next) {
		const struct machine *m =
			w->client == BY_HAND ? &o->server->machine : &o->clients[w->client].machine;

		if (d != m->disk)
			continue;
		watch_look(o, w);
		if (taken)
			watch_taken(o, w, taken);
	}
}

static void watch_begin(
	struct oracle *o, struct oracle_watch *w, unsigned client, const char *path, bool moves)
{
	*w = (struct oracle_watch){.next = o->watches, .at = &o->watches, .client = client, .moves = moves};
	(void)snprintf(w->path, sizeof(w->path), "%s", path);
	if (w->next)
		w->next->at = &w->next;
	o->watches = w;
	watch_look(o, w);
	disk_before_change(before_change, o);
}

static void watch_end(struct oracle *o, struct oracle_watch *w)
{
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	if (!o->watches)
		disk_before_change(NULL, NULL);
}

void oracle_spot_begin(struct oracle *o, struct oracle_spot *s, unsigned client, const char *path)
{
	struct disk *d = client == BY_HAND ? o->server->machine.disk : o->clients[client].machine.disk;
	struct disk_entry e;

	*s = (struct oracle_spot){.server = on_server(o, path)};
	watch_begin(o, &s->watch, client, path, false);
	if (entry_at(d, client == BY_HAND ? HOST_ROOT : HOST_BACKING, path, &e)) {
		s->here = version_of(o, &e);
		s->names = e.st.st_nlink;
	}
	s->agreed = is_agreed(o, s);
}

/* Errors after which nothing has happened. */
static bool is_refusal(int r)
{
	switch (r) {
	case -ENOENT:
	case -EEXIST:
	case -ENOTEMPTY:
	case -EISDIR:
	case -ENOTDIR:
	case -EINVAL:
	case -ELOOP:
	case -ESTALE:
	case -EBUSY:
	case -EXDEV:
	case -EACCES:
	case -EPERM:
		return true;
	default:
		return false;
	}
}

static void spot_used_up(struct oracle *o, const struct oracle_spot *s, unsigned v, bool sure)
{
	sure = sure && s->agreed && v == s->here && others_agree(o, s);
	if (sure)
		o->versions[v].moved_by = 0;
	use_up(o, v, s->watch.client, sure);
}

void oracle_spot_end(struct oracle *o, struct oracle_spot *s, int result)
{
	unsigned server = on_server(o, s->watch.path);
	bool others = false;

	watch_end(o, &s->watch);
	if (is_refusal(result))
		return;
	if (s->watch.taken != NO_VERSION && s->watch.taken != s->here) {
		s->here = s->watch.taken;
		s->agreed = false;
	}
	/* Between looking and doing, the applier may have put there what the server had. */
	if (s->server != s->here)
		spot_used_up(o, s, s->server, false);
	if (server != s->here && server != s->server && o->versions[server].client != s->watch.client)
		spot_used_up(o, s, server, false);
	for (unsigned i = 0; i < s->watch.seen_count; i++) {
		if (s->watch.seen[i] == s->here)
			continue;
		spot_used_up(o, s, s->watch.seen[i], false);
		others = true;
	}
	spot_used_up(o, s, s->here, result == 0 && s->names == 1 && !s->may_lose && !others);
	own_forget(o, s->watch.client, s->watch.path);
}

void oracle_spot_edited(struct oracle *o, struct oracle_spot *s, unsigned base)
{
	watch_end(o, &s->watch);
	spot_used_up(o, s, base, true);
}

void oracle_moving(struct oracle *o, struct oracle_watch *w, unsigned client, const char *path)
{
	own_forget(o, client, path);
	watch_begin(o, w, client, path, true);
}

void oracle_moved(struct oracle *o, struct oracle_watch *w)
{
	watch_end(o, w);
}

/* ---- what is seen ---- */

static void fail_unknown(
	const char *invariant, unsigned client, const char *path, const void *bytes, size_t len)
{
	for (size_t at = 0; at < len && at < 64 * 40; at += 64)
		sim_trace("oracle: at %zu: %.*s", at, (int)(len - at < 40 ? len - at : 40),
			(const char *)bytes + at);
	sim_fail(invariant, "client %u sees at %s %zu bytes that nobody wrote: \"%.*s\"", client, path, len,
		(int)(len < 60 ? len : 60), (const char *)bytes);
}

void oracle_seen(struct oracle *o, unsigned client, const char *path, const void *bytes, size_t len)
{
	unsigned v = oracle_find(o, bytes, len, false);
	const struct version *w;

	if (v == NO_VERSION)
		v = oracle_find_torn(o, bytes, len);
	if (v == NO_VERSION)
		fail_unknown("I3", client, path, bytes, len);
	w = &o->versions[v];
	if (!w->whole && !w->published && w->client != client)
		sim_fail("I3", "client %u sees at %s a state in between of another one: %s", client, path,
			oracle_name(o, v));
	if (o->old_comes_back || w->again || (w->moved_by & ~(1u << client)))
		return;
	for (const struct own_write *own = o->own; own; own = own->next) {
		if (own->client == client && own->version && strcmp(own->path, path) == 0 &&
			oracle_is_ancestor(o, v, own->version))
			sim_fail("I7", "client %u wrote %s at %s and sees the older %s", client,
				oracle_name(o, own->version), path, oracle_name(o, v));
	}
}

void oracle_seen_pin(struct oracle *o, unsigned client, const char *path, unsigned pin, int result)
{
	if (result == 0)
		o->pin_seen[client] |= 1u << pin;
	else if (result == -ENOENT && (o->pin_seen[client] & 1u << pin) && !o->old_comes_back)
		sim_fail("I9", "client %u does not find %s, which is never taken away", client, path);
}
