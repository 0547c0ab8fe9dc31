/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as hex digits and back. Called by the text forms of ids and hashes. Takes lower-case digits only, so
 * that a value has one form.
 */
#include <syncfs/hex.h>

#include <errno.h>

char *hex_from_bytes(const uint8_t *bytes, size_t count, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[2 * count] = '\0';
	return hex;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int hex_to_bytes(const char *hex, size_t len, uint8_t *bytes, size_t count)
{
	if (len != 2 * count)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (digit_value(hex[i]) < 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)(digit_value(hex[2 * i]) << 4 | digit_value(hex[2 * i + 1]));
	return 0;
}
