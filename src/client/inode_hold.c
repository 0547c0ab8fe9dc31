/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding up the writers of one file while it is copied on this machine, so that a file that never rests can
 * be sent. Writers are the handlers around each change of content (fs_change.c); the holder is the uploader's
 * reading. Nobody holds across the network.
 */
#include "inode_own.h"

#include <errno.h>

void inode_change_begin(struct inode_table *t, struct inode *i)
{
	for (;;) {
		atomic_fetch_add(&i->changing, 1);
		if (!atomic_load(&i->held))
			return;
		inode_change_end(t, i);
		MUTEX_GUARD(&t->lock);
		while (atomic_load(&i->held))
			cond_wait(&t->hold_changed, &t->lock);
	}
}

void inode_change_end(struct inode_table *t, struct inode *i)
{
	atomic_fetch_sub(&i->changing, 1);
	if (!atomic_load(&i->held))
		return;
	MUTEX_GUARD(&t->lock);
	cond_broadcast(&t->hold_changed);
}

struct inode *inode_hold(struct inode_table *t, const struct stat_id *object)
{
	struct inode *i = inode_get(t, object);

	if (!i)
		return NULL;
	MUTEX_GUARD(&t->lock);
	atomic_store(&i->held, true);
	while (atomic_load(&i->changing))
		cond_wait(&t->hold_changed, &t->lock);
	return i;
}

void inode_let_go(struct inode_table *t, struct inode *i)
{
	if (!i)
		return;
	mutex_lock(&t->lock);
	atomic_store(&i->held, false);
	cond_broadcast(&t->hold_changed);
	mutex_unlock(&t->lock);
	inode_put(t, i);
}
