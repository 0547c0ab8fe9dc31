/* SPDX-License-Identifier: Apache-2.0 */
/* Messages there and back, and the corpus of those that must be refused (tests/refused/message). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/message.h>

#define ODD_NAME "new\nline \"quote\" \x01\\"
#define BYTES_NAME "\xff\xfe raw"

static struct hash hash_of(const char *s)
{
	return hash_bytes(s, strlen(s));
}

/* Packed xattrs: a name that is UTF-8 and one that is not, an empty value and one with NUL. */
static struct blob two_xattrs(void)
{
	struct buf b = BUF_INIT;

	buf_put_u16(&b, 6);
	buf_put_str(&b, "user.a");
	buf_put_u32(&b, 0);
	buf_put_u16(&b, 6);
	buf_put_str(&b, "user.\xff");
	buf_put_blob(&b, "\0\x80", 2);
	return (struct blob){.data = b.data, .len = b.len};
}

static struct op new_op(enum op_type type, uint64_t opno)
{
	return (struct op){.type = type,
		.opno = opno,
		.node = id_new(),
		.parent = id_new(),
		.new_parent = id_new(),
		.name = strdup(ODD_NAME),
		.new_name = strdup(BYTES_NAME)};
}

/* One operation of each kind, all members set that count for it. */
static size_t all_ops(struct op *ops, uint64_t first, const uint8_t *raw)
{
	size_t n = 0;
	struct op *op;

	op = &ops[n++];
	*op = new_op(OP_CREATE, first++);
	op->kind = KIND_FILE;
	op->fields = OP_HAS_MODE | OP_HAS_MTIME | OP_HAS_XATTR | OP_HAS_DATA;
	op->mode = 0777;
	op->mtime_ns = INT64_MIN;
	op->xattr = two_xattrs();
	op->content = (struct content){.size = 3, .hash = hash_of("c")};
	op->data_at = 2;
	op->data_len = 3;
	op = &ops[n++];
	*op = new_op(OP_CREATE, first++);
	op->kind = KIND_DIR;
	op = &ops[n++];
	*op = new_op(OP_CREATE, first++);
	op->kind = KIND_SYMLINK;
	op->target = strdup("../\xff/..");
	op = &ops[n++];
	*op = new_op(OP_WRITE, first++);
	op->fields = OP_HAS_MANIFEST | OP_HAS_MTIME | OP_HAS_XATTR;
	op->mtime_ns = INT64_MAX;
	op->base_c = INT64_MAX;
	op->content = (struct content){.size = FILE_MAX_BYTES, .hash = hash_of("w")};
	op->manifest = (struct blob){.data = malloc(72), .len = 72};
	memset(op->manifest.data, 7, 72);
	op = &ops[n++];
	*op = new_op(OP_WRITE, first++);
	op->base_c = -5;
	op->target = strdup("t");
	op = &ops[n++];
	*op = new_op(OP_RENAME, first++);
	op->base_l = BASE_ANY;
	op->other = id_new();
	op->other_base_c = -INT64_MAX;
	op->fields = OP_NOREPLACE;
	op = &ops[n++];
	*op = new_op(OP_RENAME, first++);
	op->base_l = 4;
	op = &ops[n++];
	*op = new_op(OP_EXCHANGE, first++);
	op->other = id_new();
	op->base_l = 1;
	op->other_base_l = 2;
	op = &ops[n++];
	*op = new_op(OP_LINK, first++);
	op = &ops[n++];
	*op = new_op(OP_UNLINK, first++);
	op->base_c = BASE_ANY;
	op->base_l = 3;
	op = &ops[n++];
	*op = new_op(OP_RMDIR, first++);
	op->base_l = 3;
	op = &ops[n++];
	*op = new_op(OP_SETATTR, first++);
	op->base_a = 8;
	op->fields = OP_HAS_MODE;
	return n;
}

static void test_batch_round_trip(void **state)
{
	static const uint8_t raw[] = "..xyz";
	struct op ops[16];
	struct batch b = {.client = id_new(),
		.run = id_new(),
		.acked_opno = INT64_MAX,
		.label = (char[]){"box\xff"},
		.ops = ops,
		.raw = raw,
		.raw_len = 5};
	cleanup_buf struct buf out = BUF_INIT, why = BUF_INIT;
	struct batch back;

	b.ops_count = all_ops(ops, 41, raw);
	assert_int_equal(batch_encode(&b, &out), 0);
	assert_int_equal(batch_decode(out.data, out.len, &back, &why), 0);
	assert_true(id_equal(&back.client, &b.client) && id_equal(&back.run, &b.run));
	assert_true(back.acked_opno == INT64_MAX);
	assert_string_equal(back.label, "box\xff");
	assert_int_equal(back.ops_count, b.ops_count);
	for (size_t i = 0; i < b.ops_count; i++) {
		struct hash before = op_digest(&ops[i]), after = op_digest(&back.ops[i]);

		assert_int_equal(back.ops[i].opno, 41 + i);
		assert_int_equal(back.ops[i].fields, ops[i].fields);
		assert_true(hash_equal(&before, &after));
	}
	assert_memory_equal(back.raw + back.ops[0].data_at, "xyz", 3);
	assert_string_equal(back.ops[0].name, ODD_NAME);
	assert_true(back.ops[0].mtime_ns == INT64_MIN && back.ops[3].mtime_ns == INT64_MAX);
	assert_int_equal(back.ops[0].xattr.len, ops[0].xattr.len);
	assert_memory_equal(back.ops[0].xattr.data, ops[0].xattr.data, ops[0].xattr.len);
	assert_string_equal(back.ops[2].target, "../\xff/..");
	assert_int_equal(back.ops[3].manifest.len, 72);
	assert_memory_equal(back.ops[3].manifest.data, ops[3].manifest.data, 72);
	assert_true(back.ops[3].base_c == INT64_MAX && back.ops[4].base_c == -5);
	assert_true(back.ops[5].base_l == BASE_ANY && back.ops[5].other_base_c == -INT64_MAX);
	assert_string_equal(back.ops[5].new_name, BYTES_NAME);
	assert_true(id_is_none(&back.ops[6].other));
	batch_fini(&back);
	for (size_t i = 0; i < b.ops_count; i++)
		op_fini(&ops[i]);
}

static void test_digest_tells_meanings_apart(void **state)
{
	struct op op = new_op(OP_RENAME, 7);
	struct hash first = op_digest(&op), other;

	op.data_at = 99; /* no part of the meaning */
	other = op_digest(&op);
	assert_true(hash_equal(&first, &other));
	op.base_l = 1;
	other = op_digest(&op);
	assert_false(hash_equal(&first, &other));
	op.base_l = 0;
	op.new_name[0] = 'x';
	other = op_digest(&op);
	assert_false(hash_equal(&first, &other));
	op_fini(&op);
}

/* The same content inline and, after a `missing`, by manifest is the same op. */
static void test_digest_ignores_the_carriage(void **state)
{
	struct op op = new_op(OP_WRITE, 7);
	struct hash inline_hash, manifest_hash;

	op.content = (struct content){.size = 3, .hash = hash_of("x")};
	op.fields = OP_HAS_DATA;
	op.data_len = 3;
	inline_hash = op_digest(&op);
	op.fields = OP_HAS_MANIFEST;
	op.data_len = 0;
	manifest_hash = op_digest(&op);
	assert_true(hash_equal(&inline_hash, &manifest_hash));
	op_fini(&op);
}

static void test_batch_encode_refuses(void **state)
{
	struct op op = new_op(OP_CREATE, 1);
	struct batch b = {.client = id_new(), .run = id_new(), .ops = &op, .ops_count = 1};
	cleanup_buf struct buf out = BUF_INIT;

	op.kind = KIND_DIR;
	assert_int_equal(batch_encode(&b, &out), 0); /* the control */
	op.kind = KIND_FILE; /* neither data nor manifest */
	assert_int_equal(batch_encode(&b, &out), -EINVAL);
	op.kind = 0;
	assert_int_equal(batch_encode(&b, &out), -EINVAL);
	op.kind = KIND_DIR;
	op.fields = OP_HAS_XATTR;
	op.xattr = (struct blob){.data = (uint8_t *)strdup("junk"), .len = 4};
	assert_int_equal(batch_encode(&b, &out), -EINVAL);
	op.fields = 0;
	b.ops_count = BATCH_MAX_OPS + 1;
	assert_int_equal(batch_encode(&b, &out), -EMSGSIZE);
	op_fini(&op);
}

static void test_full_batch(void **state)
{
	struct batch b = {.client = id_new(), .run = id_new(), .ops_count = BATCH_MAX_OPS};
	cleanup_buf struct buf out = BUF_INIT;
	struct batch back;

	b.ops = calloc(BATCH_MAX_OPS, sizeof(b.ops[0]));
	for (size_t i = 0; i < BATCH_MAX_OPS; i++) {
		b.ops[i] = new_op(OP_CREATE, i + 1);
		b.ops[i].kind = KIND_DIR;
	}
	assert_int_equal(batch_encode(&b, &out), 0);
	assert_int_equal(batch_decode(out.data, out.len, &back, NULL), 0);
	assert_int_equal(back.ops_count, BATCH_MAX_OPS);
	batch_fini(&back);
	batch_fini(&b);
}

static void test_reply_round_trip(void **state)
{
	struct hash missing[2] = {hash_of("1"), hash_of("2")};
	struct result results[] = {
		{.outcome = OUTCOME_OK,
			.opno = 5,
			.seq = INT64_MAX,
			.c = 1,
			.l = 2,
			.a = 3,
			.node = id_new()},
		{.outcome = OUTCOME_SAME, .opno = 6, .seq = 9, .node = id_new()},
		{.outcome = OUTCOME_KEPT,
			.opno = 7,
			.seq = 9,
			.node = id_new(),
			.parent = ID_ROOT,
			.name = (char[]){BYTES_NAME}},
		{.outcome = OUTCOME_SUPERSEDED, .opno = 8},
		{.outcome = OUTCOME_CYCLE, .opno = 9},
		{.outcome = OUTCOME_REJECT,
			.opno = 10,
			.code = -ENOTDIR,
			.reason = (char[]){"parent \"x\"\n"}},
		{.outcome = OUTCOME_MISSING, .opno = 11, .missing = missing, .missing_count = 2},
	};
	struct batch_reply r = {.results = results,
		.results_count = 7,
		.cursor = {.epoch = id_new(), .seq = 9, .tag = UINT64_MAX}};
	cleanup_buf struct buf out = BUF_INIT;
	struct batch_reply back;

	assert_int_equal(batch_reply_encode(&r, &out), 0);
	assert_int_equal(batch_reply_decode(out.data, out.len, &back, NULL), 0);
	assert_int_equal(back.results_count, 7);
	for (size_t i = 0; i < 7; i++) {
		assert_int_equal(back.results[i].outcome, results[i].outcome);
		assert_int_equal(back.results[i].opno, results[i].opno);
		assert_true(id_equal(&back.results[i].node, &results[i].node));
	}
	assert_true(back.results[0].seq == INT64_MAX && back.results[0].a == 3 && back.results[0].l == 2);
	assert_string_equal(back.results[2].name, BYTES_NAME);
	assert_true(id_equal(&back.results[2].parent, &ID_ROOT));
	assert_int_equal(back.results[5].code, -ENOTDIR);
	assert_string_equal(back.results[5].reason, "parent \"x\"\n");
	assert_int_equal(back.results[6].missing_count, 2);
	assert_true(hash_equal(&back.results[6].missing[1], &missing[1]));
	assert_true(back.cursor.tag == UINT64_MAX);
	batch_reply_fini(&back);
}

/* A long list of missing chunks is told in part, never too long for the other side. */
static void test_missing_is_bounded(void **state)
{
	struct hash *missing = calloc(HASHES_PER_REQUEST + 1, sizeof(missing[0]));
	struct result result = {.outcome = OUTCOME_MISSING,
		.opno = 1,
		.missing = missing,
		.missing_count = HASHES_PER_REQUEST + 1};
	struct batch_reply r = {.results = &result, .results_count = 1, .cursor = {.epoch = id_new()}};
	cleanup_buf struct buf out = BUF_INIT;
	struct batch_reply back;

	assert_int_equal(batch_reply_encode(&r, &out), 0);
	assert_int_equal(batch_reply_decode(out.data, out.len, &back, NULL), 0);
	assert_int_equal(back.results[0].missing_count, HASHES_PER_REQUEST);
	batch_reply_fini(&back);
	free(missing);
}

static void check_page(bool framed)
{
	struct blob xattr = two_xattrs();
	struct hash wanted[WANT_PER_PAGE + 1] = {hash_of("w"), hash_of("x")};
	struct dentry file_names[2] = {{.parent = ID_ROOT, .name = (char[]){BYTES_NAME}, .l = 3},
		{.parent = id_new(), .name = (char[]){ODD_NAME}, .l = INT64_MAX}};
	struct node_state changes[] = {
		{.node = id_new(),
			.seq = 3,
			.kind = KIND_FILE,
			.c = 1,
			.a = 2,
			.mode = 0640,
			.mtime_ns = INT64_MIN,
			.content = {.size = 2, .hash = hash_of("f")},
			.xattr = xattr,
			.names = file_names,
			.names_count = 2,
			.by_client = id_new(),
			.by_opno = 77,
			.has_data = true,
			.data_at = 1,
			.data_len = 2},
		{.node = id_new(), .seq = 4, .kind = KIND_DIR, .tomb = true, .c = 4},
		{.node = id_new(), .seq = 5, .kind = KIND_SYMLINK, .target = (char[]){"\xff"}, .mode = 0777},
		{.node = ID_ROOT, .seq = INT64_MAX, .kind = KIND_DIR, .mode = 0755, .mtime_ns = INT64_MAX},
	};
	struct page p = {.cursor = {.epoch = id_new(), .seq = 5, .tag = 6},
		.more = true,
		.changes = changes,
		.changes_count = 4,
		.raw = (const uint8_t *)"-ab",
		.raw_len = 3,
		.want = wanted,
		.want_count = WANT_PER_PAGE};
	cleanup_buf struct buf out = BUF_INIT;
	struct page back;
	struct node_state *n;

	assert_int_equal(page_encode(&p, framed, &out), 0);
	assert_int_equal(page_decode(out.data, out.len, framed, &back, NULL), 0);
	assert_true(back.more && id_is_none(&back.from.epoch));
	assert_true(id_equal(&back.cursor.epoch, &p.cursor.epoch) && back.cursor.seq == 5 &&
		back.cursor.tag == 6);
	assert_int_equal(back.changes_count, 4);
	n = &back.changes[0];
	assert_true(id_equal(&n->node, &changes[0].node) && n->seq == 3 && n->c == 1 && n->a == 2 &&
		n->mode == 0640);
	assert_true(n->mtime_ns == INT64_MIN && n->content.size == 2 && n->by_opno == 77);
	assert_true(hash_equal(&n->content.hash, &changes[0].content.hash));
	assert_int_equal(n->xattr.len, xattr.len);
	assert_memory_equal(n->xattr.data, xattr.data, xattr.len);
	assert_int_equal(n->names_count, 2);
	assert_string_equal(n->names[0].name, BYTES_NAME);
	assert_string_equal(n->names[1].name, ODD_NAME);
	assert_true(n->names[1].l == INT64_MAX);
	assert_int_equal(n->has_data, framed);
	if (framed)
		assert_memory_equal(back.raw + n->data_at, "ab", 2);
	assert_true(back.changes[1].tomb && back.changes[1].names_count == 0 && back.changes[1].c == 4);
	assert_string_equal(back.changes[2].target, "\xff");
	assert_true(back.changes[3].seq == INT64_MAX && id_is_none(&back.changes[3].by_client));
	assert_int_equal(back.want_count, WANT_PER_PAGE);
	assert_memory_equal(back.want, wanted, WANT_PER_PAGE * sizeof(*wanted));
	page_fini(&back);
	p.want_count = WANT_PER_PAGE + 1;
	assert_int_equal(page_encode(&p, framed, &out), -EINVAL);
	free(xattr.data);
}

static void test_page_round_trip(void **state)
{
	check_page(true);
	check_page(false);
}

static void test_hashes_and_chunks_round_trip(void **state)
{
	struct hash hashes[2] = {hash_of("a"), hash_of("bc")};
	struct chunk_ref chunks[2] = {{.hash = hashes[0], .len = 1}, {.hash = hashes[1], .len = 2}};
	cleanup_buf struct buf out = BUF_INIT;
	struct chunk_ref *back_chunks;
	struct hash *back;
	size_t count;

	assert_int_equal(hashes_encode(hashes, 2, &out), 0);
	assert_int_equal(hashes_decode(out.data, out.len, &back, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_true(hash_equal(&back[1], &hashes[1]));
	free(back);
	buf_reset(&out);
	assert_int_equal(hashes_encode(NULL, 0, &out), 0);
	assert_int_equal(hashes_decode(out.data, out.len, &back, &count, NULL), 0);
	assert_int_equal(count, 0);
	free(back);
	buf_reset(&out);
	assert_int_equal(chunks_encode_header(chunks, 2, &out), 0);
	buf_put(&out, "abc", 3);
	assert_int_equal(chunks_decode(out.data, out.len, &back_chunks, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_true(hash_equal(&back_chunks[1].hash, &hashes[1]));
	assert_int_equal(back_chunks[1].len, 2);
	assert_memory_equal(back_chunks[1].data, "bc", 2);
	free(back_chunks);
	chunks[0].len = CHUNK_MAX_BYTES + 1;
	assert_int_equal(chunks_encode_header(chunks, 2, &out), -EINVAL);
}

static void test_session_and_error(void **state)
{
	struct session s = {.last_opno = INT64_MAX, .cursor = {.epoch = id_new(), .seq = 1, .tag = 2}}, back;
	cleanup_buf struct buf out = BUF_INIT;
	char text[8], code[16];

	assert_int_equal(session_encode(&s, &out), 0);
	assert_int_equal(session_decode(out.data, out.len, &back, NULL), 0);
	assert_true(back.last_opno == INT64_MAX && back.cursor.seq == 1 && back.cursor.tag == 2);
	buf_reset(&out);
	assert_int_equal(error_encode("sho\"rt\xc3\xa9", "word", &out), 0);
	error_decode(out.data, out.len, text, sizeof(text), code, sizeof(code));
	assert_string_equal(text, "sho\"rt"); /* 8 bytes do not fit; no half of a character */
	assert_string_equal(code, "word");
	error_decode("<html>", 6, text, sizeof(text), code, sizeof(code));
	assert_string_equal(text, "");
	assert_string_equal(code, "");
	error_decode(NULL, 0, text, sizeof(text), code, sizeof(code));
	assert_string_equal(text, "");
}

/* Cheap to send, dear to build: refused before the parser allocates. */
static void test_too_many_values(void **state)
{
	const size_t values = (1u << 20) + 1;
	cleanup_buf struct buf text = BUF_INIT, why = BUF_INIT;
	struct hash *hashes;
	size_t count;

	buf_put_str(&text, "{\"x\":[0");
	for (size_t i = 0; i < values; i++)
		buf_put_str(&text, ",0");
	buf_put_str(&text, "],\"hashes\":[]}");
	assert_int_equal(hashes_decode(text.data, text.len, &hashes, &count, &why), -EMSGSIZE);
	assert_non_null(strstr(buf_cstr(&why), "JSON values"));
}

static int decode_as(const char *name, const struct buf *m, struct buf *why)
{
	union {
		struct batch batch;
		struct batch_reply reply;
		struct page page;
		struct chunk_ref *chunks;
		struct hash *hashes;
	} u;
	size_t count;
	int r = -ENOSYS;

	if (strncmp(name, "batch-", 6) == 0) {
		r = batch_decode(m->data, m->len, &u.batch, why);
		if (r == 0)
			batch_fini(&u.batch);
	} else if (strncmp(name, "reply-", 6) == 0) {
		r = batch_reply_decode(m->data, m->len, &u.reply, why);
		if (r == 0)
			batch_reply_fini(&u.reply);
	} else if (strncmp(name, "page-", 5) == 0) {
		r = page_decode(m->data, m->len, true, &u.page, why);
		if (r == 0)
			page_fini(&u.page);
	} else if (strncmp(name, "chunks-", 7) == 0) {
		r = chunks_decode(m->data, m->len, &u.chunks, &count, why);
		if (r == 0)
			free(u.chunks);
	} else if (strncmp(name, "hashes-", 7) == 0) {
		r = hashes_decode(m->data, m->len, &u.hashes, &count, why);
		if (r == 0)
			free(u.hashes);
	}
	return r;
}

static int open_corpus(void)
{
	char path[4096];
	size_t len = strlen(__FILE__) - strlen("unit/test_message.c");

	snprintf(path, sizeof(path), "%.*srefused/message", (int)len, __FILE__);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void check_corpus_entry(int dir, const char *name, const char *reason)
{
	cleanup_buf struct buf message = BUF_INIT, why = BUF_INIT;
	char file[256];
	int r;

	snprintf(file, sizeof(file), "%s.bin", name);
	assert_int_equal(io_read_file(dir, file, BODY_MAX_BYTES, &message), 0);
	r = decode_as(name, &message, &why);
	if (reason[0] == '\0') {
		if (r != 0)
			fail_msg("%s: refused: %s", name, buf_cstr(&why));
		return;
	}
	if ((r != -EPROTO && r != -EMSGSIZE) || strstr(buf_cstr(&why), reason) == NULL)
		fail_msg("%s: %d \"%s\", not \"%s\"", name, r, buf_cstr(&why), reason);
	/* Also where nobody asks why. */
	assert_int_equal(decode_as(name, &message, NULL), r);
}

static void test_corpus(void **state)
{
	cleanup_fd int dir = open_corpus();
	cleanup_buf struct buf list = BUF_INIT;
	char *line, *rest;
	size_t count = 0;

	assert_true(dir >= 0);
	assert_int_equal(io_read_file(dir, "reasons.tsv", 65536, &list), 0);
	assert_non_null(buf_cstr(&list));
	rest = (char *)list.data;
	while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
		char *tab = strchr(line, '\t');

		assert_non_null(tab);
		*tab = '\0';
		check_corpus_entry(dir, line, tab + 1);
		count++;
	}
	assert_true(count > 80);
}

/* Every prefix and every flipped byte of a good batch is refused or taken, never read out of bounds (ASan).
 */
static void test_mutations(void **state)
{
	cleanup_fd int dir = open_corpus();
	cleanup_buf struct buf good = BUF_INIT;

	assert_int_equal(io_read_file(dir, "batch-valid.bin", 65536, &good), 0);
	for (size_t i = 0; i < good.len; i++) {
		struct buf cut = {.data = malloc(i + 1), .len = i};

		memcpy(cut.data, good.data, i);
		cut.data = realloc(cut.data, i > 0 ? i : 1);
		assert_true(decode_as("batch-", &cut, NULL) < 0);
		buf_fini(&cut);
		good.data[i] ^= 0x11;
		(void)decode_as("batch-", &good, NULL);
		good.data[i] ^= 0x11;
	}
	assert_int_equal(decode_as("batch-", &good, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_round_trip),
		cmocka_unit_test(test_digest_tells_meanings_apart),
		cmocka_unit_test(test_digest_ignores_the_carriage),
		cmocka_unit_test(test_batch_encode_refuses),
		cmocka_unit_test(test_full_batch),
		cmocka_unit_test(test_reply_round_trip),
		cmocka_unit_test(test_missing_is_bounded),
		cmocka_unit_test(test_page_round_trip),
		cmocka_unit_test(test_hashes_and_chunks_round_trip),
		cmocka_unit_test(test_session_and_error),
		cmocka_unit_test(test_too_many_values),
		cmocka_unit_test(test_corpus),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
