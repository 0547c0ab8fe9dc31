/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one commit path of a namespace: a directory of plain files plus `.syncfs/meta.db`. Everything that
 * changes the tree goes through here: native batches, the simple form, plain file access and edits made by
 * hand. Order: content staged and verified, made durable, one transaction (dedup, rules of
 * commit.h, rows, feed, place-intents), COMMIT (synchronous=FULL), placed by exchange into the tree,
 * directories synced, intents cleared; only then the call returns and the feed listener is told. Any fsync or
 * COMMIT error is terminal: every later call gives -EIO, and the process ends. Thread-safe: any thread; calls
 * that commit wait for each other (group commit where they queue up).
 * In store.c: open and close; store_batch.c, store_path.c, store_simple.c, store_read.c, store_want.c,
 * store_hand.c what their names say; store_txn.c: the failed state.
 */
#ifndef SYNCFS_SERVER_STORE_H
#define SYNCFS_SERVER_STORE_H

#include <sys/types.h>

#include <syncfs/message.h>
#include <syncfs/tree.h>

struct store;

struct store_config {
	const char *root; /* absolute path of the directory */
	bool adopt; /* accept a root whose marker does not fit the database: union merge, no deletions */
	/* Called after every commit that made the feed longer, from the committing thread, holding nothing.
	 */
	void (*on_change)(void *arg);
	void *arg;
};

/*
 * Opens or makes it: marker rules of 2.8 (a root that is empty, unmounted or another than the database knows
 * is refused: -ENODATA, -ESTALE with a sentence in *why), open place-intents completed, then a scan for edits
 * made by hand while down, then the watch.
 */
int store_open(const struct store_config *config, struct store **ret_store, struct buf *why);
/* Another epoch for a tree that no server has open: every client merges. -EBUSY: one has. */
int store_new_epoch(const char *root, struct buf *why);
void store_close(struct store *s); /* drains; NULL is fine */
bool store_is_failed(const struct store *s); /* a terminal error has happened */

/* ---- native ---- */

/* Carries out a decoded batch; ret_reply via batch_reply_fini(). -EALREADY: superseded run id (409 clone);
 * -ECHILD: opno gap (409 expected, *ret_expected); -EKEYREJECTED: same opid, other digest (422); -ENOSPC
 * (507); -EIO. */
int store_sync(
	struct store *s, const struct batch *batch, struct batch_reply *ret_reply, uint64_t *ret_expected);

/*
 * What changed after *from, ascending, at most about max_bytes of answer; inline contents up to
 * INLINE_DOWN_MAX_BYTES appended to raw and referred to when want_data. from NULL (or seq 0 with ID_NONE
 * epoch): from the beginning, live nodes only. -ECHRNG: another epoch; -ESTALE: diverged; -EOWNERDEAD: below
 * the tombstone floor (gone). ret_page->raw is set to raw's bytes. The page may be empty.
 */
/* 0: on this history; -ECHRNG, -ESTALE, -EOWNERDEAD as below. */
int store_check_cursor(struct store *s, const struct cursor *cursor);
int store_changes(struct store *s, const struct cursor *from, bool want_data, size_t max_bytes,
	struct page *ret_page, struct buf *raw);
/* The same, with contents only of changes that this client has not made itself. */
int store_changes_of_others(struct store *s, const struct cursor *from, const struct id *client,
	size_t max_bytes, struct page *ret_page, struct buf *raw);
int store_session(struct store *s, const struct id *client, struct session *ret_session);
void store_cursor(struct store *s, struct cursor *ret_cursor);

/* ---- content ---- */

/* Those of hashes that are not held, packed to the front; returns their count or -errno. */
ssize_t store_chunks_missing(struct store *s, struct hash *hashes, size_t count);
/* Verifies against its name (-EBADMSG) and keeps for an operation to come. Not durable by itself: the commit
 * that refers to it makes it so. */
int store_chunk_put(struct store *s, const struct hash *hash, const void *bytes, size_t len);
/* Appends the verified bytes; -ENOENT not held, -EBADMSG what lies there is damaged. */
int store_chunk_get(struct store *s, const struct hash *hash, struct buf *out);
/* Manifest of a current or historical content. -ENOENT. */
int store_manifest(struct store *s, const struct hash *content, struct blob *ret_manifest);

/* ---- contents whose bytes are not here, though rows have them: clients that have them send them again ----
 */

/*
 * Told by pages (page.want). The chunks of these contents are here, the asker thinks: those that are complete
 * and verify are placed where the rows say, and are no longer wanted. Leaves in contents[] those that still
 * lack chunks, packed to the front.
 */
int store_supply(struct store *s, struct hash *contents, size_t *count);
/* A number that is another one whenever pages have contents to tell that they had not; since when it is the
 * one. */
uint64_t store_want_news(struct store *s, uint64_t *ret_since_ms);

/* ---- by path: simple form, plain file access (paths as path_is_valid()) ---- */

struct store_actor {
	struct id id; /* as by_client of the feed: derived from the token */
	const char *label;
};

/* Content of an upload: bytes, or a staged file by fd (read from 0 to its end; not consumed). */
struct store_source {
	const void *bytes;
	size_t len;
	int fd; /* -1: bytes */
};

/* What a precondition of PUT /files may ask: NULL no condition; "*" must exist; else the ETag (64 hex of the
 * content hash). */
struct store_condition {
	const char *if_match, *if_none_match;
};

/* Missing parents are made; same content is no change. -ENOTDIR/-EISDIR/-ELOOP something else is in the way,
 * -ECANCELED condition. */
int store_upload(struct store *s, const struct store_actor *actor, const char *path,
	const struct store_source *source, const struct store_condition *condition);
int store_delete(
	struct store *s, const struct store_actor *actor, const char *path); /* with all in it; -ENOENT */
int store_mkdir(struct store *s, const struct store_actor *actor, const char *path); /* 0 when it exists */
int store_rename(struct store *s, const struct store_actor *actor, const char *path,
	const char *new_path); /* -ENOENT, -EEXIST is replaced as rename(2) does */
/* Opens a current file for reading: fd and its state (node_state_fini()). -ENOENT, -EISDIR. */
int store_open_file(struct store *s, const char *path, int *ret_fd, struct node_state *ret_node);
/* Path of a live node, relative; caller frees; -ENOENT. */
int store_path(struct store *s, const struct id *node, char **ret_path);

/*
 * The simple poll: what this actor has not been told yet as a JSON array of at most ANSWER_MAX_BYTES, oldest
 * first; remembers (durably) what it has told. url_base is put before the percent-encoded path of files over
 * 8 MiB. Returns the number of entries or -errno.
 */
ssize_t store_simple_poll(
	struct store *s, const struct store_actor *actor, const char *url_base, struct buf *out);

/* ---- the brake on deletions made by hand ---- */

struct store_status {
	uint64_t seq, nodes;
	uint64_t held_deletions; /* 0: none held */
	uint64_t commits, requests_same; /* counters since start */
};
void store_status(struct store *s, struct store_status *ret_status);
/* What `syncfsd approve` and `syncfsd reject` ask for: carried out by the running server, or at its next
 * start. */
int store_answer_held(struct store *s, bool approve);

#endif
