/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules: entry and tag. Called by the server's store inside its transaction. The rules themselves
 * are in commit_create.c, commit_content.c, commit_remove.c, commit_rename.c and commit_exchange.c. No I/O,
 * no clock, no locks.
 */
#include "commit_internal.h"

#include <errno.h>
#include <string.h>

static int dispatch(struct commit *c)
{
	switch (c->op->type) {
	case OP_CREATE:
		return commit_create(c);
	case OP_WRITE:
		return commit_write(c);
	case OP_RENAME:
		return commit_rename(c);
	case OP_EXCHANGE:
		return commit_exchange(c);
	case OP_LINK:
		return commit_link(c);
	case OP_UNLINK:
	case OP_RMDIR:
		return commit_unlink(c);
	case OP_SETATTR:
		return commit_setattr(c);
	}
	return commit_reject(c, -EINVAL, "unknown operation");
}

/* The version of the name that the sender means; 0: it is not so any more. */
static int seen_l(struct commit *c, const struct id *node, const struct id *parent, const char *name,
	int64_t base, uint64_t *ret_l)
{
	cleanup_node struct node_state n = {0};
	struct id id, dir;
	struct base l;
	ssize_t i;
	int r = commit_base(c, base, BASE_OF_L, &l);

	*ret_l = 0;
	if (r >= 0)
		r = commit_resolve(c, parent, &dir);
	if (r >= 0)
		r = commit_resolve(c, node, &id);
	if (r >= 0 && commit_follow(&l, &id))
		r = commit_resolve(c, &id, &id);
	if (r >= 0)
		r = c->env->node_get(c->env->arg, &id, &n);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	i = commit_name_seen(&n, &dir, name, &l);
	*ret_l = i < 0 ? 0 : n.names[i].l;
	return 0;
}

/* A move that is refused leaves the names where they are, as one that has lost. */
static int refused_stays(struct commit *c)
{
	const struct op *op = c->op;
	uint64_t l = 0, other_l = 0;
	int r = 0;

	if (op->type != OP_RENAME && op->type != OP_EXCHANGE)
		return 0;
	r = seen_l(c, &op->node, &op->parent, op->name, op->base_l, &l);
	if (r >= 0 && op->type == OP_EXCHANGE)
		r = seen_l(c, &op->other, &op->new_parent, op->new_name, op->other_base_l, &other_l);
	commit_stays(c, l, other_l);
	return r;
}

static int finish(struct commit *c, int r, struct result *ret_result)
{
	if (r >= 0 && c->result->outcome == OUTCOME_REJECT)
		r = refused_stays(c);
	if (r < 0) {
		result_fini(c->result);
		return r;
	}
	*ret_result = *c->result;
	return 0;
}

int commit_apply(const struct commit_env *env, const struct commit_sender *sender, const struct op *op,
	struct result *ret_result)
{
	struct result result = {.opno = op->opno, .node = op->node};
	struct commit c = {.env = env, .sender = sender, .op = op, .result = &result};

	return finish(&c, dispatch(&c), ret_result);
}

int commit_refuse(const struct commit_env *env, const struct op *op, int code, const char *reason,
	struct result *ret_result)
{
	struct result result = {.opno = op->opno, .node = op->node};
	struct commit c = {.env = env, .op = op, .result = &result};

	return finish(&c, commit_reject(&c, code, reason), ret_result);
}

static uint8_t *put_le64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		*p++ = (uint8_t)(v >> (8 * i));
	return p;
}

uint64_t commit_tag(
	uint64_t previous_tag, uint64_t seq, const struct id *client, uint64_t opno, const struct id *node)
{
	uint8_t in[8 + ID_BYTES + 8 + ID_BYTES + 8];
	uint8_t *p = put_le64(in, previous_tag);
	uint64_t tag = 0;
	struct hash h;

	memcpy(p, node->b, ID_BYTES);
	p = put_le64(p + ID_BYTES, seq);
	memcpy(p, client->b, ID_BYTES);
	(void)put_le64(p + ID_BYTES, opno);
	h = hash_bytes(in, sizeof(in));
	for (int i = 7; i >= 0; i--)
		tag = tag << 8 | h.b[i];
	return tag ? tag : 1;
}
