/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Place steps as a list and as the bytes of a place-intent. Called by the transaction, which makes them, and
 * at start, which completes what was left open. Only this program reads the bytes, but they are checked as if
 * it had not written them.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>

#define STEP_SET_ATTR 1
#define STEP_AGAIN 2
#define STEP_HAS_OLD 4
#define STEP_HAS_NEW 8

struct step *steps_add(struct steps *s)
{
	if (s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct step *grown = reallocarray(s->list, cap, sizeof(*grown));

		if (!grown)
			return NULL;
		s->list = grown;
		s->cap = cap;
	}
	s->list[s->count] = (struct step){0};
	return &s->list[s->count++];
}

void steps_fini(struct steps *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct step *step = &s->list[i];

		free(step->dir);
		free(step->name);
		free(step->new_dir);
		free(step->new_name);
		free(step->xattr.data);
	}
	free(s->list);
	*s = (struct steps){0};
}

static void put_object(struct buf *out, const struct stat_id *o)
{
	buf_put_u64(out, o->ino);
	buf_put_u64(out, (uint64_t)o->btime_ns);
	buf_put_u64(out, (uint64_t)o->mtime_ns);
	buf_put_u64(out, o->size);
}

static struct stat_id take_object(struct reader *in)
{
	struct stat_id o = {0};

	o.ino = reader_u64(in);
	o.btime_ns = (int64_t)reader_u64(in);
	o.mtime_ns = (int64_t)reader_u64(in);
	o.size = reader_u64(in);
	return o;
}

static void put_text(struct buf *out, const char *text)
{
	buf_put_blob(out, text ? text : "", text ? strlen(text) : 0);
}

static void put_content(struct buf *out, const struct content *c)
{
	buf_put_u64(out, c->size);
	buf_put(out, c->hash.b, HASH_BYTES);
}

static void take_content(struct reader *in, struct content *c)
{
	const void *bytes;

	c->size = reader_u64(in);
	bytes = reader_take(in, HASH_BYTES);
	if (bytes)
		memcpy(c->hash.b, bytes, HASH_BYTES);
}

int steps_encode(const struct steps *s, struct buf *out)
{
	buf_put_u32(out, (uint32_t)s->count);
	for (size_t i = 0; i < s->count; i++) {
		const struct step *p = &s->list[i];

		buf_put_u8(out, (uint8_t)p->type);
		buf_put_u8(out, (uint8_t)p->kind);
		buf_put_u8(out,
			(uint8_t)((p->set_attr ? STEP_SET_ATTR : 0) | (p->again ? STEP_AGAIN : 0) |
				(p->has_old ? STEP_HAS_OLD : 0) | (p->new_name ? STEP_HAS_NEW : 0)));
		buf_put(out, p->node.b, ID_BYTES);
		buf_put(out, p->other.b, ID_BYTES);
		put_text(out, p->dir);
		put_text(out, p->name);
		put_text(out, p->new_dir);
		put_text(out, p->new_name);
		put_text(out, p->stage);
		put_content(out, &p->content);
		put_content(out, &p->old);
		put_object(out, &p->staged);
		put_object(out, &p->expect);
		put_object(out, &p->expect_other);
		buf_put_u32(out, p->mode);
		buf_put_u64(out, (uint64_t)p->mtime_ns);
		buf_put_blob(out, p->xattr.data, p->xattr.len);
	}
	return out->error;
}

static void take_id(struct reader *in, struct id *id)
{
	const void *bytes = reader_take(in, ID_BYTES);

	if (bytes)
		memcpy(id->b, bytes, ID_BYTES);
}

static int take_step(struct reader *in, struct step *p)
{
	cleanup_free char *stage = NULL;
	const void *xattr;
	uint8_t flags;

	p->type = (enum place_type)reader_u8(in);
	p->kind = (enum kind)reader_u8(in);
	flags = reader_u8(in);
	p->set_attr = flags & STEP_SET_ATTR;
	p->again = flags & STEP_AGAIN;
	p->has_old = flags & STEP_HAS_OLD;
	take_id(in, &p->node);
	take_id(in, &p->other);
	p->dir = reader_str(in);
	p->name = reader_str(in);
	p->new_dir = reader_str(in);
	p->new_name = reader_str(in);
	stage = reader_str(in);
	take_content(in, &p->content);
	take_content(in, &p->old);
	p->staged = take_object(in);
	p->expect = take_object(in);
	p->expect_other = take_object(in);
	p->mode = reader_u32(in);
	p->mtime_ns = (int64_t)reader_u64(in);
	xattr = reader_blob(in, &p->xattr.len);
	if (in->error || !p->dir || !p->name || !p->new_dir || !p->new_name || !stage)
		return -EBADMSG;
	if (strlen(stage) >= STAGE_NAME_BYTES || p->xattr.len > XATTRS_MAX_BYTES || p->type < PLACE_CREATE ||
		p->type > PLACE_ATTR)
		return -EBADMSG;
	strcpy(p->stage, stage);
	if (p->xattr.len) {
		p->xattr.data = malloc(p->xattr.len);
		if (!p->xattr.data)
			return -ENOMEM;
		memcpy(p->xattr.data, xattr, p->xattr.len);
	}
	return 0;
}

int steps_decode(const void *bytes, size_t len, struct steps *ret_steps)
{
	struct reader in = READER_INIT(bytes, len);
	struct steps steps = {0};
	uint32_t count = reader_u32(&in);
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < count; i++) {
		struct step *p = steps_add(&steps);

		r = p ? take_step(&in, p) : -ENOMEM;
	}
	if (r == 0 && !reader_at_end(&in))
		r = -EBADMSG;
	if (r < 0) {
		steps_fini(&steps);
		return r;
	}
	*ret_steps = steps;
	return 0;
}
