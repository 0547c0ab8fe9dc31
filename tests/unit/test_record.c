/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of record.h: records and segment headers there and back, and the corpus of those to be refused
 * (tests/refused/record). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/crc32c.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/record.h>

#define SEED 20261122u
#define MUTATIONS 100000

static uint64_t lsns[3] = {1, UINT64_MAX, 77};
static char long_name[NAME_MAX_BYTES + 1];

static struct id id_of(uint8_t n)
{
	struct id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static struct record intent(
	enum op_type op, enum kind kind, const char *name, const char *new_name, const char *target)
{
	return (struct record){.type = RECORD_INTENT,
		.lsn = 0x1122334455667788,
		.op = op,
		.kind = kind,
		.node = id_of(1),
		.other = id_of(op == OP_EXCHANGE ? 2 : 0),
		.parent = id_of(3),
		.new_parent = id_of(4),
		.name = (char *)(uintptr_t)name,
		.new_name = (char *)(uintptr_t)new_name,
		.target = (char *)(uintptr_t)target,
		.dev = 1,
		.ino = UINT64_MAX,
		.btime_ns = INT64_MIN};
}

#define SAMPLES 15

/* One record of every type, and intents of every operation. Borrowed strings: never record_fini(). */
static void samples(struct record s[SAMPLES])
{
	struct record *r = s;

	memset(long_name, 'n', NAME_MAX_BYTES);
	*r++ = intent(OP_CREATE, KIND_SYMLINK, "\xff\n \"", NULL, "../\xfe");
	*r++ = intent(OP_WRITE, KIND_FILE, NULL, NULL, NULL);
	*r++ = intent(OP_RENAME, KIND_DIR, long_name, "m", NULL);
	*r++ = intent(OP_EXCHANGE, KIND_FILE, "a", "b", NULL);
	*r++ = intent(OP_LINK, KIND_FILE, "l", NULL, NULL);
	*r++ = intent(OP_UNLINK, KIND_FILE, "u", NULL, NULL);
	*r++ = intent(OP_RMDIR, KIND_DIR, "d", NULL, NULL);
	*r++ = intent(OP_SETATTR, 0, NULL, NULL, NULL);
	*r++ = (struct record){.type = RECORD_DONE,
		.lsn = 2,
		.intent_lsn = 1,
		.ok = true,
		.dev = 3,
		.ino = 4,
		.btime_ns = 5};
	*r++ = (struct record){.type = RECORD_DIRTY, .lsn = 3, .node = id_of(9), .dev = 3, .ino = 4};
	*r++ = (struct record){.type = RECORD_CLOSED, .lsn = 4, .node = id_of(9), .btime_ns = -1};
	*r++ = (struct record){.type = RECORD_ACKED, .lsn = 5, .lsns = lsns, .lsns_count = 3};
	*r++ = (struct record){.type = RECORD_ACKED, .lsn = 6};
	*r++ = (struct record){.type = RECORD_SEAL, .lsn = 7};
	*r++ = (struct record){
		.type = RECORD_SYNCED, .lsn = 8, .node = id_of(9), .dev = 3, .ino = 4, .size = 1ull << 40};
	assert_ptr_equal(r, s + SAMPLES);
}

static void expect_text(const char *got, const char *want)
{
	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
}

static void expect_equal(const struct record *a, const struct record *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->lsn, b->lsn);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->op, b->op);
	assert_int_equal(a->kind, b->kind);
	assert_true(id_equal(&a->node, &b->node) && id_equal(&a->other, &b->other));
	assert_true(id_equal(&a->parent, &b->parent) && id_equal(&a->new_parent, &b->new_parent));
	expect_text(a->name, b->name);
	expect_text(a->new_name, b->new_name);
	expect_text(a->target, b->target);
	assert_int_equal(a->dev, b->dev);
	assert_int_equal(a->ino, b->ino);
	assert_int_equal(a->btime_ns, b->btime_ns);
	assert_int_equal(a->intent_lsn, b->intent_lsn);
	assert_int_equal(a->ok, b->ok);
	assert_int_equal(a->lsns_count, b->lsns_count);
	if (b->lsns_count)
		assert_memory_equal(a->lsns, b->lsns, b->lsns_count * sizeof(*b->lsns));
}

static void test_round_trips(void **state)
{
	cleanup_buf struct buf all = BUF_INIT;
	struct record s[SAMPLES];
	size_t at = 0, len;

	samples(s);
	for (int i = 0; i < SAMPLES; i++) {
		assert_int_equal(record_encode(&s[i], &all), 0);
		assert_int_equal(all.len % 8, 0);
	}
	for (int i = 0; i < SAMPLES; i++) {
		struct record got;

		assert_int_equal(record_decode(all.data + at, all.len - at, &got, &len), 0);
		expect_equal(&got, &s[i]);
		record_fini(&got);
		at += len;
	}
	assert_int_equal(at, all.len);
	assert_int_equal(record_decode(all.data + at, 0, &s[0], &len), -ENODATA);
}

static void test_bounds(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	static uint64_t many[RECORD_MAX_BYTES / 8];
	struct record r = {.type = RECORD_ACKED, .lsns = many, .lsns_count = RECORD_MAX_BYTES / 8 - 3}, got;
	size_t len;

	buf_put_str(&out, "before");
	assert_int_equal(record_encode(&r, &out), 0);
	assert_int_equal(out.len - 6, RECORD_MAX_BYTES);
	assert_int_equal(record_decode(out.data + 6, out.len - 6, &got, &len), 0);
	assert_int_equal(got.lsns_count, r.lsns_count);
	record_fini(&got);
	r.lsns_count++;
	out.len = 6;
	assert_int_equal(record_encode(&r, &out), -EMSGSIZE);
	/* Nothing of it is left. */
	assert_int_equal(out.len, 6);
	assert_memory_equal(out.data, "before", 6);
}

static void test_zeros_are_the_end(void **state)
{
	static const uint8_t zeros[4096];
	struct record r;
	size_t len;

	for (size_t n = 0; n <= sizeof(zeros); n += n < 64 ? 1 : 64)
		assert_int_equal(record_decode(zeros, n, &r, &len), -ENODATA);
}

/* Every cut and every flipped bit of every sample, in memory of exactly that size. */
static void test_cuts_and_flips(void **state)
{
	struct record s[SAMPLES], got;
	size_t len;

	samples(s);
	for (int i = 0; i < SAMPLES; i++) {
		cleanup_buf struct buf b = BUF_INIT;

		assert_int_equal(record_encode(&s[i], &b), 0);
		for (size_t n = 0; n < b.len; n++) {
			uint8_t *cut = malloc(n ? n : 1);

			assert_non_null(cut);
			memcpy(cut, b.data, n);
			assert_int_equal(record_decode(cut, n, &got, &len), n < 8 ? -ENODATA : -EBADMSG);
			free(cut);
		}
		for (size_t bit = 0; bit < b.len * 8; bit++) {
			b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(record_decode(b.data, b.len, &got, &len), -EBADMSG);
			b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		assert_int_equal(record_decode(b.data, b.len, &got, &len), 0);
		record_fini(&got);
	}
}

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

static void mend_crc(uint8_t *bytes, size_t len)
{
	uint32_t crc = crc32c(0, bytes + 8, len - 8);

	for (int i = 0; i < 4; i++)
		bytes[4 + i] = (uint8_t)(crc >> (8 * i));
}

/* Damage with a CRC that fits: what is taken is exactly what record_encode() writes. */
static void test_mutations(void **state)
{
	static const uint8_t words[] = {0, 1, 2, 3, 4, 8, 0x7f, 0x80, 0xff, '/', '.'};
	struct record s[SAMPLES];
	uint64_t seed = SEED;
	unsigned taken = 0;

	samples(s);
	for (int round = 0; round < MUTATIONS; round++) {
		cleanup_buf struct buf b = BUF_INIT, again = BUF_INIT;
		struct record got;
		size_t len;
		int r;

		assert_int_equal(record_encode(&s[next_random(&seed) % SAMPLES], &b), 0);
		for (unsigned n = 1 + next_random(&seed) % 3; n; n--)
			b.data[8 + next_random(&seed) % (b.len - 8)] =
				words[next_random(&seed) % sizeof(words)];
		mend_crc(b.data, b.len);
		r = record_decode(b.data, b.len, &got, &len);
		if (r) {
			assert_int_equal(r, -EBADMSG);
			continue;
		}
		taken++;
		assert_int_equal(record_encode(&got, &again), 0);
		if (again.len != len || memcmp(again.data, b.data, len) != 0)
			fail_msg("seed %u round %d: taken, but not as it is written", SEED, round);
		record_fini(&got);
	}
	/* Both ways are walked. */
	assert_in_range(taken, MUTATIONS / 10, MUTATIONS * 9 / 10);
}

static void test_segment_header(void **state)
{
	const struct segment_header h = {.journal = id_of(7), .number = 0x0102030405060708, .first_lsn = 9};
	uint8_t bytes[SEGMENT_HEADER_BYTES];
	struct segment_header got;

	segment_header_encode(&h, bytes);
	assert_memory_equal(bytes, "SYNCFSJ1", 8);
	assert_int_equal(segment_header_decode(bytes, &got), 0);
	assert_true(id_equal(&got.journal, &h.journal));
	assert_int_equal(got.number, h.number);
	assert_int_equal(got.first_lsn, h.first_lsn);
	for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(segment_header_decode(bytes, &got), -EBADMSG);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static int decode_as(const char *name, const struct buf *b)
{
	struct segment_header h;
	struct record r;
	size_t len;
	int error;

	if (strstr(name, "segment")) {
		assert_int_equal(b->len, SEGMENT_HEADER_BYTES);
		return segment_header_decode(b->data, &h);
	}
	error = record_decode(b->data, b->len, &r, &len);
	if (!error)
		record_fini(&r);
	return error;
}

static void test_corpus(void **state)
{
	char path[4096];
	int refused = 0, taken = 0;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "%.*srefused/record",
		(int)(strlen(__FILE__) - strlen("unit/test_record.c")), __FILE__);
	dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir))) {
		cleanup_buf struct buf b = BUF_INIT;
		bool is_valid = strncmp(e->d_name, "valid-", 6) == 0;
		int r;

		if (!strstr(e->d_name, ".bin"))
			continue;
		assert_int_equal(io_read_file(dirfd(dir), e->d_name, RECORD_MAX_BYTES, &b), 0);
		r = decode_as(e->d_name, &b);
		if (r != (is_valid ? 0 : -EBADMSG))
			fail_msg("%s: %d", e->d_name, r);
		if (is_valid)
			taken++;
		else
			refused++;
	}
	closedir(dir);
	assert_true(refused >= 30);
	assert_true(taken >= 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_zeros_are_the_end),
		cmocka_unit_test(test_cuts_and_flips),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_segment_header),
		cmocka_unit_test(test_corpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
