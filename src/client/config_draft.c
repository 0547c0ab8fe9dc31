/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options of syncfs and the setters behind it. Called by config, once per pair of each source.
 * Touches no file.
 */
#include "config_draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/path.h>

#include "config_dirs.h"
#include "config_value.h"

/* Of FUSE: the position is the bit in draft.fuse. */
static const struct {
	const char *name, *undoes;
} fuse_flags[] = {
	{"allow_other", NULL},
	{"allow_root", NULL},
	{"default_permissions", NULL},
	{"noatime", NULL},
	{"ro", "rw"},
	{"rw", "ro"},
	{"nosuid", "suid"},
	{"suid", "nosuid"},
	{"nodev", "dev"},
	{"dev", "nodev"},
	{"noexec", "exec"},
	{"exec", "noexec"},
};

#define FUSE_FLAGS (sizeof(fuse_flags) / sizeof(fuse_flags[0]))

/* For mount(8) alone; it leaves some of them in. */
static const char *const mount_words[] = {"defaults", "auto", "noauto", "user", "nouser", "users", "owner",
	"group", "nofail", "_netdev", "comment"};

enum key {
	KEY_URL,
	KEY_TOKEN_FILE,
	KEY_API_KEY,
	KEY_BACKING,
	KEY_STATE,
	KEY_UID,
	KEY_GID,
	KEY_NAMESPACE,
	KEY_CONFIG,
	KEY_DURABLE,
	KEY_OFFLINE,
	KEY_PASSTHROUGH,
	KEY_INSECURE,
	KEY_POLL_INTERVAL,
	KEY_LABEL,
	KEY_ADOPT,
	KEY_MAX_READ,
	KEY_FSNAME,
	KEY_NONE,
};

static const struct {
	const char *name;
	enum key key;
} keys[] = {
	{"url", KEY_URL},
	{"remote_url", KEY_URL},
	{"token_file", KEY_TOKEN_FILE},
	{"api_key", KEY_API_KEY},
	{"backing", KEY_BACKING},
	{"local_sync_dir", KEY_BACKING},
	{"state", KEY_STATE},
	{"uid", KEY_UID},
	{"gid", KEY_GID},
	{"namespace", KEY_NAMESPACE},
	{"config", KEY_CONFIG},
	{"durable", KEY_DURABLE},
	{"offline", KEY_OFFLINE},
	{"passthrough", KEY_PASSTHROUGH},
	{"insecure", KEY_INSECURE},
	{"poll_interval", KEY_POLL_INTERVAL},
	{"label", KEY_LABEL},
	{"adopt", KEY_ADOPT},
	{"max_read", KEY_MAX_READ},
	{"fsname", KEY_FSNAME},
	{"subtype", KEY_FSNAME},
};

static void wipe_free(char *s)
{
	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

void config_fini(struct client_config *c)
{
	free(c->mountpoint);
	free(c->url);
	wipe_free(c->token);
	free(c->token_file);
	free(c->backing);
	free(c->state);
	free(c->namespace);
	free(c->label);
	free(c->fuse_options);
	*c = (struct client_config){0};
}

void config_draft_fini(struct config_draft *d)
{
	for (size_t i = 0; i < SETTINGS_SOURCES; i++) {
		free(d->token_files[i]);
		wipe_free(d->tokens[i]);
	}
	free(d->config_file);
	config_fini(&d->config);
}

static int refuse(struct buf *why, const char *sentence)
{
	buf_put_str(why, sentence);
	return -EINVAL;
}

int config_draft_set_path(const char *value, char **at, struct buf *why)
{
	char *path;

	if (value[0] == '\0')
		return refuse(why, "must be a path");
	if (strlen(value) >= PATH_MAX_BYTES)
		return refuse(why, "is too long for a path");
	path = config_dirs_absolute(value);
	if (path == NULL)
		return errno == ENOMEM ? -ENOMEM : refuse(why, "must be an absolute path here");
	free(*at);
	*at = path;
	return 0;
}

static int set_id(const char *value, int64_t *at, struct buf *why)
{
	uint64_t id;

	if (settings_parse_u64(value, 0, UINT32_MAX - 1, &id) < 0)
		return refuse(why, "must be a number of a user or group");
	*at = (int64_t)id;
	return 0;
}

static int set_bool(const char *value, bool *at, struct buf *why)
{
	return settings_parse_bool(value, at) < 0 ? refuse(why, "must be yes or no") : 0;
}

/* A parser's new string in place of the old one. */
#define REPLACE(at, call)                                                                                    \
	({                                                                                                   \
		char *new_ = NULL;                                                                           \
		int r_ = (call);                                                                             \
		if (r_ == 0) {                                                                               \
			free(at);                                                                            \
			(at) = new_;                                                                         \
		}                                                                                            \
		r_;                                                                                          \
	})

static int set_passthrough(struct config_draft *d, const char *value, struct buf *why)
{
	if (strcmp(value, "auto") != 0 && strcmp(value, "off") != 0)
		return refuse(why, "must be auto or off");
	d->config.passthrough = strcmp(value, "auto") == 0;
	return 0;
}

static int set_poll_interval(struct config_draft *d, const char *value, struct buf *why)
{
	uint64_t seconds;

	if (settings_parse_u64(value, 1, POLL_WAIT_MAX_S, &seconds) < 0)
		return refuse(why, "must be whole seconds, 1 to 55");
	d->config.poll_wait_s = (uint32_t)seconds;
	return 0;
}

static int set_api_key(struct config_draft *d, const char *value, struct buf *why)
{
	if (d->source == SETTINGS_COMMAND_LINE)
		return refuse(
			why, "is shown to everybody on a command line: put it in a file, see token_file");
	return REPLACE(d->tokens[d->source], config_value_token(value, &new_, why));
}

static int set_value(struct config_draft *d, enum key key, const char *value, struct buf *why)
{
	struct client_config *c = &d->config;

	switch (key) {
	case KEY_URL:
		return REPLACE(c->url, config_value_url(value, &new_, &d->url_is_loopback, why));
	case KEY_TOKEN_FILE:
		return config_draft_set_path(value, &d->token_files[d->source], why);
	case KEY_API_KEY:
		return set_api_key(d, value, why);
	case KEY_BACKING:
		return config_draft_set_path(value, &c->backing, why);
	case KEY_STATE:
		return config_draft_set_path(value, &c->state, why);
	case KEY_UID:
		return set_id(value, &c->uid, why);
	case KEY_GID:
		return set_id(value, &c->gid, why);
	case KEY_NAMESPACE:
		return REPLACE(c->namespace, config_value_namespace(value, &new_, why));
	case KEY_CONFIG:
		if (d->source == SETTINGS_FILE)
			return refuse(why, "cannot be given in a configuration file");
		return config_draft_set_path(value, &d->config_file, why);
	case KEY_DURABLE:
		return config_value_durable(value, &c->durable, why);
	case KEY_OFFLINE:
		return config_value_offline(value, &c->offline, &c->offline_block_s, why);
	case KEY_PASSTHROUGH:
		return set_passthrough(d, value, why);
	case KEY_INSECURE:
		return set_bool(value, &c->insecure, why);
	case KEY_POLL_INTERVAL:
		return set_poll_interval(d, value, why);
	case KEY_LABEL:
		return REPLACE(c->label, config_value_label(value, &new_, why));
	case KEY_ADOPT:
		return set_bool(value, &c->adopt, why);
	case KEY_MAX_READ:
		return settings_parse_u64(value, 4096, 1u << 30, &d->max_read) < 0
			? refuse(why, "must be a number of bytes, 4096 or more")
			: 0;
	case KEY_FSNAME:
		return refuse(why, "is set by syncfs itself: leave it out");
	case KEY_NONE:
		break;
	}
	return refuse(why, "is no option of syncfs, see syncfs -h");
}

static enum key find_key(const char *name)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].name, name) == 0)
			return keys[i].key;
	}
	return KEY_NONE;
}

static uint32_t fuse_bit(const char *name)
{
	for (size_t i = 0; name != NULL && i < FUSE_FLAGS; i++) {
		if (strcmp(fuse_flags[i].name, name) == 0)
			return 1u << i;
	}
	return 0;
}

static int set_fuse_flag(struct config_draft *d, const char *name, const char *value, struct buf *why)
{
	uint32_t bit = fuse_bit(name);
	bool on;
	int r = set_bool(value, &on, why);

	if (r < 0)
		return r;
	d->fuse &= ~bit;
	for (size_t i = 0; on && i < FUSE_FLAGS; i++) {
		if (bit == 1u << i)
			d->fuse = (d->fuse | bit) & ~fuse_bit(fuse_flags[i].undoes);
	}
	return 0;
}

static bool is_mount_word(const char *name)
{
	if (strncmp(name, "x-", 2) == 0)
		return true;
	for (size_t i = 0; i < sizeof(mount_words) / sizeof(mount_words[0]); i++) {
		if (strcmp(mount_words[i], name) == 0)
			return true;
	}
	return false;
}

int config_draft_make_fuse_options(struct config_draft *d, struct buf *why)
{
	struct buf list = BUF_INIT;

	if ((d->fuse & fuse_bit("allow_other")) != 0 && (d->fuse & fuse_bit("allow_root")) != 0)
		return refuse(why, "allow_other and allow_root exclude each other: give one");
	for (size_t i = 0; i < FUSE_FLAGS; i++) {
		if ((d->fuse & 1u << i) != 0)
			buf_printf(&list, "%s%s", list.len > 0 ? "," : "", fuse_flags[i].name);
	}
	if (d->max_read != 0)
		buf_printf(
			&list, "%smax_read=%llu", list.len > 0 ? "," : "", (unsigned long long)d->max_read);
	if (buf_cstr(&list) == NULL) {
		buf_fini(&list);
		return -ENOMEM;
	}
	d->config.fuse_options = (char *)list.data;
	d->config.read_only = (d->fuse & fuse_bit("ro")) != 0;
	return 0;
}

int config_draft_set(struct config_draft *d, const char *name, const char *value, struct buf *why)
{
	cleanup_buf struct buf sentence = BUF_INIT;
	enum key key = find_key(name);
	const char *text;
	int r;

	if (d->source == SETTINGS_COMMAND_LINE && is_mount_word(name))
		return 0;
	r = fuse_bit(name) != 0 ? set_fuse_flag(d, name, value, &sentence)
				: set_value(d, key, value, &sentence);
	if (r == 0)
		return 0;
	if (key != KEY_NONE || fuse_bit(name) != 0)
		buf_put_str(why, name);
	else
		path_quote(why, name, strlen(name));
	text = buf_cstr(&sentence);
	buf_printf(why, " %s", r == -EINVAL && text != NULL ? text : err_str(r));
	return r;
}

const char *config_draft_name(size_t i)
{
	return i < sizeof(keys) / sizeof(keys[0]) ? keys[i].name : NULL;
}
