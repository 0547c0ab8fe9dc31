/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what: bearer tokens, kept as SHA-256 in ROOT/.syncfs/auth.db (tokens have 256 random bits, so a
 * plain hash suffices), and which token a client id belongs to. The database may be changed by another
 * process
 * (`syncfsd token`) at any time and is asked for every request. Thread-safe.
 */
#ifndef SYNCFS_SERVER_AUTH_H
#define SYNCFS_SERVER_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include <syncfs/buf.h>
#include <syncfs/hash.h>
#include <syncfs/id.h>

#define AUTH_NAME_BYTES 65 /* names of tokens and namespaces, with the NUL */
#define AUTH_DEFAULT_NAMESPACE "default"

/* What a valid token allows. A plain value. */
struct token {
	char name[AUTH_NAME_BYTES];
	char ns[AUTH_NAME_BYTES];
	bool read_only;
	int64_t expires_at_s; /* 0: never */
	struct hash hash;
	struct id actor; /* by_client of what it changes by path */
};

struct auth;

/* path: of the database, made when missing (0600). A sentence in *why. */
int auth_open(const char *path, struct auth **ret_auth, struct buf *why);
void auth_close(struct auth *a); /* NULL is fine */

/* One more token that is accepted for the default namespace, by its text; NULL: none any more. */
void auth_set_file_token(struct auth *a, const char *text);

/* authorization: the header's value or NULL. 0; -EACCES for everything that is no valid token; -EIO. */
int auth_check(struct auth *a, const char *authorization, struct token *ret_token);
/* The token is still valid. */
bool auth_is_valid(struct auth *a, const struct token *token);
/* Another process has changed the database since the last call. */
bool auth_has_changed(struct auth *a);
/*
 * A client id belongs to the first token it was seen with, for as long as that one is valid. 0; -EPERM it is
 * another's; -EIO.
 */
int auth_bind_client(struct auth *a, const struct token *token, const struct id *client);

/* ---- for `syncfsd token` and the first start ---- */

/* 1..64 of letters, digits, '.', '_', '-', not beginning with '-' or '.'. */
bool auth_name_is_valid(const char *name);
#define TOKEN_TEXT_BYTES 72
char *auth_make_text(char *text); /* text[TOKEN_TEXT_BYTES]: a new token */
/* days 0: never expires. -EEXIST a token of this name or text is there. */
int auth_add(
	struct auth *a, const char *name, const char *text, const char *ns, bool read_only, uint64_t days);
int auth_revoke(struct auth *a, const char *name); /* -ENOENT none of this name, -EALREADY */
int auth_count(struct auth *a, uint64_t *ret_count); /* revoked ones included */
/* A line of text for each token appended to out. */
int auth_list(struct auth *a, struct buf *out);

#endif
