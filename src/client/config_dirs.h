/* SPDX-License-Identifier: Apache-2.0 */
/* Where defaults lie. For config only. */
#ifndef SYNCFS_CLIENT_CONFIG_DIRS_H
#define SYNCFS_CLIENT_CONFIG_DIRS_H

/*
 * Absolute paths, caller frees; NULL with errno: ENOMEM, or ENOENT when neither the variable nor a home
 * directory is known. rest is appended behind a slash.
 */
char *config_dirs_config(const char *rest); /* $XDG_CONFIG_HOME or ~/.config */
char *config_dirs_data(const char *rest); /* $XDG_DATA_HOME or ~/.local/share */
char *config_dirs_state(
	const char *rest); /* $XDG_STATE_HOME; without it /var/lib for root, else ~/.local/state */
/* path made absolute as text; a leading "~/" is the home directory. */
char *config_dirs_absolute(const char *path);
/* prefix/LAST-XXXXXXXX: last component of path and 8 digits of its hash, one name for each path. */
char *config_dirs_name_for(const char *prefix, const char *path);

#endif
