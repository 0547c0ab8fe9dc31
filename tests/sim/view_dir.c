/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing a directory of a simulated mount: OPENDIR, READDIR or READDIRPLUS in pieces of a page,
 * RELEASEDIR. What READDIRPLUS tells of entries is believed like the answers of lookups
 * (fuse_direntplus_link()). Called by threads of people.
 */
#include "view_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES 4096u

struct names {
	char *bytes; /* each with its NUL */
	size_t len, cap;
};

static void add_name(struct names *n, const char *name, size_t len)
{
	if (n->len + len + 1 > n->cap) {
		n->cap = 2 * n->cap + len + 256;
		n->bytes = realloc(n->bytes, n->cap);
		if (!n->bytes)
			abort();
	}
	memcpy(n->bytes + n->len, name, len);
	n->bytes[n->len + len] = '\0';
	n->len += len + 1;
}

static void link_entry(struct kinode *dir, const struct packed_entry *p, uint64_t version)
{
	struct kinode *k;

	if (!p->param.ino || strcmp(p->name, ".") == 0 || strcmp(p->name, "..") == 0)
		return;
	k = kinode_of_entry(dir->view, &p->param, version);
	(void)dentry_set(dir, p->name, k, p->param.entry_timeout);
	kinode_put(k);
}

/* One answer. 0, with *at where to go on; 1: the end. */
static int read_piece(
	struct kinode *dir, const struct fuse_file_info *fi, uint64_t *at, bool plus, struct names *names)
{
	struct fuse_req *q = req_new(dir->view, plus ? CALL_READDIRPLUS : CALL_READDIR, dir);
	int r;

	q->fi = *fi;
	q->at = (off_t)*at;
	q->count = ANSWER_BYTES;
	klock_read(&dir->lock);
	r = req_send(q);
	if (!r && q->len == 0)
		r = 1;
	for (size_t i = 0; !r && i < q->len;) {
		const struct packed_entry *p = (const struct packed_entry *)(const void *)(q->bytes + i);

		if (p->is_plus != plus)
			sim_fail("view", "entries of the other kind");
		if (plus)
			link_entry(dir, p, q->version);
		if (strcmp(p->name, ".") != 0 && strcmp(p->name, "..") != 0)
			add_name(names, p->name, p->len);
		*at = p->at;
		i += p->step;
	}
	klock_read_done(&dir->lock);
	req_put(q);
	return r;
}

static int list(struct kinode *dir, struct names *names)
{
	struct fuse_req *q = req_new(dir->view, CALL_OPENDIR, dir);
	bool plus = sim_below(STREAM_SCHEDULE, 2);
	struct fuse_file_info fi;
	uint64_t at = 0;
	int r;

	q->fi.flags = O_RDONLY | O_DIRECTORY;
	r = req_send(q);
	fi = q->fi;
	req_put(q);
	if (r)
		return r;
	do
		r = read_piece(dir, &fi, &at, plus, names);
	while (r == 0);
	q = req_new(dir->view, CALL_RELEASEDIR, dir);
	q->fi = fi;
	req_send_async(q);
	return r > 0 ? 0 : r;
}

static int do_readdir(struct view *v, struct path_call *c, bool again)
{
	struct names *names = c->arg;
	struct kinode *k;
	int r = path_walk(v, c->path, true, again, &k);

	if (r)
		return r;
	names->len = 0;
	r = kinode_is_dir(k) ? list(k, names) : -ENOTDIR;
	kinode_put(k);
	return r;
}

int view_readdir(struct view *v, const char *path, int (*fn)(void *arg, const char *name), void *arg)
{
	struct names names = {0};
	struct path_call c = {.path = path, .arg = &names};
	int r = view_call(v, &c, do_readdir);

	for (size_t i = 0; !r && i < names.len; i += strlen(names.bytes + i) + 1)
		r = fn(arg, names.bytes + i);
	free(names.bytes);
	return r;
}
