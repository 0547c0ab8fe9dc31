/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of the simulator, a process each, several at once; called by main.c and shrink.c. A crash or a stuck
 * process is a failure of its seed like any other. Never simulates anything itself.
 */
#include "runs.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <syncfs/hash.h>

#include "sched.h"
#include "sched_internal.h"
#include "sql.h"

#define REAL_SECONDS_MAX 300 /* of one run, on a busy machine */
#define PROGRESS_SECONDS 10
#define JOBS_MAX 64
#define FAILURES_KEPT 200

struct slot {
	pid_t pid; /* 0: free */
	bool is_second; /* the same run again */
	uint64_t digest; /* of the first one */
	struct run_result *result; /* shared with the process */
};

struct runs {
	const struct runs_plan *plan;
	struct slot slots[JOBS_MAX];
	uint64_t next_seed;
	uint64_t done, failed, simulated_ns, lines;
	double started, said;
	struct run_counter *counters;
	size_t counters_count;
	struct {
		struct sim_options options;
		char text[160];
	} failures[FAILURES_KEPT];
	size_t failures_count;
};

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);

static double now_s(void)
{
	struct timespec t;

	(void)__real_clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *what)
{
	fprintf(stderr, "syncsim: %s: %s\n", what, strerror(errno));
	exit(2);
}

static struct run_result *shared_results(size_t count)
{
	void *p = mmap(NULL, count * sizeof(struct run_result), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		give_up("memory for results");
	return p;
}

void runs_setup(void)
{
	/* Pages that were had once stay: to get them from the system again and again is a fifth of a run. */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	(void)mallopt(M_TOP_PAD, 4 << 20);
	sql_setup();
	(void)hash_bytes("", 0); /* libcrypto takes milliseconds to start */
	sched_names_load();
}

/* ---- one run ---- */

int runs_here(const struct run_config *config)
{
	static struct run_result result;

	run_begin(config, &result);
	sched_run(world_run, NULL);
	run_end();
	return 0; /* sim_fail() has ended the process otherwise */
}

static pid_t start(const struct run_config *config, struct run_result *result, bool is_second)
{
	pid_t pid;

	(void)fflush(NULL);
	memset(result, 0, offsetof(struct run_result, counters));
	result->counters_count = 0;
	pid = fork();
	if (pid < 0)
		give_up("fork");
	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)alarm(REAL_SECONDS_MAX);
	if (is_second) /* other addresses, so that an order by address shows */
		(void)sim_realloc(NULL, 100000 + (size_t)getpid() % 1000 * 48);
	run_begin(config, result);
	if (!config->trace || strcmp(config->trace, "-") != 0)
		stdout = fopen("/dev/null", "we"); /* syncfsd says there where it listens */
	sched_run(world_run, NULL);
	run_end();
	_exit(0);
}

/* What a process that did not come to its end leaves to be said. */
static void judge(struct run_result *r, int status)
{
	if (r->is_over)
		return;
	r->failed = true;
	if (WIFSIGNALED(status)) {
		(void)snprintf(r->invariant, sizeof(r->invariant), "crash");
		(void)snprintf(r->text, sizeof(r->text), "the process was ended by signal %d (%s)",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	} else {
		(void)snprintf(r->invariant, sizeof(r->invariant), "simulator");
		(void)snprintf(
			r->text, sizeof(r->text), "the process ended with status %d", WEXITSTATUS(status));
	}
}

bool runs_one(const struct run_config *config, struct run_result *ret_result)
{
	static struct run_result *shared;
	int status = 0;
	pid_t pid;

	if (!shared)
		shared = shared_results(1);
	pid = start(config, shared, false);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	judge(shared, status);
	*ret_result = *shared;
	return !shared->failed;
}

void runs_print_command(FILE *out, const struct sim_options *o)
{
	fprintf(out, "syncsim --seed %" PRIu64 " --set ", o->seed);
	options_print(out, o);
}

/* ---- many ---- */

static void counters_add(struct runs *runs, const struct run_result *r)
{
	for (size_t i = 0; i < r->counters_count; i++) {
		size_t k = 0;

		while (k < runs->counters_count && strcmp(runs->counters[k].name, r->counters[i].name) != 0)
			k++;
		if (k == RUN_COUNTERS_MAX)
			continue;
		if (k == runs->counters_count) {
			runs->counters[k] = r->counters[i];
			runs->counters_count++;
		} else {
			runs->counters[k].count += r->counters[i].count;
		}
	}
}

static void note_failure(struct runs *runs, const struct run_result *r)
{
	runs->failed++;
	printf("FAILED seed %" PRIu64 ": %s: %s\n  ", r->options.seed, r->invariant, r->text);
	runs_print_command(stdout, &r->options);
	printf("\n");
	(void)fflush(stdout);
	if (runs->failures_count == FAILURES_KEPT)
		return;
	runs->failures[runs->failures_count].options = r->options;
	(void)snprintf(runs->failures[runs->failures_count++].text, sizeof(runs->failures[0].text),
		"%s: %.120s", r->invariant, r->text);
}

static void slot_start(struct runs *runs, struct slot *slot, uint64_t seed, bool is_second)
{
	struct run_config config = {
		.seed = seed, .settings = runs->plan->settings, .settings_count = runs->plan->settings_count};

	slot->is_second = is_second;
	slot->result->options.seed = seed;
	slot->pid = start(&config, slot->result, is_second);
}

/* Spread over the seeds, and the same seeds each time. */
static bool is_run_twice(const struct runs *runs, uint64_t seed)
{
	return seed * 0x9e3779b97f4a7c15u >> 32 < ((uint64_t)runs->plan->twice_ppm << 32) / PPM;
}

static void slot_over(struct runs *runs, struct slot *slot, int status)
{
	struct run_result *r = slot->result;
	uint64_t seed = r->options.seed;

	slot->pid = 0;
	judge(r, status);
	if (slot->is_second && r->digest != slot->digest) {
		r->failed = true;
		(void)snprintf(r->invariant, sizeof(r->invariant), "determinism");
		(void)snprintf(r->text, sizeof(r->text), "the same run has another trace the second time");
	}
	if (!slot->is_second) {
		runs->done++;
		runs->simulated_ns += r->simulated_ns;
		runs->lines += r->lines;
		counters_add(runs, r);
	}
	if (r->failed) {
		note_failure(runs, r);
	} else if (!slot->is_second && is_run_twice(runs, seed)) {
		slot->digest = r->digest;
		slot_start(runs, slot, seed, true);
	}
}

static void say_progress(struct runs *runs)
{
	double now = now_s(), minutes = (now - runs->started) / 60;

	if (now - runs->said < PROGRESS_SECONDS)
		return;
	runs->said = now;
	fprintf(stderr, "syncsim: %" PRIu64 " runs, %" PRIu64 " failed, %.0f a minute\n", runs->done,
		runs->failed, minutes > 0 ? (double)runs->done / minutes : 0);
}

static bool is_skipped(const char *skip, uint64_t seed)
{
	for (; skip && *skip; skip += strcspn(skip, ","), skip += *skip == ',')
		if (strtoull(skip, NULL, 10) == seed)
			return true;
	return false;
}

static bool wants_more(struct runs *runs)
{
	const struct runs_plan *plan = runs->plan;

	while (runs->next_seed <= plan->last && is_skipped(plan->skip, runs->next_seed))
		runs->next_seed++;
	return runs->next_seed <= plan->last && runs->failed < plan->failures_max &&
		(!plan->minutes || now_s() - runs->started < 60.0 * plan->minutes);
}

/* False: nothing is running any more. */
static bool wait_for_one(struct runs *runs)
{
	int status;
	pid_t pid = waitpid(-1, &status, 0);

	if (pid < 0 && errno != EINTR)
		return false;
	for (size_t i = 0; i < runs->plan->jobs; i++)
		if (pid > 0 && runs->slots[i].pid == pid)
			slot_over(runs, &runs->slots[i], status);
	say_progress(runs);
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct run_counter *)a)->name, ((const struct run_counter *)b)->name);
}

static void print_sum(struct runs *runs)
{
	double seconds = now_s() - runs->started;

	qsort(runs->counters, runs->counters_count, sizeof(runs->counters[0]), by_name);
	printf("reached, in all runs:\n");
	for (size_t i = 0; i < runs->counters_count; i++)
		printf("%12" PRIu64 "  %s\n", runs->counters[i].count, runs->counters[i].name);
	for (size_t i = 0; i < runs->failures_count; i++)
		printf("failed: seed %" PRIu64 ": %s\n", runs->failures[i].options.seed,
			runs->failures[i].text);
	printf("%" PRIu64 " runs, %" PRIu64 " failed, in %.1f s: %.0f a minute; %.0f simulated hours, %.1f "
	       "million lines of trace\n",
		runs->done, runs->failed, seconds, (double)runs->done / seconds * 60,
		(double)runs->simulated_ns / 3600e9, (double)runs->lines / 1e6);
}

int runs_many(const struct runs_plan *plan)
{
	static struct runs runs;
	struct run_result *results = shared_results(JOBS_MAX);

	runs = (struct runs){.plan = plan, .next_seed = plan->first};
	runs.counters = sim_realloc(NULL, RUN_COUNTERS_MAX * sizeof(struct run_counter));
	runs.started = runs.said = now_s();
	for (size_t i = 0; i < plan->jobs; i++)
		runs.slots[i].result = &results[i];
	do {
		for (size_t i = 0; i < plan->jobs && wants_more(&runs); i++)
			if (!runs.slots[i].pid)
				slot_start(&runs, &runs.slots[i], runs.next_seed++, false);
	} while (wait_for_one(&runs));
	print_sum(&runs);
	return runs.failed || !runs.done ? 1 : 0;
}
