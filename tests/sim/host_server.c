/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfsd as a simulated process, see host.h: its start and end, tokens, and the short runs of syncfsd beside
 * it. Called by the world's thread.
 */
#include "host_server.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>

#include "answer.h"
#include "auth.h"
#include "disk.h"
#include "net_internal.h"
#include "server.h"
#include "sim.h"
#include "sysio.h"

#define MS 1000000ull
#define TOKENS 8
#define END_MS 900000

static char tokens[TOKENS][TOKEN_TEXT_BYTES];
static struct server_host *server; /* there is one */
static bool adopting;

const char *host_token(unsigned client)
{
	return tokens[client % TOKENS];
}

/* syncfsd tells its address on stdout. */
int __wrap_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int __wrap_printf(const char *fmt, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, fmt);
	if (!proc_current() || !proc_machine(proc_current())) {
		n = vprintf(fmt, args);
	} else {
		n = vsnprintf(line, sizeof(line), fmt, args);
		line[strcspn(line, "\n")] = '\0';
		sim_trace("%s", line);
	}
	va_end(args);
	return n;
}

/* ---- short runs ---- */

struct errand {
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool is_over;
	struct waitq over;
};

static void errand_main(void *arg)
{
	struct errand *e = arg;

	e->result = e->fn(e->arg);
	e->is_over = true;
	waitq_wake_all(&e->over);
}

/* A process of the server's machine that does one thing. */
static int run_errand(struct server_host *s, const char *name, int (*fn)(void *arg), void *arg)
{
	struct errand e = {.fn = fn, .arg = arg};

	proc_spawn(proc_new(name, &s->machine), name, errand_main, &e);
	while (!e.is_over)
		(void)waitq_wait(&e.over, SIM_FOREVER);
	return e.result;
}

static int add_tokens(void *arg)
{
	struct buf why = BUF_INIT;
	struct auth *auth;
	int r = io_make_dirs(HOST_ROOT "/.syncfs", 0700);

	(void)arg;
	if (!r)
		r = auth_open(HOST_ROOT "/.syncfs/auth.db", &auth, &why);
	buf_fini(&why);
	if (r)
		return r;
	for (unsigned i = 0; i < TOKENS && !r; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "client%u", i);
		r = auth_add(auth, name, auth_make_text(tokens[i]), AUTH_DEFAULT_NAMESPACE, false, 0);
	}
	auth_close(auth);
	return r;
}

static int answer_held(void *arg)
{
	return answer_ask(HOST_ROOT, *(bool *)arg ? ANSWER_APPROVE : ANSWER_REJECT, 0);
}

void host_server_answer_held(struct server_host *s, bool approve)
{
	(void)run_errand(s, "syncfsd approve", answer_held, &approve);
}

/* ---- the server ---- */

void host_server_new(struct server_host *s)
{
	int r;

	*s = (struct server_host){.machine = {.name = "server"}};
	s->machine.disk = disk_new("server");
	host_new_boot(&s->machine);
	r = disk_mkdirs(s->machine.disk, HOST_ROOT, 0700);
	if (!r)
		r = run_errand(s, "syncfsd token", add_tokens, NULL);
	if (r)
		sim_fail("simulator", "the server's tokens cannot be made: %s", strerror(-r));
	server = s;
}

static int load_config(struct config *ret_config, struct buf *why)
{
	(void)why;
	*ret_config = (struct config){
		.root = strdup(HOST_ROOT), .listen = strdup("127.0.0.1:3459"), .adopt = adopting};
	return ret_config->root && ret_config->listen ? 0 : -ENOMEM;
}

static void server_main(void *arg)
{
	struct server_host *s = arg;
	struct proc *own = proc_current();
	struct buf why = BUF_INIT;
	struct config config;

	server_block_signals();
	if (load_config(&config, &why))
		abort();
	s->ended = server_run(&config, load_config, &why);
	free(config.root);
	free(config.listen);
	sim_trace("syncfsd has ended with %d: %s", s->ended, why.len ? buf_cstr(&why) : "");
	buf_fini(&why);
	proc_kill(own); /* exit(3) */
}

static void on_server_end(void *arg)
{
	if (server->proc == arg)
		server->proc = NULL;
}

int host_server_start(struct server_host *s, bool adopt)
{
	struct proc *p = proc_new("server", &s->machine);

	adopting = adopt;
	s->ended = 0;
	s->proc = p;
	proc_at_end(p, on_server_end, p);
	proc_spawn(p, "main", server_main, s);
	while (s->proc == p && net_listener() != p)
		sim_sleep_ms(1);
	return s->proc == p ? 0 : s->ended ? s->ended : -ECANCELED;
}

void host_server_stop(struct server_host *s)
{
	uint64_t until = sim_now_ns() + END_MS * MS;
	struct proc *p = s->proc;

	if (!p)
		return;
	sysio_raise(p, SIGTERM);
	while (s->proc == p) {
		if (sim_now_ns() > until)
			sim_fail("hang", "syncfsd does not end");
		sim_sleep_ms(1);
	}
}

void host_server_kill(struct server_host *s)
{
	if (!s->proc)
		return;
	sim_trace("kill -9 of syncfsd");
	proc_kill(s->proc);
}

void host_server_cut(struct server_host *s)
{
	host_server_kill(s);
	disk_power_cut(s->machine.disk);
	host_new_boot(&s->machine);
}

bool host_server_seq(uint64_t *ret_seq)
{
	struct buf answer = BUF_INIT;
	const char *at;
	bool found;

	found = net_ask("/metrics", host_token(TOKENS - 1), &answer) == 200 && buf_cstr(&answer) &&
		(at = strstr(buf_cstr(&answer), "\nsyncfs_seq "));
	if (found)
		*ret_seq = strtoull(at + strlen("\nsyncfs_seq "), NULL, 10);
	buf_fini(&answer);
	return found;
}

bool host_server_knows(const struct cursor *c)
{
	struct buf answer = BUF_INIT;
	char text[CURSOR_TEXT_BYTES], target[CURSOR_TEXT_BYTES + 32];
	int r;

	(void)snprintf(target, sizeof(target), "/poll?cursor=%s&wait=0", cursor_to_text(c, text));
	r = net_ask(target, host_token(TOKENS - 1), &answer);
	buf_fini(&answer);
	return r == 200;
}
