/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of syncfsd that are not serving, see the header. Called by main only. A running server sees new
 * and revoked tokens in auth.db at once.
 */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/settings.h>

#include "answer.h"
#include "auth.h"
#include "store.h"

#define ANSWER_WAIT_MS 3000
#define EXPIRES_MAX_DAYS 36500

static int refuse(struct buf *why, int err, const char *text)
{
	buf_put_str(why, text);
	return err;
}

static int open_auth(const struct config *config, struct auth **ret_auth, struct buf *why)
{
	cleanup_free char *own = NULL, *path = NULL;
	int r;

	if (asprintf(&own, "%s/.syncfs", config->root) < 0 || asprintf(&path, "%s/auth.db", own) < 0)
		return -ENOMEM;
	r = io_make_dirs(own, 0700);
	if (r < 0) {
		buf_printf(why, "%s cannot be made: %s", own, strerror(-r));
		return r;
	}
	return auth_open(path, ret_auth, why);
}

static int token_add(const struct config *config, struct auth *auth, const char *name, struct buf *why)
{
	const char *ns = config->token_namespace ? config->token_namespace : AUTH_DEFAULT_NAMESPACE;
	char text[TOKEN_TEXT_BYTES];
	uint64_t days = 0;
	int r;

	if (!auth_name_is_valid(name))
		return refuse(why, -EINVAL, "a token's name is 1 to 64 letters, digits, '.', '_' and '-'");
	if (!auth_name_is_valid(ns))
		return refuse(
			why, -EINVAL, "a namespace's name is 1 to 64 letters, digits, '.', '_' and '-'");
	if (config->expires && settings_parse_u64(config->expires, 1, EXPIRES_MAX_DAYS, &days) < 0)
		return refuse(why, -EINVAL, "--expires takes a number of days from 1 on");
	r = auth_add(auth, name, auth_make_text(text), ns, config->read_only, days);
	if (!r && printf("%s\n", text) < 0)
		r = -EIO;
	explicit_bzero(text, sizeof(text));
	if (r == -EEXIST)
		buf_printf(why, "there is a token named %s already: choose another name", name);
	else if (r < 0)
		buf_printf(why, "the token could not be stored: %s", strerror(-r));
	return r;
}

static int token_list(struct auth *auth, struct buf *why)
{
	cleanup_buf struct buf out = BUF_INIT;
	int r = auth_list(auth, &out);

	if (r < 0)
		return refuse(why, r, "the tokens cannot be read");
	(void)fwrite(out.data ? (const char *)out.data : "", 1, out.len, stdout);
	return 0;
}

static int token_revoke(struct auth *auth, const char *name, struct buf *why)
{
	int r = auth_revoke(auth, name);

	if (r == -ENOENT)
		buf_printf(why, "there is no token named %s: see syncfsd token list", name);
	else if (r == -EALREADY)
		buf_printf(why, "the token %s is revoked already", name);
	else if (r < 0)
		buf_printf(why, "the token could not be revoked: %s", strerror(-r));
	else
		printf("revoked %s\n", name);
	return r;
}

static int run_token(const struct config *config, struct buf *why)
{
	const char *what = config->words_count > 1 ? config->words[1] : "";
	const char *name = config->words_count == 3 ? config->words[2] : NULL;
	struct auth *auth = NULL;
	int r;

	if (!(name && (!strcmp(what, "add") || !strcmp(what, "revoke"))) &&
		!(config->words_count == 2 && !strcmp(what, "list")))
		return refuse(why, -EINVAL, "usage: syncfsd token add NAME | list | revoke NAME");
	r = open_auth(config, &auth, why);
	if (r < 0)
		return r;
	if (!strcmp(what, "add"))
		r = token_add(config, auth, name, why);
	else if (!strcmp(what, "revoke"))
		r = token_revoke(auth, name, why);
	else
		r = token_list(auth, why);
	auth_close(auth);
	return r;
}

static int run_answer(const struct config *config, enum answer answer, struct buf *why)
{
	int r;

	if (config->words_count != 1)
		return refuse(why, -EINVAL, "usage: syncfsd approve | reject [--root DIR]");
	r = answer_ask(config->root, answer, ANSWER_WAIT_MS);
	if (r < 0) {
		buf_printf(
			why, "%s is no directory of syncfsd, or not yours: %s", config->root, strerror(-r));
		return r;
	}
	printf(r ? "noted: syncfsd does it when it starts the next time\n" : "syncfsd is doing it\n");
	return 0;
}

static int run_new_epoch(const struct config *config, struct buf *why)
{
	int r;

	if (config->words_count != 1)
		return refuse(why, -EINVAL, "usage: syncfsd new-epoch [--root DIR]");
	r = store_new_epoch(config->root, why);
	if (r == 0)
		printf("every client compares what it has with this tree when it comes the next time\n");
	return r;
}

int command_run(const struct config *config, struct buf *why)
{
	const char *word = config->words[0];

	if (!strcmp(word, "token"))
		return run_token(config, why);
	if (!strcmp(word, "approve"))
		return run_answer(config, ANSWER_APPROVE, why);
	if (!strcmp(word, "reject"))
		return run_answer(config, ANSWER_REJECT, why);
	if (!strcmp(word, "new-epoch"))
		return run_new_epoch(config, why);
	buf_printf(why, "unknown command %s; see syncfsd --help", word);
	return -EINVAL;
}
