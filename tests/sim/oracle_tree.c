/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees as the oracle compares them: what lies below a directory of a disk, without syncfs' own folder, and
 * what a view shows of it through the kernel's caches. Called by oracle_rest.c. Never decides what is
 * allowed.
 */
#include "oracle_own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static bool is_own(const char *path)
{
	return strncmp(path, ".syncfs", 7) == 0 && (!path[7] || path[7] == '/');
}

static int look(void *arg, const struct disk_entry *e)
{
	struct tree_look *t = arg;
	struct node *n;

	if (!*e->path || is_own(e->path))
		return 0;
	if (t->count == t->size) {
		t->size = t->size ? 2 * t->size : 64;
		t->nodes = realloc(t->nodes, t->size * sizeof(*t->nodes));
		if (!t->nodes)
			abort();
	}
	n = &t->nodes[t->count++];
	*n = (struct node){.path = strdup(e->path),
		.mode = e->st.st_mode,
		.ino = e->st.st_ino,
		.nlink = e->st.st_nlink,
		.mtime = e->st.st_mtim,
		.len = e->len};
	if (!S_ISDIR(e->st.st_mode)) {
		n->hash = oracle_hash(e->bytes, e->len);
		n->version = oracle_find(t->o, e->bytes, e->len, S_ISLNK(e->st.st_mode));
		if (n->version == NO_VERSION && S_ISREG(e->st.st_mode))
			n->version = oracle_find_torn(t->o, e->bytes, e->len);
	} else {
		n->len = 0;
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->path, ((const struct node *)b)->path);
}

void tree_look(struct oracle *o, struct disk *d, const char *root, struct tree_look *ret_look)
{
	*ret_look = (struct tree_look){.o = o};
	(void)disk_walk(d, root, look, ret_look);
	if (ret_look->count)
		qsort(ret_look->nodes, ret_look->count, sizeof(*ret_look->nodes), compare);
}

void tree_look_free(struct tree_look *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->nodes[i].path);
	free(t->nodes);
	*t = (struct tree_look){0};
}

const struct node *tree_find(const struct tree_look *t, const char *path)
{
	struct node key = {.path = (char *)(uintptr_t)path};

	return t->count ? bsearch(&key, t->nodes, t->count, sizeof(key), compare) : NULL;
}

/* ---- views ---- */

struct names {
	const struct tree_look *backing;
	struct view *view;
	unsigned client;
	const char *dir;
	size_t count;
};

static int seen_name(void *arg, const char *name)
{
	struct names *n = arg;
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s%s%s", n->dir, *n->dir ? "/" : "", name);
	if (!tree_find(n->backing, path))
		sim_fail("I1", "the view of client %u lists %s, which is not there", n->client, path);
	n->count++;
	return 0;
}

static size_t children(const struct tree_look *t, const char *dir)
{
	size_t len = strlen(dir), count = 0;

	for (size_t i = 0; i < t->count; i++) {
		const char *p = t->nodes[i].path;

		if (len && (strncmp(p, dir, len) != 0 || p[len] != '/'))
			continue;
		count += !strchr(p + (len ? len + 1 : 0), '/');
	}
	return count;
}

static void check_listing(struct names *n, const char *dir)
{
	int r;

	n->dir = dir;
	n->count = 0;
	r = view_readdir(n->view, dir, seen_name, n);
	if (r)
		sim_fail("I1", "listing %s in the view of client %u: %s", *dir ? dir : "/", n->client,
			strerror(-r));
	if (n->count != children(n->backing, dir))
		sim_fail("I1", "the view of client %u lists %zu names in %s, there are %zu", n->client,
			n->count, *dir ? dir : "/", children(n->backing, dir));
}

static void check_bytes(struct names *n, const struct node *node, uint8_t *buf)
{
	struct view_file *f;
	ssize_t got;
	int r;

	if (S_ISLNK(node->mode)) {
		r = view_readlink(n->view, node->path, (char *)buf, PATH_MAX);
		if (r || strlen((char *)buf) != node->len || oracle_hash(buf, node->len) != node->hash)
			sim_fail("I1", "the view of client %u shows another target of %s (%d)", n->client,
				node->path, r);
		return;
	}
	r = view_open(n->view, node->path, O_RDONLY, 0, &f);
	if (r)
		sim_fail(
			"I1", "opening %s in the view of client %u: %s", node->path, n->client, strerror(-r));
	got = view_pread(f, buf, node->len + 1, 0);
	(void)view_close(f);
	if (got < 0 || (size_t)got != node->len || oracle_hash(buf, node->len) != node->hash)
		sim_fail("I1", "the view of client %u shows other bytes of %s: %zd, not %zu", n->client,
			node->path, got, node->len);
}

static void check_stat(struct names *n, const struct node *node)
{
	struct stat st;
	int r = view_stat(n->view, node->path, &st);

	if (r)
		sim_fail("I1", "the view of client %u does not show %s: %s", n->client, node->path,
			strerror(-r));
	if (st.st_mode != node->mode)
		sim_fail("I1", "the view of client %u shows mode %o of %s, it is %o", n->client, st.st_mode,
			node->path, node->mode);
	if (!S_ISREG(node->mode))
		return;
	if ((size_t)st.st_size != node->len || st.st_nlink != node->nlink ||
		st.st_mtim.tv_sec != node->mtime.tv_sec || st.st_mtim.tv_nsec != node->mtime.tv_nsec)
		sim_fail("I1",
			"the view of client %u shows %s with size %lld, %lu names, mtime %lld.%09ld; it has "
			"%zu, "
			"%lu, %lld.%09ld",
			n->client, node->path, (long long)st.st_size, (unsigned long)st.st_nlink,
			(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, node->len,
			(unsigned long)node->nlink, (long long)node->mtime.tv_sec, node->mtime.tv_nsec);
}

void oracle_check_view(struct oracle *o, unsigned client, const struct tree_look *backing)
{
	struct names n = {.backing = backing, .view = view_of(&o->clients[client].machine), .client = client};
	size_t size = PATH_MAX;
	uint8_t *buf;

	if (!n.view)
		sim_fail("I1", "client %u has no view at rest", client);
	for (size_t i = 0; i < backing->count; i++)
		size = backing->nodes[i].len + 1 > size ? backing->nodes[i].len + 1 : size;
	buf = malloc(size);
	if (!buf)
		abort();
	check_listing(&n, "");
	for (size_t i = 0; i < backing->count; i++) {
		const struct node *node = &backing->nodes[i];

		check_stat(&n, node);
		if (S_ISDIR(node->mode))
			check_listing(&n, node->path);
		else
			check_bytes(&n, node, buf);
	}
	free(buf);
}
