/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfsctl(1): the command line, one request per path to the daemon of a mount, its reply printed. Exit
 * status 0 done, 1 not done or not in time, 2 it is not clear what is meant.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/settings.h>

#include "ask.h"
#include "find.h"
#include "print.h"

#define EXIT_USAGE 2
#define TIMEOUT_MAX_S 31536000 /* a year */

static const char usage[] =
	"usage: syncfsctl [--json] COMMAND\n"
	"\n"
	"  status [PATH]                       connection, what is pending, last error; state of a file\n"
	"  wait [--timeout S] [PATH...]        until all done so far is acknowledged by the server\n"
	"  wait [--timeout S] --seq TOKEN PATH until what TOKEN stands for is shown here\n"
	"  token PATH                          where the server is after the last acknowledged change\n"
	"  conflicts [PATH]                    the conflict copies\n"
	"  pause [PATH], resume [PATH]         stop and restart traffic\n"
	"  reconnect [PATH]                    try to reach the server now\n"
	"  approve [PATH], restore [PATH]      deletions that are held: send them, or undo them\n"
	"\n"
	"  --json  print the reply as JSON     --help  this     --version\n"
	"\n"
	"Without a PATH: the mount of the current directory, else the only one. See syncfsctl(1).\n";

struct command {
	const char *word;
	enum control_command command;
	int paths_min, paths_max; /* -1: any number */
};

static const struct command commands[] = {
	{"status", CONTROL_STATUS, 0, 1},
	{"wait", CONTROL_WAIT, 0, -1},
	{"token", CONTROL_TOKEN, 0, 1},
	{"pause", CONTROL_PAUSE, 0, 1},
	{"resume", CONTROL_RESUME, 0, 1},
	{"reconnect", CONTROL_RECONNECT, 0, 1},
	{"conflicts", CONTROL_CONFLICTS, 0, 1},
	{"approve", CONTROL_APPROVE, 0, 1},
	{"restore", CONTROL_RESTORE, 0, 1},
};

struct options {
	const struct command *command;
	bool json, help, version;
	int64_t timeout_ms;
	const char *token;
	char **paths; /* of argv */
	int paths_count;
};

static void complain(const char *sentence)
{
	(void)fprintf(stderr, "syncfsctl: %s\n", sentence);
}

static int usage_error(const char *sentence)
{
	(void)fprintf(stderr, "syncfsctl: %s; see syncfsctl --help\n", sentence);
	return -EINVAL;
}

static int check_command(const char *word, struct options *o)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].word, word) == 0)
			o->command = &commands[i];
	}
	if (o->command == NULL)
		return usage_error("there is no such command");
	if (o->command->command != CONTROL_WAIT && (o->token != NULL || o->timeout_ms >= 0))
		return usage_error("--timeout and --seq are for wait");
	if (o->paths_count < o->command->paths_min ||
		(o->command->paths_max >= 0 && o->paths_count > o->command->paths_max))
		return usage_error("that is not the number of paths this command takes");
	if (o->token != NULL && o->paths_count > 1)
		return usage_error("wait --seq takes one path");
	return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"timeout", required_argument, NULL, 't'},
		{"seq", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	uint64_t seconds;
	int c;

	*o = (struct options){.timeout_ms = CONTROL_TIMEOUT_NONE};
	opterr = 0;
	while ((c = getopt_long(argc, argv, "hV", longs, NULL)) != -1) {
		switch (c) {
		case 'j':
			o->json = true;
			break;
		case 'h':
			o->help = true;
			return 0;
		case 'V':
			o->version = true;
			return 0;
		case 't':
			if (settings_parse_u64(optarg, 0, TIMEOUT_MAX_S, &seconds) < 0)
				return usage_error("--timeout takes whole seconds");
			o->timeout_ms = (int64_t)seconds * 1000;
			break;
		case 's':
			o->token = optarg;
			break;
		default:
			return usage_error("there is no such option, or its value is missing");
		}
	}
	if (optind >= argc)
		return usage_error("name a command");
	o->paths = argv + optind + 1;
	o->paths_count = argc - optind - 1;
	return check_command(argv[optind], o);
}

static void print_reply(
	const struct options *o, const struct control_reply *reply, const struct buf *line, const char *path)
{
	cleanup_buf struct buf out = BUF_INIT;

	if (o->json) {
		(void)fwrite(line->data, 1, line->len, stdout);
		return;
	}
	if (!reply->ok) {
		complain(reply->error != NULL ? reply->error : err_str(reply->code));
		return;
	}
	if (reply->has_status)
		print_status(&out, &reply->status, path);
	if (reply->token != NULL)
		buf_printf(&out, "%s\n", reply->token);
	if (reply->has_conflicts)
		print_conflicts(&out, reply);
	if (out.len)
		(void)fwrite(out.data, 1, out.len, stdout);
}

/* One request about one path (NULL: none given). The exit status. */
static int run_one(
	const struct options *o, const struct mount_list *mounts, const char *path, uint64_t deadline_ms)
{
	struct control_request request = {.command = o->command->command,
		.timeout_ms = CONTROL_TIMEOUT_NONE,
		.token = (char *)o->token};
	cleanup_buf struct buf line = BUF_INIT, why = BUF_INIT;
	cleanup_free char *absolute = NULL;
	const struct mount_entry *mount;
	struct control_reply reply;
	int r = find_mount(mounts, path, &mount, &absolute, &why);

	if (r == 0) {
		uint64_t now = clock_mono_ms();

		request.path = absolute;
		if (o->timeout_ms >= 0)
			request.timeout_ms = deadline_ms > now ? (int64_t)(deadline_ms - now) : 0;
		r = ask(mount, &request, &reply, &line, &why);
		if (r == 0) {
			print_reply(o, &reply, &line, absolute);
			r = reply.ok ? 0 : 1;
			control_reply_fini(&reply);
			return r;
		}
		complain(buf_cstr(&why));
		return 1;
	}
	complain(why.len > 0 ? buf_cstr(&why) : err_str(r));
	return EXIT_USAGE;
}

static int run(const struct options *o)
{
	struct mount_list mounts = {0};
	uint64_t deadline_ms = clock_mono_ms() + (o->timeout_ms >= 0 ? (uint64_t)o->timeout_ms : 0);
	int worst = 0, r = mount_list_read(&mounts);

	if (r < 0) {
		(void)fprintf(stderr, "syncfsctl: cannot read the table of mounts: %s\n", err_str(r));
		return EXIT_USAGE;
	}
	if (o->paths_count == 0)
		worst = run_one(o, &mounts, NULL, deadline_ms);
	for (int i = 0; i < o->paths_count; i++) {
		r = run_one(o, &mounts, o->paths[i], deadline_ms);
		if (r > worst)
			worst = r;
	}
	mount_list_fini(&mounts);
	if (fflush(stdout) != 0) {
		complain("cannot write to standard output");
		return 1;
	}
	return worst;
}

int main(int argc, char **argv)
{
	struct options options;

	if (parse(argc, argv, &options) < 0)
		return EXIT_USAGE;
	if (options.help)
		return fputs(usage, stdout) < 0 ? 1 : 0;
	if (options.version)
		return puts("syncfsctl " SYNCFS_VERSION) < 0 ? 1 : 0;
	return run(&options);
}
