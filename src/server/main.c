/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfsd: what a process has to settle before anything else, then one of its commands or the server. The
 * only place that decides the exit status: 0, or 1 after one sentence on stderr.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <syncfs/log.h>

#include "command.h"
#include "config.h"
#include "server.h"

static int main_argc;
static char **main_argv;

static int reload(struct config *ret_config, struct buf *why)
{
	return config_load(main_argc, main_argv, ret_config, why);
}

/* A token in the environment is the client's; it must not be seen in ours. */
static void scrub_environment(void)
{
	char *token = getenv("SYNCFS_TOKEN");

	if (!token)
		return;
	explicit_bzero(token, strlen(token));
	(void)unsetenv("SYNCFS_TOKEN");
}

static int run(const struct config *config, struct buf *why)
{
	if (config->is_help) {
		(void)fputs(config_help, stdout);
		return 0;
	}
	if (config->is_version) {
		printf("syncfsd %s\n", SYNCFS_VERSION);
		return 0;
	}
	if (config->debug)
		log_set_level(LOG_LEVEL_DEBUG);
	if (config->words_count)
		return command_run(config, why);
	return server_run(config, reload, why);
}

/*
 * What bodies and pages take is used again for the next ones: fresh memory for each is a tenth of the work of
 * a stream of batches, in page faults. More than some of them is given back, instead of staying with
 * whichever thread was the last to have one.
 */
static void tune_memory(void)
{
#ifdef __GLIBC__
	(void)mallopt(M_ARENA_MAX, 2);
	(void)mallopt(M_MMAP_THRESHOLD, 8 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
#endif
}

int main(int argc, char **argv)
{
	cleanup_buf struct buf why = BUF_INIT;
	struct config config;
	int r;

	(void)umask(077);
#if !defined(SYNCFS_LEAK_CHECKS)
	(void)prctl(PR_SET_DUMPABLE, 0); /* tokens are in memory */
#endif
	scrub_environment();
	server_block_signals();
	tune_memory();
	log_set_program("syncfsd");
	main_argc = argc;
	main_argv = argv;
	r = config_load(argc, argv, &config, &why);
	if (!r) {
		r = run(&config, &why);
		config_fini(&config);
	}
	if (!r && (fflush(stdout) || ferror(stdout))) {
		buf_put_str(&why, "standard output cannot be written");
		r = -EIO;
	}
	if (r < 0)
		(void)fprintf(stderr, "syncfsd: %s\n", why.len ? buf_cstr(&why) : strerror(-r));
	return r < 0 ? 1 : 0;
}
