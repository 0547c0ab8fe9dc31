/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of people on names and attributes, told to the oracle. Called from people's threads, through the
 * view of their machine. What takes away a content holds the gate of the client, as writers do.
 */
#include "user_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "user_ops_own.h"

struct view *user_view(const struct person *p)
{
	return view_of(&p->world->clients[p->client].machine);
}

struct gate *user_gate(const struct person *p)
{
	return &p->world->gates[p->client];
}

static bool is_understood(int r)
{
	switch (r) {
	case 0:
	case -ENOENT:
	case -EEXIST:
	case -ENOTEMPTY:
	case -EISDIR:
	case -ENOTDIR:
	case -EINVAL: /* a directory into itself */
	case -ELOOP:
	case -EPERM: /* a link to a directory */
	case -ENOTCONN:
	case -ESTALE: /* after the kernel's second try */
		return true;
	case -ENOSPC:
		return sim_options.disk_full > 0;
	case -EIO:
		return sim_options.disk_errors > 0 || sim_options.disk_full > 0 ||
			sim_options.client_fails_at > 0;
	default:
		return false;
	}
}

int user_called(const struct person *p, const char *call, const char *path, int r)
{
	sim_trace("person %u on %u: %s %s: %s", p->number, p->client, call, path, r ? strerror(-r) : "ok");
	if (!is_understood(r))
		sim_fail("errno", "%s %s on client %u: %s", call, path, p->client, strerror(-r));
	return r;
}

/* ---- names ---- */

int op_unlink(struct person *p, const char *path)
{
	struct oracle *o = p->world->oracle;
	struct oracle_spot spot;
	int r = -ENOTCONN;

	gate_close(user_gate(p));
	if (user_view(p)) {
		oracle_spot_begin(o, &spot, p->client, path);
		r = user_called(p, "unlink", path, view_unlink(user_view(p), path));
		oracle_spot_end(o, &spot, r);
	}
	gate_open(user_gate(p));
	return r;
}

int op_mkdir(struct person *p, const char *path)
{
	struct view *v = user_view(p);

	return v ? user_called(p, "mkdir", path, view_mkdir(v, path, 0755)) : -ENOTCONN;
}

int op_rmdir(struct person *p, const char *path)
{
	struct view *v = user_view(p);

	return v ? user_called(p, "rmdir", path, view_rmdir(v, path)) : -ENOTCONN;
}

#define LIST_MAX 256

struct list {
	unsigned count;
	char *names[LIST_MAX];
};

static int list_name(void *arg, const char *name)
{
	struct list *l = arg;

	if (l->count < LIST_MAX)
		l->names[l->count++] = strdup(name);
	return 0;
}

static int remove_below(struct person *p, const char *path, unsigned depth)
{
	struct view *v = user_view(p);
	struct list l = {0};
	int r = v ? user_called(p, "list", path, view_readdir(v, path, list_name, &l)) : -ENOTCONN;

	for (unsigned i = 0; i < l.count; i++) {
		char below[PATH_MAX];
		int q = -ENOTCONN;
		struct stat st;

		(void)snprintf(below, sizeof(below), "%.2000s/%s", path, l.names[i]);
		free(l.names[i]);
		v = user_view(p);
		if (r)
			continue;
		if (v)
			q = view_stat(v, below, &st);
		if (!q && S_ISDIR(st.st_mode) && depth < 16)
			(void)remove_below(p, below, depth + 1);
		else if (!q)
			(void)op_unlink(p, below);
	}
	return r ? r : op_rmdir(p, path);
}

int op_remove_all(struct person *p, const char *path)
{
	return remove_below(p, path, 0);
}

static bool is_temporary(const char *path)
{
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	return strncmp(name, ".save", 5) == 0 || strncmp(name, ".link", 5) == 0;
}

int op_rename(struct person *p, const char *path, const char *to)
{
	struct oracle *o = p->world->oracle;
	struct oracle_watch moved;
	struct oracle_spot spot;
	int r = -ENOTCONN;

	if (strcmp(path, to) == 0)
		return 0;
	gate_close(user_gate(p));
	if (user_view(p)) {
		oracle_moving(o, &moved, p->client, path);
		oracle_spot_begin(o, &spot, p->client, to);
		/* When others have moved or deleted what is renamed. Nobody else touches temporary files. */
		spot.may_lose = !is_temporary(path);
		r = user_called(p, "rename", path, view_rename(user_view(p), path, to, 0));
		sim_trace("  to %s", to);
		oracle_moved(o, &moved);
		oracle_spot_end(o, &spot, r);
	}
	gate_open(user_gate(p));
	return r;
}

int op_exchange(struct person *p, const char *a, const char *b)
{
	struct oracle *o = p->world->oracle;
	struct oracle_watch moved_a, moved_b;
	int r = -ENOTCONN;

	gate_close(user_gate(p));
	if (user_view(p)) {
		oracle_moving(o, &moved_a, p->client, a);
		oracle_moving(o, &moved_b, p->client, b);
		r = user_called(p, "exchange", a, view_rename(user_view(p), a, b, RENAME_EXCHANGE));
		sim_trace("  with %s", b);
		oracle_moved(o, &moved_a);
		oracle_moved(o, &moved_b);
	}
	gate_open(user_gate(p));
	return r;
}

int op_link(struct person *p, const char *path, const char *to)
{
	struct oracle *o = p->world->oracle;
	struct oracle_watch moved;
	int r = -ENOTCONN;

	gate_close(user_gate(p));
	if (user_view(p)) {
		oracle_moving(o, &moved, p->client, path);
		r = user_called(p, "link", path, view_link(user_view(p), path, to));
		sim_trace("  as %s", to);
		oracle_moved(o, &moved);
	}
	gate_open(user_gate(p));
	return r;
}

int op_symlink(struct person *p, const char *path)
{
	struct oracle *o = p->world->oracle;
	char target[64];
	unsigned v;
	int r = -ENOTCONN;

	(void)snprintf(target, sizeof(target), "no/where/%u/%u", p->client, oracle_number(o));
	gate_close(user_gate(p));
	if (user_view(p)) {
		v = oracle_target(o, p->client, target);
		r = user_called(p, "symlink", path, view_symlink(user_view(p), target, path));
		if (r == 0)
			oracle_finished(o, v, p->client, path, NO_VERSION);
	}
	gate_open(user_gate(p));
	return r;
}

int op_retarget(struct person *p, const char *path)
{
	const char *slash = strrchr(path, '/');
	char temp[PATH_MAX];
	int r;

	(void)snprintf(
		temp, sizeof(temp), "%.*s.link%u", slash ? (int)(slash - path + 1) : 0, path, p->number);
	r = op_symlink(p, temp);
	if (!r)
		r = op_rename(p, temp, path);
	if (r && r != -ENOTCONN)
		(void)op_unlink(p, temp);
	return r;
}

/* ---- attributes ---- */

int op_chmod(struct person *p, const char *path, mode_t mode)
{
	struct view *v = user_view(p);

	return v ? user_called(p, "chmod", path, view_chmod(v, path, mode)) : -ENOTCONN;
}

int op_utimens(struct person *p, const char *path)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT},
		{.tv_sec = (time_t)sim_below(STREAM_USER, 2000000000),
			.tv_nsec = (long)sim_below(STREAM_USER, 1000000000)}};
	struct view *v = user_view(p);

	return v ? user_called(p, "utimens", path, view_utimens(v, path, t)) : -ENOTCONN;
}

int op_xattr(struct person *p, const char *path)
{
	struct view *v = user_view(p);
	char value[32];

	(void)snprintf(value, sizeof(value), "value %u", oracle_number(p->world->oracle));
	return v ? user_called(p, "setxattr", path, view_setxattr(v, path, "user.sim", value, strlen(value)))
		 : -ENOTCONN;
}

bool user_has_view(const struct person *p)
{
	return user_view(p) != NULL;
}
