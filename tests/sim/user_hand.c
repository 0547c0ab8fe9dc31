/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits by hand, straight in the server's directory, by a process of the server's machine with plain system
 * calls. Called from that process's thread. Files are written beside the tree and moved in, as careful people
 * and programs do; nothing here is torn by a reader.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "user_ops.h"

#define HAND_TEMP "/srv/hand"

struct pick {
	unsigned seen;
	bool dirs;
	char path[PATH_MAX];
};

static int consider(void *arg, const struct disk_entry *e)
{
	struct pick *p = arg;

	if (!*e->path || strncmp(e->path, ".syncfs", 7) == 0 || strncmp(e->path, "pin", 3) == 0 ||
		S_ISDIR(e->st.st_mode) != p->dirs)
		return 0;
	if (sim_below(STREAM_FAULT, ++p->seen) == 0)
		(void)snprintf(p->path, sizeof(p->path), "%s", e->path);
	return 0;
}

static bool pick(struct world *w, bool dirs, char path[PATH_MAX])
{
	struct pick p = {.dirs = dirs};

	(void)disk_walk(w->server.machine.disk, HOST_ROOT, consider, &p);
	(void)snprintf(path, PATH_MAX, "%s", p.path);
	return p.seen > 0;
}

static void full_path(char full[PATH_MAX], const char *path)
{
	(void)snprintf(full, PATH_MAX, "%s/%.3000s", HOST_ROOT, path);
}

static int write_temp(const uint8_t *bytes, size_t len)
{
	int fd = open(HAND_TEMP, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, bytes, len) != (ssize_t)len)
		r = -ENOSPC;
	if (close(fd))
		r = -errno;
	return r;
}

/* A file with new bytes, under this name, over whatever is there. */
static void put(struct world *w, const char *path)
{
	size_t len = 1 + sim_below(STREAM_FAULT, 1000);
	struct oracle_spot spot;
	char full[PATH_MAX];
	uint8_t bytes[1000];
	unsigned v;
	int r;

	oracle_bytes(BY_HAND, oracle_number(w->oracle), bytes, len);
	v = oracle_version(w->oracle, BY_HAND, bytes, len, true);
	if (write_temp(bytes, len))
		return;
	full_path(full, path);
	oracle_spot_begin(w->oracle, &spot, BY_HAND, path);
	r = rename(HAND_TEMP, full) ? -errno : 0;
	oracle_spot_end(w->oracle, &spot, r);
	if (r == 0)
		oracle_finished(w->oracle, v, BY_HAND, path, spot.here);
	sim_trace("by hand: put %s: %s", path, r ? strerror(-r) : "ok");
}

static void put_new(struct world *w)
{
	char dir[PATH_MAX], path[PATH_MAX];
	bool below = pick(w, true, dir) && sim_chance(STREAM_FAULT, 500000);

	(void)snprintf(path, sizeof(path), "%.2000s%sn%llu", below ? dir : "", below ? "/" : "",
		(unsigned long long)sim_below(STREAM_FAULT, sim_options.names + 2));
	put(w, path);
}

static void take_away(struct world *w, const char *path)
{
	struct oracle_spot spot;
	char full[PATH_MAX];
	int r;

	full_path(full, path);
	oracle_spot_begin(w->oracle, &spot, BY_HAND, path);
	r = unlink(full) ? -errno : 0;
	oracle_spot_end(w->oracle, &spot, r);
	sim_trace("by hand: unlink %s: %s", path, r ? strerror(-r) : "ok");
}

/* Who moves away what is about to replace a pin takes the pin away. */
static bool is_being_saved(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strncmp(slash ? slash + 1 : path, ".save", 5) == 0;
}

static void move(struct world *w, const char *path)
{
	char dir[PATH_MAX], to[PATH_MAX], full[PATH_MAX], full_to[PATH_MAX];
	bool below = pick(w, true, dir) && sim_chance(STREAM_FAULT, 500000);
	struct oracle_watch moved;
	struct oracle_spot spot;
	int r;

	(void)snprintf(to, sizeof(to), "%.2000s%shand%llu", below ? dir : "", below ? "/" : "",
		(unsigned long long)sim_below(STREAM_FAULT, 3));
	full_path(full, path);
	full_path(full_to, to);
	oracle_moving(w->oracle, &moved, BY_HAND, path);
	oracle_spot_begin(w->oracle, &spot, BY_HAND, to);
	r = rename(full, full_to) ? -errno : 0;
	oracle_moved(w->oracle, &moved);
	oracle_spot_end(w->oracle, &spot, r);
	sim_trace("by hand: rename %s %s: %s", path, to, r ? strerror(-r) : "ok");
}

static void make_dir(void)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/n%llu", HOST_ROOT,
		(unsigned long long)sim_below(STREAM_FAULT, sim_options.names + 2));
	sim_trace("by hand: mkdir %s: %d", path, mkdir(path, 0755));
}

void hand_edit(struct world *w)
{
	char path[PATH_MAX];

	sim_count("fault: edit by hand");
	switch (sim_below(STREAM_FAULT, 6)) {
	case 0:
		put_new(w);
		break;
	case 1:
		make_dir();
		break;
	case 2:
		if (pick(w, false, path))
			take_away(w, path);
		break;
	case 3:
		if (pick(w, sim_chance(STREAM_FAULT, 400000), path) && !is_being_saved(path))
			move(w, path);
		break;
	default:
		if (pick(w, false, path))
			put(w, path);
		break;
	}
}
