/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 128-bit identities and their hex form. Made by the clients for nodes, operations and runs.
 * Randomness comes from the kernel alone; there is no fallback, since two equal identities
 * would mix two files.
 */
#include <syncfs/id.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include <syncfs/hex.h>

const struct id ID_NONE = {{0}};
const struct id ID_ROOT = {{[ID_BYTES - 1] = 1}};

static void random_bytes(uint8_t *out, size_t len)
{
	while (len) {
		ssize_t n = getrandom(out, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		out += n;
		len -= (size_t)n;
	}
}

struct id id_new(void)
{
	struct id id;

	do {
		random_bytes(id.b, sizeof(id.b));
	} while (id_is_none(&id) || id_equal(&id, &ID_ROOT));
	return id;
}

#define PREFIX_BYTES 12

struct id id_new_node(void)
{
	static pthread_mutex_t lock =
		PTHREAD_MUTEX_INITIALIZER; /* below every ranked lock: guards the next two */
	static struct id prefix;
	static uint32_t count;
	struct id id;

	pthread_mutex_lock(&lock);
	if (!count)
		prefix = id_new();
	count++; /* after 2^32 nodes a new prefix */
	id = prefix;
	for (size_t i = PREFIX_BYTES; i < ID_BYTES; i++)
		id.b[i] = (uint8_t)(count >> (8 * (ID_BYTES - 1 - i)));
	pthread_mutex_unlock(&lock);
	return id;
}

char *id_to_hex(const struct id *id, char *hex)
{
	return hex_from_bytes(id->b, ID_BYTES, hex);
}

int id_from_hex(const char *hex, size_t len, struct id *ret_id)
{
	return hex_to_bytes(hex, len, ret_id->b, ID_BYTES);
}
