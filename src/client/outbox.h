/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of capture: picks operations from the queue for a batch, gives them numbers and bases,
 * and turns the server's results into the agreed state. Used by the uploader's thread only (one batch at a
 * time).
 */
#ifndef SYNCFS_CLIENT_OUTBOX_H
#define SYNCFS_CLIENT_OUTBOX_H

#include <syncfs/map.h>
#include <syncfs/message.h>
#include <syncfs/tree.h>

struct capture;
struct entry;

/* One operation on its way. */
struct item {
	struct entry *entry; /* in the queue, in_flight; NULL: done with */
	uint64_t lsn;
	uint64_t *covers; /* of one read back: further lsns that its result settles; owned */
	size_t covers_count;
	struct op op; /* opno and bases are set by outbox_number() */
	char *dir_path, *name; /* where the object lies; NULL: nowhere any more */
	struct id dir; /* that directory */
	struct stat_id object; /* identity expected there */
	struct stat_id disk; /* as it was when content and attributes were read */
	uint64_t changed_ms;
	uint64_t releases; /* of its local, when it was collected */
	bool send_all; /* all chunks, whatever the server believes to have */
	bool missing; /* the server has said that it misses some: put off, all are sent next time */
	bool remains; /* unlink, rename over: one of several names */
	bool synced, promised; /* promised: a call waits until it is sent, whoever writes */
	uint64_t generation; /* synced: of the object then */
	bool refused; /* by the server, for ever */
	unsigned unstable; /* how often it was read and had changed meanwhile */
	bool adopt; /* equal to what the server has told: not sent */
	struct node_state remote; /* adopt: that */
};

struct outbox {
	struct item *items;
	size_t count;
	uint64_t next_due_ms; /* when the first of those put off may be tried again; 0: none waits for time */
	struct map *alias; /* of this batch: our node id -> struct id */
	bool freed; /* operations were dropped: the applier may go on with their nodes */
};

void outbox_fini(struct outbox *o);

/*
 * Picks up to max operations that may be sent now, in order (what calls wait for first, by turns); those that
 * depend on one put off stay behind. Operations on objects that came and went unsent are dropped here. 0 or
 * -errno; an empty outbox: nothing to do.
 */
int outbox_collect(struct capture *c, size_t max, struct outbox *ret_outbox);
/* Gives item i back to the queue, to be tried again after delay_ms (0: with the next batch). Later items that
 * depend on it must be given back as well. */
void outbox_put_off(struct capture *c, struct item *item, uint64_t delay_ms);
/* The entry leaves the queue for good, in the journal too. Under capture.lock. */
int outbox_drop_locked(struct capture *c, struct entry *e);
/* Removes the item's operation for good: it says nothing any more. */
int outbox_drop(struct capture *c, struct item *item);
/*
 * Finds the entries of a batch that was read back after a restart (items whose operation is gone already stay
 * without), takes into them what the batch had absorbed, and queues anew what was written after it was read.
 * 0 or -errno.
 */
int outbox_claim(struct capture *c, struct outbox *o);
/*
 * Puts off, for delay_ms, files that were made and are gone and of which not all is in the batch, with what
 * depends on them. full: there may be more than fits. 1: some were, 0: none, -ENOMEM.
 */
int outbox_put_off_dead(struct capture *c, struct outbox *o, bool full, uint64_t delay_ms);
/* True when b may not be sent before a: they share a node or a name. */
bool outbox_depends(const struct item *b, const struct item *a);
/* Removes given-back items, numbers the rest from first_opno, and fills the bases. */
int outbox_number(struct capture *c, struct outbox *o, uint64_t first_opno);

/*
 * What is adopted becomes the agreed state and leaves queue and journal, before anything is sent. -EAGAIN:
 * the server has told something else meanwhile; the rest is to be collected anew.
 */
int outbox_adopt(struct capture *c, struct outbox *o);
/*
 * Results of the batch (one per item, in order): agreed state durable
 * enough, then the journal, then the queue. acked_opno and the client's opno counter are stored with
 * it.
 */
int outbox_settle(struct capture *c, struct outbox *o, const struct batch_reply *reply, uint64_t last_opno);
/* The last step of that alone: the batch leaves journal and queue, its results are agreed already. */
int outbox_let_go(struct capture *c, struct outbox *o);
/* All back to the queue, in order (the request is known not to have been carried out). */
void outbox_return(struct capture *c, struct outbox *o);

/* Gives up the queue: what is on disk merges by content instead. While no uploader runs. */
int outbox_forget(struct capture *c);
/* The same for what is queued of nodes that the agreed state does not have. */
int outbox_forget_unknown(struct capture *c);

/*
 * Waits for more while operations keep coming: until max are pending, none came for a moment, a call waits
 * for the server, or deadline_ms.
 */
void outbox_gather(struct capture *c, size_t max, uint64_t deadline_ms);
/* Waits for work, at most until deadline_ms. False: stopping. */
bool outbox_wait(struct capture *c, uint64_t *seen_wakeups, uint64_t deadline_ms);

#endif
