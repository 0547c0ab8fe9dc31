/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded number of open directories, so that an object is reached with one syscall from its parent and
 * 100,000 inodes need no 100,000 descriptors. inode.c and inode_reach.c call it with the table's lock held.
 * It opens nothing.
 */
#include "inode_own.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Memory for a slot is small; more descriptors than this bring nothing (a build touches some hundred
 * directories). */
#define DIRS_MAX 4096
#define DIRS_MIN 16

void dir_cache_init(struct dir_cache *c)
{
	struct rlimit limit;

	*c = (struct dir_cache){.max = DIRS_MAX};
	/* A quarter: the rest is for open files, pins and the other parts of the program. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
		limit.rlim_cur / 4 < c->max)
		c->max = limit.rlim_cur / 4;
	if (c->max < DIRS_MIN)
		c->max = DIRS_MIN;
}

static void take_out(struct dir_cache *c, struct dir_slot *s)
{
	*(s->newer ? &s->newer->older : &c->newest) = s->older;
	*(s->older ? &s->older->newer : &c->oldest) = s->newer;
}

static void put_first(struct dir_cache *c, struct dir_slot *s)
{
	s->newer = NULL;
	s->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = s;
	c->newest = s;
}

void dir_cache_drop(struct dir_cache *c, struct dir_slot *s)
{
	take_out(c, s);
	c->count--;
	s->owner->slot = NULL;
	(void)close(s->fd);
	free(s);
}

/* Users of a slot are few (one per request), so the walk past them is short. */
static void make_room(struct dir_cache *c)
{
	struct dir_slot *s = c->oldest, *newer;

	for (; s && c->count >= c->max; s = newer) {
		newer = s->newer;
		if (s->users == 0)
			dir_cache_drop(c, s);
	}
}

struct dir_slot *dir_cache_add(struct dir_cache *c, struct inode *owner, int take_fd)
{
	struct dir_slot *s = malloc(sizeof(*s));

	if (!s) {
		(void)close(take_fd);
		return NULL;
	}
	make_room(c);
	*s = (struct dir_slot){.owner = owner, .fd = take_fd, .users = 1};
	put_first(c, s);
	c->count++;
	owner->slot = s;
	return s;
}

void dir_cache_use(struct dir_cache *c, struct dir_slot *s)
{
	s->users++;
	if (c->newest == s)
		return;
	take_out(c, s);
	put_first(c, s);
}

void dir_cache_unuse(struct dir_cache *c, struct dir_slot *s)
{
	(void)c;
	s->users--;
}
