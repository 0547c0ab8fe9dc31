/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the connection behind link.h. Called by poller, uploader and control; says a change of
 * state once; never talks to the server itself.
 */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/log.h>
#include <syncfs/mutex.h>

struct link {
	struct mutex lock;
	struct cond changed;
	struct link_status status;
	bool told_down, stopping;
	bool has_outcome; /* of the first attempt */
	int first_error;
	bool first_is_awaited; /* somebody reports a refusal himself */
	uint64_t nudges;

	const char *url;
};

struct link *link_new(const char *url)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	mutex_init(&l->lock, RANK_LINK, "link");
	cond_init(&l->changed);
	l->status.since_ms = clock_mono_ms();
	l->url = url;
	return l;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	cond_fini(&l->changed);
	mutex_fini(&l->lock);
	free(l);
}

static void set_connected(struct link *l, bool connected, int error)
{
	if (!l->has_outcome)
		l->first_error = error;
	l->has_outcome = true;
	if (l->status.connected != connected)
		l->status.since_ms = clock_mono_ms();
	l->status.connected = connected;
	cond_broadcast(&l->changed);
}

bool link_is_refusal(int error)
{
	return error == -EACCES || error == -EPERM || error == -EPROTO || error == -ENOENT ||
		error == -EINVAL;
}

void link_up(struct link *l)
{
	bool news;

	mutex_lock(&l->lock);
	news = !l->status.connected;
	l->told_down = l->status.down = false;
	l->status.last_error[0] = '\0';
	set_connected(l, true, 0);
	mutex_unlock(&l->lock);
	if (news)
		log_info("connected to %s", l->url);
}

void link_down(struct link *l, int error, const char *why)
{
	bool news;

	mutex_lock(&l->lock);
	news = !l->told_down && !l->stopping && !(l->first_is_awaited && link_is_refusal(error));
	l->told_down = l->status.down = true;
	snprintf(l->status.last_error, sizeof(l->status.last_error), "%s", why);
	set_connected(l, false, error);
	mutex_unlock(&l->lock);
	if (news)
		log_warn("disconnected from %s: %s; changes are kept here and sent when it is back", l->url,
			why);
}

void link_expect_first(struct link *l)
{
	MUTEX_GUARD(&l->lock);
	l->first_is_awaited = true;
}

int link_await_first(struct link *l, uint64_t deadline_ms)
{
	MUTEX_GUARD(&l->lock);
	l->first_is_awaited = true;
	while (!l->has_outcome && cond_wait_until(&l->changed, &l->lock, deadline_ms))
		;
	l->first_is_awaited = false;
	return l->has_outcome ? l->first_error : -ETIMEDOUT;
}

void link_note_error(struct link *l, const char *why)
{
	MUTEX_GUARD(&l->lock);
	snprintf(l->status.last_error, sizeof(l->status.last_error), "%s", why);
}

void link_get(struct link *l, struct link_status *ret_status)
{
	MUTEX_GUARD(&l->lock);
	*ret_status = l->status;
}

bool link_wait_up(struct link *l)
{
	MUTEX_GUARD(&l->lock);
	while (!l->stopping && (!l->status.connected || l->status.paused))
		cond_wait(&l->changed, &l->lock);
	return !l->stopping;
}

bool link_wait_retry(struct link *l, uint64_t ms)
{
	uint64_t deadline = clock_mono_ms() + ms, nudges;

	MUTEX_GUARD(&l->lock);
	nudges = l->nudges;
	while (!l->stopping && nudges == l->nudges && cond_wait_until(&l->changed, &l->lock, deadline))
		;
	return !l->stopping;
}

bool link_wait_resumed(struct link *l)
{
	MUTEX_GUARD(&l->lock);
	while (!l->stopping && l->status.paused)
		cond_wait(&l->changed, &l->lock);
	return !l->stopping;
}

void link_reconnect(struct link *l)
{
	MUTEX_GUARD(&l->lock);
	l->nudges++;
	cond_broadcast(&l->changed);
}

void link_pause(struct link *l, bool paused)
{
	MUTEX_GUARD(&l->lock);
	l->status.paused = paused;
	cond_broadcast(&l->changed);
}

void link_stop(struct link *l)
{
	MUTEX_GUARD(&l->lock);
	l->stopping = true;
	cond_broadcast(&l->changed);
}
