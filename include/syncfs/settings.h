/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key=value settings from files, the environment and the command line, as in syncfs.conf(5):
 * one pair a line, '#' comments, blank lines, optional quotes around the value, `export `
 * before the key allowed (a .env file works as it is). Later sets of a higher source win.
 */
#ifndef SYNCFS_SETTINGS_H
#define SYNCFS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <syncfs/buf.h>

enum settings_source { SETTINGS_FILE = 1, SETTINGS_ENVIRONMENT, SETTINGS_COMMAND_LINE };

struct settings;

struct settings *settings_new(void);
void settings_free(struct settings *s);

/* Reads a file. -errno of open/read; -EINVAL with a sentence naming file and line in *why. */
int settings_read_file(struct settings *s, const char *path, struct buf *why);
/* Sets a pair unless a higher source has set it; 0 or -ENOMEM. value may be "" for a bare flag. */
int settings_set(struct settings *s, enum settings_source source, const char *key, const char *value);
/* The value, borrowed until the next set, NULL: not set. Marks the key as used. */
const char *settings_get(struct settings *s, const char *key);
/* The first key that nobody asked for, with its origin ("FILE:LINE" or "command line"); NULL: none. */
const char *settings_unused(struct settings *s, const char **ret_origin);

/* Value parsers: 0 or -EINVAL. */
int settings_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);
int settings_parse_bool(const char *text, bool *ret_value); /* yes/no true/false on/off 1/0, "" = true */

#endif
