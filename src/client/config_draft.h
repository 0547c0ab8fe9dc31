/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration while it is put together: which options there are, and where each goes. For config only.
 */
#ifndef SYNCFS_CLIENT_CONFIG_DRAFT_H
#define SYNCFS_CLIENT_CONFIG_DRAFT_H

#include <syncfs/settings.h>

#include "config.h"

#define SETTINGS_SOURCES (SETTINGS_COMMAND_LINE + 1)

struct config_draft {
	struct client_config config;
	enum settings_source source; /* being applied */
	char *token_files[SETTINGS_SOURCES], *tokens[SETTINGS_SOURCES]; /* by source */
	char *config_file;
	bool url_is_loopback;
	uint32_t fuse; /* bits of fuse_flags */
	uint64_t max_read; /* 0: not given */
};

void config_draft_fini(struct config_draft *d);
/* One option of d->source. 0; -EINVAL with a sentence that begins with the option; -ENOMEM. */
int config_draft_set(struct config_draft *d, const char *name, const char *value, struct buf *why);
/* An absolute path in place of *at. -EINVAL with "must be ...". */
int config_draft_set_path(const char *value, char **at, struct buf *why);
/* The options of FUSE as libfuse takes them, into d->config. -EINVAL, -ENOMEM. */
int config_draft_make_fuse_options(struct config_draft *d, struct buf *why);
/* The name of option i in the environment without SYNCFS_ in front, NULL after the last. */
const char *config_draft_name(size_t i);

#endif
