/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfs MOUNTPOINT: options, going to the background, signals. The only file of the client that exits. The
 * parent waits until the child says that the mount is usable, or why it is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#include "client.h"
#include "config.h"
#include "mount.h"

/* What signal handlers may touch. */
static struct mount *_Atomic running;
static atomic_bool asked_to_stop;

struct launch {
	int report_fd; /* to the waiting parent; -1 in the foreground */
	bool foreground;
};

static void on_signal(int signo)
{
	struct mount *m = atomic_load(&running);

	(void)signo;
	atomic_store(&asked_to_stop, true);
	if (m)
		mount_stop(m);
}

static int catch_signals(void)
{
	struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};

	if (sigaction(SIGTERM, &stop, NULL) || sigaction(SIGINT, &stop, NULL) ||
		sigaction(SIGPIPE, &ignore, NULL) || sigaction(SIGHUP, &ignore, NULL))
		return -errno;
	return 0;
}

/* "+" and nothing: usable; else the sentence of the error. */
static void report(struct launch *l, const char *text)
{
	if (l->report_fd < 0)
		return;
	(void)io_write(l->report_fd, text, strlen(text));
	cleanup_fd_(&l->report_fd);
}

static void detach_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		(void)dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void on_ready(void *arg, struct mount *mount)
{
	struct launch *l = arg;

	atomic_store(&running, mount);
	if (atomic_load(&asked_to_stop))
		mount_stop(mount);
	if (l->foreground)
		return;
	report(l, "+");
	log_use_syslog();
	detach_stdio();
}

static int serve(const struct client_config *config, struct launch *l)
{
	cleanup_buf struct buf why = BUF_INIT;
	int r = catch_signals();

	if (!r)
		r = client_run(config, on_ready, l, &why);
	atomic_store(&running, NULL);
	if (!r)
		return 0;
	if (!why.len)
		buf_printf(&why, "%s", err_str(r));
	if (!buf_cstr(&why))
		return 1;
	if (l->report_fd >= 0)
		report(l, buf_cstr(&why));
	else
		log_error("%s", buf_cstr(&why));
	return 1;
}

/* In the parent: the child's word decides the exit status. */
static int await(int fd)
{
	cleanup_buf struct buf text = BUF_INIT;
	char bytes[1024];
	ssize_t n;

	while ((n = io_read(fd, bytes, sizeof(bytes))) > 0)
		buf_put(&text, bytes, (size_t)n);
	if (text.len == 1 && text.data[0] == '+')
		return 0;
	log_error(
		"%s", text.len && buf_cstr(&text) ? buf_cstr(&text) : "the mount ended before it was usable");
	return 1;
}

static int run_in_background(const struct client_config *config)
{
	struct launch l = {.report_fd = -1};
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		log_error("going to the background: %s", err_str(-errno));
		return 1;
	}
	pid = fork();
	if (pid < 0) {
		log_error("going to the background: %s", err_str(-errno));
		return 1;
	}
	if (pid) {
		close(fds[1]);
		return await(fds[0]);
	}
	close(fds[0]);
	l.report_fd = fds[1];
	if (setsid() < 0 || chdir("/") < 0) {
		report(&l, "going to the background failed");
		return 1;
	}
	return serve(config, &l);
}

static int mount_and_serve(struct client_config *config)
{
	struct launch l = {.report_fd = -1, .foreground = true};
	cleanup_buf struct buf why = BUF_INIT;
	int r = config_check(config, &why);

	if (r) {
		log_error("%s", buf_cstr(&why) ? buf_cstr(&why) : err_str(r));
		return 1;
	}
	if (config->debug)
		log_set_level(LOG_LEVEL_DEBUG);
#if !defined(SYNCFS_LEAK_CHECKS)
	(void)prctl(PR_SET_DUMPABLE, 0); /* the token is in memory */
#endif
	return config->foreground ? serve(config, &l) : run_in_background(config);
}

int main(int argc, char **argv)
{
	cleanup_buf struct buf why = BUF_INIT;
	struct client_config config = {0};
	int status = 0, r;

	log_set_program("syncfs");
	/* Threads that come and go with the load would each leave an arena behind (mallopt(3)). Batches and
	 * pages are made of what the ones before have left; the uploader gives it back after a stream. */
	(void)mallopt(M_ARENA_MAX, 2);
	(void)mallopt(M_MMAP_THRESHOLD, 8 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
	r = config_parse(argc, argv, &config, &why);
	if (r) {
		log_error("%s", buf_cstr(&why) ? buf_cstr(&why) : err_str(r));
		return 2;
	}
	switch (config.action) {
	case CONFIG_HELP:
		fputs(config_usage, stdout);
		break;
	case CONFIG_VERSION:
		puts("syncfs " SYNCFS_VERSION);
		break;
	case CONFIG_MOUNT:
		status = mount_and_serve(&config);
		break;
	}
	config_fini(&config);
	return status;
}
