/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue and the thread that tell the kernel what is stale. Callers (the applier, under the tree lock; the
 * view after an append elsewhere than expected) only queue; the thread sends, holding nothing: the kernel
 * takes the directory's lock for it, and whoever has that lock may be waiting for us. An item keeps a
 * reference to its inodes, so a node id cannot be used again before it is sent; one that the kernel has
 * forgotten meanwhile gives ENOENT, which is fine.
 */
#include "invalidate.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/failpoint.h>
#include <syncfs/log.h>
#include <syncfs/mutex.h>

#include "inode.h"

enum item_type { ITEM_ENTRY, ITEM_DELETE, ITEM_ATTR, ITEM_DATA };

struct item {
	struct item *next;
	enum item_type type;
	bool asked; /* somebody was sent to look the entry up again */
	struct inode *inode; /* the parent of an entry; a reference */
	struct inode *child; /* ITEM_DELETE; a reference or NULL */
	char name[];
};

struct invalidate {
	struct mutex lock;
	struct cond wake;
	struct item *first, **last;
	struct item *sending;
	bool stop;

	struct inode_table *inodes; /* set before the thread starts, then read-only */
	struct fuse_session *session;
	pthread_t thread;
	bool running;
};

static void item_free(struct invalidate *v, struct item *item)
{
	inode_put(v->inodes, item->inode);
	if (item->child)
		inode_put(v->inodes, item->child);
	free(item);
}

/* take_inode, take_child: references. Out of memory costs freshness for CACHE_S, nothing else. */
static void queue(struct invalidate *v, enum item_type type, struct inode *take_inode,
	struct inode *take_child, const char *name)
{
	size_t len = strlen(name) + 1;
	struct item *item = malloc(sizeof(*item) + len);

	if (!item) {
		inode_put(v->inodes, take_inode);
		if (take_child)
			inode_put(v->inodes, take_child);
		return;
	}
	item->next = NULL;
	item->type = type;
	item->asked = false;
	item->inode = take_inode;
	item->child = take_child;
	memcpy(item->name, name, len);
	mutex_lock(&v->lock);
	*v->last = item;
	v->last = &item->next;
	cond_signal(&v->wake);
	mutex_unlock(&v->lock);
}

static int send_item(struct invalidate *v, const struct item *item)
{
	fuse_ino_t ino = inode_nodeid(v->inodes, item->inode);

	switch (item->type) {
	case ITEM_DELETE:
		if (item->child)
			return fuse_lowlevel_notify_delete(v->session, ino,
				inode_nodeid(v->inodes, item->child), item->name, strlen(item->name));
		__attribute__((fallthrough));
	case ITEM_ENTRY:
		return fuse_lowlevel_notify_inval_entry(v->session, ino, item->name, strlen(item->name));
	case ITEM_ATTR:
		return fuse_lowlevel_notify_inval_inode(v->session, ino, -1, 0); /* < 0: attributes only */
	case ITEM_DATA:
		return fuse_lowlevel_notify_inval_inode(v->session, ino, 0, 0); /* to the end */
	}
	return 0;
}

static void *run(void *arg)
{
	struct invalidate *v = arg;
	struct item *item;
	int r;

	for (;;) {
		mutex_lock(&v->lock);
		while (!v->first && !v->stop)
			cond_wait(&v->wake, &v->lock);
		if (v->stop) {
			mutex_unlock(&v->lock);
			return NULL;
		}
		item = v->first;
		v->first = item->next;
		if (!v->first)
			v->last = &v->first;
		v->sending = item;
		mutex_unlock(&v->lock);

		FAILPOINT("A11");
		r = send_item(v, item);
		/* ENOENT: not known there. ENOTEMPTY, ENOTDIR, EBUSY: delete met something else; the entry
		 * alone. ENODEV: unmounted. */
		if (item->type == ITEM_DELETE && r && r != -ENOENT && r != -ENODEV)
			r = fuse_lowlevel_notify_inval_entry(v->session, inode_nodeid(v->inodes, item->inode),
				item->name, strlen(item->name));
		if (r && r != -ENOENT && r != -ENODEV)
			log_debug("invalidate type=%d: %s", (int)item->type, err_str(r));
		mutex_lock(&v->lock);
		v->sending = NULL;
		mutex_unlock(&v->lock);
		item_free(v, item);
	}
}

/* ---- asking ---- */

static bool ask(struct item *item, const struct inode *parent, const char *name)
{
	bool is_it = item->type <= ITEM_DELETE && item->inode == parent && strcmp(item->name, name) == 0 &&
		!item->asked;

	item->asked |= is_it;
	return is_it;
}

bool invalidate_is_due(struct invalidate *v, const struct inode *parent, const char *name)
{
	bool due;

	MUTEX_GUARD(&v->lock);
	due = v->sending && ask(v->sending, parent, name);
	for (struct item *i = v->first; i; i = i->next)
		due |= ask(i, parent, name);
	return due;
}

/* ---- queueing ---- */

void invalidate_entry(struct invalidate *v, const struct stat_id *parent, const char *name)
{
	struct inode *dir;

	inode_epoch_advance(v->inodes);
	dir = inode_get(v->inodes, parent);
	if (dir)
		queue(v, ITEM_ENTRY, dir, NULL, name);
}

void invalidate_delete(
	struct invalidate *v, const struct stat_id *parent, const struct stat_id *child, const char *name)
{
	struct inode *dir;

	inode_epoch_advance(v->inodes);
	dir = inode_get(v->inodes, parent);
	if (dir)
		queue(v, ITEM_DELETE, dir, inode_get(v->inodes, child), name);
}

void invalidate_inode(struct invalidate *v, const struct stat_id *object, bool data)
{
	struct inode *i;

	inode_epoch_advance(v->inodes);
	i = inode_get(v->inodes, object);
	if (!i)
		return;
	if (data)
		inode_forget_open(v->inodes, i);
	queue(v, data ? ITEM_DATA : ITEM_ATTR, i, NULL, "");
}

/* ---- life ---- */

struct invalidate *invalidate_new(struct inode_table *inodes)
{
	struct invalidate *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	mutex_init(&v->lock, RANK_INVALIDATE, "invalidate");
	cond_init(&v->wake);
	v->last = &v->first;
	v->inodes = inodes;
	return v;
}

void invalidate_free(struct invalidate *v)
{
	struct item *item, *next;

	if (!v)
		return;
	for (item = v->first; item; item = next) {
		next = item->next;
		item_free(v, item);
	}
	cond_fini(&v->wake);
	mutex_fini(&v->lock);
	free(v);
}

int invalidate_start(struct invalidate *v, struct fuse_session *session)
{
	int r;

	v->session = session;
	v->stop = false;
	r = pthread_create(&v->thread, NULL, run, v);
	v->running = r == 0;
	return -r;
}

void invalidate_stop(struct invalidate *v)
{
	if (!v->running)
		return;
	mutex_lock(&v->lock);
	v->stop = true;
	cond_signal(&v->wake);
	mutex_unlock(&v->lock);
	(void)pthread_join(v->thread, NULL);
	v->running = false;
}
