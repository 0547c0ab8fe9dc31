/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that are answered when the server has what they stand for: fsync(2) and close(2) with durable=fsync
 * and durable=close. They hold no thread; one thread here answers them all: acknowledged, refused,
 * interrupted, or without a server for longer than offline= allows.
 */
#ifndef SYNCFS_CLIENT_AWAIT_H
#define SYNCFS_CLIENT_AWAIT_H

#include <stdbool.h>
#include <stdint.h>

#include <syncfs/tree.h>

#include "config.h"

struct await;
struct capture;
struct syncstate;

/* What is known of the server at the moment. */
struct await_server {
	bool connected;
	bool down; /* known not to be reached, or traffic is paused */
	bool scanned; /* the first scan is through: nothing of before is unknown */
	uint64_t moved_ms; /* monotonic: when something last went up; 0: never */
	uint64_t failures; /* attempts to send that came to nothing, counted */
};

struct await_config {
	struct capture *capture;
	struct syncstate *state; /* remembers the calls that were deferred */
	enum config_offline offline;
	uint32_t block_s; /* of OFFLINE_BLOCK */
	void (*server)(void *arg, struct await_server *ret_server); /* no lock is held */
	void (*hurry)(void *arg); /* somebody waits: the server is to be tried for now. Likewise. */
	void *arg;
};

/*
 * Once for each parked call, on the thread of await, no lock held: 0, -EIO, -EINTR, -ENOMEM. The call is
 * await's no more when it begins.
 */
typedef void await_answer(void *call, int error);

int await_start(const struct await_config *config, struct await **ret_await);
/* After await_drain(), and before session and capture end. NULL is fine. */
void await_stop(struct await *a);

/*
 * The call is to be answered when the content and the name of object, as they are now, are at the server.
 * key: what await_interrupt() will name it by. patient: it may be kept for as long as OFFLINE_BLOCK says,
 * else only as with OFFLINE_EIO. 0: they are, nothing is parked; 1: parked, will be answered after
 * await_arm(); or -errno. Any thread.
 */
int await_park(struct await *a, const struct stat_id *object, const void *key, bool patient,
	await_answer *answer, void *call);
void await_arm(struct await *a, const void *key);
/* Answers it with -EINTR; an unknown key is fine. Any thread; takes capture's lock. */
void await_interrupt(struct await *a, const void *key);

/* The mount ends: nothing waits any more, from now on it is as without a server. */
void await_close(struct await *a);
/* After await_close(): returns when all is answered. */
void await_drain(struct await *a);

#endif
