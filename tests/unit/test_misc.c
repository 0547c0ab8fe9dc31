/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the small values: id.h, hash.h, crc32c.h, clock.h, backoff.h, stop.h and log.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/backoff.h>
#include <syncfs/clock.h>
#include <syncfs/crc32c.h>
#include <syncfs/hash.h>
#include <syncfs/id.h>
#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/stop.h>

static void test_id(void **state)
{
	struct id a = id_new(), b = id_new(), back = ID_NONE;
	char hex[ID_HEX_BYTES], text[64];

	assert_false(id_equal(&a, &b));
	assert_false(id_is_none(&a));
	assert_true(id_is_none(&ID_NONE));
	assert_false(id_is_none(&ID_ROOT));
	assert_string_equal(id_to_hex(&ID_NONE, hex), "00000000000000000000000000000000");
	assert_int_equal(id_from_hex(id_to_hex(&a, hex), 32, &back), 0);
	assert_true(id_equal(&a, &back));
	assert_int_equal(id_from_hex("0123456789abcdef0123456789abcdef", 32, &b), 0);
	assert_string_equal(id_to_hex(&b, hex), "0123456789abcdef0123456789abcdef");
	assert_int_equal(b.b[0], 0x01);

	assert_int_equal(id_from_hex(hex, 31, &back), -EINVAL);
	assert_int_equal(id_from_hex(hex, 33, &back), -EINVAL);
	assert_int_equal(id_from_hex("", 0, &back), -EINVAL);
	assert_int_equal(id_from_hex("0123456789ABCDEF0123456789abcdef", 32, &back), -EINVAL);
	memcpy(text, hex, 32);
	text[31] = 'g';
	assert_int_equal(id_from_hex(text, 32, &back), -EINVAL);
	assert_true(id_equal(&a, &back));
}

static void *hash_in_thread(void *arg)
{
	*(struct hash *)arg = hash_bytes("abc", 3);
	return NULL;
}

static void test_hash(void **state)
{
	/* FIPS 180-2 */
	static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char none[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	struct hash h = hash_bytes("abc", 3), other = hash_bytes(NULL, 0), back;
	char hex[HASH_HEX_BYTES];
	struct hasher *hasher;
	pthread_t thread;

	assert_string_equal(hash_to_hex(&h, hex), abc);
	assert_int_equal(hash_from_hex(abc, 64, &back), 0);
	assert_true(hash_equal(&h, &back));
	assert_string_equal(hash_to_hex(&other, hex), none);
	assert_false(hash_equal(&h, &other));
	assert_false(hash_equal_secret(&h, &other));
	assert_true(hash_equal_secret(&h, &back));
	assert_int_equal(hash_from_hex(abc, 63, &back), -EINVAL);
	assert_int_equal(
		hash_from_hex("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 64, &back),
		-EINVAL);

	hasher = hasher_new();
	hasher_update(hasher, "a", 1);
	/* The one-shot form in between must not disturb an open hasher. */
	(void)hash_bytes("x", 1);
	hasher_update(hasher, NULL, 0);
	hasher_update(hasher, "bc", 2);
	other = hasher_final(hasher);
	assert_true(hash_equal(&h, &other));
	hasher_free(hasher_new());
	hasher_free(NULL);

	assert_int_equal(pthread_create(&thread, NULL, hash_in_thread, &back), 0);
	pthread_join(thread, NULL);
	assert_true(hash_equal(&h, &back));
}

static uint32_t slow_crc(const uint8_t *p, size_t len)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	return ~crc;
}

static void test_crc32c(void **state)
{
	uint8_t bytes[300] = {0};

	assert_int_equal(crc32c(0, NULL, 0), 0);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa); /* RFC 3720 B.4 */
	memset(bytes, 0xff, 32);
	assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 131 + 7);
	for (size_t at = 0; at < 9; at++) {
		for (size_t len = 0; at + len <= sizeof(bytes); len++) {
			uint32_t want = slow_crc(bytes + at, len);

			assert_int_equal(crc32c(0, bytes + at, len), want);
			assert_int_equal(
				crc32c(crc32c(0, bytes + at, len / 3), bytes + at + len / 3, len - len / 3),
				want);
		}
	}
}

static void test_clock(void **state)
{
	static const int64_t times[] = {0, 1, -1, 999999999, -1000000000, -1000000001, INT64_MAX, INT64_MIN};
	uint64_t us = clock_mono_us();

	assert_true(clock_mono_ms() >= us / 1000);
	assert_true(clock_mono_us() >= us);
	assert_true(clock_wall_ns() > INT64_C(1600000000000000000));
	for (size_t i = 0; i < 7; i++) {
		struct timespec t = timespec_from_ns(times[i]);

		assert_in_range(t.tv_nsec, 0, 999999999);
		assert_true(timespec_to_ns(t) == times[i]);
	}
	assert_int_equal(timespec_from_ns(-1).tv_sec, -1);
	assert_in_range(timespec_from_ns(INT64_MIN).tv_nsec, 0, 999999999);
}

static void test_backoff(void **state)
{
	struct backoff b = {.min_ms = 100, .max_ms = 60000};
	struct backoff zero = {0}, huge = {.min_ms = UINT32_MAX, .max_ms = UINT32_MAX};
	uint32_t step = 200, first[64], equal = 0;

	for (int i = 0; i < 12; i++) {
		uint32_t ms = backoff_next_ms(&b);

		assert_in_range(ms, step / 2, step);
		step = step * 2 > 60000 ? 60000 : step * 2;
	}
	assert_int_equal(step, 60000);
	for (int i = 0; i < 64; i++) {
		backoff_reset(&b);
		first[i] = backoff_next_ms(&b);
		assert_in_range(first[i], 100, 200);
		equal += first[i] == first[0];
	}
	assert_true(equal < 64);
	assert_int_equal(backoff_next_ms(&zero), 0);
	for (int i = 0; i < 4; i++)
		assert_in_range(backoff_next_ms(&huge), UINT32_MAX / 2, UINT32_MAX);
}

static void *set_stop(void *arg)
{
	stop_set(arg);
	return NULL;
}

static void test_stop(void **state)
{
	struct stop *s = stop_new();
	struct pollfd p = {.events = POLLIN};
	uint64_t start = clock_mono_ms();
	pthread_t thread;

	assert_non_null(s);
	p.fd = stop_fd(s);
	assert_false(stop_is_set(s));
	assert_false(stop_wait(s, 0));
	assert_false(stop_wait(s, 20));
	assert_true(clock_mono_ms() >= start + 20);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, set_stop, s), 0);
	assert_true(stop_wait(s, UINT64_MAX));
	pthread_join(thread, NULL);
	stop_set(s);
	assert_true(stop_is_set(s));
	assert_true(stop_wait(s, 0));
	assert_int_equal(poll(&p, 1, 0), 1);
	stop_free(s);
	stop_free(NULL);
}

static void warn_about(const char *what, int number)
{
	log_warn("cannot reach %s: %d", what, number);
}

static void test_log(void **state)
{
	static const char want[] = "prog: error \\n\\x1b[31m\n"
				   "prog: cannot reach a: 1\n"
				   "prog: (the last message was repeated 2 times)\n"
				   "prog: cannot reach b: 1\n"
				   "prog: same\nprog: same\n";
	int saved = dup(STDERR_FILENO), fds[2];
	char text[1024];
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	log_set_program("prog");
	errno = EXDEV;
	log_error("error %s", "\n\x1b[31m");
	log_debug("not shown");
	warn_about("a", 1);
	warn_about("a", 1);
	warn_about("a", 1);
	warn_about("b", 1);
	log_set_level(LOG_LEVEL_DEBUG);
	for (int i = 0; i < 2; i++)
		log_debug("same");
	log_set_level(LOG_LEVEL_INFO);
	assert_int_equal(errno, EXDEV);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = io_read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, want);
	assert_string_equal(err_str(-ENOENT), "No such file or directory");
}

static void test_node_ids_are_neighbours(void **state)
{
	struct id a = id_new_node(), b = id_new_node(), c = id_new();

	(void)state;
	assert_int_equal(memcmp(a.b, b.b, 12), 0);
	assert_true(memcmp(a.b, b.b, ID_BYTES) < 0);
	assert_int_not_equal(memcmp(a.b, c.b, 12), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_node_ids_are_neighbours),
		cmocka_unit_test(test_id),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_backoff),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
