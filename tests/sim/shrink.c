/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a failing run small: lowers one option after the other as long as the same invariant fails, until no
 * option can be lowered any more. Called by main.c. Since each kind of fault has places of its own to draw
 * from, leaving one out changes little of the rest.
 */
#include "runs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 4
#define SETTING_BYTES 64

struct shrink {
	struct run_config config;
	struct sim_options least; /* that failed */
	char invariant[32];
	unsigned tries;
};

static bool fails_with(struct shrink *s, const struct sim_options *o)
{
	static struct run_result result;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	struct run_config config = s->config;
	const char *settings[1];
	bool failed;

	if (!f)
		exit(2);
	options_print(f, o);
	(void)fclose(f);
	settings[0] = text;
	config.settings = settings;
	config.settings_count = 1;
	s->tries++;
	failed = !runs_one(&config, &result) && !strcmp(result.invariant, s->invariant);
	free(text);
	return failed;
}

static bool try_value(struct shrink *s, const char *name, uint64_t value)
{
	struct sim_options o = s->least;
	char setting[SETTING_BYTES];

	(void)snprintf(setting, sizeof(setting), "%s=%" PRIu64, name, value);
	if (!options_set(&o, setting) || !fails_with(s, &o))
		return false;
	s->least = o;
	fprintf(stderr, "syncsim: still fails with %s\n", setting);
	return true;
}

/* True: it could be lowered. */
static bool lower(struct shrink *s, const char *name, uint64_t value, uint64_t least)
{
	bool any = false;

	if (value > least && try_value(s, name, least))
		return true;
	while (value - least > 1) {
		uint64_t middle = least + (value - least) / 2;

		if (try_value(s, name, middle)) {
			value = middle;
			any = true;
		} else {
			least = middle;
		}
	}
	return any;
}

int runs_shrink(const struct run_config *config)
{
	static struct run_result result;
	struct shrink s = {.config = *config};
	bool any = true;

	s.config.report_lines = 0;
	s.config.trace = NULL;
	if (runs_one(&s.config, &result)) {
		printf("seed %" PRIu64 " does not fail\n", config->seed);
		return 0;
	}
	s.least = result.options;
	(void)snprintf(s.invariant, sizeof(s.invariant), "%s", result.invariant);
	fprintf(stderr, "syncsim: %s: %s\n", result.invariant, result.text);
	for (unsigned round = 0; any && round < ROUNDS_MAX; round++) {
		uint64_t value, least;
		const char *name;

		any = false;
		for (size_t i = 0; (name = options_at(i, &s.least, &value, &least)); i++)
			any = lower(&s, name, value, least) || any;
	}
	printf("after %u runs:\n", s.tries);
	runs_print_command(stdout, &s.least);
	printf("\n");
	return 1;
}
