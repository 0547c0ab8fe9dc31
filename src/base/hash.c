/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 for contents, chunks and tokens; the door to libcrypto. The algorithm is fetched once
 * and each thread keeps one context, because fetching by name costs more than hashing a short
 * input. Failure of libcrypto means it is out of memory or unusable, and no caller could go on.
 */
#include <syncfs/hash.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <syncfs/hex.h>

struct hasher {
	EVP_MD_CTX *ctx;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t context_key; /* of EVP_MD_CTX: one a thread, freed when it ends */
static EVP_MD *sha256; /* fetched once, then read-only; lives as long as the process */

static void free_context(void *ctx)
{
	EVP_MD_CTX_free(ctx);
}

static void fetch_once(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!sha256 || pthread_key_create(&context_key, free_context) != 0)
		abort();
}

static EVP_MD_CTX *new_context(void)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (!ctx)
		abort();
	return ctx;
}

static void begin(EVP_MD_CTX *ctx)
{
	if (EVP_DigestInit_ex2(ctx, sha256, NULL) != 1)
		abort();
}

static struct hash finish(EVP_MD_CTX *ctx)
{
	struct hash hash;
	unsigned int len = 0;

	if (EVP_DigestFinal_ex(ctx, hash.b, &len) != 1 || len != HASH_BYTES)
		abort();
	return hash;
}

struct hash hash_bytes(const void *bytes, size_t len)
{
	EVP_MD_CTX *ctx;

	pthread_once(&once, fetch_once);
	ctx = pthread_getspecific(context_key);
	if (!ctx) {
		ctx = new_context();
		if (pthread_setspecific(context_key, ctx) != 0)
			abort();
	}
	begin(ctx);
	if (len && EVP_DigestUpdate(ctx, bytes, len) != 1)
		abort();
	return finish(ctx);
}

struct hasher *hasher_new(void)
{
	struct hasher *h = malloc(sizeof(*h));

	if (!h)
		abort();
	pthread_once(&once, fetch_once);
	h->ctx = new_context();
	begin(h->ctx);
	return h;
}

void hasher_update(struct hasher *h, const void *bytes, size_t len)
{
	if (len && EVP_DigestUpdate(h->ctx, bytes, len) != 1)
		abort();
}

struct hash hasher_final(struct hasher *h)
{
	struct hash hash = finish(h->ctx);

	hasher_free(h);
	return hash;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

char *hash_to_hex(const struct hash *hash, char *hex)
{
	return hex_from_bytes(hash->b, HASH_BYTES, hex);
}

int hash_from_hex(const char *hex, size_t len, struct hash *ret_hash)
{
	return hex_to_bytes(hex, len, ret_hash->b, HASH_BYTES);
}

bool hash_equal_secret(const struct hash *a, const struct hash *b)
{
	return CRYPTO_memcmp(a->b, b->b, HASH_BYTES) == 0;
}
