/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What syncfs is to do, from the command line, the environment and the configuration file: syncfs(1),
 * syncfs.conf(5). Called by main before there are threads. All give 0, or -errno with one sentence in *why
 * that says what to do.
 */
#ifndef SYNCFS_CLIENT_CONFIG_H
#define SYNCFS_CLIENT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <syncfs/buf.h>

enum config_action { CONFIG_MOUNT, CONFIG_HELP, CONFIG_VERSION };
enum config_durable { DURABLE_NONE, DURABLE_LOCAL, DURABLE_FSYNC, DURABLE_CLOSE }; /* each promises more */
enum config_offline { OFFLINE_EIO, OFFLINE_BLOCK, OFFLINE_DEFER };

/* Strings are heap-owned. After config_parse() paths are as given; after config_check() absolute and without
 * links. */
struct client_config {
	enum config_action action;
	char *mountpoint;
	char *url; /* without a slash at the end */
	char *token;
	char *token_file; /* as given; NULL: none */
	char *backing; /* NULL until config_check(): the default */
	char *state; /* likewise */
	char *namespace; /* NULL: the token's */
	char *label; /* for names of conflict copies */
	char *fuse_options; /* comma list for libfuse, may be "" */
	int64_t uid, gid; /* of what comes from elsewhere; -1: the parent directory's */
	enum config_durable durable;
	enum config_offline offline;
	uint32_t offline_block_s; /* of OFFLINE_BLOCK */
	uint32_t poll_wait_s; /* of a long poll */
	bool passthrough; /* where the kernel can */
	bool insecure, read_only, adopt;
	bool foreground, debug; /* debug implies foreground */
	bool backing_is_mountpoint; /* by config_check() */
};

/*
 * Command line, environment, file: each overrides the next. Overwrites SYNCFS_TOKEN in the environment's
 * memory, so that /proc/PID/environ does not show it. Reads the configuration and token files, touches
 * nothing else.
 */
int config_parse(int argc, char **argv, struct client_config *ret_config, struct buf *why);
/*
 * The checks that need the file system: mountpoint, backing directory, state directory. Fills in and makes
 * the defaults (an explicit backing directory must exist). Before mounting.
 */
int config_check(struct client_config *config, struct buf *why);
void config_fini(struct client_config *config); /* wipes the token */

/* The text of -h. */
extern const char config_usage[];

#endif
