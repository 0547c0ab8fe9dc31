/* SPDX-License-Identifier: Apache-2.0 */
/*
 * People at work: what they choose to do, over few names in a shallow tree, so that they meet. One thread per
 * person in a process of its own; the scripts of the conflict matrix (user_rows.c) and edits by hand have
 * theirs. Never decides what is right; user_ops.c tells the oracle.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "user_ops.h"
#include "user_rows.h"
#include "view.h"

#define DEPTH_MAX 3
#define PINS 2 /* files that nobody ever takes away */

/* ---- choosing ---- */

struct choice {
	const struct person *person;
	bool files, dirs;
	unsigned seen;
	char path[PATH_MAX];
};

static unsigned depth_of(const char *path)
{
	unsigned n = 1;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

/* What random operations leave alone: files that stay, temporary ones of others, the scripts' folders.
 */
static bool is_private(const char *path)
{
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	return strncmp(path, ".syncfs", 7) == 0 || strncmp(path, "pin", 3) == 0 ||
		strncmp(name, ".save", 5) == 0 || strncmp(name, ".link", 5) == 0 ||
		strncmp(path, "row", 3) == 0;
}

static int consider(void *arg, const struct disk_entry *e)
{
	struct choice *c = arg;
	bool is_dir = S_ISDIR(e->st.st_mode);

	if (!*e->path || (is_dir ? !c->dirs : !c->files) || is_private(e->path))
		return 0;
	if (sim_below(STREAM_USER, ++c->seen) == 0)
		(void)snprintf(c->path, sizeof(c->path), "%s", e->path);
	return 0;
}

static bool choose(const struct person *p, bool files, bool dirs, char path[PATH_MAX])
{
	struct choice c = {.person = p, .files = files, .dirs = dirs};

	(void)disk_walk(p->world->clients[p->client].machine.disk, HOST_BACKING, consider, &c);
	(void)snprintf(path, PATH_MAX, "%s", c.path);
	return c.seen > 0;
}

static void new_name(const struct person *p, char path[PATH_MAX])
{
	static const char *const ends[] = {"", "", "", ".txt", " x"};
	char dir[PATH_MAX] = "";
	unsigned n = sim_options.names ? sim_options.names : 1;

	if (sim_chance(STREAM_USER, 500000))
		(void)choose(p, false, true, dir);
	if (depth_of(dir) >= DEPTH_MAX)
		dir[0] = '\0';
	n = (unsigned)sim_below(STREAM_USER, n);
	(void)snprintf(path, PATH_MAX, "%.3000s%sn%u%s", dir, *dir ? "/" : "", n, ends[n % 5]);
}

static void any_name(const struct person *p, char path[PATH_MAX])
{
	if (sim_chance(STREAM_USER, 500000) || !choose(p, true, false, path))
		new_name(p, path);
}

/* ---- doing ---- */

static int do_content(struct person *p)
{
	char path[PATH_MAX];

	switch (sim_below(STREAM_USER, 5)) {
	case 0:
	case 1:
		any_name(p, path);
		return op_write(p, path, 0, user_length());
	case 2:
		any_name(p, path);
		return op_save(p, path, 0, user_length());
	case 3:
		if (choose(p, true, false, path))
			return op_truncate(p, path);
		return 0;
	default:
		if (choose(p, true, false, path))
			return op_edit(p, path, (enum edit)sim_below(STREAM_USER, 4));
		return 0;
	}
}

static int do_name(struct person *p)
{
	char path[PATH_MAX], to[PATH_MAX];

	switch (sim_below(STREAM_USER, 6)) {
	case 0:
		if (!choose(p, true, true, path))
			return 0;
		any_name(p, to);
		return op_rename(p, path, to);
	case 1:
		if (!choose(p, false, true, path))
			return 0;
		new_name(p, to);
		return op_rename(p, path, to);
	case 2:
		if (!choose(p, true, true, path) || !choose(p, true, true, to))
			return 0;
		return op_exchange(p, path, to);
	case 3:
		if (!choose(p, true, false, path))
			return 0;
		new_name(p, to);
		return op_link(p, path, to);
	case 4:
		new_name(p, path);
		return op_symlink(p, path);
	default:
		if (!choose(p, true, true, path))
			return 0;
		new_name(p, to);
		return op_rename(p, path, to);
	}
}

static int do_attr(struct person *p)
{
	static const mode_t modes[] = {0644, 0600, 0755, 0700, 0770};
	char path[PATH_MAX];

	if (!choose(p, true, sim_chance(STREAM_USER, 300000), path))
		return 0;
	switch (sim_below(STREAM_USER, 3)) {
	case 0:
		return op_chmod(p, path, modes[sim_below(STREAM_USER, 5)]);
	case 1:
		return op_utimens(p, path);
	default:
		return op_xattr(p, path);
	}
}

static int do_removal(struct person *p)
{
	char path[PATH_MAX];

	switch (sim_below(STREAM_USER, 8)) {
	case 0:
		return choose(p, false, true, path) ? op_remove_all(p, path) : 0;
	case 1:
		return choose(p, false, true, path) ? op_rmdir(p, path) : 0;
	default:
		return choose(p, true, false, path) ? op_unlink(p, path) : 0;
	}
}

static int do_pin(struct person *p)
{
	char path[16];

	(void)snprintf(path, sizeof(path), "pin%llu", (unsigned long long)sim_below(STREAM_USER, PINS));
	if (sim_chance(STREAM_USER, 500000))
		return op_save(p, path, 0, user_length());
	return op_edit(p, path, (enum edit)sim_below(STREAM_USER, 4));
}

static void do_something(struct person *p)
{
	char path[PATH_MAX];
	uint64_t n = sim_below(STREAM_USER, 100);

	if (n < 38)
		(void)do_content(p);
	else if (n < 58)
		(void)do_name(p);
	else if (n < 68)
		(void)do_attr(p);
	else if (n < 80)
		(void)do_removal(p);
	else if (n < 88) {
		new_name(p, path);
		(void)op_mkdir(p, path);
	} else if (n < 92)
		(void)do_pin(p);
	else if (choose(p, true, false, path))
		(void)op_read(p, path);
}

/* ---- people ---- */

static void think(void)
{
	sim_sleep_ms(1 + sim_below(STREAM_USER, 2 * (uint64_t)sim_options.think_ms + 1));
}

static void go_home(struct person *p)
{
	p->world->people--;
	free(p);
}

static void work(void *arg)
{
	struct person *p = arg;
	struct world *w = p->world;

	while (w->ops_left > 0 && !w->stop) {
		think();
		if (!user_has_view(p)) {
			sim_sleep_ms(200);
			continue;
		}
		if (w->ops_left == 0 || w->stop)
			break;
		w->ops_left--;
		do_something(p);
	}
	go_home(p);
}

/* Reads what never goes away, and now and then anything, again and again. */
static void watch(void *arg)
{
	struct person *p = arg;
	struct world *w = p->world;
	char path[PATH_MAX];
	unsigned pin;

	while (w->ops_left > 0 && !w->stop) {
		sim_sleep_ms(20 + sim_below(STREAM_USER, 400));
		if (!user_has_view(p))
			continue;
		pin = (unsigned)sim_below(STREAM_USER, PINS);
		(void)snprintf(path, sizeof(path), "pin%u", pin);
		oracle_seen_pin(w->oracle, p->client, path, pin, op_read(p, path));
		if (sim_chance(STREAM_USER, 300000) && choose(p, true, false, path))
			(void)op_read(p, path);
	}
	go_home(p);
}

static void edit_by_hand(void *arg)
{
	struct person *p = arg;
	struct world *w = p->world;

	while (!w->stop && w->ops_left > 0) {
		sim_sleep_ms(100);
		if (!w->hand_edits_due)
			continue;
		w->hand_edits_due--;
		w->hand_is_busy = true;
		hand_edit(w);
		w->hand_is_busy = false;
	}
	go_home(p);
}

static void rows(void *arg)
{
	struct person *p = arg;

	rows_run(p->world);
	go_home(p);
}

static void start(struct world *w, unsigned client, const char *what, struct machine *m, void (*fn)(void *))
{
	struct person *p = calloc(1, sizeof(*p));
	char *name = malloc(64);

	if (!p || !name)
		abort();
	*p = (struct person){.world = w, .client = client, .number = ++w->people_number};
	(void)snprintf(name, 64, "%s-%u", what, p->number);
	w->people++;
	proc_spawn(proc_new(name, m), name, fn, p);
}

void user_start_one(struct world *w, unsigned client)
{
	if (!sim_options.single_writer || client == 0)
		start(w, client, "person", &w->clients[client].machine, work);
}

void user_start_all(struct world *w)
{
	for (unsigned c = 0; c < w->count; c++) {
		user_start_one(w, c);
		if (sim_chance(STREAM_USER, 300000))
			user_start_one(w, c);
		if (sim_chance(STREAM_USER, 400000))
			start(w, c, "watcher", &w->clients[c].machine, watch);
	}
	if (w->count > 1 && !sim_options.single_writer)
		start(w, 0, "script", &w->clients[0].machine, rows);
	if (sim_options.hand_edits)
		start(w, BY_HAND, "hand", &w->server.machine, edit_by_hand);
}

/* ---- before ---- */

static void put_before(
	struct world *w, struct machine *m, const char *root, unsigned client, const char *path)
{
	char full[PATH_MAX];
	uint8_t bytes[2048];
	size_t len = 1 + sim_below(STREAM_USER, sizeof(bytes));
	/* Now and then the same on both sides. */
	uint32_t number =
		sim_chance(STREAM_USER, 300000) ? 1000000 + (uint32_t)strlen(path) : oracle_number(w->oracle);
	unsigned v;

	if (number >= 1000000)
		len = 500;
	oracle_bytes(number >= 1000000 ? 99 : client, number, bytes, len);
	v = oracle_version(w->oracle, client, bytes, len, true);
	(void)snprintf(full, sizeof(full), "%s/%.3000s", root, path);
	if (disk_put(m->disk, full, 0644, bytes, len) == 0) {
		oracle_finished(w->oracle, v, client, path, NO_VERSION);
		oracle_synced(w->oracle, v);
	}
}

void user_fill_before(struct world *w, bool server, unsigned client)
{
	struct machine *m = server ? &w->server.machine : &w->clients[client].machine;
	unsigned by = server ? BY_HAND : client;
	const char *root = server ? HOST_ROOT : HOST_BACKING;
	char path[PATH_MAX];

	for (unsigned n = 0; n < 6; n++) {
		(void)snprintf(path, sizeof(path), n % 3 == 2 ? "n1/n%llu" : "n%llu",
			(unsigned long long)(n % 3 == 2 ? sim_below(STREAM_USER, 4)
							: 2 * sim_below(STREAM_USER, 4)));
		if (oracle_at(w->oracle, by, path) == NO_VERSION)
			put_before(w, m, root, by, path);
	}
	disk_sync(m->disk); /* it has been there for long */
}
