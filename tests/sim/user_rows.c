/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the rows of the conflict matrix. A script: both clients agree on something; B is cut off; B acts on
 * what it knows, A acts and is first; B comes back. Everything else in the run goes on meanwhile, kills and
 * power cuts too, so a script may come apart; then it is not counted. Called from the thread of the scripts.
 */
#include "user_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "user_ops.h"
#include "view.h"

#define ROWS 42
#define AGREE_TRIES 200 /* of 100 ms */
#define STEPS_MAX 12

/*
 * Steps, separated by ';'. Letters: w write, e edit in place, s save (rename over), W/S the same with bytes
 * that both sides write, m rename, x exchange, l link, y symlink, Y another symlink over it, k mkdir, r
 * rmdir, R rm -r, u unlink, c/C chmod, t utimens, a xattr.
 */
struct row {
	unsigned number;
	const char *before, *a, *b;
	unsigned copies; /* at most */
};

static const struct row rows[] = {
	{1, "w f", "e f", "e f", 1},
	{2, "w f", "W f", "W f", 0},
	{2, "w f", "S f", "W f", 1},
	{3, "w f", "e f", "u f", 0},
	{4, "w f", "u f", "e f", 0},
	{5, "w f", "u f", "u f", 0},
	{6, "w f", "m f p", "m f p", 0},
	{7, "w f", "m f p", "m f q", 0},
	{8, "w f", "m f p", "e f", 0},
	{9, "w f", "e f", "m f p", 0},
	{10, "w f", "m f p", "u f", 0},
	{11, "w f", "u f", "m f p", 0},
	{12, "", "W n", "W n", 0},
	{13, "", "w n", "w n", 1},
	{14, "", "k d;w d/a;w d/c", "k d;w d/b;w d/c", 1},
	{15, "", "w n", "k n;w n/c", 1},
	{15, "", "k n;w n/c", "w n", 1},
	{15, "", "y n", "w n", 1},
	{15, "", "k n", "y n", 1},
	{16, "w f", "m f n", "w n", 1},
	{16, "w f", "w n", "m f n", 1},
	{17, "w t", "s t", "s t", 1},
	{17, "w t", "S t", "S t", 0},
	{18, "w t", "e t", "s t", 1},
	{19, "w t", "s t", "u t", 0},
	{20, "w t", "s t", "e t", 1},
	{21, "k d;w d/f;w d/g", "R d", "e d/f", 0},
	{21, "k d;k d/e;w d/e/f;w d/g", "R d", "w d/e/h", 0},
	{22, "k d;w d/f;w d/g", "e d/f", "R d", 0},
	{22, "k d;w d/f;w d/g", "w d/h", "R d", 0},
	{23, "k d;w d/f", "m d e", "e d/f", 0},
	{23, "k d;w d/f", "m d e", "w d/g", 0},
	{24, "k d;w d/f", "e d/f;w d/g", "m d e", 0},
	{25, "k d;w d/f", "m d e", "m d g", 0},
	{26, "k d;w d/f;w d/g", "m d e;e e/g", "R d", 0},
	{26, "k d;w d/f;w d/g", "m d e", "R d", 0},
	{27, "k d;w d/f;w d/g", "R d", "m d e", 0},
	{28, "k a;k b;w a/f;w b/f", "m a b/a", "m b a/b", 0},
	{28, "k a;k b;k c;w c/f", "m a b/a;m b c/b", "m c a/c", 0},
	{29, "k d;w f", "r d", "m f d/f", 0},
	{30, "k d;w f;w g", "m f d/n", "m g d/n", 1},
	{31, "w f", "c f", "C f", 0},
	{32, "w f", "c f;t f;a f", "e f", 0},
	{32, "w f", "e f", "c f;t f;a f", 0},
	{33, "w f", "t f", "t f", 0},
	{33, "w f", "t f", "e f", 0},
	{33, "w f", "m f p", "t f", 0},
	{34, "w f", "c f;t f", "u f", 0},
	{35, "y s", "Y s", "Y s", 1},
	{36, "w h;l h i", "e h", "e i", 1},
	{36, "w h;l h i", "e h;w x", "e h;l h j", 1},
	{37, "w h;l h i", "u h", "e i", 0},
	{37, "w h;l h i", "e h", "u i", 0},
	{38, "w a;w b", "x a b", "e a", 0},
	{38, "w a;w b", "x a b", "u b", 0},
	{38, "w a;w b", "x a b", "m a p", 0},
	{38, "k a;w a/f;w b", "m b p", "x a b", 0},
	{39, "w a;w b", "m a t;m b a;m t b", "m a t;m b a;m t b", 0},
	{40, "", "k d;w d/z", "k d;k d/e;w d/e/f;w d/e/g", 0},
	{40, "", "k d;k d/e;w d/e/z", "k d;k d/e;k d/e/h;w d/e/h/f", 0},
	{41, "w f", "u f;w f", "e f", 1},
	{42, "", "w n", "w n", ORACLE_CLIENTS},
};
#define SCRIPTS (sizeof(rows) / sizeof(rows[0]))

static const char *const counters[ROWS + 1] = {"", "row 01", "row 02", "row 03", "row 04", "row 05", "row 06",
	"row 07", "row 08", "row 09", "row 10", "row 11", "row 12", "row 13", "row 14", "row 15", "row 16",
	"row 17", "row 18", "row 19", "row 20", "row 21", "row 22", "row 23", "row 24", "row 25", "row 26",
	"row 27", "row 28", "row 29", "row 30", "row 31", "row 32", "row 33", "row 34", "row 35", "row 36",
	"row 37", "row 38", "row 39", "row 40", "row 41", "row 42"};

/* One play of a script. */
struct play {
	struct world *w;
	const struct row *row;
	char dir[32]; /* where: with a slash at the end, or "" */
	uint32_t shared; /* number of the content that both write */
	size_t shared_len;
};

static void place(const struct play *p, char *out, const char *name)
{
	(void)snprintf(out, 256, "%.31s%.200s", p->dir, name);
}

/* ---- steps ---- */

static int do_content_step(struct play *p, struct person *by, char what, const char *path)
{
	switch (what) {
	case 'w':
		return op_write(by, path, 0, user_length());
	case 'W':
		return op_write(by, path, p->shared, p->shared_len);
	case 's':
		return op_save(by, path, 0, user_length());
	case 'S':
		return op_save(by, path, p->shared, p->shared_len);
	default:
		return op_edit(by, path, sim_chance(STREAM_USER, 500000) ? EDIT_APPEND : EDIT_ALL);
	}
}

static int do_step(struct play *p, struct person *by, const char *step)
{
	char a[64] = "", b[64] = "", path[256], to[256];
	char what;

	if (sscanf(step, " %c %63s %63s", &what, a, b) < 2)
		return 0;
	place(p, path, a);
	place(p, to, b);
	switch (what) {
	case 'm':
		return op_rename(by, path, to);
	case 'x':
		return op_exchange(by, path, to);
	case 'l':
		return op_link(by, path, to);
	case 'y':
		return op_symlink(by, path);
	case 'Y':
		return op_retarget(by, path);
	case 'k':
		return op_mkdir(by, path);
	case 'r':
		return op_rmdir(by, path);
	case 'R':
		return op_remove_all(by, path);
	case 'u':
		return op_unlink(by, path);
	case 'c':
		return op_chmod(by, path, 0600);
	case 'C':
		return op_chmod(by, path, 0755);
	case 't':
		return op_utimens(by, path);
	case 'a':
		return op_xattr(by, path);
	default:
		return do_content_step(p, by, what, path);
	}
}

/* 0 when all went well. */
static int do_steps(struct play *p, struct person *by, const char *steps)
{
	char copy[128], *rest = copy, *step;
	int r = 0, bad = 0;

	(void)snprintf(copy, sizeof(copy), "%s", steps);
	while ((step = strsep(&rest, ";")) && !p->w->stop) {
		for (unsigned n = 0; n < 50 && !user_has_view(by) && !p->w->stop; n++)
			sim_sleep_ms(100);
		r = do_step(p, by, step);
		if (r)
			bad = r;
		if (sim_chance(STREAM_USER, 300000))
			sim_sleep_ms(sim_below(STREAM_USER, 300));
	}
	return bad;
}

/* ---- both know the same ---- */

struct same {
	struct world *w;
	unsigned other;
	const char *dir;
	bool differs;
	unsigned names;
};

static int compare_one(void *arg, const struct disk_entry *e)
{
	struct same *s = arg;
	char path[PATH_MAX], full[PATH_MAX];
	struct disk_entry other;

	(void)snprintf(path, sizeof(path), "%s%.2000s", s->dir, e->path);
	(void)snprintf(full, sizeof(full), "%s/%.3000s", HOST_BACKING, path);
	s->names++;
	if (disk_get(s->w->clients[s->other].machine.disk, full, &other) ||
		(e->st.st_mode & S_IFMT) != (other.st.st_mode & S_IFMT) ||
		(!S_ISDIR(e->st.st_mode) &&
			(e->len != other.len || (e->len && memcmp(e->bytes, other.bytes, e->len) != 0))))
		s->differs = true;
	return 0;
}

static bool is_same(struct play *p, unsigned a, unsigned b)
{
	struct same s = {.w = p->w, .other = b, .dir = p->dir};
	char full[PATH_MAX];

	(void)snprintf(full, sizeof(full), "%s/%s", HOST_BACKING, p->dir);
	(void)disk_walk(p->w->clients[a].machine.disk, full, compare_one, &s);
	return !s.differs;
}

static bool agree(struct play *p, unsigned a, unsigned b)
{
	for (unsigned n = 0; n < AGREE_TRIES && !p->w->stop; n++) {
		if (is_same(p, a, b) && is_same(p, b, a))
			return true;
		sim_sleep_ms(100);
	}
	return false;
}

/* ---- playing ---- */

/* All write the same new name, each cut off from the others. */
static int everybody(struct play *p, unsigned first)
{
	int bad = 0;

	for (unsigned c = 0; c < p->w->count; c++) {
		struct person by = {.world = p->w, .client = c, .number = 1000 + c, .brisk = true};

		if (c != first)
			world_net_hold(p->w, c, NET_DOWN);
		if (user_has_view(&by) && do_steps(p, &by, p->row->b))
			bad = 1;
	}
	for (unsigned c = 0; c < p->w->count; c++) {
		if (c != first)
			world_net_release(p->w, c);
	}
	return bad;
}

static int two(struct play *p, unsigned a, unsigned b)
{
	struct person first = {.world = p->w, .client = a, .number = 1000 + a, .brisk = true};
	struct person second = {.world = p->w, .client = b, .number = 1000 + b, .brisk = true};
	bool b_before = sim_chance(STREAM_USER, 500000);
	int bad = 0;

	world_net_hold(p->w, b, sim_chance(STREAM_USER, 700000) ? NET_DOWN : NET_SILENT);
	if (b_before)
		bad |= do_steps(p, &second, p->row->b);
	bad |= do_steps(p, &first, p->row->a);
	if (!b_before)
		bad |= do_steps(p, &second, p->row->b);
	sim_sleep_ms(sim_below(STREAM_USER, 3000));
	world_net_release(p->w, b);
	return bad;
}

static unsigned online(struct world *w)
{
	for (unsigned n = 0; n < 20; n++) {
		unsigned c = (unsigned)sim_below(STREAM_USER, w->count);

		if (w->clients[c].view && !w->net_held[c])
			return c;
	}
	return 0;
}

static void play(struct play *p)
{
	struct world *w = p->w;
	unsigned a = online(w), b = online(w);
	struct person by = {.world = w, .client = a, .number = 1000 + a, .brisk = true};
	uint64_t began = sim_now_ns() / 1000000;
	char name[32];
	bool good;

	if (a == b)
		b = (b + 1) % w->count;
	(void)snprintf(name, sizeof(name), "%s", p->dir);
	sim_trace("script: row %u: before \"%s\", then %u \"%s\" and %u, cut off, \"%s\", in /%s",
		p->row->number, p->row->before, a, p->row->a, b, p->row->b, p->dir);
	if (name[0]) {
		name[strlen(name) - 1] = '\0';
		(void)op_mkdir(&by, name);
	}
	good = do_steps(p, &by, p->row->before) == 0;
	good = agree(p, a, b) && good;
	if (p->row->number == 42)
		good = everybody(p, a) == 0 && good;
	else
		good = two(p, a, b) == 0 && good;
	if (good && w->last_fault_ms[a] < began && w->last_fault_ms[b] < began)
		sim_count(counters[p->row->number]);
	else
		sim_count("row that came apart");
	if (good && p->dir[0])
		oracle_expect_copies(w->oracle, p->dir, p->row->number, p->row->copies);
}

void rows_run(struct world *w)
{
	unsigned number = 0;

	while (w->ops_left > 0 && !w->stop) {
		struct play p = {.w = w,
			.row = &rows[sim_below(STREAM_USER, SCRIPTS)],
			.shared = 0x40000000u + ++number,
			.shared_len = 1 + sim_below(STREAM_USER, 500)};

		sim_sleep_ms(1 + sim_below(STREAM_USER, 4 * (uint64_t)sim_options.think_ms + 1));
		if (w->ops_left == 0 || w->stop)
			break;
		w->ops_left -= w->ops_left < 4 ? w->ops_left : 4;
		if (!sim_chance(STREAM_USER, 200000))
			(void)snprintf(p.dir, sizeof(p.dir), "row%u/", number);
		play(&p);
	}
}
