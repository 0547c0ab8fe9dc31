/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of threads that carries out requests, see the header. Used by http.c only.
 * Never holds its lock while a job runs.
 */
#include "workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <syncfs/mutex.h>

struct queue {
	struct job *head, **tail;
};

struct workers {
	struct mutex lock;
	struct cond wake, wake_quick;
	struct queue normal, quick;
	unsigned idle; /* general threads that wait */
	bool stopping;

	/* set at start, then read-only */
	enum job_verdict (*run)(void *arg, struct job *job);
	void *arg;
	pthread_t *threads;
	unsigned started;
};

static void queue_put(struct queue *q, struct job *job)
{
	job->next = NULL;
	*q->tail = job;
	q->tail = &job->next;
}

static struct job *queue_take(struct queue *q)
{
	struct job *job = q->head;

	if (job) {
		q->head = job->next;
		if (!q->head)
			q->tail = &q->head;
	}
	return job;
}

static void submit_locked(struct workers *w, struct job *job, bool quick)
{
	if (job->running) {
		job->again = true;
		job->again_quick = quick;
		return;
	}
	if (job->queued)
		return;
	job->queued = true;
	queue_put(quick ? &w->quick : &w->normal, job);
	/* with no general thread free, the quick one takes it */
	cond_signal(quick && !w->idle ? &w->wake_quick : &w->wake);
}

void workers_submit(struct workers *w, struct job *job, bool quick)
{
	MUTEX_GUARD(&w->lock);
	submit_locked(w, job, quick);
}

/* The next job for this thread; NULL: stop. */
static struct job *next_job_locked(struct workers *w, bool quick_only)
{
	for (;;) {
		struct job *job = queue_take(&w->quick);

		if (!job && !quick_only)
			job = queue_take(&w->normal);
		if (job || w->stopping)
			return job;
		if (quick_only) {
			cond_wait(&w->wake_quick, &w->lock);
		} else {
			w->idle++;
			cond_wait(&w->wake, &w->lock);
			w->idle--;
		}
	}
}

static void work(struct workers *w, bool quick_only)
{
	struct job *job;

	mutex_lock(&w->lock);
	while ((job = next_job_locked(w, quick_only))) {
		job->queued = false;
		job->running = true;
		job->again = false;
		/* more quick jobs than free general threads: let the quick one help */
		if (w->quick.head)
			cond_signal(&w->wake_quick);
		mutex_unlock(&w->lock);
		enum job_verdict verdict = w->run(w->arg, job);
		mutex_lock(&w->lock);
		if (verdict == JOB_PARKED) {
			job->running = false;
			if (job->again)
				submit_locked(w, job, job->again_quick);
		}
	}
	mutex_unlock(&w->lock);
}

static void *general_thread(void *arg)
{
	work(arg, false);
	return NULL;
}

static void *quick_thread(void *arg)
{
	work(arg, true);
	return NULL;
}

int workers_start(unsigned count, enum job_verdict (*run)(void *arg, struct job *job), void *arg,
	struct workers **ret_workers)
{
	struct workers *w = calloc(1, sizeof(*w));
	int r = 0;

	if (!w)
		return -ENOMEM;
	mutex_init(&w->lock, RANK_HTTP, "workers");
	cond_init(&w->wake);
	cond_init(&w->wake_quick);
	w->normal.tail = &w->normal.head;
	w->quick.tail = &w->quick.head;
	w->run = run;
	w->arg = arg;
	w->threads = calloc(count + 1, sizeof(*w->threads));
	if (!w->threads)
		r = -ENOMEM;
	for (unsigned i = 0; i <= count && !r; i++) {
		r = -pthread_create(&w->threads[i], NULL, i ? general_thread : quick_thread, w);
		if (!r)
			w->started++;
	}
	if (r) {
		workers_stop(w);
		return r;
	}
	*ret_workers = w;
	return 0;
}

void workers_stop(struct workers *w)
{
	if (!w)
		return;
	mutex_lock(&w->lock);
	w->stopping = true;
	cond_broadcast(&w->wake);
	cond_broadcast(&w->wake_quick);
	mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->started; i++)
		(void)pthread_join(w->threads[i], NULL);
	cond_fini(&w->wake);
	cond_fini(&w->wake_quick);
	mutex_fini(&w->lock);
	free(w->threads);
	free(w);
}
