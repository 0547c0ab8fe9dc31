/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small pool of threads for jobs that block on disk. A job is in at most one thread at a time, also when it
 * is submitted again while it runs. One thread takes quick jobs only, so that an answer to a waiting poll
 * never stands behind commits.
 */
#ifndef SYNCFS_SERVER_WORKERS_H
#define SYNCFS_SERVER_WORKERS_H

#include <stdbool.h>

struct workers;

/* Embedded in what is to be done; zeroed at first. */
struct job {
	struct job *next;
	bool queued, running, again;
	bool again_quick;
};

enum job_verdict {
	JOB_DONE = 0, /* the pool never touches it again: it may be gone already */
	JOB_PARKED, /* it waits for the next workers_submit() */
};

/* count threads and one more for quick jobs. */
int workers_start(unsigned count, enum job_verdict (*run)(void *arg, struct job *job), void *arg,
	struct workers **ret_workers);
/* Any thread, under locks below RANK_HTTP. A job that runs right now runs once more after it has parked. */
void workers_submit(struct workers *w, struct job *job, bool quick);
/* Runs what is queued, joins the threads, frees. NULL is fine. */
void workers_stop(struct workers *w);

#endif
