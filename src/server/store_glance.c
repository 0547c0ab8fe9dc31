/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First look at what the watch has told, beside commits: most of it is what we have placed ourselves. Called
 * by store_hand for each burst. Takes no lock but that of the reading handle, for a part of the burst at a
 * time, and decides nothing but that an object is the one that the rows know.
 */
#include "store_internal.h"

#include <errno.h>

#define GLANCE_GROUP 256 /* names that a snapshot is held for: polls wait meanwhile */
#define BIG_BYTES ((uint64_t)1 << 20) /* takes about a millisecond to read and hash */

/* The directory of the last name: bursts come directory by directory. REQUIRES(s->read_lock). */
struct glance {
	struct store *s;
	struct id dir;
	int fd; /* -errno: it is not where the rows have it */
};

static int open_dir(struct glance *g)
{
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	struct stat_id was, is;
	int r = meta_dir_path(g->s->reader, &g->dir, &path);

	if (r < 0)
		return r;
	fd = tree_open_dir(&g->s->tree, path);
	if (fd < 0 || id_equal(&g->dir, &ID_ROOT))
		return steal_fd(&fd);
	r = meta_disk_get(g->s->reader, &g->dir, &was);
	if (r == 0)
		r = tree_stat(fd, "", &is);
	if (r == 0 && (was.ino != is.ino || was.btime_ns != is.btime_ns))
		r = -ENOENT;
	return r < 0 ? r : steal_fd(&fd);
}

static void glance_end(struct glance *g)
{
	if (g->fd >= 0)
		(void)close(g->fd);
	g->fd = -ENOENT;
	g->dir = ID_NONE;
}

static enum glanced glance_name(struct glance *g, const struct id *dir, const char *name)
{
	struct stat_id is, was;
	struct id node;
	uint64_t l;

	if (!id_equal(&g->dir, dir)) {
		glance_end(g);
		g->dir = *dir;
		g->fd = open_dir(g);
	}
	if (g->fd < 0 || tree_stat(g->fd, name, &is) < 0 || S_ISDIR(is.mode) || !tree_kind(is.mode))
		return GLANCED_OPEN;
	if (meta_dentry_get(g->s->reader, dir, name, &node, &l) < 0 ||
		meta_disk_get(g->s->reader, &node, &was) < 0)
		was = (struct stat_id){0};
	was.dev = is.dev;
	if (was.ino && stat_id_unchanged(&was, &is))
		return GLANCED_KNOWN;
	return S_ISREG(is.mode) && is.size >= BIG_BYTES ? GLANCED_BIG : GLANCED_OPEN;
}

void glance(struct store *s, const struct watch_event *events, size_t count, enum glanced *ret_seen)
{
	for (size_t i = 0; i < count; i += GLANCE_GROUP) {
		struct glance g = {.s = s, .fd = -ENOENT};
		MUTEX_GUARD(&s->read_lock);

		if (meta_begin_read(s->reader) < 0)
			return;
		for (size_t k = i; k < count && k < i + GLANCE_GROUP; k++)
			ret_seen[k] = glance_name(&g, &events[k].dir, events[k].name);
		meta_rollback(s->reader);
		glance_end(&g);
	}
}
