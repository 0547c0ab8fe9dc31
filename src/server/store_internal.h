/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the store share, and nobody else. Lowest first: store_prepare (content staged),
 * store_steps (place steps, their form in an intent), store_aside (hands in their way), store_place (carrying
 * them out), store_txn (one transaction and what follows it), then store_batch, store_path, store_simple,
 * store_hand and gc beside each other, store on top.
 */
#ifndef SYNCFS_SERVER_STORE_INTERNAL_H
#define SYNCFS_SERVER_STORE_INTERNAL_H

#include <stdatomic.h>

#include <syncfs/commit.h>
#include <syncfs/io.h>
#include <syncfs/map.h>
#include <syncfs/mutex.h>
#include <syncfs/stop.h>

#include "content.h"
#include "meta.h"
#include "recent.h"
#include "store.h"
#include "tree_watch.h"

#define HISTORY_DAYS 30
#define CHUNK_HOURS 24

struct hand;
struct store_request;

struct store {
	struct mutex lock; /* RANK_STORE: the tree and the writing handle */
	struct meta *meta;
	struct cursor at; /* after the last commit */
	uint64_t nodes; /* live ones */
	struct hand *hand; /* edits made by hand */

	struct mutex read_lock; /* RANK_META */
	struct meta *reader;

	struct mutex seen_lock; /* RANK_FEED */
	struct cursor seen; /* what the tree shows: readers see up to here */

	struct mutex queue_lock; /* RANK_QUEUE */
	struct cond queue_cond;
	struct store_request *queue, **queue_end;
	bool has_leader;

	/* set at open, then read-only */
	struct tree tree;
	struct content_dir content;
	struct tree_watch *watch;
	struct recent *recent; /* small contents that were staged last */
	struct id self; /* client id of edits made by hand */
	struct id run; /* of this process: names what it makes */
	void (*on_change)(void *arg);
	void *arg;
	bool is_root; /* files can be given to others */
	bool tree_is_open;
	bool owed; /* REQUIRES(lock): owed_place() may have something to do */
	int lock_fd;

	/* flags and counters: no order is needed between them */
	atomic_bool failed;
	atomic_uint_fast64_t commits, requests_same, rescan_wanted;
	atomic_uint_fast64_t want_news, want_news_ms;
	int64_t history_ns; /* its newest at the start */
	uint64_t history_from_ms;
	pthread_t gc;
	struct stop *stop;
	bool gc_runs;
};

/* Says once what ended it; every later call gives -EIO. Returns -EIO. */
int store_fail(struct store *s, const char *what, int r);

/*
 * The mode that an object has here. An ordinary user could not read or change what forbids its owner that:
 * those bits are given to ourselves here, while the rows keep what clients see.
 */
uint32_t store_disk_mode(const struct store *s, enum kind kind, uint32_t mode);

/* For tests: called between COMMIT and placing, and when all is placed. */
extern void (*store_hook_committed)(void), (*store_hook_placed)(void);

/* ---- store_prepare.c ---- */

/* The content of an operation, verified and staged. */
struct prepared {
	int code; /* 0, or why the operation is to be rejected */
	const char *reason;
	struct hash *missing; /* chunks that are not held */
	size_t missing_count;
	char stage[STAGE_NAME_BYTES]; /* "": nothing staged */
	bool is_dir, attr_set;
	bool taken; /* by a step of the transaction */
	struct stat_id stat; /* of the staged object */
	struct blob manifest;
};

/* raw: what data_at counts from. -errno only for trouble of ours (ENOSPC, EIO). No lock. */
int prepare_op(struct store *s, const struct op *op, const uint8_t *raw, size_t raw_len, struct prepared *p);
/* The same for content that is a whole buffer or file; op->content is set from it. */
int prepare_source(struct store *s, struct op *op, const struct store_source *source, struct prepared *p);
/* Makes the staged files of these durable. */
int prepare_sync(struct store *s, const struct prepared *list, size_t count);
void prepared_fini(struct store *s, struct prepared *p); /* drops what is still staged */
/* A chunk, verified, from wherever it lies; meta: the handle that the caller may use. -ENOENT, -EBADMSG. */
int prepare_chunk_get(struct store *s, struct meta *meta, const struct hash *chunk, struct buf *out);
/* Opens a live file through its rows. fd, -ENOENT. */
int prepare_node_open(struct store *s, struct meta *meta, const struct id *node);

/* ---- store_steps.c ---- */

struct step {
	enum place_type type;
	enum kind kind;
	struct id node, other; /* other: exchange */
	char *dir, *name, *new_dir, *new_name; /* paths of directories at this point of the order */
	char stage[STAGE_NAME_BYTES]; /* what goes in */
	bool own_stage; /* made for this step: dropped when the transaction is undone */
	bool set_attr, again; /* again: a further name of the step before */
	bool has_old; /* what is displaced was the last of this content here */
	struct content content, old;
	struct stat_id staged, expect, expect_other;
	uint32_t mode;
	int64_t mtime_ns;
	struct blob xattr;
};

struct steps {
	struct step *list;
	size_t count, cap;
};

struct step *steps_add(struct steps *s); /* zeroed; NULL: out of memory */
void steps_fini(struct steps *s);
int steps_encode(const struct steps *s, struct buf *out);
int steps_decode(const void *bytes, size_t len, struct steps *ret_steps); /* -EBADMSG */

/* ---- store_dirs.c ---- */

#define PLACE_DIRS_MAX 64

struct place_dirs {
	const struct tree *tree;
	bool sync_all; /* at the end, more than the directories */
	struct place_slot {
		char *path;
		int fd;
		bool is_own; /* owned by us, so that new objects in it are so already */
	} list[PLACE_DIRS_MAX];
	size_t count;
};

/* Its descriptor, which may close that of any other; -errno. */
int place_dir(struct place_dirs *d, const char *path);
bool place_dir_is_own(const struct place_dirs *d, int fd);
void place_dirs_forget(struct place_dirs *d);
int place_dirs_sync(struct place_dirs *d);

/* ---- store_aside.c ---- */

#define ASIDE_TRIES 8 /* while a hand makes one name after the other */

/*
 * Frees dir/name for the step, one of steps. 1: it is free; *ret_was_dir: a directory went aside. 0: what is
 * there is just what the step makes, or of these steps, or cannot be moved; -errno.
 */
int store_aside(struct store *s, const struct steps *steps, const struct step *step, int dir,
	const char *name, bool *ret_was_dir);

/* What a step has displaced, in staging: to history, or away. */
int store_dispose(struct store *s, const struct step *step);
/* What a step cannot place: to history, or away. */
int store_give_way(struct store *s, const struct step *step);

/* ---- store_owed.c: All REQUIRES(s->lock). ---- */

/*
 * As the ctime of what is known of a node's object: the rows have a newer content (ino 0: the first one),
 * which has found no place in the tree and lies in the history.
 */
#define OWED_CTIME ((int64_t)-1)

/* Places what can be placed by now, in transactions of its own. */
int owed_place(struct store *s);

/* ---- store_place.c ---- */

struct placed {
	struct id node;
	struct stat_id disk;
};

/*
 * Carries the steps out and makes them durable. redo: some or all have been done before. Identities of what
 * was placed come back, latest last; what hands have made meanwhile goes aside, for a scan (rescan_wanted).
 * -errno: terminal.
 */
int store_place(
	struct store *s, struct steps *steps, bool redo, struct placed **ret_placed, size_t *ret_count);

/* ---- one transaction ---- */

#define TXN_DIRS 16

struct txn {
	struct store *s;
	bool in_place; /* rows follow the tree: nothing is placed */
	struct steps steps;
	struct cursor at;
	int64_t nodes_delta;
	uint64_t ops; /* that changed something */
	struct map *ids; /* node -> struct stat_id: what steps of this transaction will leave */

	/* kept from operation to operation, since many are about one directory; dropped when names change */
	struct node_state dirs[TXN_DIRS];
	size_t dirs_count, dirs_next;
	struct id path_of;
	char *path; /* NULL: none */

	/* the operation being applied */
	const struct commit_sender *sender;
	const struct op *op;
	struct prepared *prepared;
	struct content old; /* that the last row to be written has replaced or ended */
	struct id old_node; /* whose; ID_NONE: none yet */
	uint64_t op_seq;
	struct id tag_node;
	const struct result *results; /* of this batch so far, dense */
	size_t results_count;
	struct result own;
};

/* ---- store_emit.c ---- */

int txn_emit(void *txn, const struct place_step *said); /* place() of commit_env */
int txn_predict(struct txn *x, const struct id *node,
	const struct stat_id *stat); /* what the steps so far will leave */
int txn_expect(struct txn *x, const struct id *node,
	struct stat_id *ret_stat); /* that, or what was seen last; zeros */
/* A live node that is no longer in the tree is put there again, from history. -ENODATA: its content is not
 * there; nothing done. */
int txn_place_again(struct txn *x, const struct node_state *n, const struct id *dir, const char *name);

/* ---- store_txn.c: All REQUIRES(s->lock). ---- */

int txn_begin(struct txn *x, struct store *s, bool in_place);
/* For identities alone: no operation may follow, and the commit does not wait for the disk. */
int txn_begin_known(struct txn *x, struct store *s);
/* -ENODATA: content to be brought back is no more: undo all, and reject this one. */
int txn_apply(struct txn *x, const struct commit_sender *sender, const struct op *op,
	struct prepared *prepared, struct result *ret_result);
/* Without judging it. */
int txn_refuse(struct txn *x, const struct commit_sender *sender, const struct op *op, int code,
	const char *reason, struct result *ret_result);
/* COMMIT, place, sync, clear. The transaction is over in any case. -EIO: terminal. */
int txn_commit(struct txn *x);
void txn_rollback(struct txn *x);
/* What an earlier process left open. */
int txn_redo(struct store *s);
/*
 * How old a content of the history is, is told in time that the server has run since, going on from the
 * newest that is there: a wall clock that jumps would end what others can still bring back.
 */
int txn_history_start(struct store *s);
int64_t txn_history_ns(const struct store *s);
void result_pack(const struct result *r, struct buf *out);
int result_unpack(const void *bytes, size_t len, struct result *ret_result);

/* One operation of the server or of an actor, in a transaction of its own. Takes the lock. */
int store_apply_one(struct store *s, const struct commit_sender *sender, struct op *op,
	struct prepared *prepared, struct result *ret_result);
void store_changed(struct store *s); /* tells the listener; holding nothing */

/* ---- store_look.c: the tree compared with the rows ---- */

/* A file that was read while it was as `is` says. */
struct look_hashed {
	struct stat_id is;
	struct content content;
	struct blob manifest;
};

/* A walk of comparisons, in transactions that it opens and closes as it goes. All REQUIRES(s->lock). */
struct look {
	struct store *s;
	struct txn x;
	bool open, takes_ops; /* x */
	unsigned pending; /* operations in it */
	struct id *dirs; /* still to be scanned whole */
	size_t dirs_count, dirs_cap;
	const struct look_hashed *hashed; /* big files, read before the lock was taken */
	size_t hashed_count;
	/* told what to come back to: a name that is not there (evidence of a deletion), one that is being
	 * written */
	void (*gone)(void *arg, const struct id *dir, const char *name);
	void (*busy)(void *arg, const struct id *dir, const char *name);
	void *arg;
};

/* Reads dir/name when it is big and not what the rows know; 1: done, 0: not needed, or not now. No lock. */
int look_hash(struct store *s, const struct id *dir, const char *name, struct look_hashed *ret_hashed);
/* One object that is there, as it was stat'ed. */
int look_entry(struct look *l, const struct id *dir, int dirfd, const char *name, const struct stat_id *is);
/* The directory as the rows have it, checked to be the one. fd or -errno; -ENOENT: it is not there. */
int look_open_dir(struct look *l, const struct id *dir, char **ret_path);
/* One name. -ENOENT: the directory is not where the rows have it. */
int look_name(struct look *l, const struct id *dir, const char *name);
int look_push(struct look *l, const struct id *dir); /* to be scanned whole, with what is below it */
int look_scan(struct look *l); /* all that was pushed; store_scan.c */
/* Removes a name and all below it from the rows. */
int look_drop(struct look *l, const struct id *dir, const char *name, const struct id *node);
int look_end(struct look *l, int r); /* commits, or undoes when r is an error; frees */
/* Whether dir/name is in the rows and not in the tree: 1, its node; 0; -errno. */
int look_missing(struct look *l, const struct id *dir, const char *name, struct id *ret_node);

/* ---- store_glance.c ---- */

enum glanced {
	GLANCED_OPEN, /* to be looked at under the lock */
	GLANCED_BIG, /* that too, and it should be read before */
	GLANCED_KNOWN, /* it is what the rows say: a later change will be told of again */
};

/* What the names of a burst are about; ret_seen has count of them, GLANCED_OPEN at the beginning. No lock. */
void glance(struct store *s, const struct watch_event *events, size_t count, enum glanced *ret_seen);

/* ---- store_hand.c: edits made by hand ---- */

int hand_open(struct store *s, bool adopt, struct buf *why); /* the scan at start */
void hand_close(struct store *s);
/* Under a new epoch every client merges with what is here; so what is missing is not taken for deleted
 * anywhere. */
int hand_new_epoch(struct store *s);
int hand_changed(void *arg, const struct watch_event *events, size_t count, bool overflow);
uint64_t hand_held(struct store *s); /* REQUIRES(s->lock) */

/* ---- store_want.c: All REQUIRES(s->lock). ---- */

/* In a transaction: this live file is not in the tree, and cannot be brought back from here. */
int want_absent(struct store *s, const struct node_state *n);
/* 1: it is one of those, so that its absence is no deletion; 0; -errno. */
int want_is_absent(struct store *s, const struct id *node);
/* What no source gives, or gives damaged: wanted, when a file has rotted (no hand has changed it, and its
 * bytes are not what they were). 1: told, the caller runs store_changed(). */
int want_chunk(struct store *s, const struct hash *chunk);
bool owed_is(struct store *s, const struct id *node); /* the rows have a newer content than the tree */
void want_grew(struct store *s); /* after the commit: the caller runs store_changed() */

/* ---- gc.c ---- */

int gc_start(struct store *s);
void gc_stop(struct store *s);

#endif
