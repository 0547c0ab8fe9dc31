/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that asks the server what is new, stores it as R together with the cursor, and hands it on to
 * the applier. */
#ifndef SYNCFS_CLIENT_POLLER_H
#define SYNCFS_CLIENT_POLLER_H

#include <syncfs/change.h>

struct poller;
struct remote;
struct syncstate;
struct applier;
struct link;
struct supply;

struct poller_config {
	struct remote *remote; /* the poller's own connection */
	struct syncstate *state;
	struct applier *applier;
	struct link *link;
	struct capture *capture;
	/* Highest opno whose result is in the agreed state (UINT64_MAX: nobody sends). */
	uint64_t (*acked_opno)(void *arg);
	struct supply *supply; /* hears which contents the server wants */
	struct id client;
	unsigned wait_s; /* of a long poll */
	/* The server is not on our history any more (epoch, diverged, gone): a merge is needed. Called once,
	 * ends the thread. */
	void (*rebase)(void *arg, const char *why);
	void *arg;
};

int poller_start(const struct poller_config *config, struct poller **ret_poller);
void poller_stop(struct poller *p); /* after link_stop() */
/* When bytes last came or went, monotonic; 0: never. Any thread. */
uint64_t poller_moved_ms(const struct poller *p);
/* The newest seq that is stored here. Any thread. */
uint64_t poller_seq(const struct poller *p);

#endif
