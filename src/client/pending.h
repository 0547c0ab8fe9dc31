/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has happened here and is not at the server yet, in memory: the queue of operations in the order they
 * were made, and for each node with anything pending where it lies now. Its durable form is the journal. No
 * locks, no I/O but reads of the agreed state: capture owns it and its lock covers every call.
 */
#ifndef SYNCFS_CLIENT_PENDING_H
#define SYNCFS_CLIENT_PENDING_H

#include <syncfs/change.h>
#include <syncfs/limits.h>
#include <syncfs/tree.h>

struct syncstate;
struct pending;
struct local;
struct local_name;
struct promise;

/* An operation that a call waits for (promise.h). */
struct promise_ref {
	struct promise *promise;
	struct entry *entry; /* NULL: it has left the queue */
	struct promise_ref *of_promise, *of_entry; /* the next of each */
};

/* An operation's place in one of the lists by which it is found without a walk through the queue. */
struct entry_link {
	struct entry *entry; /* NULL: in none */
	struct entry_link *next, *prev;
};

struct entry_list {
	struct entry_link *first, *last;
};

/* One operation of the queue. Content and attributes are read when it is sent: OP_WRITE and OP_SETATTR say
 * only that they changed. */
struct entry {
	struct entry *next, *prev; /* queue */
	uint64_t place; /* grows along the queue */
	struct entry_link of_node, of_other; /* in `queued` of their locals */
	struct entry_link of_content; /* in `contents` of its node's */
	struct pending_name *named, *new_named; /* its names */
	struct entry_link of_name, of_new_name; /* in `entries` of those */
	uint64_t lsn;
	uint64_t dirty_lsn; /* OP_WRITE: the DIRTY record that it answers; 0 none */
	enum op_type type;
	enum kind kind;
	struct id node, other, parent, new_parent;
	char *name, *new_name, *target;
	bool in_flight;
	bool send_all; /* the server misses chunks that it believed to have */
	/* OP_UNLINK, OP_RENAME over it: the object has other names here, so no content goes with this one */
	bool remains;
	bool synced; /* content was fsynced: may be sent while writers are left */
	uint64_t generation; /* synced: of the object then; what is written later is not complete */
	unsigned unstable; /* how often it was read and had changed meanwhile */
	uint64_t *absorbed; /* lsns that are settled with this one */
	size_t absorbed_count;
	uint64_t not_before_ms; /* tried and put off until then; 0 */
	struct promise_ref *promises; /* calls that wait for it */
};

/* A name that operations of the queue or locals have; there is one of each. */
struct pending_name {
	struct id parent;
	struct entry_list entries; /* that name it, in no order */
	struct local_name *holders; /* locals that lie there */
	struct pending_name *next, *prev; /* of the same directory */
	char name[];
};

/* That a local lies there. */
struct local_name {
	struct pending_name *at;
	struct local *local;
	struct local_name *next, *prev; /* of those that lie there */
};

/* A node with something pending, or bound by the applier. */
struct local {
	struct id node;
	enum kind kind;
	struct stat_id object; /* identity only */
	struct local_name **names; /* where it lies now */
	size_t names_count;
	struct entry_list queued; /* operations of which it is the node or the other, as in the queue */
	struct entry_list contents; /* those that create it or change content or attributes: few */
	unsigned entries; /* in the queue */
	unsigned pins; /* of the applier, until S knows the object */
	unsigned promises; /* calls that wait until the server has it */
	uint64_t dirty_lsn; /* content is being changed; 0: no. Set by pending_set_dirty() */
	struct local *next_dirty, *prev_dirty;
	uint64_t changed_ms; /* when content last changed, monotonic */
	uint64_t releases; /* how often its last writer has gone */
	bool is_synced; /* from the journal: nothing was written after an fsync, at which ... */
	uint64_t synced_size; /* ... this was its size */
};

/* A name in a directory, as the key of a map. */
struct name_key {
	struct id parent;
	char name[NAME_MAX_BYTES + 1];
};

/* Fills it; returns how long it is. */
size_t name_key(struct name_key *key, const struct id *parent, const char *name);

struct pending *pending_new(struct syncstate *state); /* NULL: out of memory */
void pending_free(struct pending *p);

/* Who is this object? Root, a local, or S. -ENOENT: unknown. */
int pending_resolve(struct pending *p, const struct stat_id *object, struct id *ret_node);
/* The local of a node, NULL: nothing pending. */
struct local *pending_find(const struct pending *p, const struct id *node);
/* The local of a node, made (with its names from S) when there is none. NULL: out of memory or the state
 * database failed. */
struct local *pending_local(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object);
/* The same, but a new one is made without names: the caller says where it lies. */
struct local *pending_bound(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object);
/* Drops the local when nothing holds it. */
void pending_settle(struct pending *p, struct local *l);

/* Once more is no other. */
int local_name_add(struct pending *p, struct local *l, const struct id *parent, const char *name);
void local_name_remove(struct pending *p, struct local *l, const struct id *parent, const char *name);
void local_names_clear(struct pending *p, struct local *l);
bool local_has_name(const struct local *l, const struct id *parent, const char *name);
/* The mark that says that content is being changed; 0: it is not. */
void pending_set_dirty(struct pending *p, struct local *l, uint64_t lsn);
/* The locals whose content is being changed, by next_dirty. */
struct local *pending_first_dirty(const struct pending *p);

/* Appends e (taken) to the queue and applies it to the locals' names. object: identity of e->node. 0 or
 * -ENOMEM (e freed). */
int pending_enqueue(struct pending *p, struct entry *e, const struct stat_id *object);
/* The agreed state has been mended after the journal was read: where all lie, anew, from both. */
int pending_reload_names(struct pending *p);
/* Removes e from the queue and frees it. */
void pending_remove(struct pending *p, struct entry *e);
/* e leaves the queue, its lsns are into's from now on. 0 or -ENOMEM (nothing has changed). */
int pending_absorb(struct pending *p, struct entry *into, struct entry *e);
/* The same of a dirty mark, which is no entry. */
int entry_absorb(struct entry *into, uint64_t lsn);
/* e says `to` (ID_NONE: nobody) where it said `from`, as its node or as the other. A rename over itself
 * becomes the unlink of its old name. 0 or -ENOMEM. */
int pending_retarget(struct pending *p, struct entry *e, const struct id *from, const struct id *to);
/* The server refuses e: calls that wait for it give this error. */
void pending_refuse(struct entry *e, int error);
/* An operation of the queue names it. */
bool pending_has_name(const struct pending *p, const struct id *parent, const char *name);
/* A local with operations that lies there by them; NULL: none. */
struct local *pending_holder(const struct pending *p, const struct id *parent, const char *name);
struct entry *pending_first(const struct pending *p);
struct entry *pending_last(const struct pending *p);
size_t pending_count(const struct pending *p);
/* The last entry of the node that is of any of the types (bit 1 << type) and not in flight; NULL. */
struct entry *pending_unsent(const struct pending *p, const struct id *node, unsigned types);
/* Visits all locals; false at the end. Start with *pos = 0. The one that was visited may go. */
bool pending_next_local(const struct pending *p, size_t *pos, struct local **ret_local);

/* The agreed state was emptied: nothing remembered of it holds. */
void pending_forget_objects(struct pending *p);
/* Our node became one of the server's: entries and locals follow. */
int pending_alias(struct pending *p, const struct id *from, const struct id *to);

/*
 * Where the node lies now: parent and name (ret_name: caller frees), from its local or S. -ENOENT: nowhere.
 */
int pending_locate(struct pending *p, const struct id *node, struct id *ret_parent, char **ret_name);
/* Path of a directory node relative to the root ("" = root), appended to out. -ENOENT, -ELOOP. */
int pending_dir_path(struct pending *p, const struct id *dir, struct buf *out);

void entry_free(struct entry *e);

#endif
