/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All cases of a small scope against plan.h and commit.h: up to three nodes of every kind under up to three
 * names, not deeper than two, each left alone, edited, moved, removed or made by one client (L), by another
 * (R), or by both, from every tree that both had agreed on (S). Sent in two orders, told and applied until
 * nothing is left. With SYNCFS_PLAN_CASES set the trees of three nodes with directories have three names,
 * too, instead of two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan_world.h"

#define SLOTS 3
#define TREES_MAX 20000
#define ROUNDS_MAX 200
#define STEPS_MAX 24
#define EDITED_ALIKE 20 /* contents that no node begins with */
#define EDITED_ELSE 21

enum origin { NOWHERE, AGREED, BY_A, BY_B };

/* Where a node is: not at all, or at a name of the root or of a directory, and with which bytes. */
struct place {
	bool is;
	int8_t parent; /* slot, -1 root */
	uint8_t name, edit; /* edit 0: as agreed */
};

struct tree {
	struct place at[SLOTS];
};

/* Which nodes there are, and of what kinds. */
struct scope {
	enum kind kind[SLOTS];
	enum origin origin[SLOTS];
	unsigned names;
};

static struct pw_world w;
static const struct scope *sc;
static struct tree agreed[TREES_MAX], left[TREES_MAX], right[TREES_MAX];
static uint8_t node_of[SLOTS];
static size_t cases, kept_count, lost_count, quiet_count;
static const char *const names[] = {"a", "b", "c"}, *const beside[] = {"x", "y", "z"};

static bool is_legal(const struct tree *t)
{
	for (int i = 0; i < SLOTS; i++) {
		const struct place *p = &t->at[i];

		if (!p->is)
			continue;
		if (p->parent >= 0 &&
			(p->parent == i || !t->at[p->parent].is || t->at[p->parent].parent >= 0))
			return false;
		for (int k = 0; k < i; k++) {
			if (t->at[k].is && t->at[k].parent == p->parent && t->at[k].name == p->name)
				return false;
		}
	}
	return true;
}

/* One of each set of trees that differ only in how names are called. */
static bool is_first_of_its_like(const struct tree *t)
{
	unsigned used = 0;

	for (int i = 0; i < SLOTS; i++) {
		if (!t->at[i].is)
			continue;
		if (t->at[i].name > used)
			return false;
		used += t->at[i].name == used;
	}
	return true;
}

/* All trees in which nodes of this origin and agreed ones may be; edits: how many other contents. */
static size_t list_trees(struct tree *list, enum origin who, unsigned edits, struct tree *t, int slot)
{
	bool mine = slot < SLOTS && sc->origin[slot] == who;
	size_t count = 0;

	if (slot == SLOTS) {
		if (!is_legal(t) || (who == AGREED && !is_first_of_its_like(t)))
			return 0;
		*list = *t;
		return 1;
	}
	t->at[slot] = (struct place){0};
	if (!mine && sc->origin[slot] != AGREED)
		return list_trees(list, who, edits, t, slot + 1);
	if (!mine)
		count += list_trees(list, who, edits, t, slot + 1);
	for (int parent = -1; parent < SLOTS; parent++) {
		if (parent >= 0 && (sc->origin[parent] == NOWHERE || sc->kind[parent] != KIND_DIR))
			continue;
		for (unsigned name = 0; name < sc->names; name++) {
			for (unsigned edit = 0; edit <= (sc->kind[slot] == KIND_DIR ? 0 : edits); edit++) {
				t->at[slot] =
					(struct place){true, (int8_t)parent, (uint8_t)name, (uint8_t)edit};
				assert_true(count < TREES_MAX - 1);
				count += list_trees(list + count, who, edits, t, slot + 1);
			}
		}
	}
	return count;
}

static uint8_t parent_node(const struct place *p)
{
	return p->parent < 0 ? 0 : node_of[p->parent];
}

static uint32_t content(int slot, unsigned edit)
{
	return edit == 0 ? (uint32_t)slot + 1 : edit == 1 ? EDITED_ALIKE : EDITED_ELSE;
}

static void describe(const char *what, const struct tree *t)
{
	print_message("%s:", what);
	for (int i = 0; i < SLOTS; i++) {
		if (t->at[i].is)
			print_message(" %d at %d/%s bytes %u", i, t->at[i].parent,
				t->at[i].name < 3 ? names[t->at[i].name] : beside[t->at[i].name - 3],
				(unsigned)content(i, t->at[i].edit));
	}
	print_message("\n");
}

/* ---- from one tree to another as a user would do it ---- */

static int holder(const struct tree *now, const struct place *at)
{
	for (int i = 0; i < SLOTS; i++) {
		if (now->at[i].is && now->at[i].parent == at->parent && now->at[i].name == at->name)
			return i;
	}
	return -1;
}

static bool is_at(const struct place *a, const struct place *b)
{
	return a->is == b->is && (!a->is || (a->parent == b->parent && a->name == b->name));
}

static bool move(unsigned client, struct tree *now, const struct tree *to, int i)
{
	struct place *from = &now->at[i];
	const struct place *want = &to->at[i];
	int other = holder(now, want);
	uint8_t parent = parent_node(from), new_parent = parent_node(want);

	if (want->parent >= 0 && !now->at[want->parent].is)
		return false;
	if (other >= 0 && to->at[other].is && is_at(&to->at[other], from)) {
		if (!pw_exchange(&w, client, parent, from->name, new_parent, want->name))
			return false;
		now->at[other].parent = from->parent;
		now->at[other].name = from->name;
	} else if (other >= 0 && to->at[other].is) {
		return false;
	} else {
		if (!pw_rename(&w, client, parent, from->name, new_parent, want->name))
			return false;
		if (other >= 0)
			now->at[other].is = false;
	}
	from->parent = want->parent;
	from->name = want->name;
	return true;
}

static bool one_step(unsigned client, struct tree *now, const struct tree *to, int i)
{
	struct place *from = &now->at[i];
	const struct place *want = &to->at[i];

	if (is_at(from, want))
		return false;
	if (!want->is) {
		from->is = !pw_remove(&w, client, parent_node(from), from->name);
		return !from->is;
	}
	if (from->is)
		return move(client, now, to, i);
	if (want->parent >= 0 && !now->at[want->parent].is)
		return false;
	if (!pw_create(&w, client, sc->kind[i], node_of[i], parent_node(want), want->name,
		    content(i, want->edit)))
		return false;
	*from = *want;
	return true;
}

/* Something goes to a name of its own for a while, so that the others can. */
static bool step_aside(unsigned client, struct tree *now, const struct tree *to)
{
	for (int i = 0; i < SLOTS; i++) {
		struct place aside = {true, -1, (uint8_t)(3 + i), 0}, *from = &now->at[i];

		if (!from->is || is_at(from, &to->at[i]) || holder(now, &aside) >= 0 ||
			!pw_rename(&w, client, parent_node(from), from->name, 0, aside.name))
			continue;
		from->parent = -1;
		from->name = aside.name;
		return true;
	}
	return false;
}

static void edit(unsigned client, const struct tree *to)
{
	for (int i = 0; i < SLOTS; i++) {
		if (to->at[i].is && to->at[i].edit && sc->origin[i] == AGREED)
			assert_true(pw_write(&w, client, node_of[i], content(i, to->at[i].edit)));
	}
}

static void go(unsigned client, const struct tree *from, const struct tree *to, bool edit_first)
{
	struct tree now = *from;

	if (edit_first)
		edit(client, to);
	for (int steps = 0; steps < STEPS_MAX; steps++) {
		bool done = true, progress = false;

		for (int i = 0; i < SLOTS && !progress; i++)
			progress = one_step(client, &now, to, i);
		for (int i = 0; i < SLOTS; i++)
			done &= is_at(&now.at[i], &to->at[i]);
		if (done)
			break;
		if (!progress)
			progress = step_aside(client, &now, to);
		if (!progress || steps + 1 == STEPS_MAX) {
			print_message("kinds %d %d %d\n", sc->kind[0], sc->kind[1], sc->kind[2]);
			describe("from", from);
			describe("to", to);
			describe("now", &now);
			fail_msg("no way");
		}
	}
	if (!edit_first)
		edit(client, to);
}

/* ---- a case ---- */

static void heal(void)
{
	size_t rounds = 0;

	while (!w.fault[0] && !(pw_is_quiet(&w, 0) && pw_is_quiet(&w, 1))) {
		if (rounds++ == ROUNDS_MAX)
			pw_fault(&w, "does not come to rest", 0);
		for (unsigned i = 0; i < 2 && !w.fault[0]; i++) {
			if (w.clients[i].want_scan)
				pw_scan(&w, i);
			pw_send(&w, i, PW_OPS);
			pw_poll(&w, i, PW_NODES);
			(void)pw_apply(&w, i);
		}
	}
}

static void seed_tree(const struct tree *s)
{
	for (int i = 0; i < 3; i++)
		(void)pw_name(&w, names[i]);
	for (int i = 0; i < SLOTS; i++)
		(void)pw_name(&w, beside[i]);
	w.contents = EDITED_ELSE;
	for (int deep = 0; deep < 2; deep++) {
		for (int i = 0; i < SLOTS; i++) {
			const struct place *p = &s->at[i];

			if (p->is && (p->parent >= 0) == deep)
				node_of[i] =
					pw_seed_node(&w, sc->kind[i], parent_node(p), p->name, content(i, 0));
		}
	}
	for (int i = 0; i < SLOTS; i++) {
		if (sc->origin[i] == BY_A || sc->origin[i] == BY_B)
			node_of[i] = pw_new_node(&w);
	}
}

static void run_case(const struct tree *s, const struct tree *l, const struct tree *r)
{
	unsigned how = (unsigned)cases++;

	pw_init(&w, cases);
	seed_tree(s);
	go(0, s, l, how & 1);
	go(1, s, r, how & 2);
	if (!w.clients[0].queue_count || !w.clients[1].queue_count)
		quiet_count++;
	pw_send(&w, 0, PW_OPS);
	if (how & 4) {
		pw_poll(&w, 1, PW_NODES);
		(void)pw_apply(&w, 1);
	}
	heal();
	pw_check_server(&w);
	for (unsigned i = 0; i < 2 && !w.fault[0]; i++)
		pw_compare(&w, i);
	if ((!w.results_count[0] || !w.results_count[1]) && (w.kept_count || w.lost_count))
		pw_fault(&w, "a single writer met a conflict", w.kept_count);
	kept_count += w.kept_count;
	lost_count += w.lost_count;
	if (w.fault[0]) {
		print_message("kinds %d %d %d\n", sc->kind[0], sc->kind[1], sc->kind[2]);
		describe("S", s);
		describe("L", l);
		describe("R", r);
		fail_msg("case %zu: %s", cases, w.fault);
	}
	pw_fini(&w);
}

static void run_scope(const struct scope *scope)
{
	struct tree t = {0};
	size_t s, l, r;

	sc = scope;
	s = list_trees(agreed, AGREED, 0, &t, 0);
	l = list_trees(left, BY_A, 1, &t, 0);
	r = list_trees(right, BY_B, 2, &t, 0);
	for (size_t i = 0; i < s; i++) {
		bool all = true;

		for (int k = 0; k < SLOTS; k++)
			all &= sc->origin[k] != AGREED || agreed[i].at[k].is;
		for (size_t a = 0; a < l && all; a++) {
			for (size_t b = 0; b < r; b++)
				run_case(&agreed[i], &left[a], &right[b]);
		}
	}
}

/* ---- scopes ---- */

static void test_two_nodes(void **state)
{
	static const enum origin origins[][2] = {
		{AGREED, NOWHERE}, {AGREED, AGREED}, {AGREED, BY_A}, {AGREED, BY_B}, {BY_A, BY_B}};

	for (int a = KIND_FILE; a <= KIND_SYMLINK; a++) {
		for (int b = KIND_FILE; b <= KIND_SYMLINK; b++) {
			for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
				run_scope(&(struct scope){.kind = {(enum kind)a, (enum kind)b},
					.origin = {origins[i][0], origins[i][1]},
					.names = 3});
		}
	}
	print_message("%zu cases\n", cases);
}

static void test_three_nodes(void **state)
{
	static const enum kind kinds[][3] = {{KIND_FILE, KIND_FILE, KIND_FILE},
		{KIND_FILE, KIND_FILE, KIND_SYMLINK}, {KIND_DIR, KIND_FILE, KIND_FILE},
		{KIND_DIR, KIND_FILE, KIND_SYMLINK}, {KIND_DIR, KIND_DIR, KIND_FILE},
		{KIND_DIR, KIND_DIR, KIND_DIR}};
	static const enum origin origins[][3] = {{AGREED, AGREED, AGREED}, {AGREED, AGREED, BY_A},
		{AGREED, AGREED, BY_B}, {AGREED, BY_A, BY_B}, {BY_A, AGREED, AGREED}, {BY_A, AGREED, BY_B}};
	bool more = getenv("SYNCFS_PLAN_CASES");

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
			struct scope scope = {.names = kinds[k][0] == KIND_DIR && !more ? 2 : 3};

			memcpy(scope.kind, kinds[k], sizeof(scope.kind));
			memcpy(scope.origin, origins[i], sizeof(scope.origin));
			run_scope(&scope);
		}
	}
	print_message("%zu cases, %zu with changes on one side only, %zu kept, %zu lost\n", cases,
		quiet_count, kept_count, lost_count);
	assert_true(cases > 500000);
	assert_true(kept_count > cases / 20 && lost_count > cases / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_nodes),
		cmocka_unit_test(test_three_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
