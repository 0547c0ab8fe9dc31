/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the server can be reached: said once when it changes, waited for by those who need it. The poller
 * probes; the uploader waits for it. Lock: rank 46. Any thread.
 */
#ifndef SYNCFS_CLIENT_LINK_H
#define SYNCFS_CLIENT_LINK_H

#include <stdbool.h>
#include <stdint.h>

struct link;

struct link_status {
	bool connected, paused;
	bool down; /* an attempt has failed, and none since has not */
	uint64_t since_ms; /* monotonic: when that became so */
	char last_error[256];
};

struct link *link_new(const char *url); /* borrowed; NULL: out of memory */
void link_free(struct link *l);
void link_up(struct link *l); /* reached, and all that the server has told is stored */
void link_down(struct link *l, int error, const char *why);
/* No matter of time: the server refuses us, or is none. */
bool link_is_refusal(int error);
/* From now on a refusal is not said: whoever calls link_await_first() soon does it. */
void link_expect_first(struct link *l);
/* The first outcome, also for whoever reports a refusal himself: 0 reached, the error of link_down(), or
 * -ETIMEDOUT: none by deadline_ms. */
int link_await_first(struct link *l, uint64_t deadline_ms);
void link_note_error(struct link *l, const char *why); /* for status only */
void link_get(struct link *l, struct link_status *ret_status);
/* Waits until connected and not paused, or stop. False: stopping. */
bool link_wait_up(struct link *l);
/* Waits ms, or less when somebody asks to reconnect at once. False: stopping. */
bool link_wait_retry(struct link *l, uint64_t ms);
/* Waits until not paused. False: stopping. */
bool link_wait_resumed(struct link *l);
void link_reconnect(struct link *l);
void link_pause(struct link *l, bool paused);
void link_stop(struct link *l);

#endif
