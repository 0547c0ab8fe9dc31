/* SPDX-License-Identifier: Apache-2.0 */
/* What syncfsd was asked to do: its command line over its configuration file, see syncfsd(8). */
#ifndef SYNCFS_SERVER_CONFIG_H
#define SYNCFS_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include <syncfs/buf.h>

#define CONFIG_NAMESPACES_MAX 64

struct config_namespace {
	char *name, *dir; /* dir is absolute */
};

struct config {
	char *root; /* absolute */
	char *listen;
	char *token_file, *tls_cert, *tls_key; /* NULL: none */
	struct config_namespace namespaces[CONFIG_NAMESPACES_MAX];
	size_t namespaces_count;
	bool adopt, debug, is_help, is_version;

	/* of `syncfsd token add`: */
	char *token_namespace; /* NULL: default */
	bool read_only;
	char *expires; /* days; NULL: never */

	char **words; /* "token", "add", ...; borrowed from argv */
	size_t words_count;
};

/* 0; -EINVAL and other -errno with a sentence in *why. May be called again with the same argv. */
int config_load(int argc, char **argv, struct config *ret_config, struct buf *why);
void config_fini(struct config *c);

/* $XDG_CONFIG_HOME/syncfs/token. Caller frees; NULL: out of memory or no home. */
char *config_token_path(void);

extern const char config_help[];

#endif
