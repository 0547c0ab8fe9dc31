/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config.h: precedence, tokens, every refusal with the words that help, directories in real places.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/io.h>

#include "config.h"

#define ARGS_MAX 16
#define TOKEN "a-token-of-the-server"

static char dir[] = "/tmp/test_config.XXXXXX";

static const char *at(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];

	(void)snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return path;
}

static const char *with(const char *option, const char *name)
{
	static char text[4][PATH_MAX];
	static unsigned next;
	char *out = text[next++ % 4];

	(void)snprintf(out, PATH_MAX, "%s=%s/%s", option, dir, name);
	return out;
}

static void put(const char *name, const char *text, mode_t mode)
{
	assert_int_equal(io_write_file(AT_FDCWD, at(name), text, strlen(text), mode), 0);
	assert_int_equal(chmod(at(name), mode), 0);
}

static int setup(void **state)
{
	static const char *const dirs[] = {
		"config", "config/syncfs", "data", "state", "mnt", "backing", "full"};

	(void)strcpy(dir, "/tmp/test_config.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (mkdir(at(dirs[i]), 0700) < 0)
			return -1;
	}
	put("full/file", "x", 0600);
	put("token", TOKEN "\n", 0600);
	(void)setenv("HOME", dir, 1);
	(void)setenv("XDG_CONFIG_HOME", at("config"), 1);
	(void)setenv("XDG_DATA_HOME", at("data"), 1);
	(void)setenv("XDG_STATE_HOME", at("state"), 1);
	(void)unsetenv("SYNCFS_TOKEN");
	(void)unsetenv("SYNCFS_URL");
	return 0;
}

static int teardown(void **state)
{
	char command[sizeof(dir) + 16];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* NULL-terminated arguments after the program's name. */
static int parse(struct client_config *c, struct buf *why, ...)
{
	char *argv[ARGS_MAX] = {(char[]){"syncfs"}};
	int argc = 1;
	va_list args;
	int r;

	va_start(args, why);
	while ((argv[argc] = va_arg(args, char *)) != NULL)
		argc++;
	va_end(args);
	buf_reset(why);
	r = config_parse(argc, argv, c, why);
	if (r < 0) {
		assert_true(why->len > 15);
		assert_null(strchr(buf_cstr(why), '\n'));
		assert_null(strstr(buf_cstr(why), TOKEN));
	} else {
		assert_int_equal(why->len, 0);
	}
	return r;
}

/* Options that are refused with all of the words. */
static void refused(const char *options, const char *word, const char *other_word)
{
	struct client_config c;
	struct buf why = BUF_INIT;

	assert_int_equal(
		parse(&c, &why, "-o", options, "-o", with("token_file", "token"), at("mnt"), NULL), -EINVAL);
	if (!strstr(buf_cstr(&why), word) || !strstr(buf_cstr(&why), other_word))
		fail_msg("%s: %s", options, buf_cstr(&why));
	buf_fini(&why);
}

static void test_defaults(void **state)
{
	struct client_config c;
	struct buf why = BUF_INIT;

	assert_int_equal(parse(&c, &why, "-o", with("token_file", "token"), at("mnt"), NULL), 0);
	assert_int_equal(c.action, CONFIG_MOUNT);
	assert_string_equal(c.mountpoint, at("mnt"));
	assert_string_equal(c.url, "http://127.0.0.1:3459");
	assert_string_equal(c.token, TOKEN);
	assert_string_equal(c.fuse_options, "");
	assert_null(c.backing);
	assert_null(c.state);
	assert_null(c.namespace);
	assert_true(strlen(c.label) > 0);
	assert_int_equal(c.uid, -1);
	assert_int_equal(c.gid, -1);
	assert_int_equal(c.durable, DURABLE_NONE);
	assert_int_equal(c.offline, OFFLINE_EIO);
	assert_int_equal(c.poll_wait_s, 55);
	assert_true(c.passthrough);
	assert_false(c.insecure || c.read_only || c.adopt || c.foreground || c.debug);
	config_fini(&c);
	buf_fini(&why);
}

static void test_all_options(void **state)
{
	struct client_config c;
	struct buf why = BUF_INIT;

	assert_int_equal(parse(&c, &why, "-f", "-o",
				 "url=https://sync.example.org/prefix/"
				 ",uid=5,gid=6,namespace=team-1,durable=local,offline=block:7,"
				 "passthrough=off,poll_interval=9,label=my "
				 "laptop,adopt,allow_other,ro,noatime,max_read=65536,"
				 "_netdev,x-systemd.automount,nofail",
				 "-o", with("backing", "a\\,b"), at("mnt"), "-o", with("token_file", "token"),
				 "-o", "rw", "-o", "state=~/st", NULL),
		0);
	assert_string_equal(c.url, "https://sync.example.org/prefix");
	assert_int_equal(c.uid, 5);
	assert_int_equal(c.gid, 6);
	assert_string_equal(c.namespace, "team-1");
	assert_int_equal(c.durable, DURABLE_LOCAL);
	assert_int_equal(c.offline, OFFLINE_BLOCK);
	assert_int_equal(c.offline_block_s, 7);
	assert_false(c.passthrough);
	assert_int_equal(c.poll_wait_s, 9);
	assert_string_equal(c.label, "my laptop");
	assert_true(c.adopt && c.foreground && !c.read_only);
	assert_string_equal(c.fuse_options, "allow_other,noatime,rw,max_read=65536");
	assert_string_equal(c.backing, at("a,b"));
	assert_string_equal(c.state, at("st"));
	config_fini(&c);
	assert_int_equal(parse(&c, &why, "-d", "-o", "ro,local_sync_dir=/x/../y", "-o",
				 with("token_file", "token"), at("mnt"), NULL),
		0);
	assert_true(c.debug && c.foreground && c.read_only);
	assert_string_equal(c.backing, "/y");
	config_fini(&c);
	assert_int_equal(parse(&c, &why, "-h", NULL), 0);
	assert_int_equal(c.action, CONFIG_HELP);
	config_fini(&c);
	assert_int_equal(parse(&c, &why, "-V", NULL), 0);
	assert_int_equal(c.action, CONFIG_VERSION);
	config_fini(&c);
	buf_fini(&why);
}

static void test_refused_options(void **state)
{
	refused("durable=maybe", "command line", "none, local, fsync or close");
	refused("durable=", "durable", "none, local, fsync or close");
	refused("offline=block:never", "offline", "block:SECONDS");
	refused("passthrough=yes", "passthrough", "auto or off");
	refused("uid=-5", "uid", "number");
	refused("gid=4294967295", "gid", "number");
	refused("poll_interval=0", "poll_interval", "1 to 55");
	refused("poll_interval=56", "poll_interval", "1 to 55");
	refused("no_such_option=1", "no_such_option", "syncfs -h");
	refused("fsname=x", "fsname", "leave it out");
	refused("api_key=" TOKEN, "api_key", "token_file");
	refused("allow_other,allow_root", "allow_root", "exclude");
	refused("backing=", "backing", "path");
	refused("label=a/b", "label", "'/'");
	refused("namespace=a b", "namespace", "letters");
	refused("ro=perhaps", "ro", "yes or no");
}

static void test_urls(void **state)
{
	static const char *const bad[] = {"url=ftp://127.0.0.1/", "url=nonsense", "url=http://",
		"url=http://127.0.0.1:99999", "url=http://127.0.0.1:0",
		"url=http://127.0.0.1:", "url==", "url=", "url=http://me@127.0.0.1",
		"url=http://127.0.0.1/?x", "url=http://127.0.0.1/#x", "url=http://[::1", "url=http://[::g]",
		"url=http://a b", "url=http://:80", "url=http:///x"};
	static const char *const good[] = {"url=http://localhost:1", "url=http://127.1.2.3/x/y",
		"url=http://[::1]:80", "url=https://example.org", "url=HTTPS://example.org:65535",
		"insecure,url=http://example.org", "remote_url=http://127.0.0.1"};
	struct client_config c;
	struct buf why = BUF_INIT;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(bad[i], "url must", "");
	refused("url=http://syncfs.example:3459", "insecure", "syncfs.example");
	refused("url=HTTP://127.0.0.1.example.org", "insecure", "");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(
			parse(&c, &why, "-o", good[i], "-o", with("token_file", "token"), at("mnt"), NULL),
			0);
		config_fini(&c);
	}
	buf_fini(&why);
}

static void test_arguments(void **state)
{
	struct client_config c;
	struct buf why = BUF_INIT;

	assert_int_equal(parse(&c, &why, NULL), -EINVAL);
	assert_non_null(strstr(buf_cstr(&why), "MOUNTPOINT"));
	assert_int_equal(parse(&c, &why, "a", "b", NULL), -EINVAL);
	assert_int_equal(parse(&c, &why, "--no-such-option", "a", NULL), -EINVAL);
	assert_non_null(strstr(buf_cstr(&why), "--no-such-option"));
	assert_int_equal(parse(&c, &why, "a", "-o", NULL), -EINVAL);
	assert_int_equal(parse(&c, &why, "", NULL), -EINVAL);
	buf_fini(&why);
}

static void test_file(void **state)
{
	struct client_config c;
	struct buf why = BUF_INIT;

	put("config/syncfs/syncfs.conf",
		"# mine\nremote_url=https://file.example\npoll_interval=5\nallow_other=yes\n"
		"local_sync_dir=/from/file\napi_key=of-the-file\n",
		0600);
	assert_int_equal(parse(&c, &why, at("mnt"), NULL), 0);
	assert_string_equal(c.url, "https://file.example");
	assert_int_equal(c.poll_wait_s, 5);
	assert_string_equal(c.backing, "/from/file");
	assert_string_equal(c.token, "of-the-file");
	assert_string_equal(c.fuse_options, "allow_other");
	config_fini(&c);
	/* command line beats environment beats file */
	(void)setenv("SYNCFS_URL", "https://environment.example", 1);
	(void)setenv("SYNCFS_TOKEN", "of-the-environment", 1);
	assert_int_equal(parse(&c, &why, at("mnt"), NULL), 0);
	assert_string_equal(c.url, "https://environment.example");
	assert_string_equal(c.token, "of-the-environment");
	config_fini(&c);
	(void)setenv("SYNCFS_TOKEN", "of-the-environment", 1);
	assert_int_equal(parse(&c, &why, at("mnt"), "-o", "url=https://line.example,allow_other=no", "-o",
				 with("token_file", "token"), NULL),
		0);
	assert_string_equal(c.url, "https://line.example");
	assert_string_equal(c.token, TOKEN);
	assert_string_equal(c.fuse_options, "");
	config_fini(&c);
	/* a file with a token in it is for its owner only */
	assert_int_equal(chmod(at("config/syncfs/syncfs.conf"), 0644), 0);
	assert_int_equal(parse(&c, &why, at("mnt"), NULL), -EACCES);
	assert_non_null(strstr(buf_cstr(&why), "chmod 600"));
	buf_fini(&why);
}

static void test_bad_file(void **state)
{
	static const char *const lines[] = {"no equals sign", "no_such_key=1", "=value", "durable=maybe",
		"poll_interval=soon", "url=http://127.0.0.1\x01:1", "config=/x", "nofail=1"};
	struct client_config c;
	struct buf why = BUF_INIT;
	char text[256];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		(void)snprintf(text, sizeof(text), "# fine\nurl=http://127.0.0.1:1\n%s\n", lines[i]);
		put("conf", text, 0600);
		assert_int_equal(parse(&c, &why, "-o", with("config", "conf"), "-o",
					 with("token_file", "token"), at("mnt"), NULL),
			-EINVAL);
		if (!strstr(buf_cstr(&why), "conf:3") && !strstr(buf_cstr(&why), "conf line 3"))
			fail_msg("%s: %s", lines[i], buf_cstr(&why));
	}
	assert_int_equal(parse(&c, &why, "-o", with("config", "none"), at("mnt"), NULL), -ENOENT);
	assert_non_null(strstr(buf_cstr(&why), at("none")));
	buf_fini(&why);
}

static void test_tokens(void **state)
{
	struct client_config c;
	struct buf why = BUF_INIT;
	const char *left;

	assert_int_equal(parse(&c, &why, at("mnt"), NULL), -ENOENT);
	assert_non_null(strstr(buf_cstr(&why), at("config/syncfs/token")));
	(void)setenv("SYNCFS_TOKEN", "of-the-environment", 1);
	left = getenv("SYNCFS_TOKEN");
	assert_int_equal(parse(&c, &why, at("mnt"), NULL), 0);
	assert_string_equal(c.token, "of-the-environment");
	assert_string_equal(left, ""); /* overwritten where it was */
	assert_null(getenv("SYNCFS_TOKEN"));
	config_fini(&c);
	/* overwritten also when the command line is refused */
	(void)setenv("SYNCFS_TOKEN", "of-the-environment", 1);
	left = getenv("SYNCFS_TOKEN");
	assert_int_equal(parse(&c, &why, "--no-such-option", NULL), -EINVAL);
	assert_string_equal(left, "");
	/* the file in its usual place */
	put("config/syncfs/token", "  " TOKEN " \r\nmore\n", 0600);
	assert_int_equal(parse(&c, &why, at("mnt"), NULL), 0);
	assert_string_equal(c.token, TOKEN);
	config_fini(&c);
	assert_int_equal(chmod(at("config/syncfs/token"), 0644), 0);
	assert_int_equal(parse(&c, &why, at("mnt"), NULL), -EACCES);
	assert_non_null(strstr(buf_cstr(&why), "chmod 600"));
	assert_int_equal(parse(&c, &why, "-o", with("token_file", "none"), at("mnt"), NULL), -ENOENT);
	assert_non_null(strstr(buf_cstr(&why), at("none")));
	put("empty", "\n" TOKEN, 0600);
	assert_int_equal(parse(&c, &why, "-o", with("token_file", "empty"), at("mnt"), NULL), -EINVAL);
	put("binary",
		"tok\x01"
		"en\n",
		0600);
	assert_int_equal(parse(&c, &why, "-o", with("token_file", "binary"), at("mnt"), NULL), -EINVAL);
	buf_fini(&why);
}

/* config_parse() with a token, then config_check(). */
static int check(struct client_config *c, struct buf *why, const char *options, const char *mountpoint)
{
	int r;

	assert_int_equal(
		parse(c, why, "-o", with("token_file", "token"), "-o", options, mountpoint, NULL), 0);
	r = config_check(c, why);
	if (r < 0) {
		assert_true(why->len > 15);
		assert_null(strchr(buf_cstr(why), '\n'));
		config_fini(c);
	}
	return r;
}

static void check_refused(const char *options, const char *mountpoint, int error, const char *word)
{
	struct client_config c;
	struct buf why = BUF_INIT;
	int r = check(&c, &why, options, mountpoint);

	if (r != error || !strstr(buf_cstr(&why), word))
		fail_msg("%s %s: %d %s", options, mountpoint, r, buf_cstr(&why));
	buf_fini(&why);
}

static void test_directories(void **state)
{
	struct client_config c, d;
	struct buf why = BUF_INIT;
	struct stat st;

	assert_int_equal(check(&c, &why, "rw", at("mnt")), 0);
	assert_true(strncmp(c.backing, at("data/syncfs/mnt-"), strlen(at("data/syncfs/mnt-"))) == 0);
	assert_true(strncmp(c.state, at("state/syncfs/mnt-"), strlen(at("state/syncfs/mnt-"))) == 0);
	assert_int_equal(stat(c.backing, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(c.state, &st), 0);
	assert_false(c.backing_is_mountpoint);
	/* one per mountpoint, the same again each time */
	assert_int_equal(check(&d, &why, "rw", at("mnt/../mnt/")), 0);
	assert_string_equal(c.backing, d.backing);
	assert_string_equal(c.state, d.state);
	config_fini(&d);
	assert_int_equal(check(&d, &why, "rw", at("backing")), 0);
	assert_string_not_equal(c.backing, d.backing);
	config_fini(&d);
	config_fini(&c);
	/* over the backing directory, through a link as well */
	assert_int_equal(symlink(at("full"), at("link")), 0);
	assert_int_equal(check(&c, &why, with("backing", "full"), at("link")), 0);
	assert_true(c.backing_is_mountpoint);
	assert_string_equal(c.mountpoint, at("full"));
	config_fini(&c);
	/* an explicit state directory is made */
	assert_int_equal(check(&c, &why, with("state", "new/state"), at("mnt")), 0);
	assert_int_equal(stat(at("new/state"), &st), 0);
	config_fini(&c);
	buf_fini(&why);
}

static void test_refused_directories(void **state)
{
	assert_int_equal(mkdir(at("backing/in"), 0700), 0);
	assert_int_equal(mkdir(at("mnt2"), 0700), 0);
	assert_int_equal(mkdir(at("mnt2/in"), 0700), 0);
	check_refused("rw", at("none"), -ENOENT, at("none"));
	check_refused("rw", at("token"), -ENOTDIR, "not a directory");
	check_refused("rw", at("full"), -ENOTEMPTY, "not empty");
	check_refused(with("backing", "none"), at("mnt"), -ENOENT, at("none"));
	check_refused(with("backing", "token"), at("mnt"), -ENOTDIR, "not a directory");
	check_refused(with("backing", "backing"), at("backing/in"), -EINVAL, "outside");
	check_refused(with("backing", "mnt2/in"), at("mnt2"), -EINVAL, "hidden");
	check_refused(with("state", "mnt/x"), at("mnt"), -EINVAL, "outside");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_directories, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
