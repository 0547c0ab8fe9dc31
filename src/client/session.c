/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: one thread that starts the parts that talk to the server, and stops and starts them when a
 * merge is needed. Called by client; the view never notices.
 */
#include "session_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/backoff.h>
#include <syncfs/clock.h>
#include <syncfs/log.h>

static struct remote_config remote_config_of(const struct client_config *c)
{
	return (struct remote_config){.url = c->url, .token = c->token, .namespace = c->namespace};
}

static void want(struct session_run *s, enum session_merge merge, const char *why)
{
	MUTEX_GUARD(&s->lock);
	if (!s->merge)
		log_warn("%s: what is here and what is there is merged by content, nothing is deleted", why);
	if (merge > s->merge)
		s->merge = merge;
	cond_broadcast(&s->changed);
}

static void want_rebase(void *arg, const char *why)
{
	want(arg, MERGE_REBASE, why);
}

static void want_merge(void *arg, const char *why)
{
	want(arg, MERGE_ALL, why);
}

/* The client's id in opids: made once a state database. */
static int load_identity(struct session_run *s)
{
	size_t len;
	int r = syncstate_peek_meta(s->parts.state, "client", s->client.b, ID_BYTES, &len);

	if (!r && len == ID_BYTES)
		return 0;
	if (r && r != -ENOENT)
		return r;
	s->client = id_new();
	r = syncstate_begin(s->parts.state, true);
	if (r)
		return r;
	return syncstate_end(s->parts.state, syncstate_client_put(s->parts.state, &s->client));
}

static int start_applier(struct session_run *s)
{
	const struct session_parts *p = &s->parts;
	struct applier_config config = {
		.tree = p->tree,
		.tree_lock = p->tree_lock,
		.apply_lock = &s->apply_lock,
		.capture = p->capture,
		.state = p->state,
		.inodes = p->inodes,
		.invalidate = p->invalidate,
		.remote = s->apply_remote,
		.link = s->link,
		.uid = p->config->uid,
		.gid = p->config->gid,
	};
	struct applier *a;
	int r = applier_start(&config, &a);

	if (r)
		return r;
	mutex_lock(&s->lock);
	s->applier = a;
	mutex_unlock(&s->lock);
	return 0;
}

/* In the poller's thread, which starts after the uploader and ends before it. */
static uint64_t acked_opno(void *arg)
{
	const struct session_run *s = arg;

	return uploader_acked_opno(s->uploader);
}

static int start_poller(struct session_run *s)
{
	struct poller_config config = {
		.remote = s->poll_remote,
		.state = s->parts.state,
		.applier = s->applier,
		.link = s->link,
		.capture = s->parts.capture,
		.acked_opno = acked_opno,
		.supply = s->supply,
		.client = s->client,
		.wait_s = s->parts.config->poll_wait_s,
		.rebase = want_rebase,
		.arg = s,
	};
	struct poller *started;
	int r;

	r = poller_start(&config, &started);
	if (r)
		return r;
	MUTEX_GUARD(&s->lock);
	s->poller = started;
	return 0;
}

static int start_supply(struct session_run *s)
{
	const struct supply_config config = {
		.tree = s->parts.tree, .state = s->parts.state, .remote = s->supply_remote};
	struct supply *started;
	int r;

	r = supply_start(&config, &started);
	if (r)
		return r;
	MUTEX_GUARD(&s->lock);
	s->supply = started;
	return 0;
}

static int start_uploader(struct session_run *s)
{
	const struct session_parts *p = &s->parts;
	struct uploader_config config = {
		.capture = p->capture,
		.read = {.tree = p->tree, .state = p->state, .inodes = p->inodes, .remote = s->up_remote},
		.link = s->link,
		.state_dirfd = p->state_dirfd,
		.client = s->client,
		.label = p->config->label,
		.rebase = want_rebase,
		.reidentify = want_merge,
		.arg = s,
	};
	struct uploader *started;
	int r;

	r = uploader_start(&config, &started);
	if (r)
		return r;
	MUTEX_GUARD(&s->lock);
	s->uploader = started;
	return 0;
}

static void wake_applier(void *arg)
{
	struct session_run *s = arg;

	MUTEX_GUARD(&s->lock);
	if (s->applier)
		applier_wake(s->applier);
}

static int start_rescan(struct session_run *s)
{
	const struct session_parts *p = &s->parts;
	struct rescan_config config = {
		.tree = p->tree,
		.tree_lock = p->tree_lock,
		.apply_lock = &s->apply_lock,
		.capture = p->capture,
		.state = p->state,
		.restored = wake_applier,
		.arg = s,
	};
	struct rescan *started;
	int r;

	r = rescan_start(&config, &started);
	if (r)
		return r;
	MUTEX_GUARD(&s->lock);
	s->rescan = started;
	return 0;
}

static int make_remotes(struct session_run *s)
{
	struct remote_config config = remote_config_of(s->parts.config);
	int r = remote_new(&config, &s->up_remote);

	if (!r)
		r = remote_new(&config, &s->poll_remote);
	if (!r)
		r = remote_new(&config, &s->apply_remote);
	if (!r)
		r = remote_new(&config, &s->supply_remote);
	return r;
}

static int start_link(struct session_run *s, bool is_first)
{
	struct link *link = link_new(s->parts.config->url);
	bool due = rebase_is_due(s->parts.state);
	int r;

	if (!link)
		return -ENOMEM;
	if (is_first)
		link_expect_first(link); /* by session_first_contact(), maybe after the outcome */
	mutex_lock(&s->lock);
	s->link = link;
	mutex_unlock(&s->lock);
	r = make_remotes(s);
	if (!r)
		r = load_identity(s);
	mutex_lock(&s->lock);
	s->fetching = due;
	mutex_unlock(&s->lock);
	return r;
}

static int start_parts(struct session_run *s)
{
	int r = start_applier(s);

	if (!r)
		r = start_rescan(s);
	if (!r)
		r = start_supply(s);
	if (!r)
		r = start_uploader(s);
	if (!r)
		r = start_poller(s);
	return r;
}

/*
 * In the order in which nobody waits for somebody who is gone already. Who asks for a part under the lock
 * does not find it any more.
 */
static void stop_parts(struct session_run *s)
{
	struct applier *a = s->applier;
	struct uploader *u = s->uploader;
	struct poller *p = s->poller;
	struct supply *supply = s->supply;
	struct rescan *rescan = s->rescan;

	if (s->link)
		link_stop(s->link);
	capture_hold(s->parts.capture, true);
	mutex_lock(&s->lock);
	s->fetching = false;
	s->applier = NULL;
	s->poller = NULL;
	s->supply = NULL;
	s->rescan = NULL;
	mutex_unlock(&s->lock);
	poller_stop(p);
	mutex_lock(&s->lock);
	s->uploader = NULL;
	mutex_unlock(&s->lock);
	uploader_stop(u);
	supply_stop(supply);
	rescan_stop(rescan);
	applier_stop(a);
	capture_hold(s->parts.capture, false);
	mutex_lock(&s->lock);
	link_free(s->link);
	s->link = NULL;
	mutex_unlock(&s->lock);
	remote_free(s->up_remote);
	remote_free(s->poll_remote);
	remote_free(s->apply_remote);
	remote_free(s->supply_remote);
	s->up_remote = s->poll_remote = s->apply_remote = s->supply_remote = NULL;
}

/* Nothing is agreed any more; what goes on from here is somebody new at the server. */
static int forget_state(struct session_run *s)
{
	int r = syncstate_begin(s->parts.state, true);

	if (r)
		return r;
	s->client = id_new();
	r = syncstate_forget_all(s->parts.state);
	if (!r)
		r = syncstate_client_put(s->parts.state, &s->client);
	return syncstate_end(s->parts.state, r);
}

static int forget_queue(struct session_run *s)
{
	int r = outbox_forget(s->parts.capture);

	return r ? r : inflight_remove(s->parts.state_dirfd);
}

/*
 * The queue goes first: after a crash in between the server refuses the cursor again. No call of the kernel
 * is between intent and done meanwhile; what was written to is queued once more, by nodes that are none any
 * more.
 */
static int forget(struct session_run *s)
{
	int r;

	rwlock_write(s->parts.tree_lock);
	r = forget_queue(s);
	if (!r)
		r = forget_state(s);
	if (!r)
		r = outbox_forget(s->parts.capture);
	rwlock_unlock(s->parts.tree_lock);
	return r;
}

/* As above, but what is agreed also with what the server has now stays so. */
static int rebase(struct session_run *s)
{
	struct cursor cursor;
	int r = rebase_fetch(s->parts.state, s->poll_remote, s->link, &s->client, &cursor);

	if (r)
		return r;
	s->client = id_new();
	rwlock_write(s->parts.tree_lock);
	r = forget_queue(s);
	if (!r)
		r = rebase_finish(s->parts.state, s->parts.capture, &s->client, &cursor);
	rwlock_unlock(s->parts.tree_lock);
	return r;
}

static int end_fetching(struct session_run *s)
{
	int r = rebase(s);

	if (r)
		return r;
	mutex_lock(&s->lock);
	s->fetching = false;
	mutex_unlock(&s->lock);
	return start_parts(s);
}

static int merge(struct session_run *s, enum session_merge what)
{
	const struct applier_config stopped = {
		.tree = s->parts.tree, .capture = s->parts.capture, .state = s->parts.state};
	int r;

	stop_parts(s);
	r = what == MERGE_ALL ? forget(s) : rebase_begin(s->parts.state);
	if (!r)
		r = applier_recover(&stopped); /* at start that was done before there was a session */
	if (!r)
		r = start_link(s, false);
	if (!r && !s->fetching)
		r = start_parts(s);
	return r;
}

/* What is made here waits in the journal meanwhile. */
static void put_off(struct session_run *s, enum session_merge what, int error, uint64_t until_ms)
{
	log_error("starting again after a merge was needed: %s, trying again", err_str(error));
	if (what > s->merge)
		s->merge = what;
	while (!s->stopping && cond_wait_until(&s->changed, &s->lock, until_ms))
		;
}

static void *run(void *arg)
{
	struct backoff backoff = {.min_ms = 1000, .max_ms = 60000};
	struct session_run *s = arg;

	mutex_lock(&s->lock);
	while (!s->stopping) {
		enum session_merge what = s->merge;
		int r;

		if (!what && !s->fetching) {
			cond_wait(&s->changed, &s->lock);
			continue;
		}
		s->merge = MERGE_NONE;
		mutex_unlock(&s->lock);
		r = what ? merge(s, what) : end_fetching(s);
		mutex_lock(&s->lock);
		if (!what && !s->fetching) /* fetched, but not all parts are there */
			what = MERGE_REBASE;
		if (r && !s->stopping)
			put_off(s, what, r, clock_mono_ms() + backoff_next_ms(&backoff));
		else
			backoff_reset(&backoff);
	}
	mutex_unlock(&s->lock);
	return NULL;
}

static void session_free(struct session_run *s)
{
	cond_fini(&s->changed);
	mutex_fini(&s->apply_lock);
	mutex_fini(&s->lock);
	free(s);
}

int session_start(const struct session_parts *parts, struct session_run **ret_session)
{
	struct session_run *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->parts = *parts;
	mutex_init(&s->lock, RANK_SESSION, "session");
	mutex_init(&s->apply_lock, RANK_APPLY, "apply");
	cond_init(&s->changed);
	r = start_link(s, true);
	if (!r && !s->fetching)
		r = start_parts(s);
	if (!r)
		r = -pthread_create(&s->thread, NULL, run, s);
	if (r) {
		stop_parts(s);
		session_free(s);
		return r;
	}
	*ret_session = s;
	return 0;
}

int session_first_contact(struct session_run *s, uint64_t deadline_ms, struct buf *why)
{
	struct link_status status;
	int r;

	MUTEX_GUARD(&s->lock);
	if (!s->link)
		return -ETIMEDOUT;
	r = link_await_first(s->link, deadline_ms);
	link_get(s->link, &status);
	if (r)
		buf_put_str(why, status.last_error);
	return r;
}

void session_stop(struct session_run *s)
{
	if (!s)
		return;
	mutex_lock(&s->lock);
	s->stopping = true;
	if (s->fetching) {
		link_stop(s->link);
		remote_cancel(s->poll_remote);
	}
	cond_broadcast(&s->changed);
	mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	stop_parts(s);
	session_free(s);
}

void session_server(void *session, struct await_server *ret_server)
{
	struct session_run *s = session;
	struct link_status link = {0};
	uint64_t told_ms = 0;

	*ret_server = (struct await_server){0};
	if (!s)
		return;
	MUTEX_GUARD(&s->lock);
	if (s->link)
		link_get(s->link, &link);
	ret_server->connected = link.connected;
	ret_server->down = link.down || link.paused;
	ret_server->scanned = s->rescan && rescan_first_is_done(s->rescan);
	if (s->uploader)
		uploader_progress(s->uploader, &ret_server->failures, &ret_server->moved_ms);
	/* Before it counts as reached, all that it has to tell is fetched: that may take its time. */
	if (s->poller && !link.connected)
		told_ms = poller_moved_ms(s->poller);
	if (told_ms > ret_server->moved_ms)
		ret_server->moved_ms = told_ms;
}

void session_hurry(void *session)
{
	struct session_run *s = session;

	if (!s)
		return;
	MUTEX_GUARD(&s->lock);
	if (s->link)
		link_reconnect(s->link);
}

void session_released(void *session)
{
	struct session_run *s = session;

	if (!s)
		return;
	MUTEX_GUARD(&s->lock);
	if (s->applier)
		applier_wake_if_waiting(s->applier);
}
