/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership of the vocabulary structs and the text of a cursor. Called by everyone who holds an op, a result
 * or a node state. Knows nothing of JSON or of storage.
 */
#include <syncfs/change.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CURSOR_TAG_DIGITS 16
#define CURSOR_SEQ_DIGITS_MAX 19 /* of INT64_MAX: seqs are stored as signed 64 bit */

static void blob_free(struct blob *b)
{
	free(b->data);
	*b = (struct blob){0};
}

void op_fini(struct op *op)
{
	free(op->name);
	free(op->new_name);
	free(op->target);
	blob_free(&op->xattr);
	blob_free(&op->manifest);
	*op = (struct op){0};
}

void result_fini(struct result *r)
{
	free(r->name);
	free(r->reason);
	free(r->missing);
	*r = (struct result){0};
}

void node_state_fini(struct node_state *n)
{
	for (size_t i = 0; i < n->names_count; i++)
		free(n->names[i].name);
	free(n->names);
	free(n->target);
	blob_free(&n->xattr);
	*n = (struct node_state){0};
}

static int copy_names(const struct node_state *from, struct node_state *to)
{
	if (from->names_count == 0)
		return 0;
	to->names = calloc(from->names_count, sizeof(to->names[0]));
	if (to->names == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < from->names_count; i++) {
		to->names[i] = from->names[i];
		to->names[i].name = strdup(from->names[i].name);
		to->names_count = i + 1;
		if (to->names[i].name == NULL)
			return -ENOMEM;
	}
	return 0;
}

int node_state_copy(const struct node_state *from, struct node_state *ret_to)
{
	struct node_state to = *from;
	int r;

	to.target = NULL;
	to.xattr = (struct blob){0};
	to.names = NULL;
	to.names_count = 0;
	r = copy_names(from, &to);
	if (r == 0 && from->target != NULL) {
		to.target = strdup(from->target);
		if (to.target == NULL)
			r = -ENOMEM;
	}
	if (r == 0 && from->xattr.len > 0) {
		to.xattr.data = malloc(from->xattr.len);
		if (to.xattr.data == NULL) {
			r = -ENOMEM;
		} else {
			memcpy(to.xattr.data, from->xattr.data, from->xattr.len);
			to.xattr.len = from->xattr.len;
		}
	}
	if (r < 0) {
		node_state_fini(&to);
		return r;
	}
	*ret_to = to;
	return 0;
}

char *cursor_to_text(const struct cursor *c, char *text)
{
	char epoch[ID_HEX_BYTES];

	snprintf(text, CURSOR_TEXT_BYTES, "%s.%" PRIu64 ".%016" PRIx64, id_to_hex(&c->epoch, epoch), c->seq,
		c->tag);
	return text;
}

/* Canonical decimal of at most INT64_MAX. */
static int parse_seq(const char *text, size_t len, uint64_t *ret_seq)
{
	uint64_t seq = 0;

	if (len == 0 || len > CURSOR_SEQ_DIGITS_MAX || (text[0] == '0' && len > 1))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		seq = seq * 10 + (uint64_t)(text[i] - '0');
	}
	if (seq > INT64_MAX)
		return -EINVAL;
	*ret_seq = seq;
	return 0;
}

static int parse_tag(const char *text, size_t len, uint64_t *ret_tag)
{
	uint64_t tag = 0;

	if (len != CURSOR_TAG_DIGITS)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			tag = tag << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			tag = tag << 4 | (uint64_t)(c - 'a' + 10);
		else
			return -EINVAL;
	}
	*ret_tag = tag;
	return 0;
}

int cursor_from_text(const char *text, size_t len, struct cursor *ret_cursor)
{
	const size_t epoch_len = ID_HEX_BYTES - 1;
	struct cursor c;
	const char *dot;

	if (len <= epoch_len || len >= CURSOR_TEXT_BYTES || text[epoch_len] != '.')
		return -EINVAL;
	if (id_from_hex(text, epoch_len, &c.epoch) < 0 || id_is_none(&c.epoch))
		return -EINVAL;
	text += epoch_len + 1;
	len -= epoch_len + 1;
	dot = memchr(text, '.', len);
	if (dot == NULL || parse_seq(text, (size_t)(dot - text), &c.seq) < 0 ||
		parse_tag(dot + 1, len - (size_t)(dot + 1 - text), &c.tag) < 0)
		return -EINVAL;
	*ret_cursor = c;
	return 0;
}

ssize_t node_state_name_find(const struct node_state *n, const struct id *parent, const char *name)
{
	for (size_t i = 0; i < n->names_count; i++) {
		if (id_equal(&n->names[i].parent, parent) && strcmp(n->names[i].name, name) == 0)
			return (ssize_t)i;
	}
	return -1;
}

int node_state_name_add(struct node_state *n, const struct id *parent, const char *name, uint64_t l)
{
	ssize_t i = node_state_name_find(n, parent, name);
	struct dentry *more;
	char *copy;

	if (i >= 0) {
		n->names[i].l = l;
		return 0;
	}
	more = realloc(n->names, (n->names_count + 1) * sizeof(*more));
	copy = strdup(name);
	if (more)
		n->names = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	more[n->names_count++] = (struct dentry){.parent = *parent, .name = copy, .l = l};
	return 0;
}

void node_state_name_remove(struct node_state *n, const struct id *parent, const char *name)
{
	ssize_t i = node_state_name_find(n, parent, name);

	if (i < 0)
		return;
	free(n->names[i].name);
	n->names[i] = n->names[--n->names_count];
}
