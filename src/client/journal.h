/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's outgoing log: append-only segments of 4 MiB, preallocated, in the state directory. A record
 * that has been appended survives a crash of this process; after journal_sync() also a power loss. Format:
 * syncfs-journal(5). Lock: journal (rank 30), around one write(2) or fdatasync(2). Any thread.
 */
#ifndef SYNCFS_CLIENT_JOURNAL_H
#define SYNCFS_CLIENT_JOURNAL_H

#include <syncfs/record.h>

struct journal;

/*
 * Opens or makes the journal in the directory dirfd (borrowed) and hands every record of its segments to
 * replay in order. A torn tail of the last segment is cut; damage before the end gives -EBADMSG (nothing is
 * deleted). An error of replay ends it.
 */
int journal_open(
	int dirfd, int (*replay)(void *arg, const struct record *r), void *arg, struct journal **ret_journal);
/* Renames all its segments to journal.NUMBER.RANDOM.damaged, durably. */
int journal_set_aside(int dirfd);
void journal_close(struct journal *j);

/*
 * Appends a record and gives its lsn (dense, first 1). An INTENT reserves the room of its DONE, so that DONE
 * never meets a full disk. -ENOSPC: nothing was kept. -EIO: a write or sync has failed before or now; the
 * journal takes nothing any more. INTENT, DIRTY and CLOSED keep their segment until journal_ack().
 */
int journal_append(struct journal *j, struct record *r);
/* Makes all appended so far durable; concurrent callers share one fdatasync. -EIO as above. */
int journal_sync(struct journal *j);
bool journal_has_failed(struct journal *j); /* with that -EIO */
uint64_t journal_last_lsn(struct journal *j);
/* These lsns need not be replayed any more (each once). Recycles segments. */
int journal_ack(struct journal *j, const uint64_t *lsns, size_t count);

#endif
