/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of syncfs: three sources applied in ascending precedence to one struct. Called by main
 * before there are threads. Value rules are in config_value, checks of directories in config_check. Prints
 * nothing.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/path.h>
#include <syncfs/settings.h>

#include "config_dirs.h"
#include "config_draft.h"
#include "config_value.h"

#define DEFAULT_URL "http://127.0.0.1:3459"
#define DEFAULT_TOKEN_FILE "syncfs/token"
#define DEFAULT_CONFIG_FILE "syncfs/syncfs.conf"
#define LABEL_FALLBACK "syncfs"

const char config_usage[] =
	"usage: syncfs [OPTIONS] MOUNTPOINT\n"
	"\n"
	"  -o url=URL            server, " DEFAULT_URL "\n"
	"  -o token_file=FILE    file with the token, readable by you only\n"
	"  -o backing=DIR        where the files really lie; may be MOUNTPOINT itself\n"
	"  -o state=DIR          journal and state database\n"
	"  -o uid=N,gid=N        owner of what comes from elsewhere\n"
	"  -o namespace=NS       tree on the server\n"
	"  -o config=FILE        file of key=value lines with these names\n"
	"  -o durable=none|local|fsync|close   what close() and fsync() promise\n"
	"  -o offline=eio|block:S|defer     what a call that waits for the server does without one\n"
	"  -o passthrough=auto|off          kernel passthrough\n"
	"  -o poll_interval=S    seconds that one question for news waits, 1 to 55\n"
	"  -o label=TEXT         this machine in names of conflict copies\n"
	"  -o insecure           allow plain http to another host\n"
	"  -o adopt              take over a backing directory that lost its marker\n"
	"  -o allow_other,ro,... options of FUSE\n"
	"  -f foreground   -d debug, foreground   -h this   -V version\n"
	"\n"
	"See syncfs(1).\n";

static int refuse(struct buf *why, const char *sentence)
{
	buf_put_str(why, sentence);
	return -EINVAL;
}

/* All pairs of s; an error begins with where the pair was given. */
static int apply(struct config_draft *d, enum settings_source source, struct settings *s, struct buf *why)
{
	const char *name, *origin;

	d->source = source;
	while ((name = settings_unused(s, &origin)) != NULL) {
		size_t begin = why->len;
		int r;

		buf_printf(why, "%s: ", origin);
		r = config_draft_set(d, name, settings_get(s, name), why);
		if (r < 0)
			return r;
		why->len = begin;
	}
	return 0;
}

/* A list of -o: commas separate, a backslash before one keeps it. */
static int add_options(struct settings *s, const char *list)
{
	cleanup_free char *item = malloc(strlen(list) + 1);

	if (item == NULL)
		return -ENOMEM;
	while (*list != '\0') {
		char *end = item, *equals;
		int r;

		for (; *list != '\0' && *list != ','; list++) {
			if (*list == '\\' && (list[1] == ',' || list[1] == '\\'))
				list++;
			*end++ = *list;
		}
		list += *list == ',';
		*end = '\0';
		if (end == item)
			continue;
		equals = strchr(item, '=');
		if (equals != NULL)
			*equals = '\0';
		r = settings_set(s, SETTINGS_COMMAND_LINE, item, equals != NULL ? equals + 1 : "");
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_arguments(int argc, char **argv, struct config_draft *d, struct settings *s, struct buf *why)
{
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c, r;

	opterr = 0;
	optind = 0; /* begin anew, glibc's way */
	while ((c = getopt_long(argc, argv, "o:fdhV", longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			r = add_options(s, optarg);
			if (r < 0)
				return r;
			break;
		case 'd':
			d->config.debug = true;
			d->config.foreground = true;
			break;
		case 'f':
			d->config.foreground = true;
			break;
		case 'h':
			d->config.action = CONFIG_HELP;
			return 0;
		case 'V':
			d->config.action = CONFIG_VERSION;
			return 0;
		default:
			buf_put_str(why, "there is no option ");
			path_quote(why, argv[optind - 1], strlen(argv[optind - 1]));
			buf_put_str(why, ", or its value is missing; see syncfs -h");
			return -EINVAL;
		}
	}
	if (optind + 1 != argc)
		return refuse(why,
			optind == argc ? "name a mountpoint: syncfs [OPTIONS] MOUNTPOINT"
				       : "name one mountpoint: syncfs [OPTIONS] MOUNTPOINT");
	r = config_draft_set_path(argv[optind], &d->config.mountpoint, why);
	return r == -EINVAL && why->len > 0 ? (buf_reset(why), refuse(why, "the mountpoint must be a path"))
					    : r;
}

/* SYNCFS_URL for url, and so on. The token is taken out of the environment. */
static int read_environment(struct settings *s)
{
	char *token = getenv("SYNCFS_TOKEN");
	const char *name;
	int r = 0;

	for (size_t i = 0; r == 0 && (name = config_draft_name(i)) != NULL; i++) {
		char variable[64] = "SYNCFS_";
		size_t at = strlen(variable);
		const char *value;

		for (const char *p = name; *p != '\0' && at + 1 < sizeof(variable); p++)
			variable[at++] = (char)toupper((unsigned char)*p);
		variable[at] = '\0';
		value = strcmp(name, "api_key") != 0 ? getenv(variable) : NULL;
		if (value != NULL && *value != '\0')
			r = settings_set(s, SETTINGS_ENVIRONMENT, name, value);
	}
	if (token == NULL)
		return r;
	if (r == 0 && *token != '\0')
		r = settings_set(s, SETTINGS_ENVIRONMENT, "api_key", token);
	explicit_bzero(token, strlen(token));
	(void)unsetenv("SYNCFS_TOKEN");
	return r;
}

static int apply_file(struct config_draft *d, struct buf *why)
{
	bool is_given = d->config_file != NULL;
	struct settings *s;
	int r;

	if (!is_given)
		d->config_file = config_dirs_config(DEFAULT_CONFIG_FILE);
	if (d->config_file == NULL || (!is_given && access(d->config_file, F_OK) < 0))
		return 0;
	s = settings_new();
	if (s == NULL)
		return -ENOMEM;
	r = settings_read_file(s, d->config_file, why);
	if (r < 0 && r != -EINVAL)
		buf_printf(why, "cannot read the configuration file %s: %s", d->config_file, err_str(r));
	if (r == 0)
		r = apply(d, SETTINGS_FILE, s, why);
	settings_free(s);
	if (r == 0 && d->tokens[SETTINGS_FILE] != NULL)
		r = config_value_is_private(d->config_file, why);
	return r;
}

/* From the file named explicitly; the default file comes before a token of the environment (syncfs(1)). */
static int choose_token(struct config_draft *d, struct buf *why)
{
	struct client_config *c = &d->config;
	bool in_config = d->token_files[SETTINGS_FILE] != NULL || d->tokens[SETTINGS_FILE] != NULL;
	cleanup_free char *standard = config_dirs_config(DEFAULT_TOKEN_FILE);
	char **file = NULL;

	if (d->token_files[SETTINGS_COMMAND_LINE] != NULL)
		file = &d->token_files[SETTINGS_COMMAND_LINE];
	else if (d->token_files[SETTINGS_ENVIRONMENT] != NULL)
		file = &d->token_files[SETTINGS_ENVIRONMENT];
	else if (!in_config && standard != NULL && access(standard, F_OK) == 0)
		file = &standard;
	else if (d->tokens[SETTINGS_ENVIRONMENT] != NULL)
		c->token = steal_ptr(&d->tokens[SETTINGS_ENVIRONMENT]);
	else if (d->token_files[SETTINGS_FILE] != NULL)
		file = &d->token_files[SETTINGS_FILE];
	else if (d->tokens[SETTINGS_FILE] != NULL)
		c->token = steal_ptr(&d->tokens[SETTINGS_FILE]);
	if (file == NULL && c->token == NULL) {
		buf_printf(why,
			"there is no token: put the one of the server into %s (chmod 600), or name a file "
			"with -o token_file=FILE",
			standard != NULL ? standard : "a file");
		return -ENOENT;
	}
	if (file == NULL)
		return 0;
	c->token_file = steal_ptr(file);
	return config_value_token_file(c->token_file, &c->token, why);
}

static int fill_label(struct client_config *c)
{
	char host[256] = "";
	cleanup_buf struct buf why = BUF_INIT;

	if (c->label != NULL)
		return 0;
	(void)gethostname(host, sizeof(host) - 1);
	host[strcspn(host, ".")] = '\0';
	if (config_value_label(host, &c->label, &why) < 0)
		c->label = strdup(LABEL_FALLBACK);
	return c->label != NULL ? 0 : -ENOMEM;
}

static int finish(struct config_draft *d, struct buf *why)
{
	struct client_config *c = &d->config;
	int r = 0;

	if (c->url == NULL)
		r = config_value_url(DEFAULT_URL, &c->url, &d->url_is_loopback, why);
	if (r < 0)
		return r;
	if (!c->insecure && !d->url_is_loopback && strncasecmp(c->url, "http://", 7) == 0) {
		buf_printf(why,
			"%s would send the token and all files readable by others: use https, or allow it "
			"with -o insecure",
			c->url);
		return -EINVAL;
	}
	r = config_draft_make_fuse_options(d, why);
	if (r == 0)
		r = fill_label(c);
	return r == 0 ? choose_token(d, why) : r;
}

static int parse(int argc, char **argv, struct config_draft *d, struct settings *line,
	struct settings *environment, struct buf *why)
{
	int wiped = read_environment(environment); /* before anything can fail */
	int r = wiped < 0 ? wiped : read_arguments(argc, argv, d, line, why);

	if (r < 0 || d->config.action != CONFIG_MOUNT)
		return r;
	/* Twice: which file to read is said by the command line, which has the last word, too. */
	d->source = SETTINGS_ENVIRONMENT;
	if (settings_get(line, "config") != NULL)
		r = config_draft_set_path(settings_get(line, "config"), &d->config_file, why);
	else if (settings_get(environment, "config") != NULL)
		r = config_draft_set_path(settings_get(environment, "config"), &d->config_file, why);
	if (r == 0)
		r = apply_file(d, why);
	if (r == 0)
		r = apply(d, SETTINGS_ENVIRONMENT, environment, why);
	if (r == 0)
		r = apply(d, SETTINGS_COMMAND_LINE, line, why);
	return r == 0 ? finish(d, why) : r;
}

int config_parse(int argc, char **argv, struct client_config *ret_config, struct buf *why)
{
	struct config_draft d = {
		.config = {.uid = -1, .gid = -1, .passthrough = true, .poll_wait_s = POLL_WAIT_MAX_S}};
	struct settings *line = settings_new(), *environment = settings_new();
	int r = line != NULL && environment != NULL ? parse(argc, argv, &d, line, environment, why) : -ENOMEM;

	settings_free(line);
	settings_free(environment);
	if (r == 0) {
		*ret_config = d.config;
		d.config = (struct client_config){0};
	} else if (why->len == 0) {
		buf_put_str(why, err_str(r));
	}
	config_draft_fini(&d);
	return r;
}
