/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failpoint.h: dies as by kill -9 at the passage that the environment names. Only in builds for tests/kill.
 */
#include <syncfs/failpoint.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char wanted[16];
static _Atomic long left;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_environment(void)
{
	const char *text = getenv("SYNCFS_FAILPOINT");
	const char *colon = text ? strchr(text, ':') : NULL;

	if (!colon || (size_t)(colon - text) >= sizeof(wanted))
		return;
	memcpy(wanted, text, (size_t)(colon - text));
	atomic_init(&left, strtol(colon + 1, NULL, 10));
}

void failpoint(const char *name)
{
	(void)pthread_once(&once, read_environment);
	if (strcmp(name, wanted) == 0 && atomic_fetch_sub(&left, 1) == 1)
		(void)kill(getpid(), SIGKILL);
}
