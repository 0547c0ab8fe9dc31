/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of plan.h: all agreed and told states of one node in a small scope (two names, two contents, three
 * kinds, two versions of each sort), carried out in memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/plan.h>

struct world {
	struct node_state n;
	struct dentry names[2];
};

/* States of one kind: content 2, c 2, a 2, mode 2, names 3, l 2. */
#define STATES (3 * 2 * 2 * 2 * 2 * 3 * 2)

static unsigned take(unsigned *rest, unsigned of)
{
	unsigned digit = *rest % of;

	*rest /= of;
	return digit;
}

static char name_x[] = "x", name_y[] = "y", target_0[] = "to", target_1[] = "other";

/* State number 0..STATES-1; STATES: a tombstone. */
static void make(unsigned number, struct world *w)
{
	struct node_state *n = &w->n;
	unsigned content, names, l;

	*w = (struct world){.n.node = ID_ROOT, .n.names = w->names};
	if (number == STATES) {
		n->kind = KIND_FILE;
		n->tomb = true;
		return;
	}
	n->kind = (enum kind)(1 + take(&number, 3));
	content = take(&number, 2);
	n->c = 1 + take(&number, 2);
	n->a = 1 + take(&number, 2);
	n->mode = take(&number, 2) ? 0600 : 0644;
	names = 1 + take(&number, 3);
	l = 1 + take(&number, 2);
	if (n->kind == KIND_FILE)
		n->content = (struct content){.size = 1, .hash.b = {(uint8_t)content}};
	if (n->kind == KIND_SYMLINK)
		n->target = content ? target_1 : target_0;
	for (unsigned i = 0; i < 2; i++) {
		if (names & 1u << i)
			w->names[n->names_count++] = (struct dentry){.name = i ? name_y : name_x, .l = l};
	}
}

static bool same_bytes(const struct node_state *a, const struct node_state *b)
{
	return a->content.size == b->content.size && hash_equal(&a->content.hash, &b->content.hash) &&
		!a->target == !b->target && (!a->target || strcmp(a->target, b->target) == 0);
}

/* Names as a set of bits. */
static unsigned name_bits(const struct node_state *n)
{
	unsigned bits = 0;

	for (size_t i = 0; i < n->names_count; i++)
		bits |= strcmp(n->names[i].name, name_x) == 0 ? 1 : 2;
	return bits;
}

/* c, a and every name with its l. */
static bool same_versions(const struct node_state *s, const struct node_state *r)
{
	return s->c == r->c && s->a == r->a && name_bits(s) == name_bits(r) && s->names[0].l == r->names[0].l;
}

static unsigned bits_after(const struct plan *p, const struct node_state *s, const struct node_state *r)
{
	unsigned bits = name_bits(s);

	for (size_t i = 0; i < p->remove_count; i++) {
		assert_true(p->remove[i] < s->names_count);
		bits &= ~(strcmp(s->names[p->remove[i]].name, name_x) == 0 ? 1u : 2u);
	}
	for (size_t i = 0; i < p->add_count; i++) {
		unsigned bit;

		assert_true(p->add[i] < r->names_count);
		bit = strcmp(r->names[p->add[i]].name, name_x) == 0 ? 1 : 2;
		assert_false(bits & bit);
		bits |= bit;
	}
	return bits;
}

static void check_both_here(const struct plan *p, const struct node_state *s, const struct node_state *r)
{
	assert_false(p->steps & (PLAN_WAIT | PLAN_CREATE | PLAN_REMOVE));
	assert_int_equal(!!(p->steps & PLAN_CONTENT), !same_bytes(s, r));
	if (s->kind == KIND_DIR)
		assert_false(p->steps & PLAN_CONTENT);
	/* Carried out, the disk is what the server told: bytes and names always, attributes by version. */
	if (s->a != r->a || s->mode == r->mode)
		assert_int_equal(!!(p->steps & PLAN_ATTR), s->mode != r->mode);
	assert_int_equal(!!(p->steps & PLAN_NAMES), p->add_count || p->remove_count);
	assert_int_equal(bits_after(p, s, r), name_bits(r));
}

static void check(const struct node_state *s, bool busy, const struct node_state *r)
{
	struct plan p;
	int error = plan_node(s, busy, r, &p);

	if (s && !r->tomb && s->kind != r->kind) {
		assert_int_equal(error, -EBADMSG);
		return;
	}
	assert_int_equal(error, 0);
	if (!(p.steps & PLAN_NAMES)) {
		assert_int_equal(p.add_count, 0);
		assert_int_equal(p.remove_count, 0);
	}
	/* One version with two sets of attributes (merged at the server): those at most. */
	if (s && !r->tomb && same_versions(s, r) && s->mode != r->mode)
		assert_false(p.steps & ~(unsigned)(busy ? PLAN_WAIT : PLAN_ATTR | PLAN_CONTENT));
	else if (s && !r->tomb && same_versions(s, r))
		assert_int_equal(p.steps, PLAN_NOTHING);
	else if (busy)
		assert_int_equal(p.steps, PLAN_WAIT);
	else if (!s)
		assert_int_equal(p.steps, r->tomb ? PLAN_NOTHING : PLAN_CREATE);
	else if (r->tomb)
		assert_int_equal(p.steps, PLAN_REMOVE);
	else
		check_both_here(&p, s, r);
	/* What destroys needs evidence, and nothing pending. */
	if (p.steps & PLAN_REMOVE)
		assert_true(r->tomb && !busy);
	if (p.steps & PLAN_CONTENT)
		assert_true(!busy && s && s->c + r->c > 0);
	plan_fini(&p);
	assert_null(p.add);
}

static void test_all(void **state)
{
	for (unsigned si = 0; si <= STATES; si++) {
		struct world s;

		make(si == STATES ? 0 : si, &s);
		for (unsigned ri = 0; ri <= STATES; ri++) {
			struct world r;

			make(ri, &r);
			check(si == STATES ? NULL : &s.n, false, &r.n);
			check(si == STATES ? NULL : &s.n, true, &r.n);
		}
	}
}

/*
 * The agreed state may be an older one of itself: from any of them the same plan is reached
 * in at most two steps, the second of which finds nothing.
 */
static void test_stale_state_ends_at_the_same(void **state)
{
	unsigned pairs = 0;

	for (unsigned si = 0; si < STATES; si++) {
		struct world s;

		make(si, &s);
		for (unsigned ri = 0; ri < STATES; ri++) {
			struct world r, after;
			struct plan p;

			make(ri, &r);
			if (s.n.kind != r.n.kind)
				continue;
			assert_int_equal(plan_node(&s.n, false, &r.n, &p), 0);
			/* What the applier writes as S when the steps are done. */
			make(ri, &after);
			if (!(p.steps & PLAN_CONTENT))
				assert_true(same_bytes(&s.n, &after.n) || p.steps == PLAN_NOTHING);
			plan_fini(&p);
			assert_int_equal(plan_node(&after.n, false, &r.n, &p), 0);
			assert_int_equal(p.steps, PLAN_NOTHING);
			plan_fini(&p);
			pairs++;
		}
	}
	assert_int_equal(pairs, STATES * STATES / 3);
}

static void test_xattr_and_mtime(void **state)
{
	uint8_t one[] = {1}, two[] = {2};
	struct world s, r;
	struct plan p;

	make(0, &s);
	make(0, &r);
	r.n.a = s.n.a + 1;
	s.n.xattr = (struct blob){one, 1};
	r.n.xattr = (struct blob){one, 1};
	assert_int_equal(plan_node(&s.n, false, &r.n, &p), 0);
	assert_int_equal(p.steps, PLAN_NOTHING);
	plan_fini(&p);
	r.n.xattr.data = two;
	assert_int_equal(plan_node(&s.n, false, &r.n, &p), 0);
	assert_int_equal(p.steps, PLAN_ATTR);
	plan_fini(&p);
	r.n.xattr = s.n.xattr;
	r.n.mtime_ns = s.n.mtime_ns + 1;
	assert_int_equal(plan_node(&s.n, false, &r.n, &p), 0);
	assert_int_equal(p.steps, PLAN_ATTR);
	plan_fini(&p);
}

/* The same name in another directory is another name. */
static void test_parents(void **state)
{
	struct world s, r;
	struct plan p;

	make(0, &s);
	make(0, &r);
	r.names[0].parent = ID_ROOT;
	r.names[0].l++;
	assert_int_equal(plan_node(&s.n, false, &r.n, &p), 0);
	assert_int_equal(p.steps, PLAN_NAMES);
	assert_int_equal(p.add_count, 1);
	assert_int_equal(p.remove_count, 1);
	plan_fini(&p);
}

/* What stays agreed with a server of another history: never a version of it that may mean something else. */
static void test_rebase(void **state)
{
	struct world s, r;

	for (unsigned i = 0; i < STATES; i++) {
		make(i, &s);
		assert_int_equal(plan_rebase(&s.n, NULL), REBASE_FORGET);
		for (unsigned k = 0; k <= STATES; k++) {
			enum plan_rebase what;
			uint64_t c;
			bool same;

			make(i, &s);
			make(k, &r);
			c = s.n.c;
			same = same_bytes(&s.n, &r.n);
			what = plan_rebase(&s.n, &r.n);
			if (r.n.tomb || s.n.kind != r.n.kind || (!same && s.n.kind == KIND_SYMLINK)) {
				assert_int_equal(what, REBASE_FORGET);
				continue;
			}
			assert_int_equal(what, same ? REBASE_KEEP : REBASE_SEND);
			assert_int_equal(s.n.c, same ? r.n.c : c < r.n.c ? c : 0);
			assert_int_equal(s.n.a, s.n.mode == r.n.mode ? r.n.a : 0);
			for (unsigned n = 0; n < s.n.names_count; n++) {
				uint64_t l = 0;

				for (unsigned m = 0; m < r.n.names_count; m++)
					l = strcmp(r.names[m].name, s.names[n].name) ? l : r.names[m].l;
				assert_int_equal(s.names[n].l, l);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_stale_state_ends_at_the_same),
		cmocka_unit_test(test_xattr_and_mtime),
		cmocka_unit_test(test_parents),
		cmocka_unit_test(test_rebase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
