/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /healthz and GET /metrics. Called by the router. /healthz tells nothing of any tree; /metrics tells a
 * token only about its own.
 */
#include "api_admin.h"

#include <errno.h>

#include <syncfs/limits.h>

#include "router.h"

static bool is_any_failed(const struct services *services)
{
	for (size_t i = 0; i < services->spaces_count; i++)
		if (store_is_failed(services->spaces[i].store))
			return true;
	return false;
}

int api_healthz(struct request *rq, struct response *rs)
{
	bool is_failed = is_any_failed(rq->services);

	response_json(rs, is_failed ? 500 : 200);
	buf_printf(&rs->body,
		"{\"status\":\"%s\",\"version\":\"%s\",\"limits\":{\"header\":%u,\"json_depth\":%u,\"json\":%"
		"u,"
		"\"batch_ops\":%u,\"body\":%u,\"name\":%u,\"path\":%u,\"depth\":%u,\"poll_wait\":%u,"
		"\"polls_per_token\":%u,\"header_deadline\":%u,\"body_rate\":%u,\"body_rate_grace\":%u,"
		"\"hashes\":%u,\"chunk\":%u,\"inline\":%u}}",
		is_failed ? "failed" : "ok", SYNCFS_VERSION, HEADER_MAX_BYTES, JSON_MAX_DEPTH, JSON_MAX_BYTES,
		BATCH_MAX_OPS, BODY_MAX_BYTES, NAME_MAX_BYTES, PATH_MAX_BYTES, TREE_MAX_DEPTH,
		POLL_WAIT_MAX_S, POLLS_PER_TOKEN, HEADER_DEADLINE_S, BODY_RATE_MIN_BYTES_S, BODY_RATE_GRACE_S,
		HASHES_PER_REQUEST, CHUNK_MAX_BYTES, INLINE_UP_MAX_BYTES);
	return 0;
}

static void put_metric(struct buf *out, const char *name, const char *type, uint64_t value)
{
	buf_printf(out, "# TYPE %s %s\n%s %llu\n", name, type, name, (unsigned long long)value);
}

int api_metrics(struct request *rq, struct response *rs)
{
	const struct services *services = rq->services;
	struct http_counters counters;
	struct store_status status;

	http_counters(services->http, &counters);
	store_status(rq->space->store, &status);
	rs->content_type = "text/plain; version=0.0.4";
	router_metrics(services->router, &rs->body);
	put_metric(&rs->body, "syncfs_bytes_in_total", "counter", counters.bytes_in);
	put_metric(&rs->body, "syncfs_bytes_out_total", "counter", counters.bytes_out);
	put_metric(&rs->body, "syncfs_connections_total", "counter", counters.connections);
	put_metric(&rs->body, "syncfs_parked_polls", "gauge", feed_parked(services->feed));
	put_metric(&rs->body, "syncfs_commits_total", "counter", status.commits);
	put_metric(&rs->body, "syncfs_requests_same_total", "counter", status.requests_same);
	put_metric(&rs->body, "syncfs_seq", "gauge", status.seq);
	put_metric(&rs->body, "syncfs_nodes", "gauge", status.nodes);
	put_metric(&rs->body, "syncfs_held_deletions", "gauge", status.held_deletions);
	return 0;
}
