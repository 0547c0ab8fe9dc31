/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncsim: the command line of the simulator. Reads it, and calls runs.c and shrink.c. Exit status: 0 all
 * runs went well, 1 some did not, 2 it was called wrong.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runs.h"

#define SETTINGS_MAX 64
#define LINE_BYTES 4096

enum { SEED = 256, SEEDS, JOBS, MINUTES, SET, TRACE, SHRINK, TWICE, FAILURES, SKIP, HERE, HELP };

static const struct option long_options[] = {
	{"seed", required_argument, NULL, SEED},
	{"seeds", required_argument, NULL, SEEDS},
	{"jobs", required_argument, NULL, JOBS},
	{"minutes", required_argument, NULL, MINUTES},
	{"set", required_argument, NULL, SET},
	{"trace", required_argument, NULL, TRACE},
	{"shrink", no_argument, NULL, SHRINK},
	{"twice-ppm", required_argument, NULL, TWICE},
	{"failures", required_argument, NULL, FAILURES},
	{"skip", required_argument, NULL, SKIP},
	{"here", no_argument, NULL, HERE},
	{"help", no_argument, NULL, HELP},
	{0},
};

struct arguments {
	struct runs_plan plan;
	struct run_config run;
	const char *settings[SETTINGS_MAX];
	size_t settings_count;
	bool is_single, shrink, here;
};

static void help(void)
{
	printf("usage: syncsim [--seeds A-B] [--jobs N] [--minutes M] [--set NAME=VALUE,...]\n"
	       "       syncsim --seed N [--set NAME=VALUE,...] [--trace FILE] [--shrink]\n"
	       "       syncsim FILE|DIRECTORY...\n"
	       "Simulated runs of a server and its clients. A seed decides all of a run.\n\n"
	       "  --seeds A-B     runs with these seeds (default 1-1000)\n"
	       "  --seed N        one run; when it fails, with the last lines of its trace\n"
	       "  --jobs N        so many at once (default: processors)\n"
	       "  --minutes M     no new runs after that time\n"
	       "  --failures N    no new runs after N failures (default 20)\n"
	       "  --skip A,B,...  leaves out these seeds\n"
	       "  --twice-ppm N   so many of a million runs are repeated and compared (default 10000)\n"
	       "  --set ...       options that are not to be drawn from the seed, see below\n"
	       "  --trace FILE    writes all of the trace, - to stdout\n"
	       "  --shrink        looks for the smallest options with which the run fails the same way\n"
	       "  --here          runs it without another process, for gdb and perf\n"
	       "  FILE            runs that are kept: in each line, seed=N and other options\n\noptions:\n");
	options_help(stdout);
}

static bool number(const char *text, uint64_t most, uint64_t *ret_value)
{
	char *end;

	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret_value <= most;
}

static bool number32(const char *text, unsigned most, unsigned *ret_value)
{
	uint64_t v;

	if (!number(text, most, &v))
		return false;
	*ret_value = (unsigned)v;
	return true;
}

static bool range(const char *text, uint64_t *ret_first, uint64_t *ret_last)
{
	const char *dash = strchr(text, '-');
	char first[24];

	if (!dash || (size_t)(dash - text) >= sizeof(first))
		return false;
	memcpy(first, text, (size_t)(dash - text));
	first[dash - text] = '\0';
	return number(first, UINT64_MAX - 1, ret_first) && number(dash + 1, UINT64_MAX - 1, ret_last) &&
		*ret_first <= *ret_last;
}

static bool take(struct arguments *a, int option, const char *value)
{
	struct sim_options unused = {0};

	switch (option) {
	case SEED:
		a->is_single = true;
		return number(value, UINT64_MAX - 1, &a->run.seed);
	case SEEDS:
		return range(value, &a->plan.first, &a->plan.last);
	case JOBS:
		return number32(value, 64, &a->plan.jobs) && a->plan.jobs;
	case MINUTES:
		return number32(value, 100000, &a->plan.minutes);
	case SET:
		if (a->settings_count == SETTINGS_MAX || !options_set(&unused, value))
			return false;
		a->settings[a->settings_count++] = value;
		return true;
	case TRACE:
		a->run.trace = value;
		return true;
	case TWICE:
		return number32(value, PPM, &a->plan.twice_ppm);
	case FAILURES:
		return number32(value, 1000000, &a->plan.failures_max);
	case SKIP:
		a->plan.skip = value;
		return strspn(value, "0123456789,") == strlen(value);
	case SHRINK:
		a->shrink = true;
		return true;
	case HERE:
		a->here = true;
		return true;
	default:
		return false;
	}
}

static int single(const struct arguments *a)
{
	static struct run_result result;

	if (a->shrink)
		return runs_shrink(&a->run);
	if (a->here)
		return runs_here(&a->run);
	if (runs_one(&a->run, &result)) {
		printf("seed %" PRIu64 " went well: %" PRIu64 " simulated seconds, %" PRIu64
		       " lines of trace, digest %016" PRIx64 "\n",
			a->run.seed, result.simulated_ns / 1000000000, result.lines, result.digest);
		if (a->is_single) {
			printf("%" PRIu64 " calls of the disk of client 0, %" PRIu64
			       " of the server's, %" PRIu64 " requests\n",
				result.client_calls, result.server_calls, result.requests);
			runs_print_command(stdout, &result.options);
			printf("\n");
		}
		return 0;
	}
	printf("FAILED seed %" PRIu64 ": %s: %s\n", a->run.seed, result.invariant, result.text);
	runs_print_command(stdout, &result.options);
	printf("\n");
	return 1;
}

/* Lines that are empty or begin with # say why a run is kept. -1: cannot be read. */
static int run_file(struct arguments *a, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[LINE_BYTES];
	int failed = 0;

	if (!f) {
		fprintf(stderr, "syncsim: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while (fgets(line, sizeof(line), f)) {
		struct sim_options o = {0};

		line[strcspn(line, "\n")] = '\0';
		if (!*line || *line == '#')
			continue;
		if (!options_set(&o, line)) {
			fprintf(stderr, "syncsim: %s: not understood: %s\n", path, line);
			(void)fclose(f);
			return -1;
		}
		a->run.seed = o.seed;
		a->settings[0] = line;
		a->run.settings_count = 1;
		failed += single(a);
	}
	(void)fclose(f);
	return failed;
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* A file, or a directory of files. */
static int run_path(struct arguments *a, const char *path)
{
	struct dirent **list = NULL;
	int count = scandir(path, &list, is_visible, alphasort), bad = 0, r = 0;

	if (count < 0)
		return run_file(a, path);
	for (int i = 0; i < count; i++) {
		char file[LINE_BYTES];

		(void)snprintf(file, sizeof(file), "%s/%s", path, list[i]->d_name);
		if (r >= 0)
			r = run_file(a, file);
		bad += r > 0 ? r : 0;
		free(list[i]);
	}
	free(list);
	return r < 0 ? r : bad;
}

static int run_paths(struct arguments *a, char **paths, int count)
{
	int bad = 0;

	for (int i = 0; i < count; i++) {
		int r = run_path(a, paths[i]);

		if (r < 0)
			return 2;
		bad += r;
	}
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	static struct arguments a = {
		.plan = {.first = 1, .last = 1000, .twice_ppm = 10000, .failures_max = 20},
		.run = {.report_lines = 60},
	};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int option;

	a.plan.jobs = processors < 1 ? 1 : processors > 64 ? 64 : (unsigned)processors;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		if (option == HELP) {
			help();
			return 0;
		}
		if (!take(&a, option, optarg)) {
			fprintf(stderr, "syncsim: wrong option or value%s%s; see syncsim --help\n",
				optarg ? ": " : "", optarg ? optarg : "");
			return 2;
		}
	}
	a.plan.settings = a.run.settings = a.settings;
	a.plan.settings_count = a.run.settings_count = a.settings_count;
	runs_setup();
	if (optind < argc)
		return run_paths(&a, argv + optind, argc - optind);
	return a.is_single ? single(&a) : runs_many(&a.plan);
}
