/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the parts together: stores, tokens, feed, routes, HTTP; then waits for signals. Called by main. Each
 * part gets what it uses through struct services, never this file's struct server.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/message.h>

#include "answer.h"
#include "api_admin.h"
#include "api_content.h"
#include "api_files.h"
#include "api_poll.h"
#include "api_simple.h"
#include "api_sync.h"
#include "router.h"
#include "token_file.h"

#define TICK_MS 1000 /* how soon an answer of `syncfsd approve` and a failed store are seen */
#define FEED_TICK_MS 500 /* a revoked token's polls end within a second */
#define RELOAD_DRAIN_MS 5000
#define FILES_MAX 65536
#define FILES_KEPT 512 /* for databases and files being served */
#define PEM_MAX_BYTES (1u << 20)
#define JSON "application/json"

static const struct route routes[] = {
	{HTTP_GET, "/healthz", ROUTE_OPEN | ROUTE_QUICK, NULL, 0, api_healthz},
	{HTTP_GET, "/metrics", ROUTE_QUICK, NULL, 0, api_metrics},
	{HTTP_POST, "/sync", ROUTE_WRITES, JSON, BODY_MAX_BYTES, api_simple_sync},
	{HTTP_POST, "/sync", ROUTE_WRITES, BATCH_CONTENT_TYPE, BODY_MAX_BYTES, api_sync},
	{HTTP_GET, "/poll", ROUTE_QUICK, NULL, 0, api_poll},
	{HTTP_GET, "/tree", 0, NULL, 0, api_tree},
	{HTTP_GET, "/session", 0, NULL, 0, api_session},
	{HTTP_POST, "/chunks/missing", 0, JSON, JSON_MAX_BYTES, api_chunks_missing},
	{HTTP_POST, "/chunks/get", 0, JSON, JSON_MAX_BYTES, api_chunks_get},
	{HTTP_PUT, "/chunks", ROUTE_WRITES, BATCH_CONTENT_TYPE, BODY_MAX_BYTES, api_chunks_put},
	{HTTP_PUT, "/chunks/", ROUTE_WRITES | ROUTE_PREFIX, NULL, CHUNK_MAX_BYTES, api_chunk_put},
	{HTTP_POST, "/supply", ROUTE_WRITES, JSON, JSON_MAX_BYTES, api_supply},
	{HTTP_GET, "/manifest/", ROUTE_PREFIX, NULL, 0, api_manifest},
	{HTTP_GET, "/files/", ROUTE_PREFIX, NULL, 0, api_file_get},
	{HTTP_PUT, "/files/", ROUTE_WRITES | ROUTE_PREFIX, NULL, FILE_MAX_BYTES, api_file_put},
	{HTTP_DELETE, "/files/", ROUTE_WRITES | ROUTE_PREFIX, NULL, 0, api_file_delete},
	{0},
};

struct server {
	struct services services;
	struct space spaces[CONFIG_NAMESPACES_MAX + 1];
	struct buf cert, key; /* PEM, empty: plain http */
};

/* ---- glue between parts that do not know each other ---- */

static void wake_request(void *request)
{
	http_wake(request);
}

static bool request_is_gone(void *request)
{
	return http_client_is_gone(request);
}

static bool tokens_have_changed(void *arg)
{
	struct services *services = arg;

	return services->auth && auth_has_changed(services->auth);
}

static void space_has_changed(void *arg)
{
	struct space *space = arg;

	feed_publish(space->feed, space);
}

/* ---- start ---- */

static int fail(struct buf *why, int err, const char *what, const char *which)
{
	if (!why->len)
		buf_printf(why, "%s %s: %s", what, which, strerror(-err));
	return err;
}

static int open_space(struct server *sv, const char *name, const char *dir, bool adopt, struct buf *why)
{
	struct space *space = &sv->spaces[sv->services.spaces_count];
	struct store_config config = {
		.root = dir, .adopt = adopt, .on_change = space_has_changed, .arg = space};
	cleanup_free char *stage = NULL;
	int r;

	(void)snprintf(space->name, sizeof(space->name), "%s", name);
	space->stage_fd = -1;
	space->feed = sv->services.feed;
	space->root = strdup(dir);
	if (!space->root)
		return -ENOMEM;
	sv->services.spaces_count++;
	r = store_open(&config, &space->store, why);
	if (r < 0)
		return fail(why, r, "cannot serve", dir);
	if (asprintf(&stage, "%s/.syncfs/stage", dir) < 0)
		return -ENOMEM;
	space->stage_fd = open(stage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return space->stage_fd < 0 ? fail(why, -errno, "cannot open", stage) : 0;
}

static int open_spaces(struct server *sv, const struct config *config, struct buf *why)
{
	int r = io_make_dirs(config->root, 0700);

	if (r < 0)
		return fail(why, r, "cannot make", config->root);
	r = open_space(sv, AUTH_DEFAULT_NAMESPACE, config->root, config->adopt, why);
	for (size_t i = 0; i < config->namespaces_count && !r; i++) {
		r = io_make_dirs(config->namespaces[i].dir, 0700);
		if (r < 0)
			return fail(why, r, "cannot make", config->namespaces[i].dir);
		r = open_space(sv, config->namespaces[i].name, config->namespaces[i].dir, config->adopt, why);
	}
	return r;
}

/* With neither tokens nor a token file: one for the client of the same user, the one that lies there already
 * if there is one. */
static int make_first_token(struct auth *auth, struct buf *why)
{
	cleanup_free char *path = config_token_path();
	char text[TOKEN_MAX_BYTES + 1];
	bool is_new;
	int r;

	if (!path) {
		buf_put_str(why,
			"there is no home directory to write a first token to: run syncfsd token add NAME");
		return -ENOENT;
	}
	is_new = access(path, F_OK) < 0 && errno == ENOENT;
	r = is_new ? token_file_write(path, auth_make_text(text), why) : token_file_read(path, text, why);
	if (!r)
		r = auth_add(auth, "first", text, AUTH_DEFAULT_NAMESPACE, false, 0);
	explicit_bzero(text, sizeof(text));
	if (r < 0)
		return fail(why, r, "cannot store the first token of", path);
	log_info("the token in %s is accepted%s", path, is_new ? "; it was made just now" : "");
	return 0;
}

static int load_token_file(struct auth *auth, const char *path, struct buf *why)
{
	char text[TOKEN_MAX_BYTES + 1];
	int r;

	if (!path) {
		auth_set_file_token(auth, NULL);
		return 0;
	}
	r = token_file_read(path, text, why);
	if (!r)
		auth_set_file_token(auth, text);
	explicit_bzero(text, sizeof(text));
	return r;
}

static int open_auth(struct server *sv, const struct config *config, struct buf *why)
{
	cleanup_free char *path = NULL;
	uint64_t count = 0;
	int r;

	if (asprintf(&path, "%s/.syncfs/auth.db", config->root) < 0)
		return -ENOMEM;
	r = auth_open(path, &sv->services.auth, why);
	if (!r)
		r = load_token_file(sv->services.auth, config->token_file, why);
	if (!r)
		r = auth_count(sv->services.auth, &count);
	if (!r && !count && !config->token_file)
		r = make_first_token(sv->services.auth, why);
	return r < 0 ? fail(why, r, "cannot use", path) : 0;
}

static int read_pem(const char *path, struct buf *pem, struct buf *why)
{
	int r;

	if (!path)
		return 0;
	r = io_read_file(AT_FDCWD, path, PEM_MAX_BYTES, pem);
	if (!r && !buf_cstr(pem))
		r = -ENOMEM;
	return r < 0 ? fail(why, r, "cannot read", path) : 0;
}

/* Connections cost a descriptor each: takes as many as there may be. */
static unsigned connections_max(unsigned wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 2 * FILES_KEPT)
		return 256;
	return limit.rlim_cur - FILES_KEPT < wanted ? (unsigned)(limit.rlim_cur - FILES_KEPT) : wanted;
}

static int start_http(struct server *sv, const struct config *config, struct buf *why)
{
	struct http_config http;
	int r = read_pem(config->tls_cert, &sv->cert, why);

	if (!r)
		r = read_pem(config->tls_key, &sv->key, why);
	if (!r)
		r = router_new(routes, &sv->services, &sv->services.router);
	if (r < 0)
		return r;
	http_config_init(&http);
	http.listen = config->listen;
	http.tls_cert = sv->cert.len ? buf_cstr(&sv->cert) : NULL;
	http.tls_key = sv->key.len ? buf_cstr(&sv->key) : NULL;
	http.connections = connections_max(http.connections);
	http.ops = router_ops(sv->services.router);
	r = http_start(&http, &sv->services.http);
	if (r == -EPROTO)
		buf_printf(why, "%s and %s are no certificate and key that can be served", config->tls_cert,
			config->tls_key);
	else if (r == -EINVAL)
		buf_printf(why, "--listen %s is no address and port", config->listen);
	return r < 0 ? fail(why, r, "cannot listen on", config->listen) : 0;
}

static int start(struct server *sv, const struct config *config, struct buf *why)
{
	struct feed_config feed = {.polls_per_owner = POLLS_PER_TOKEN,
		.tick_ms = FEED_TICK_MS,
		.has_changed = tokens_have_changed,
		.arg = &sv->services,
		.wake = wake_request,
		.is_gone = request_is_gone};
	int r;

	sv->services.spaces = sv->spaces;
	r = feed_start(&feed, &sv->services.feed);
	if (!r)
		r = open_spaces(sv, config, why);
	if (!r)
		r = open_auth(sv, config, why);
	if (!r)
		r = start_http(sv, config, why);
	return r < 0 ? fail(why, r, "cannot serve", config->root) : 0;
}

static void stop(struct server *sv)
{
	if (sv->services.feed)
		feed_cancel(sv->services.feed);
	http_stop(sv->services.http);
	for (size_t i = 0; i < sv->services.spaces_count; i++) {
		store_close(sv->spaces[i].store);
		if (sv->spaces[i].stage_fd >= 0)
			(void)close(sv->spaces[i].stage_fd);
		free(sv->spaces[i].root);
	}
	feed_stop(sv->services.feed);
	auth_close(sv->services.auth);
	router_free(sv->services.router);
	buf_fini(&sv->cert);
	buf_fini(&sv->key);
}

/* ---- SIGHUP ---- */

/* Another certificate: open requests are answered first, then the same port is served with the new one, or
 * with the old one again. */
static int change_certificate(struct server *sv, struct buf *cert, struct buf *key)
{
	int r;

	feed_cancel(sv->services.feed);
	http_drain(sv->services.http, RELOAD_DRAIN_MS);
	r = http_resume(sv->services.http, buf_cstr(cert), buf_cstr(key));
	if (!r) {
		struct buf old_cert = sv->cert, old_key = sv->key;

		sv->cert = *cert;
		sv->key = *key;
		*cert = old_cert;
		*key = old_key;
		log_info("serving with the new certificate");
	} else {
		log_error("the new certificate and key cannot be used, keeping the old ones");
		r = http_resume(sv->services.http, buf_cstr(&sv->cert), buf_cstr(&sv->key));
	}
	feed_allow(sv->services.feed);
	return r;
}

static bool is_equal(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

static int apply_reload(struct server *sv, const struct config *config, struct buf *why)
{
	cleanup_buf struct buf cert = BUF_INIT, key = BUF_INIT;
	int r = load_token_file(sv->services.auth, config->token_file, why);

	log_set_level(config->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	if (!r)
		r = read_pem(config->tls_cert, &cert, why);
	if (!r)
		r = read_pem(config->tls_key, &key, why);
	if (r < 0 || !cert.len || !sv->cert.len || (is_equal(&cert, &sv->cert) && is_equal(&key, &sv->key)))
		return r;
	if (change_certificate(sv, &cert, &key) < 0) {
		buf_put_str(why, "neither the new nor the old certificate can be served any more");
		return -ESHUTDOWN;
	}
	return 0;
}

/* 0 also when the new configuration is of no use: then the old one stays. */
static int reload_all(struct server *sv, int (*reload)(struct config *, struct buf *), struct buf *why)
{
	struct config config;
	int r = reload(&config, why);

	if (!r) {
		r = apply_reload(sv, &config, why);
		config_fini(&config);
	}
	if (r == -ESHUTDOWN)
		return r;
	if (r < 0)
		log_error("reload: %s; what was set before stays", why->len ? buf_cstr(why) : strerror(-r));
	else
		log_info("configuration read again");
	buf_reset(why);
	return 0;
}

/* ---- running ---- */

static sigset_t awaited_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	return set;
}

void server_block_signals(void)
{
	sigset_t set = awaited_signals();

	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

static int tick_space(struct space *space, struct buf *why)
{
	enum answer answer = answer_take(space->root);

	if (answer != ANSWER_NONE) {
		int r = store_answer_held(space->store, answer == ANSWER_APPROVE);

		if (r < 0)
			log_error("held deletions of %s: %s", space->root, err_str(r));
	}
	if (!store_is_failed(space->store))
		return 0;
	buf_printf(why,
		"%s cannot be written to any more: ending, so that nothing is said to be stored that is not",
		space->root);
	return -EIO;
}

static int wait_for_end(
	struct server *sv, int signals, int (*reload)(struct config *, struct buf *), struct buf *why)
{
	struct signalfd_siginfo info;
	struct pollfd p = {.fd = signals, .events = POLLIN};
	int r = 0;

	while (!r) {
		for (size_t i = 0; i < sv->services.spaces_count && !r; i++)
			r = tick_space(&sv->spaces[i], why);
		if (r || poll(&p, 1, TICK_MS) <= 0 || read(signals, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo != SIGHUP) {
			log_info("ending");
			return 0;
		}
		r = reload_all(sv, reload, why);
	}
	return r;
}

int server_run(const struct config *config, int (*reload)(struct config *ret_config, struct buf *why),
	struct buf *why)
{
	sigset_t set = awaited_signals();
	cleanup_fd int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	struct server *sv = calloc(1, sizeof(*sv));
	int r;

	if (!sv || signals < 0) {
		free(sv);
		return -ENOMEM;
	}
	r = start(sv, config, why);
	if (!r) {
		printf("syncfsd: listening on %s://%s (root %s)\n", sv->cert.len ? "https" : "http",
			http_address(sv->services.http), config->root);
		(void)fflush(stdout);
		r = wait_for_end(sv, signals, reload, why);
	}
	stop(sv);
	free(sv);
	return r;
}
