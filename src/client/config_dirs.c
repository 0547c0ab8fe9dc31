/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of the XDG base directory specification 0.8, and names below them. Called by config. Touches no
 * file.
 */
#include "config_dirs.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/hash.h>
#include <syncfs/io.h>
#include <syncfs/mountinfo.h>

#define PASSWD_MAX_BYTES 16384
#define NAME_PART_MAX_BYTES 64

static char *join(const char *a, const char *b, const char *c)
{
	char *out = NULL;

	if (asprintf(&out, "%s%s%s%s%s", a, b[0] != '\0' ? "/" : "", b, c[0] != '\0' ? "/" : "", c) < 0) {
		errno = ENOMEM;
		return NULL;
	}
	return out;
}

static char *home_path(const char *below, const char *rest)
{
	const char *home = getenv("HOME");
	cleanup_free char *scratch = NULL;
	struct passwd entry, *found = NULL;

	if (home == NULL || home[0] != '/') {
		scratch = malloc(PASSWD_MAX_BYTES);
		if (scratch == NULL)
			return NULL;
		if (getpwuid_r(geteuid(), &entry, scratch, PASSWD_MAX_BYTES, &found) != 0 || found == NULL ||
			entry.pw_dir == NULL || entry.pw_dir[0] != '/') {
			errno = ENOENT;
			return NULL;
		}
		home = entry.pw_dir;
	}
	return join(home, below, rest);
}

/* A relative value of the variable counts as unset, says the specification. */
static char *xdg_path(const char *variable, const char *below_home, const char *rest)
{
	const char *dir = getenv(variable);

	if (dir != NULL && dir[0] == '/')
		return join(dir, rest, "");
	return home_path(below_home, rest);
}

char *config_dirs_config(const char *rest)
{
	return xdg_path("XDG_CONFIG_HOME", ".config", rest);
}

char *config_dirs_data(const char *rest)
{
	return xdg_path("XDG_DATA_HOME", ".local/share", rest);
}

char *config_dirs_state(const char *rest)
{
	const char *dir = getenv("XDG_STATE_HOME");

	if (geteuid() == 0 && (dir == NULL || dir[0] != '/'))
		return join("/var/lib", rest, "");
	return xdg_path("XDG_STATE_HOME", ".local/state", rest);
}

char *config_dirs_absolute(const char *path)
{
	cleanup_free char *cwd = NULL;
	cleanup_free char *at_home = NULL;

	if (path[0] == '~' && (path[1] == '/' || path[1] == '\0')) {
		at_home = home_path(path[1] == '/' ? path + 2 : "", "");
		return at_home != NULL ? path_absolute("/", at_home) : NULL;
	}
	if (path[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (cwd == NULL)
			return NULL;
	}
	return path_absolute(cwd != NULL ? cwd : "/", path);
}

char *config_dirs_name_for(const char *prefix, const char *path)
{
	struct hash hash = hash_bytes(path, strlen(path));
	const char *slash = strrchr(path, '/');
	const char *last = slash != NULL ? slash + 1 : path;
	char hex[HASH_HEX_BYTES];
	char *out = NULL;

	if (asprintf(&out, "%s/%.*s-%.8s", prefix, NAME_PART_MAX_BYTES, last, hash_to_hex(&hash, hex)) < 0) {
		errno = ENOMEM;
		return NULL;
	}
	return out;
}
