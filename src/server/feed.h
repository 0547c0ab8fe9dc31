/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parked long-polls. A poll registers first and looks for news afterwards, so no commit can fall in between:
 * whoever removes it from the list (a commit, its deadline, a look at whether it may still wait, the end)
 * wakes it once, and it looks again.
 */
#ifndef SYNCFS_SERVER_FEED_H
#define SYNCFS_SERVER_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct feed;

struct feed_config {
	unsigned polls_per_owner;
	uint32_t tick_ms; /* how often parked polls are looked at; 0: only their deadlines */
	/* Called each tick while something is parked: true wakes all, so that they look whether they still
	 * may wait. NULL: never. */
	bool (*has_changed)(void *arg);
	void *arg;
	/* Runs the request again: http_wake(). Called with the feed's lock held. */
	void (*wake)(void *request);
	/* Its client is gone: http_client_is_gone(). The same. */
	bool (*is_gone)(void *request);
};

/* One poll, embedded in its request; zeroed at first. */
struct feed_poll {
	struct feed_poll *next, **prev_link; /* prev_link NULL: not in the list */
	struct feed *feed; /* NULL: not counted */
	void *request;
	const void *topic; /* a namespace */
	uint8_t owner[32]; /* a token's hash */
	uint64_t deadline_ms; /* clock_mono_ms() */
};

int feed_start(const struct feed_config *config, struct feed **ret_feed);
/* Wakes all, and from now on nothing waits: feed_park() says -ECANCELED. */
void feed_cancel(struct feed *f);
void feed_allow(struct feed *f); /* takes feed_cancel() back */
void feed_stop(struct feed *f); /* after the last feed_end(); NULL is fine */

/*
 * A new poll of an owner: request, topic, owner and deadline are set. -EDQUOT: the owner has polls_per_owner
 * already.
 */
int feed_begin(struct feed *f, struct feed_poll *p);
void feed_end(struct feed_poll *p); /* also when never begun */

/* Puts it among those to be woken; -ETIMEDOUT its deadline has passed, -ECANCELED stopping: then it is not.
 */
int feed_park(struct feed_poll *p);
/* Takes it out again; a wake-up that came before is not undone. */
void feed_unpark(struct feed_poll *p);

/* Wakes all that wait for the topic. Any thread. */
void feed_publish(struct feed *f, const void *topic);
size_t feed_parked(struct feed *f);

#endif
