/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When what goes wrong, and that it is mended: a list of events, drawn from the options at the start, carried
 * out by the world's thread while people work. What ends by itself because of a fault is started again, as a
 * service manager does. In the end faults_heal() takes all faults away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "net.h"
#include "world.h"

#define EVENTS_MAX 1024
#define TICK_MS 20
#define TOO_LONG 6 /* times the expected time: then the work is over */
#define START_TRIES 20
#define LOOK_MS 5000 /* from one look at `syncfsctl status` to the next */

enum event_kind {
	EV_NONE,
	EV_PARTITION,
	EV_PARTITION_END,
	EV_CLIENT_KILL,
	EV_CLIENT_CUT,
	EV_CLIENT_START,
	EV_SERVER_KILL,
	EV_SERVER_CUT,
	EV_SERVER_START,
	EV_SERVER_BACKUP,
	EV_SERVER_RESTORE,
	EV_CLIENT_BACKUP,
	EV_CLIENT_RESTORE,
	EV_CLONE,
	EV_REMOUNT,
	EV_DISK_FULL,
	EV_DISK_ROOM,
	EV_DISK_ERROR,
	EV_CLOCK,
	EV_HAND,
};

struct event {
	uint64_t at_ms;
	enum event_kind kind;
	unsigned client; /* ORACLE_CLIENTS: the server */
	unsigned number; /* of a backup */
};

#define BACKUPS_MAX 16

static struct faults {
	struct event events[EVENTS_MAX];
	unsigned count;
	struct disk *backups[BACKUPS_MAX];
	unsigned backups_count;
	/* Down until their EV_*_START. */
	bool server_down, client_down[ORACLE_CLIENTS];
	bool healed;
	unsigned tries;
	uint64_t looked_ms; /* somebody at the status of the clients */
	uint64_t client_calls, server_calls; /* of their disks, before the work */
} faults;

static uint64_t now_ms(void)
{
	return sim_now_ns() / 1000000;
}

static unsigned draw(unsigned n)
{
	return (unsigned)sim_below(STREAM_FAULT, n ? n : 1);
}

static void add(uint64_t at_ms, enum event_kind kind, unsigned client, unsigned number)
{
	if (faults.count < EVENTS_MAX)
		faults.events[faults.count++] =
			(struct event){.at_ms = at_ms, .kind = kind, .client = client, .number = number};
}

/* The next one that is due; false: none. */
static bool take(struct event *ret_event)
{
	unsigned best = faults.count;

	for (unsigned i = 0; i < faults.count; i++) {
		if (faults.events[i].at_ms <= now_ms() &&
			(best == faults.count || faults.events[i].at_ms < faults.events[best].at_ms))
			best = i;
	}
	if (best == faults.count)
		return false;
	*ret_event = faults.events[best];
	faults.events[best] = faults.events[--faults.count];
	return true;
}

/* ---- ends and starts ---- */

static bool start_server(struct world *w)
{
	int r = host_server_start(&w->server, false);

	sim_trace("fault: the server starts: %d", r);
	return r == 0;
}

static bool start_client(struct world *w, unsigned c)
{
	int r;

	oracle_ends(w->oracle, c); /* killed, maybe */
	r = host_client_start(&w->clients[c], w->adopt[c]);
	oracle_restarted(w->oracle, c);
	sim_trace("fault: client %u starts: %d %s", c, r, r ? w->clients[c].why : "");
	if (!r)
		w->adopt[c] = false;
	w->last_fault_ms[c] = now_ms();
	return r == 0;
}

static bool runs(const struct proc *p)
{
	return p && proc_is_alive(p);
}

/* Calls of a disk. */
static bool fails(void)
{
	return sim_options.disk_errors || sim_options.client_fails_at || sim_options.server_fails_at;
}

/* What has died at its point, or ended by itself. */
static bool may_end_by_itself(void)
{
	return fails() || sim_options.disk_full;
}

/* Whoever sees in `syncfsctl status` that he is to mount again does so. */
static void mount_again(struct world *w)
{
	for (unsigned c = 0; c < w->count; c++) {
		struct control_reply reply = {0};
		const char *why;

		if (faults.client_down[c] || !runs(w->clients[c].proc) ||
			!host_client_status(&w->clients[c], &reply))
			continue;
		why = reply.status.last_error;
		if (why && strstr(why, "then mount again")) {
			sim_count("mounted again after an error of the disk");
			oracle_ends(w->oracle, c);
			host_client_stop(&w->clients[c]);
		}
		control_reply_fini(&reply);
	}
}

bool faults_supervise(struct world *w)
{
	bool all = true;

	if (may_end_by_itself() && (!faults.looked_ms || now_ms() >= faults.looked_ms + LOOK_MS)) {
		faults.looked_ms = now_ms();
		mount_again(w);
	}
	if (!faults.server_down && !runs(w->server.proc)) {
		if (w->server.proc)
			host_server_kill(&w->server);
		all = start_server(w);
		sim_count("server started again");
	}
	for (unsigned c = 0; c < w->count; c++) {
		if (faults.client_down[c] || runs(w->clients[c].proc))
			continue;
		if (w->clients[c].proc)
			host_client_kill(&w->clients[c]);
		if (!start_client(w, c))
			all = false;
		sim_count("client started again");
	}
	faults.tries = all ? 0 : faults.tries + 1;
	if (!all && !may_end_by_itself() && faults.tries > START_TRIES)
		sim_fail("start", "something does not start: client 0 %s", w->clients[0].why);
	return all || !faults.healed || faults.tries < START_TRIES;
}

static void down_server(bool cut)
{
	faults.server_down = true;
	add(now_ms() + draw(cut ? 4000 : 2000), EV_SERVER_START, 0, 0);
}

static void down_client(struct world *w, unsigned c)
{
	faults.client_down[c] = true;
	w->last_fault_ms[c] = now_ms();
	add(now_ms() + draw(5000), EV_CLIENT_START, c, 0);
}

static void kill_client(struct world *w, unsigned c)
{
	w->last_fault_ms[c] = now_ms() + 5000;
	if (!runs(w->clients[c].proc))
		return;
	sim_count("fault: client killed");
	if (draw(3)) { /* somewhere in the next calls; supervised from there */
		proc_kill_at(w->clients[c].proc, 1 + draw(3000));
		return;
	}
	host_client_kill(&w->clients[c]);
	down_client(w, c);
}

static void cut_client(struct world *w, unsigned c)
{
	sim_count("fault: power cut of a client");
	oracle_loss(w->oracle, LOSS_CLIENT_CUT, c);
	host_client_cut(&w->clients[c]);
	down_client(w, c);
}

static void kill_server(struct world *w)
{
	if (!runs(w->server.proc))
		return;
	sim_count("fault: server killed");
	if (draw(3)) {
		proc_kill_at(w->server.proc, 1 + draw(3000));
		return;
	}
	host_server_kill(&w->server);
	down_server(false);
}

static void wait_for_hand(const struct world *w)
{
	while (w->hand_is_busy)
		sim_sleep_ms(1);
}

static void cut_server(struct world *w)
{
	wait_for_hand(w);
	sim_count("fault: power cut of the server");
	oracle_loss(w->oracle, LOSS_SERVER_CUT, 0);
	host_server_cut(&w->server);
	down_server(true);
}

static void restore_server(struct world *w, const struct event *e)
{
	sim_count("fault: server restored");
	host_server_kill(&w->server);
	wait_for_hand(w);
	oracle_loss(w->oracle, LOSS_SERVER_RESTORE, 0);
	host_restore(&w->server.machine, faults.backups[e->number]);
	down_server(true);
}

static void restore_client(struct world *w, const struct event *e)
{
	sim_count("fault: client restored");
	host_client_kill(&w->clients[e->client]);
	oracle_loss(w->oracle, LOSS_CLIENT_RESTORE, e->client);
	host_restore(&w->clients[e->client].machine, faults.backups[e->number]);
	down_client(w, e->client);
}

static void clone_client(struct world *w, unsigned c)
{
	unsigned n = w->count;
	struct disk *copy;

	if (n >= ORACLE_CLIENTS)
		return;
	sim_count("fault: client cloned");
	oracle_image(w->oracle, c);
	oracle_loss(w->oracle, LOSS_CLIENT_CLONED, c);
	oracle_loss(w->oracle, LOSS_CLIENT_RESTORE, n); /* old files may come back */
	copy = host_backup(&w->clients[c].machine);
	host_client_new(&w->clients[n], n);
	w->clients[n].token = w->clients[c].token;
	host_restore(&w->clients[n].machine, copy);
	w->count++;
	oracle_add_client(w->oracle);
	(void)start_client(w, n);
	user_start_one(w, n);
}

/* ---- disks and clocks ---- */

static struct machine *machine_of(struct world *w, unsigned client)
{
	return client == ORACLE_CLIENTS ? &w->server.machine : &w->clients[client].machine;
}

static void fill_disk(struct world *w, unsigned client)
{
	struct disk *d = machine_of(w, client)->disk;

	sim_count(client == ORACLE_CLIENTS ? "fault: server's disk full" : "fault: client's disk full");
	disk_set_room(d, disk_used(d) + draw(20000));
	add(now_ms() + 200 + draw(8000), EV_DISK_ROOM, client, 0);
}

static void jump(struct machine *m)
{
	int64_t s = (int64_t)sim_below(STREAM_FAULT, 315360000);

	if (draw(2))
		s = draw(100);
	sim_count("fault: clock jumps");
	m->clock_skew_ns += (draw(2) ? s : -s) * 1000000000;
}

/* ---- events ---- */

static void happen_to_disks(struct world *w, const struct event *e)
{
	struct disk *d = machine_of(w, e->client)->disk;

	switch (e->kind) {
	case EV_DISK_FULL:
		fill_disk(w, e->client);
		break;
	case EV_DISK_ROOM:
		disk_set_room(d, UINT64_MAX);
		break;
	case EV_DISK_ERROR:
		sim_count(e->client == ORACLE_CLIENTS ? "fault: server's disk fails"
						      : "fault: client's disk fails");
		disk_fail_at(d, 1 + draw(600), EIO);
		break;
	case EV_SERVER_BACKUP:
		faults.backups[e->number] = host_backup(&w->server.machine);
		break;
	case EV_CLIENT_BACKUP:
		oracle_image(w->oracle, e->client);
		faults.backups[e->number] = host_backup(&w->clients[e->client].machine);
		break;
	case EV_CLOCK:
		jump(machine_of(w, e->client));
		break;
	default:
		break;
	}
	if (e->client < ORACLE_CLIENTS)
		w->last_fault_ms[e->client] = now_ms();
}

static void happen_to_server(struct world *w, const struct event *e)
{
	switch (e->kind) {
	case EV_SERVER_KILL:
		kill_server(w);
		break;
	case EV_SERVER_CUT:
		cut_server(w);
		break;
	case EV_SERVER_RESTORE:
		restore_server(w, e);
		break;
	case EV_SERVER_START:
		faults.server_down = false;
		break;
	default:
		break;
	}
	for (unsigned c = 0; c < w->count; c++)
		w->last_fault_ms[c] = now_ms();
}

static void happen(struct world *w, const struct event *e)
{
	unsigned c = e->client;

	sim_trace("fault: event %d of client %u", (int)e->kind, c);
	switch (e->kind) {
	case EV_PARTITION:
		sim_count("fault: partition");
		world_net_hold(w, c, draw(2) ? NET_DOWN : NET_SILENT);
		add(now_ms() + 100 + draw(20000), EV_PARTITION_END, c, 0);
		break;
	case EV_PARTITION_END:
		world_net_release(w, c);
		break;
	case EV_CLIENT_KILL:
		kill_client(w, c);
		break;
	case EV_CLIENT_CUT:
		cut_client(w, c);
		break;
	case EV_CLIENT_START:
		faults.client_down[c] = false;
		break;
	case EV_CLIENT_RESTORE:
		restore_client(w, e);
		break;
	case EV_CLONE:
		clone_client(w, c);
		break;
	case EV_REMOUNT:
		if (!runs(w->clients[c].proc))
			break;
		sim_count("fault: remount");
		w->last_fault_ms[c] = now_ms();
		oracle_ends(w->oracle, c);
		host_client_stop(&w->clients[c]);
		down_client(w, c);
		break;
	case EV_HAND:
		w->hand_edits_due++;
		break;
	case EV_SERVER_KILL:
	case EV_SERVER_CUT:
	case EV_SERVER_RESTORE:
	case EV_SERVER_START:
		happen_to_server(w, e);
		break;
	default:
		happen_to_disks(w, e);
		break;
	}
}

/* ---- drawing ---- */

static void some(const struct world *w, unsigned n, enum event_kind kind, bool server_too, uint64_t length_ms)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned c = draw(w->count + server_too);

		add(now_ms() + sim_below(STREAM_FAULT, length_ms), kind, c == w->count ? ORACLE_CLIENTS : c,
			0);
	}
}

/* An image is taken, and put back later. */
static void restores(const struct world *w, unsigned n, enum event_kind backup, enum event_kind restore,
	uint64_t length_ms)
{
	for (unsigned i = 0; i < n && faults.backups_count < BACKUPS_MAX; i++) {
		unsigned c = draw(w->count), number = faults.backups_count++;
		uint64_t at = sim_below(STREAM_FAULT, length_ms), later = sim_below(STREAM_FAULT, length_ms);

		add(now_ms() + (at < later ? at : later), backup, c, number);
		add(now_ms() + (at < later ? later : at) + 1, restore, c, number);
	}
}

static void draw_all(const struct world *w, uint64_t length_ms)
{
	some(w, sim_options.partitions, EV_PARTITION, false, length_ms);
	some(w, sim_options.client_kills, EV_CLIENT_KILL, false, length_ms);
	some(w, sim_options.client_cuts, EV_CLIENT_CUT, false, length_ms);
	some(w, sim_options.server_kills, EV_SERVER_KILL, false, length_ms);
	some(w, sim_options.server_cuts, EV_SERVER_CUT, false, length_ms);
	restores(w, sim_options.server_restores, EV_SERVER_BACKUP, EV_SERVER_RESTORE, length_ms);
	restores(w, sim_options.client_restores, EV_CLIENT_BACKUP, EV_CLIENT_RESTORE, length_ms);
	some(w, sim_options.client_clones, EV_CLONE, false, length_ms);
	some(w, sim_options.remounts, EV_REMOUNT, false, length_ms);
	some(w, sim_options.disk_full, EV_DISK_FULL, true, length_ms);
	some(w, sim_options.disk_errors, EV_DISK_ERROR, true, length_ms);
	some(w, sim_options.clock_jumps, EV_CLOCK, true, length_ms);
	some(w, sim_options.hand_edits, EV_HAND, false, length_ms);
}

void faults_run(struct world *w)
{
	uint64_t length_ms =
		5000 + (uint64_t)sim_options.user_ops * (sim_options.think_ms + 10) / (w->count + 1);
	uint64_t end_ms = now_ms() + TOO_LONG * length_ms + 120000, looked_ms = 0;
	struct event e;

	draw_all(w, length_ms);
	faults.client_calls = disk_calls(w->clients[0].machine.disk);
	faults.server_calls = disk_calls(w->server.machine.disk);
	disk_fail_spell(w->clients[0].machine.disk, sim_options.client_fails_at,
		sim_options.fail_calls ? sim_options.fail_calls : 1, EIO);
	disk_fail_spell(w->server.machine.disk, sim_options.server_fails_at,
		sim_options.fail_calls ? sim_options.fail_calls : 1, EIO);
	while (w->people && now_ms() < end_ms && w->ops_left) {
		sim_sleep_ms(TICK_MS);
		while (take(&e))
			happen(w, &e);
		(void)faults_supervise(w);
		if (now_ms() - looked_ms > 1000) {
			looked_ms = now_ms();
			oracle_check_safety(w->oracle);
		}
	}
	if (w->ops_left)
		sim_count("work that took too long");
}

void faults_heal(struct world *w)
{
	sim_trace("fault: all is well from now on");
	sim_note_points(disk_calls(w->clients[0].machine.disk) - faults.client_calls,
		disk_calls(w->server.machine.disk) - faults.server_calls, net_sent());
	faults.count = 0;
	faults.healed = true;
	faults.tries = 0;
	faults.looked_ms = 0;
	net_faults(false);
	faults.server_down = false;
	disk_set_room(w->server.machine.disk, UINT64_MAX);
	disk_fail_at(w->server.machine.disk, 0, 0);
	if (runs(w->server.proc))
		proc_kill_at(w->server.proc, 0);
	for (unsigned c = 0; c < w->count; c++) {
		faults.client_down[c] = false;
		w->net_held[c] = 0;
		net_set(&w->clients[c].machine, NET_UP);
		disk_set_room(w->clients[c].machine.disk, UINT64_MAX);
		disk_fail_at(w->clients[c].machine.disk, 0, 0);
		if (runs(w->clients[c].proc))
			proc_kill_at(w->clients[c].proc, 0);
	}
	if (sim_options.hand_edits)
		host_server_answer_held(&w->server, sim_chance(STREAM_FAULT, 500000));
}
