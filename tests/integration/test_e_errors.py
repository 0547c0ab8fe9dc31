# SPDX-License-Identifier: Apache-2.0
"""e: bad input is refused whole: one sentence that says what to do, a fitting status, nothing touched."""
import json
import os
import subprocess

import pytest

from harness import SYNCFS, SYNCFSD, Mount, has, is_mounted, tree, wait_same, wait_until, write
from peer import Impostor, raw


def refused(world, argv, mountpoint=None, timeout=40):
    """Exit status above 0, one line on stderr, nothing mounted. Returns that line."""
    before = open("/proc/self/mountinfo", encoding="utf-8", errors="replace").read().count(world.path)
    done = subprocess.run(argv, env=world.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=world.path,
                          timeout=timeout, check=False)
    assert done.returncode > 0, f"not refused: {done}"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(lines) == 1, f"one sentence: {lines}"
    assert len(lines[0]) > 15
    if mountpoint:
        assert not is_mounted(mountpoint)
    assert open("/proc/self/mountinfo", encoding="utf-8", errors="replace").read().count(world.path) <= before
    return lines[0]


def client(world, server, **options):
    view = Mount(world, "bad", server, start=False)
    view.options.update(options)
    return view


def test_wrong_token(world):
    server = world.server()
    token = world.join("wrong")
    write(token, "not the token of this server\n")
    os.chmod(token, 0o600)
    view = client(world, server, token_file=token)
    assert "token" in refused(world, view.argv(), view.path)


def test_missing_token_file(world):
    view = client(world, world.server(), token_file=world.join("none"))
    assert "none" in refused(world, view.argv(), view.path)


def test_token_that_others_can_read(world):
    server = world.server()
    os.chmod(server.token_file, 0o644)
    server.stop()
    refused(world, [SYNCFSD, "--root", server.root, "--listen", "127.0.0.1:0", "--token-file", server.token_file])


def test_a_server_that_is_none(world):
    impostor = Impostor()
    world.others.append(impostor)
    view = client(world, world.server(), url=impostor.url)
    assert str(impostor.port) in refused(world, view.argv(), view.path)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://127.0.0.1:99999", ""])
def test_bad_url(world, url):
    view = client(world, world.server(), url=url or "=")
    refused(world, view.argv(), view.path)


def test_plain_http_to_another_host(world):
    view = client(world, world.server(), url="http://syncfs.example:3459")
    assert "insecure" in refused(world, view.argv(), view.path)


def test_mountpoint_is_missing(world):
    view = client(world, world.server())
    os.rmdir(view.path)
    assert view.path in refused(world, view.argv())


def test_mountpoint_is_a_file(world):
    view = client(world, world.server())
    os.rmdir(view.path)
    write(view.path, "x")
    refused(world, view.argv(), view.path)


def test_mountpoint_is_not_empty(world):
    view = client(world, world.server())
    write(view / "f", "x")
    assert "empty" in refused(world, view.argv(), view.path)


def test_mountpoint_is_mounted_already(world):
    server, a, _ = world.pair()
    view = client(world, server)
    view.path = a.path
    refused(world, view.argv())
    assert is_mounted(a.path)


@pytest.mark.parametrize("over", [False, True], ids=["beside", "over"])
def test_mountpoint_of_one_that_was_killed(world, over):
    """Its dead mount goes, whoever is inside; also when it lies over its own backing directory."""
    server = world.server()
    view = client(world, server)
    if over:
        view.options["backing"] = view.backing = view.path
    view.start()
    write(view / "f", "x")
    fd = os.open(view.path, os.O_RDONLY)
    try:
        view.kill9()
        assert is_mounted(view.path)
        view.start()
        assert has(view / "f", "x")
        wait_same(view.path, server.root, timeout=30)
    finally:
        os.close(fd)
    view.unmount()
    assert not is_mounted(view.path)


@pytest.mark.parametrize("depth", ["inside", "inside/deep"])
def test_mountpoint_below_the_backing_directory(world, depth):
    view = client(world, world.server())
    view.path = os.path.join(view.backing, depth)
    os.makedirs(view.path)
    refused(world, view.argv(), view.path)


def test_backing_directory_below_the_mountpoint(world):
    view = client(world, world.server())
    view.options["backing"] = view / "inside"
    os.mkdir(view / "inside")
    refused(world, view.argv(), view.path)


def test_backing_directory_is_missing(world):
    view = client(world, world.server(), backing=world.join("none"))
    assert "none" in refused(world, view.argv(), view.path)


def test_backing_directory_is_read_only(world):
    folder = world.join("ro")
    os.mkdir(folder)
    if os.geteuid() == 0:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("no right to mount a read-only tmpfs")
    else:
        os.chmod(folder, 0o555)
    view = client(world, world.server(), backing=folder)
    try:
        refused(world, view.argv(), view.path)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", folder], check=False)


def test_backing_directory_is_in_use(world):
    server, a, _ = world.pair()
    view = client(world, server, backing=a.backing)
    refused(world, view.argv(), view.path)


def test_state_directory_is_in_use(world):
    server, a, _ = world.pair()
    view = client(world, server, state=a.state)
    refused(world, view.argv(), view.path)


@pytest.mark.parametrize("line", ["no equals sign", "no_such_key=1", "=value", "durable=maybe", "poll_interval=soon",
                                  "url=http://127.0.0.1\x01:1"])
def test_unreadable_config_line(world, line):
    server = world.server()
    config = world.join("conf")
    write(config, f"# fine\nurl={server.url}\n{line}\n")
    view = client(world, server, config=config, url=None)
    sentence = refused(world, view.argv(), view.path)
    assert ":3" in sentence or "line 3" in sentence, f"names the line: {sentence}"


@pytest.mark.parametrize("argv", [["-o", "no_such_option=1"], ["--no-such-option"], ["-o", "durable=sometimes"], ["-o", "api_key=secret"],
                                  ["-o", "uid=-5"], ["-o", "offline=block:never"]])
def test_unknown_option(world, argv):
    view = client(world, world.server())
    refused(world, view.argv(*argv), view.path)


def test_no_arguments(world):
    refused(world, [SYNCFS])


@pytest.mark.parametrize("argv", [["--listen", "nonsense"], ["--listen", "127.0.0.1:99999"], ["--no-such"],
                                  ["--token-file", "/nonexistent"], ["--config", "/nonexistent"],
                                  ["--root", "/proc/version"], ["--tls-cert", "/nonexistent"]])
def test_server_options(world, argv):
    write(world.join("token"), "a token of the test\n")
    os.chmod(world.join("token"), 0o600)
    refused(world, [SYNCFSD, "--root", world.join("r"), "--token-file", world.join("token"), *argv])


def test_server_port_in_use(world):
    server = world.server()
    assert str(server.port) in refused(world, [SYNCFSD, "--root", world.join("other"), "--listen",
                                               f"127.0.0.1:{server.port}", "--token-file",
                                               server.token_file])


def test_server_root_in_use(world):
    server = world.server()
    refused(world, [SYNCFSD, "--root", server.root, "--listen", "127.0.0.1:0", "--token-file", server.token_file])


BAD_PATHS = ["", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "./x", "a/./b", "a//b", "a/", "a\0b",
             ".syncfs", ".syncfs/x", "x" * 256, "x/" * 2100 + "x", "\ud800"]


@pytest.mark.parametrize("action", ["upload", "delete", "mkdir", "rename from", "rename to"])
def test_bad_paths(world, action):
    server = world.server()
    server.upload("kept", "x")
    write(world.join("outside"), "untouched")
    before, seq = tree(server.root), server.seq()
    accepted = []
    for path in BAD_PATHS:
        message = {"action": action.split()[0], "file_path": path, "file_content": "bad"}
        if action == "rename from":
            message.update(new_path="new")
        elif action == "rename to":
            message.update(file_path="kept", new_path=path)
        reply = server.sync(message)
        if reply.status != 400 or not reply.json()["error"]:
            accepted.append((path[:40], reply))
    assert not accepted
    assert tree(server.root) == before and server.seq() == seq
    assert sorted(n for n in os.listdir(world.path) if n in ("outside", "x", "new")) == ["outside"]


MALFORMED = {
    "nothing": b"", "no json": b"hello", "half": b'{"action": "upload", "file_path": "f", "file_con',
    "array": b"[]", "string": b'"upload"', "number": b"1", "null": b"null",
    "trailing bytes": b'{"action":"upload","file_path":"f","file_content":"x"}x',
    "two objects": b'{"action":"upload","file_path":"f","file_content":"x"}{}',
    "duplicate key": b'{"action":"upload","file_path":"f","file_path":"g","file_content":"x"}',
    "duplicate unknown key": b'{"action":"upload","file_path":"f","file_content":"x","a":1,"a":2}',
    "no action": b'{"file_path":"f","file_content":"x"}', "no path": b'{"action":"upload","file_content":"x"}',
    "no content": b'{"action":"upload","file_path":"f"}', "path is a number": b'{"action":"upload","file_path":1,"file_content":"x"}',
    "action is a list": b'{"action":[],"file_path":"f","file_content":"x"}',
    "other action": b'{"action":"explode","file_path":"f","file_content":"x"}',
    "other encoding": b'{"action":"upload","file_path":"f","file_content":"x","encoding":"rot13"}',
    "bad base64": b'{"action":"upload","file_path":"f","file_content":"x*=","encoding":"base64"}',
    "bad utf-8": b'{"action":"upload","file_path":"f","file_content":"\xff\xfe"}',
    "NUL in path": b'{"action":"upload","file_path":"f\\u0000g","file_content":"x"}',
    "too deep": b'{"action":"upload","file_path":"f","file_content":"x","d":' + b"[" * 100 + b"]" * 100 + b"}",
    "rename without new_path": b'{"action":"rename","file_path":"kept"}',
}


def test_too_deep_a_path(world):
    server = world.server()
    for action in ("upload", "mkdir"):
        reply = server.sync({"action": action, "file_path": "a/" * 520 + "x", "file_content": ""})
        assert reply.status in (400, 413, 414), reply
        assert tree(server.root) == {}


def test_malformed_simple_requests(world):
    server = world.server()
    server.upload("kept", "x")
    before, seq = tree(server.root), server.seq()
    accepted = []
    for name, body in MALFORMED.items():
        reply = server.sync(body)
        if reply.status != 400 or "error" not in reply.json():
            accepted.append((name, reply))
    assert not accepted
    assert tree(server.root) == before and server.seq() == seq


def test_fixed_error_texts(world):
    server = world.server()
    assert server.sync(b'{"file_path":"f"}').json()["error"] == "Invalid data"
    assert server.sync(b'{"action":"upload"}').json()["error"] == "Invalid data"
    assert server.sync(b'{"action":"explode","file_path":"f"}').json()["error"] == "Invalid action"
    assert server.request("GET", "/poll", token="no").json()["error"] == "Unauthorized"


BATCH = "application/vnd.syncfs.batch"


MALFORMED_BATCHES = [
    b"", b"\0\0\0", b"\xff\xff\xff\xff{}", b"\0\0\0\x02{}", b"\0\0\0\x05{}", b"\0\0\0\x04null", b"\0\0\0\x02[]",
    b"\0\0\0\x0c" + b'{"ops":"no"}', bytes(range(100))]


def test_malformed_batches(world):
    server = world.server()
    seq = server.seq()
    accepted = []
    for body in MALFORMED_BATCHES:
        reply = server.request("POST", "/sync", body, {"Content-Type": BATCH})
        if not 400 <= reply.status < 500:
            accepted.append((body, reply))
    assert not accepted
    assert server.seq() == seq


BAD_REQUESTS = [
    ("GET", "/nothing", 404), ("GET", "/", 404), ("PUT", "/sync", 405), ("DELETE", "/poll", 405), ("POST", "/poll", 405),
    ("GET", "/poll?cursor=nonsense", 400), ("GET", "/poll?cursor=0.0.0&wait=soon", 400),
    ("GET", "/files/none", 404), ("GET", "/files/../x", 400), ("GET", "/files/%2e%2e/x", 400), ("GET", "/files/.syncfs/x", 400),
    ("GET", "/files/a%00b", 400), ("PUT", "/files/", 400), ("GET", "/files/%zz", 400), ("POST", "/chunks/missing", 400),
    ("POST", "/chunks/get", 400), ("GET", "/session?client=xyz", 400), ("GET", "/tree?cursor=xyz", 400)]


def test_bad_request_lines(world):
    server = world.server()
    wrong = []
    for method, path, status in BAD_REQUESTS:
        reply = server.request(method, path, b"nonsense" if method in ("POST", "PUT") else None)
        if reply.status not in ((status, 415, 404) if status == 400 else (status,)) or not reply.json()["error"]:
            wrong.append((method, path, status, reply))
    assert not wrong


def test_the_cursor_of_another_tree(world):
    server, other = world.server(), world.server("other")
    foreign = other.request("GET", "/session?client=" + "0" * 32).json()["cursor"]
    reply = server.request("GET", f"/poll?cursor={foreign}&wait=1")
    assert reply.status == 410 and reply.json()["code"] in ("epoch", "diverged", "gone")


RAW = {
    "header block too long": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 7000 + b"\r\n\r\n", (431, 400, 413)),
    "two lengths": (b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", (400, 401)),
    "length and chunked": (b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                           (400, 401)),
    "negative length": (b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (400, 401, 413)),
    "no method": (b"\r\n\r\n\r\n", (400,)),
    "binary": (bytes(range(128, 256)) + b"\r\n\r\n", (400,)),
}


def test_raw_bytes(world):
    server = world.server()
    wrong = []
    for name, (data, statuses) in RAW.items():
        answer = raw(server.port, data, 5)
        if answer and int(answer.split(b" ")[1]) not in statuses:
            wrong.append((name, answer[:200]))
        assert server.request("GET", "/healthz", token="").status == 200, "goes on serving"
    assert not wrong


def test_token_is_checked_before_the_body(world):
    server = world.server()
    answer = raw(server.port, b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n", 10)
    assert answer.split(b" ")[1] == b"401", "without a byte of the body"


def test_body_over_the_limit(world):
    server = world.server()
    head = f"POST /sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nContent-Type: application/json\r\nContent-Length: {65 << 20}\r\n\r\n"
    assert raw(server.port, head.encode(), 10).split(b" ")[1] == b"413"


def test_no_token_in_logs_or_command_lines(world):
    server, a, b = world.pair()
    write(a / "f", "x")
    a.wait()
    server.request("GET", "/poll", token="a-wrong-token-that-must-not-be-logged")
    for daemon in (server, a, b):
        assert server.token.encode() not in daemon.log()
        assert b"a-wrong-token-that-must-not-be-logged" not in daemon.log()
        assert server.token.encode() not in open(f"/proc/{daemon.process.pid}/cmdline", "rb").read()


def test_token_from_the_environment_is_overwritten(world):
    server = world.server()
    world.env["SYNCFS_TOKEN"] = server.token
    view = Mount(world, "A", server, start=False)
    view.options.pop("token_file")
    view.start()
    write(view / "f", "x")
    wait_until(lambda: os.path.exists(server.root + "/f"))
    assert server.token.encode() not in open(f"/proc/{view.process.pid}/environ", "rb").read()


def test_metrics_are_text(world):
    server = world.server()
    reply = server.request("GET", "/metrics")
    assert reply.status == 200 and b"syncfs" in reply.body
    limits = server.request("GET", "/healthz", token="").json()
    assert "64" in json.dumps(limits) or "67108864" in json.dumps(limits)


def test_tree_of_another_token(world):
    """A client that names a tree is not given another one."""
    server = world.server()
    assert server.request("GET", "/tree", headers={"Syncfs-Namespace": "default"}).status == 200
    reply = server.request("GET", "/tree", headers={"Syncfs-Namespace": "other"})
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")
    with pytest.raises(AssertionError, match="another namespace"):
        world.mount("A", server, namespace="other")
