/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of syncfsd, see the header. Called by main at the start and by the server on SIGHUP.
 * Opens nothing but the configuration file.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/settings.h>

#include "auth.h"

#define DEFAULT_LISTEN "127.0.0.1:3459"

const char config_help[] =
	"usage: syncfsd [OPTIONS]\n"
	"       syncfsd token add NAME [--namespace NS] [--read-only] [--expires DAYS]\n"
	"       syncfsd token list\n"
	"       syncfsd token revoke NAME\n"
	"       syncfsd approve | reject\n"
	"       syncfsd new-epoch\n"
	"\n"
	"  --root DIR           the directory with the tree (default: $XDG_DATA_HOME/syncfsd)\n"
	"  --listen ADDR:PORT   default " DEFAULT_LISTEN "; port 0 takes a free one\n"
	"  --token-file FILE    accept the token on the first line of FILE\n"
	"  --tls-cert FILE, --tls-key FILE   serve https\n"
	"  --namespace NS=DIR   a further tree; may be repeated\n"
	"  --config FILE        the same keys as key=value lines\n"
	"  --adopt              accept a directory that is another than the database knows: merge, delete "
	"nothing\n"
	"  -d, --debug          log more\n"
	"  -h, --help           -V, --version\n"
	"\n"
	"See syncfsd(8).\n";

enum {
	OPT_ROOT = 256,
	OPT_LISTEN,
	OPT_TOKEN_FILE,
	OPT_CERT,
	OPT_KEY,
	OPT_CONFIG,
	OPT_NAMESPACE,
	OPT_ADOPT,
	OPT_READ_ONLY,
	OPT_EXPIRES
};

static const struct option options[] = {
	{"root", required_argument, NULL, OPT_ROOT},
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"token-file", required_argument, NULL, OPT_TOKEN_FILE},
	{"tls-cert", required_argument, NULL, OPT_CERT},
	{"tls-key", required_argument, NULL, OPT_KEY},
	{"config", required_argument, NULL, OPT_CONFIG},
	{"namespace", required_argument, NULL, OPT_NAMESPACE},
	{"adopt", no_argument, NULL, OPT_ADOPT},
	{"read-only", no_argument, NULL, OPT_READ_ONLY},
	{"expires", required_argument, NULL, OPT_EXPIRES},
	{"debug", no_argument, NULL, 'd'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

/* What getopt found, before it is known what it means. All borrowed from argv. */
struct raw {
	const char *config_file, *expires;
	const char *namespaces[CONFIG_NAMESPACES_MAX];
	size_t namespaces_count;
	bool read_only, is_help, is_version;
};

/* ---- paths ---- */

static const char *home_dir(void)
{
	const char *home = getenv("HOME");
	const struct passwd *pw;

	if (home && *home == '/')
		return home;
	pw = getpwuid(getuid());
	return pw && pw->pw_dir && *pw->pw_dir == '/' ? pw->pw_dir : NULL;
}

/* $variable/rest, else ~/fallback/rest. Caller frees. */
static char *xdg_path(const char *variable, const char *fallback, const char *rest)
{
	const char *base = getenv(variable), *home = home_dir();
	char *path = NULL;
	int r;

	if (base && *base == '/')
		r = asprintf(&path, "%s/%s", base, rest);
	else if (home)
		r = asprintf(&path, "%s/%s/%s", home, fallback, rest);
	else
		return NULL;
	return r < 0 ? NULL : path;
}

char *config_token_path(void)
{
	return xdg_path("XDG_CONFIG_HOME", ".config", "syncfs/token");
}

/* Links resolved where it exists, else only made absolute. Caller frees; NULL: -errno in errno. */
static char *absolute(const char *path)
{
	cleanup_free char *cwd = NULL;
	char *out = realpath(path, NULL);

	if (out || errno != ENOENT)
		return out;
	if (*path == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	return !cwd || asprintf(&out, "%s/%s", cwd, path) < 0 ? NULL : out;
}

static int set_absolute(char **to, const char *path, struct buf *why)
{
	*to = absolute(path);
	if (*to)
		return 0;
	buf_printf(why, "%s cannot be used: %s", path, strerror(errno));
	return errno ? -errno : -ENOMEM;
}

/* ---- the command line ---- */

/* 0 or -errno. */
static int take_option(int opt, struct settings *s, struct raw *raw)
{
	static const char *const keys[] = {[OPT_ROOT - OPT_ROOT] = "root",
		[OPT_LISTEN - OPT_ROOT] = "listen",
		[OPT_TOKEN_FILE - OPT_ROOT] = "token_file",
		[OPT_CERT - OPT_ROOT] = "tls_cert",
		[OPT_KEY - OPT_ROOT] = "tls_key"};

	switch (opt) {
	case OPT_CONFIG:
		raw->config_file = optarg;
		return 0;
	case OPT_EXPIRES:
		raw->expires = optarg;
		return 0;
	case OPT_READ_ONLY:
		raw->read_only = true;
		return 0;
	case OPT_NAMESPACE:
		if (raw->namespaces_count == CONFIG_NAMESPACES_MAX)
			return -E2BIG;
		raw->namespaces[raw->namespaces_count++] = optarg;
		return 0;
	case OPT_ADOPT:
		return settings_set(s, SETTINGS_COMMAND_LINE, "adopt", "yes");
	case 'd':
		return settings_set(s, SETTINGS_COMMAND_LINE, "debug", "yes");
	case 'h':
		raw->is_help = true;
		return 0;
	case 'V':
		raw->is_version = true;
		return 0;
	default:
		return settings_set(s, SETTINGS_COMMAND_LINE, keys[opt - OPT_ROOT], optarg);
	}
}

static int parse_line(int argc, char **argv, struct settings *s, struct raw *raw, struct buf *why)
{
	int opt, r = 0;

	optind = 0; /* from the beginning, also the second time */
	opterr = 0;
	while (!r && (opt = getopt_long(argc, argv, ":dhV", options, NULL)) != -1) {
		if (opt == '?' || opt == ':') {
			buf_printf(why,
				opt == ':' ? "%s needs a value; see syncfsd --help"
					   : "unknown option %s; see syncfsd --help",
				argv[optind - 1]);
			return -EINVAL;
		}
		r = take_option(opt, s, raw);
	}
	if (r < 0)
		buf_printf(why, "too many options");
	return r;
}

/* ---- namespaces ---- */

static int add_namespace(struct config *c, const char *text, size_t len, struct buf *why)
{
	const char *equals = memchr(text, '=', len);
	struct config_namespace *ns = &c->namespaces[c->namespaces_count];
	cleanup_free char *dir = NULL;

	if (!equals || equals + 1 == text + len || c->namespaces_count == CONFIG_NAMESPACES_MAX) {
		buf_printf(why, "a namespace is given as NS=DIR, not as '%.*s'", (int)len, text);
		return -EINVAL;
	}
	ns->name = strndup(text, (size_t)(equals - text));
	dir = strndup(equals + 1, len - (size_t)(equals + 1 - text));
	if (!ns->name || !dir)
		return -ENOMEM;
	c->namespaces_count++;
	if (!auth_name_is_valid(ns->name) || !strcmp(ns->name, AUTH_DEFAULT_NAMESPACE)) {
		buf_printf(why, "'%s' is no name for a further namespace", ns->name);
		return -EINVAL;
	}
	for (size_t i = 0; i + 1 < c->namespaces_count; i++)
		if (!strcmp(c->namespaces[i].name, ns->name)) {
			buf_printf(why, "the namespace %s is given twice", ns->name);
			return -EINVAL;
		}
	return set_absolute(&ns->dir, dir, why);
}

/* Of the command line; else of the file's one line, separated by commas. */
static int add_namespaces(struct config *c, const struct raw *raw, const char *line, struct buf *why)
{
	int r = 0;

	for (size_t i = 0; i < raw->namespaces_count && !r; i++)
		r = add_namespace(c, raw->namespaces[i], strlen(raw->namespaces[i]), why);
	while (!raw->namespaces_count && line && *line && !r) {
		size_t len = strcspn(line, ",");

		r = add_namespace(c, line, len, why);
		line += len + (line[len] == ',');
	}
	return r;
}

/* ---- together ---- */

static int copy(char **to, const char *value)
{
	if (!value)
		return 0;
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int take_flag(struct settings *s, const char *key, bool *flag, struct buf *why)
{
	const char *value = settings_get(s, key);

	if (!value || settings_parse_bool(value, flag) == 0)
		return 0;
	buf_printf(why, "%s has to be yes or no, not '%s'", key, value);
	return -EINVAL;
}

static int take_settings(struct config *c, struct settings *s, struct buf *why)
{
	const char *root = settings_get(s, "root"), *listen = settings_get(s, "listen");
	cleanup_free char *fallback = xdg_path("XDG_DATA_HOME", ".local/share", "syncfsd");
	int r = set_absolute(&c->root, root ? root : fallback ? fallback : "/var/lib/syncfsd", why);

	if (!r)
		r = copy(&c->listen, listen ? listen : DEFAULT_LISTEN);
	if (!r)
		r = copy(&c->token_file, settings_get(s, "token_file"));
	if (!r)
		r = copy(&c->tls_cert, settings_get(s, "tls_cert"));
	if (!r)
		r = copy(&c->tls_key, settings_get(s, "tls_key"));
	if (!r)
		r = take_flag(s, "adopt", &c->adopt, why);
	if (!r)
		r = take_flag(s, "debug", &c->debug, why);
	if (!r && !c->tls_cert != !c->tls_key) {
		buf_printf(why, "--tls-cert and --tls-key belong together: give both or none");
		return -EINVAL;
	}
	return r;
}

static int take_words(struct config *c, const struct raw *raw, int argc, char **argv)
{
	c->words = argv + optind;
	c->words_count = (size_t)(argc - optind);
	c->is_help = raw->is_help;
	c->is_version = raw->is_version;
	c->read_only = raw->read_only;
	return copy(&c->expires, raw->expires);
}

static int fill(struct config *c, struct settings *s, const struct raw *raw, struct buf *why)
{
	const char *line, *unused, *origin = NULL;
	int r = 0;

	if (raw->config_file) {
		r = settings_read_file(s, raw->config_file, why);
		if (r < 0 && !why->len)
			buf_printf(why, "%s cannot be read: %s", raw->config_file, strerror(-r));
	}
	if (!r)
		r = take_settings(c, s, why);
	line = settings_get(s, "namespace");
	if (!r && c->words_count) /* of `token add`: a name only */
		r = copy(&c->token_namespace, raw->namespaces_count ? raw->namespaces[0] : NULL);
	else if (!r)
		r = add_namespaces(c, raw, line, why);
	unused = r ? NULL : settings_unused(s, &origin);
	if (unused) {
		buf_printf(why, "%s: unknown key '%s'", origin, unused);
		return -EINVAL;
	}
	return r;
}

int config_load(int argc, char **argv, struct config *ret_config, struct buf *why)
{
	struct settings *s = settings_new();
	struct config c = {0};
	struct raw raw = {0};
	int r;

	if (!s)
		return -ENOMEM;
	r = parse_line(argc, argv, s, &raw, why);
	if (!r)
		r = take_words(&c, &raw, argc, argv);
	if (!r && !c.is_help && !c.is_version)
		r = fill(&c, s, &raw, why);
	settings_free(s);
	if (r < 0) {
		if (!why->len)
			buf_printf(why, "the options cannot be used: %s", strerror(-r));
		config_fini(&c);
		return r;
	}
	*ret_config = c;
	return 0;
}

void config_fini(struct config *c)
{
	free(c->root);
	free(c->listen);
	free(c->token_file);
	free(c->tls_cert);
	free(c->tls_key);
	free(c->token_namespace);
	free(c->expires);
	for (size_t i = 0; i < c->namespaces_count; i++) {
		free(c->namespaces[i].name);
		free(c->namespaces[i].dir);
	}
	*c = (struct config){0};
}
