/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one fsync(2) or close(2) stands for: the operations of the queue that have to be at the server before
 * the content and the name of one file are. capture's lock covers every call.
 */
#ifndef SYNCFS_CLIENT_PROMISE_H
#define SYNCFS_CLIENT_PROMISE_H

#include <stdbool.h>
#include <stddef.h>

#include <syncfs/id.h>
#include <syncfs/tree.h>

struct capture;

struct promise {
	struct promise *next; /* all of capture; begin_locked() puts it there, end_locked() takes it away */
	struct stat_id object; /* set by the caller */

	struct id node; /* ID_NONE: nobody knows the object yet */
	struct promise_ref *refs; /* pending.h: its operations */
	size_t refs_count, left; /* left: of these still in the queue */
	int error; /* the server refused one of them */
};

/*
 * From now on the promise follows the queue, and the applier passes over its node. The file may be sent
 * although it is open for writing. The caller keeps it until promise_end_locked().
 */
void promise_begin_locked(struct capture *c, struct promise *p);
/*
 * 0 kept: the server has all of it; 1: not yet; -EAGAIN: the object has no place in the queue and none in the
 * agreed state (not scanned yet, or being merged), the next call looks again; -EIO: the server refuses it; or
 * -ENOMEM.
 */
int promise_look_locked(struct capture *c, struct promise *p);
void promise_end_locked(struct capture *c, struct promise *p);
/* The agreed state and the queue are given up: every promise is to be looked for anew. */
void promise_forget_all_locked(struct capture *c);

#endif
