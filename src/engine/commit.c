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

int commit_apply(const struct commit_env *env, const struct commit_sender *sender, const struct op *op,
	struct result *ret_result)
{
	struct result result = {.opno = op->opno, .node = op->node};
	struct commit c = {.env = env, .sender = sender, .op = op, .result = &result};
	int r = dispatch(&c);

	if (r < 0) {
		result_fini(&result);
		return r;
	}
	*ret_result = result;
	return 0;
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
