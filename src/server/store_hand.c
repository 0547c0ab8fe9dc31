/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits made by hand: when to look where, and the brake on deletions. Called at start and by the watch's
 * thread. A deletion is believed only when the tree has been quiet, its root is the one we know, and not too
 * much is missing at once.
 */
#include "store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>

#define QUIET_MS 150 /* after the last sign of a deletion: a move's other half may be on its way */
#define QUIET_MAX_MS 2000
#define BUSY_MS 200
#define HELD_AGAIN_MS 5000
#define HELD_MIN 1000 /* nodes; fewer than this are never held, unless nothing is left */

struct place_name {
	struct id dir;
	char *name;
};

struct names {
	struct place_name *list;
	size_t count, cap;
};

/* All under the store's lock. */
struct hand {
	struct names gone, busy;
	uint64_t gone_first_ms, gone_last_ms;
	uint64_t held; /* nodes; > 0: gone waits for an answer */
	uint64_t judged_ms;
	bool is_lost; /* the root is not what it was: no deletion is believed */
};

static void names_forget(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i].name);
	free(n->list);
	*n = (struct names){0};
}

static int names_add(struct names *n, const struct id *dir, const char *name)
{
	for (size_t i = n->count; i > 0 && n->count - i < 16; i--) { /* repeats come close together */
		if (id_equal(&n->list[i - 1].dir, dir) && strcmp(n->list[i - 1].name, name) == 0)
			return 0;
	}
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 16;
		struct place_name *grown = reallocarray(n->list, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		n->list = grown;
		n->cap = cap;
	}
	n->list[n->count].dir = *dir;
	n->list[n->count].name = strdup(name);
	if (!n->list[n->count].name)
		return -ENOMEM;
	n->count++;
	return 0;
}

/* A forgotten one is found by the next scan. */
static void want_scan(struct store *s)
{
	atomic_store_explicit(&s->rescan_wanted, 1, memory_order_relaxed);
}

static void on_gone(void *arg, const struct id *dir, const char *name)
{
	struct store *s = arg;
	struct hand *h = s->hand;

	h->gone_last_ms = clock_mono_ms();
	if (h->gone.count == 0)
		h->gone_first_ms = h->gone_last_ms;
	if (names_add(&h->gone, dir, name) < 0)
		want_scan(s);
}

static void on_busy(void *arg, const struct id *dir, const char *name)
{
	struct store *s = arg;

	if (names_add(&s->hand->busy, dir, name) < 0)
		want_scan(s);
}

static struct look look_new(struct store *s)
{
	return (struct look){.s = s, .gone = on_gone, .busy = on_busy, .arg = s};
}

/* ---- the root ---- */

/* 1: nothing but our own directory is in the root, 0, -errno. */
static int root_is_empty(struct store *s)
{
	int fd = openat(s->tree.root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), empty = 1;
	struct dirent *e;
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		empty = -errno;
		(void)close(fd);
		return empty;
	}
	while (empty == 1 && (e = readdir(dir)))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			strcmp(e->d_name, RESERVED_NAME) == 0;
	(void)closedir(dir);
	return empty;
}

static bool root_is_ours(struct store *s)
{
	return faccessat(s->tree.root_fd, RESERVED_NAME "/root", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- deletions ---- */

static int count_below(struct store *s, const struct id *node, int depth, uint64_t *count)
{
	struct meta_child *children;
	size_t n;
	int r = depth > TREE_MAX_DEPTH ? -ELOOP : meta_children(s->meta, node, &children, &n);

	if (r < 0)
		return r;
	++*count;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = count_below(s, &children[i].node, depth + 1, count);
	meta_children_fini(children, n);
	return r;
}

/* Keeps of gone what still is, and counts it. */
static int gone_check(struct look *l, struct names *gone, uint64_t *ret_count)
{
	size_t kept = 0;
	int r = 0;

	*ret_count = 0;
	for (size_t i = 0; i < gone->count; i++) {
		struct id node;

		if (r >= 0)
			r = look_missing(l, &gone->list[i].dir, gone->list[i].name, &node);
		if (r == 1)
			r = count_below(l->s, &node, 0, ret_count) < 0 ? -EIO : 1;
		if (r == 0)
			free(gone->list[i].name);
		else
			gone->list[kept++] = gone->list[i];
	}
	gone->count = kept;
	return r < 0 ? r : 0;
}

/* The brake: true when the deletions are to wait for an answer. */
static bool gone_is_held(struct store *s, uint64_t count)
{
	struct hand *h = s->hand;
	uint64_t limit = s->nodes / 2 > HELD_MIN ? s->nodes / 2 : HELD_MIN;

	if (!root_is_ours(s) || (count > 1 && count >= s->nodes && root_is_empty(s) != 0)) {
		if (!h->is_lost)
			log_error("the root directory is empty or not the one it was: no deletion in it is "
				  "believed; if it is meant so, run syncfsd approve, else syncfsd reject");
		h->is_lost = true;
		h->held = count;
		return true;
	}
	h->is_lost = false;
	if (count < limit)
		return false;
	if (!h->held)
		log_warn("%llu of %llu files and directories are missing from the root: held back; run "
			 "syncfsd "
			 "approve to delete them everywhere or syncfsd reject to bring them back",
			(unsigned long long)count, (unsigned long long)s->nodes);
	h->held = count;
	return true;
}

static int gone_drop(struct look *l, struct names *gone)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < gone->count; i++) {
		struct id node;

		r = look_missing(l, &gone->list[i].dir, gone->list[i].name, &node);
		if (r == 1)
			r = look_drop(l, &gone->list[i].dir, gone->list[i].name, &node);
	}
	names_forget(gone);
	return r < 0 ? r : 0;
}

/* Judges what is missing; force: without the brake. */
static int gone_judge(struct store *s, bool force)
{
	struct look l = look_new(s);
	uint64_t count;
	int r;

	s->hand->judged_ms = clock_mono_ms();
	r = gone_check(&l, &s->hand->gone, &count);

	if (r == 0 && count && (force || !gone_is_held(s, count))) {
		s->hand->held = 0;
		r = gone_drop(&l, &s->hand->gone);
	}
	if (r == 0 && count == 0)
		s->hand->held = 0;
	return look_end(&l, r);
}

/* ---- looking ---- */

static int look_everywhere(struct store *s, struct look *l)
{
	int r = look_push(l, &ID_ROOT);

	atomic_store_explicit(&s->rescan_wanted, 0, memory_order_relaxed);
	return r < 0 ? r : look_scan(l);
}

/* What an event, or an earlier one that came too early, says to look at. */
struct round {
	const struct watch_event *events;
	size_t count;
	enum glanced *seen; /* of each event */
	struct names busy; /* its own */
	struct look_hashed *hashed;
	size_t hashed_count;
};

static void round_name(const struct round *g, size_t i, const struct id **ret_dir, const char **ret_name)
{
	*ret_dir = i < g->count ? &g->events[i].dir : &g->busy.list[i - g->count].dir;
	*ret_name = i < g->count ? g->events[i].name : g->busy.list[i - g->count].name;
}

/* Takes what was busy, and reads the big files among all, while others may go on committing. */
static void round_begin(struct store *s, struct round *g)
{
	{
		MUTEX_GUARD(&s->lock);
		g->busy = s->hand->busy;
		s->hand->busy = (struct names){.count = 0};
	}
	g->seen = calloc(g->count + 1, sizeof(*g->seen));
	g->hashed = calloc(g->count + g->busy.count + 1, sizeof(*g->hashed));
	if (g->seen)
		glance(s, g->events, g->count, g->seen);
	for (size_t i = 0; g->hashed && i < g->count + g->busy.count; i++) {
		const struct id *dir;
		const char *name;

		if (g->seen && i < g->count && g->seen[i] != GLANCED_BIG)
			continue;
		round_name(g, i, &dir, &name);
		g->hashed_count += look_hash(s, dir, name, &g->hashed[g->hashed_count]) == 1;
	}
}

static void round_end(struct round *g)
{
	for (size_t i = 0; i < g->hashed_count; i++)
		free(g->hashed[i].manifest.data);
	free(g->hashed);
	free(g->seen);
	names_forget(&g->busy);
}

static int look_names(struct store *s, struct look *l, const struct round *g)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < g->count + g->busy.count; i++) {
		const struct id *dir;
		const char *name;

		if (g->seen && i < g->count && g->seen[i] == GLANCED_KNOWN)
			continue;
		round_name(g, i, &dir, &name);
		r = look_name(l, dir, name);
		if (r == -ENOENT) { /* its directory has moved, or is no more */
			want_scan(s);
			r = 0;
		}
		if (r == 0)
			r = look_scan(l); /* directories that came with it */
	}
	return r;
}

static int look_locked(struct store *s, const struct round *g, bool overflow)
{
	struct look l = look_new(s);
	int r;

	l.hashed = g->hashed;
	l.hashed_count = g->hashed_count;
	if (overflow)
		want_scan(s);
	r = look_names(s, &l, g);
	if (r == 0 && atomic_load_explicit(&s->rescan_wanted, memory_order_relaxed))
		r = look_everywhere(s, &l);
	return look_end(&l, r);
}

/* What is held is judged again now and then when something happens: it may have come back. */
static bool gone_is_due(const struct hand *h, uint64_t now, bool events)
{
	if (h->held)
		return events && now >= h->judged_ms + HELD_AGAIN_MS;
	return h->gone.count && !h->held &&
		(now >= h->gone_last_ms + QUIET_MS || now >= h->gone_first_ms + QUIET_MAX_MS);
}

/* Milliseconds until there is something to do without an event; -1: nothing. */
static int next_delay(const struct hand *h)
{
	if (h->gone.count && !h->held)
		return QUIET_MS / 2;
	return h->busy.count ? BUSY_MS : -1;
}

int hand_changed(void *arg, const struct watch_event *events, size_t count, bool overflow)
{
	struct round g = {.events = events, .count = count};
	struct store *s = arg;
	uint64_t before;
	int r, delay;

	if (store_is_failed(s))
		return -1;
	round_begin(s, &g);
	{
		MUTEX_GUARD(&s->lock);
		before = s->at.seq;
		r = look_locked(s, &g, overflow);
		if (r == 0 && gone_is_due(s->hand, clock_mono_ms(), count > 0))
			r = gone_judge(s, false);
		if (r == 0 && s->owed)
			r = owed_place(s);
		delay = next_delay(s->hand);
		before = s->at.seq - before;
	}
	round_end(&g);
	if (before)
		store_changed(s);
	if (r < 0 && r != -EIO)
		log_warn("look at edits made by hand: %s, again with the next", err_str(r));
	if (r < 0)
		want_scan(s);
	return r < 0 ? QUIET_MAX_MS : delay;
}

/* ---- start and end ---- */

int hand_new_epoch(struct store *s)
{
	struct id epoch = id_new();
	int r = meta_begin(s->meta, true);

	if (r == 0)
		r = meta_value_put(s->meta, "epoch", epoch.b, ID_BYTES);
	if (r == 0)
		r = meta_commit(s->meta);
	if (r < 0) {
		meta_rollback(s->meta);
		return r;
	}
	s->at.epoch = epoch;
	return 0;
}

int hand_open(struct store *s, bool adopt, struct buf *why)
{
	MUTEX_GUARD(&s->lock);
	struct look l = look_new(s);
	int r;

	s->hand = calloc(1, sizeof(*s->hand));
	if (!s->hand)
		return -ENOMEM;
	r = root_is_empty(s);
	if (r == 1 && s->nodes > 0 && !adopt) {
		buf_put_str(why,
			"the root is empty but the database knows files in it: is it mounted? Start with "
			"--adopt to begin with what is there");
		return -ENODATA;
	}
	if (r >= 0)
		r = look_everywhere(s, &l);
	r = look_end(&l, r);
	if (r == 0 && adopt && s->hand->gone.count)
		r = hand_new_epoch(s);
	if (r == 0)
		r = gone_judge(s, adopt);
	return r < 0 ? r : owed_place(s);
}

void hand_close(struct store *s)
{
	if (!s->hand)
		return;
	names_forget(&s->hand->gone);
	names_forget(&s->hand->busy);
	free(s->hand);
	s->hand = NULL;
}

uint64_t hand_held(struct store *s)
{
	return s->hand->held;
}

/* ---- the answer ---- */

struct restore {
	struct txn x;
	uint64_t back, lost;
};

/* Whether the other one of two names is there: in the tree, or placed by this transaction. */
static bool other_name_is_there(struct restore *b, const struct node_state *n)
{
	struct store *s = b->x.s;
	cleanup_fd int fd = -1;
	struct stat_id disk, is;

	if (n->kind != KIND_FILE || n->names_count != 2)
		return false;
	if (map_get(b->x.ids, n->node.b, ID_BYTES))
		return true;
	fd = prepare_node_open(s, s->meta, &n->node);
	return fd >= 0 && tree_stat(fd, "", &is) == 0 && meta_disk_get(s->meta, &n->node, &disk) == 0 &&
		disk.ino == is.ino && disk.btime_ns == is.btime_ns;
}

static int restore_name(struct restore *b, const struct node_state *n, const struct id *dir, const char *name)
{
	const struct place_step link = {.type = PLACE_LINK, .node = n->node, .parent = *dir, .name = name};

	return other_name_is_there(b, n) ? txn_emit(&b->x, &link) : txn_place_again(&b->x, n, dir, name);
}

static int restore(
	struct restore *b, const struct id *dir, const char *name, const struct id *node, int depth)
{
	struct meta_child *children = NULL;
	struct node_state n = {0};
	size_t count = 0;
	int r = depth > TREE_MAX_DEPTH ? -ELOOP : meta_node_get(b->x.s->meta, node, &n);

	if (r < 0)
		return r;
	r = restore_name(b, &n, dir, name);
	b->back += r == 0;
	if (r == -ENODATA) {
		b->lost++;
		r = want_absent(b->x.s, &n);
		node_state_fini(&n);
		return r;
	}
	if (r == 0 && n.kind == KIND_DIR)
		r = meta_children(b->x.s->meta, node, &children, &count);
	node_state_fini(&n);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = restore(b, node, children[i].name, &children[i].node, depth + 1);
	meta_children_fini(children, count);
	return r;
}

static int restore_gone(struct store *s, struct names *gone)
{
	struct look l = look_new(s);
	struct restore b = {0};
	int r = txn_begin(&b.x, s, false);

	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < gone->count; i++) {
		struct id node;

		r = look_missing(&l, &gone->list[i].dir, gone->list[i].name, &node);
		if (r == 1)
			r = restore(&b, &gone->list[i].dir, gone->list[i].name, &node, 0);
	}
	if (r < 0) {
		txn_rollback(&b.x);
		return r;
	}
	r = txn_commit(&b.x);
	if (r == 0)
		log_info("%llu files and directories are back", (unsigned long long)b.back);
	if (r == 0 && b.lost) {
		log_info("%llu files that were deleted by hand are not in the history: asked of the clients",
			(unsigned long long)b.lost);
		want_grew(s);
	}
	names_forget(gone);
	s->hand->held = 0;
	return r;
}

int store_answer_held(struct store *s, bool approve)
{
	uint64_t before, since_ms, news;
	int r = 0;

	if (store_is_failed(s))
		return -EIO;
	{
		MUTEX_GUARD(&s->lock);
		before = s->at.seq;
		news = store_want_news(s, &since_ms);
		if (s->hand->held)
			r = approve ? gone_judge(s, true) : restore_gone(s, &s->hand->gone);
		before = s->at.seq - before;
	}
	if (before || news != store_want_news(s, &since_ms))
		store_changed(s);
	return r;
}
