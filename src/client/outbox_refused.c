/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server refuses: a dead letter, which syncfsctl shows, or the sign that it was put back to an older
 * state. Called by outbox_settle.c in its transaction. Never sends anything again.
 */
#include "outbox_settle.h"

#include <errno.h>

#include <syncfs/log.h>

/*
 * Something that the server does not know, though it has told of all of it, or has taken it from us: it was
 * put back to an older state. Then nothing is buried, all that is here is compared with it anew.
 */
static int check_known(struct syncstate *s, const struct outbox *o, const struct item *i)
{
	const struct op *op = &i->op;
	const struct id *ids[] = {
		op->type == OP_CREATE ? &ID_ROOT : &op->node, &op->parent, &op->new_parent, &op->other};

	for (size_t k = 0; k < sizeof(ids) / sizeof(ids[0]); k++) {
		struct id id = outbox_alias(o, ids[k]);
		struct base_row row;
		bool was_agreed;
		int r;

		if (id_is_none(&id) || id_equal(&id, &ID_ROOT))
			continue;
		r = syncstate_base_get(s, &id, &row);
		if (r)
			return r == -ENOENT ? 0 : r; /* refused, itself */
		was_agreed = row.state.seq != 0;
		base_row_fini(&row);
		if (!was_agreed)
			return 0;
	}
	return -ECHILD;
}

static int bury(struct syncstate *s, const struct item *i, const struct result *res)
{
	cleanup_buf struct buf what = BUF_INIT;
	const char *why = res->reason ? res->reason : err_str(res->code ? res->code : -EPROTO);
	const char *name = i->op.name ? i->op.name : i->name ? i->name : "";
	int r;

	buf_printf(&what, "%s ", op_word(i->op.type));
	path_quote(&what, name, strlen(name));
	if (!buf_cstr(&what))
		return -ENOMEM;
	r = syncstate_dead_letter_put(s, i->op.opno, buf_cstr(&what), why);
	log_warn("the server refuses %s: %s; the change stays on this machine only", buf_cstr(&what), why);
	return r;
}

int settle_refused(
	struct syncstate *s, const struct outbox *o, const struct item *i, const struct result *res)
{
	int r = res->code == -ENOENT ? check_known(s, o, i) : 0;

	return r ? r : bury(s, i, res);
}
