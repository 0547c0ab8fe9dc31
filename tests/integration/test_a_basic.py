# SPDX-License-Identifier: Apache-2.0
"""a: the programs start, mount, answer and end. The most basic red test is the first one here."""
import json
import os
import signal
import subprocess

import pytest

from harness import SYNCFS, SYNCFSCTL, SYNCFSD, Mount, has, is_mounted, read, wait_until, write


def curl(world, server, path, *args):
    """The lines of syncfs-protocol(7) as people type them."""
    out = world.run(["curl", "-s", "-w", "\n%{http_code}", *args, server.url + path])
    body, _, status = out.rpartition("\n")
    return int(status), json.loads(body) if body else None


@pytest.mark.parametrize("program", [SYNCFS, SYNCFSD, SYNCFSCTL])
def test_help_and_version(world, program):
    assert world.run([program, "--help"] if program != SYNCFS else [program, "-h"])
    version = world.run([program, "-V"] if program == SYNCFS else [program, "--version"])
    assert any(c.isdigit() for c in version)


def test_server_starts_and_drains(world):
    server = world.server()
    assert len(server.log().splitlines()) <= 2, "one line when it listens"
    server.stop()
    server.start()
    server.process.send_signal(signal.SIGINT)
    assert server.wait_exit() == 0


def test_healthz_needs_no_token(world):
    server = world.server()
    reply = server.request("GET", "/healthz", token="")
    assert reply.status == 200
    assert isinstance(reply.json(), dict)


def test_curl_upload_and_delete(world):
    server = world.server()
    headers = ["-H", f"Authorization: Bearer {server.token}", "-H", "Content-Type: application/json"]
    upload = '{"action": "upload", "file_path": "dir/a.txt", "file_content": "This is a test file content."}'
    assert curl(world, server, "/sync", "-X", "POST", *headers, "-d", upload) == (
        200, {"status": "success", "message": "File uploaded successfully"})
    assert read(server.root + "/dir/a.txt") == b"This is a test file content."
    delete = '{"action": "delete", "file_path": "dir/a.txt"}'
    assert curl(world, server, "/sync", "-X", "POST", *headers, "-d", delete) == (
        200, {"status": "success", "message": "File deleted successfully"})
    assert not os.path.exists(server.root + "/dir/a.txt")
    assert curl(world, server, "/sync", "-X", "POST", *headers, "-d", delete) == (
        200, {"status": "success", "message": "File does not exist"})


def test_simple_base64_mkdir_rename_and_folder_delete(world):
    server = world.server()
    server.upload("d/bin", b"\x00\xff\x00binary")
    assert read(server.root + "/d/bin") == b"\x00\xff\x00binary"
    assert server.sync({"action": "mkdir", "file_path": "e/f"}).status == 200
    assert os.path.isdir(server.root + "/e/f")
    assert server.sync({"action": "rename", "file_path": "d", "new_path": "e/f/g"}).status == 200
    assert os.listdir(server.root + "/e/f/g") == ["bin"]
    assert not os.path.exists(server.root + "/d")
    assert server.sync({"action": "delete", "file_path": "e"}).json()["status"] == "success"
    assert not os.path.exists(server.root + "/e")


def test_simple_unknown_members_are_ignored(world):
    server = world.server()
    reply = server.sync({"action": "upload", "file_path": "t", "file_content": "x", "timestamp": 1.5, "more": [1, {}]})
    assert reply.status == 200 and has(server.root + "/t", "x")


def test_simple_poll_tells_the_tree_once_per_token(world):
    server = world.server()
    server.upload("a/text", "text ä")
    server.upload("a/bin", b"\xff\xfe")
    told = {c["file_path"]: c for c in server.poll()}
    assert told["a/text"]["action"] == "upload" and told["a/text"]["file_content"] == "text ä"
    assert told["a/bin"]["encoding"] == "base64"
    assert server.poll() == []
    server.sync({"action": "delete", "file_path": "a/text"})
    assert [(c["action"], c["file_path"]) for c in server.poll()] == [("delete", "a/text")]
    assert server.poll() == []


def test_unauthorized(world):
    server = world.server()
    server.upload("a", "kept")
    wrong = []
    for token in ("", "wrong", "x" * 400, server.token[:-1], server.token + "x"):
        for method, path in (("POST", "/sync"), ("GET", "/poll"), ("GET", "/tree"), ("GET", "/files/a"), ("PUT", "/files/a"),
                             ("DELETE", "/files/a"), ("GET", "/nothing")):
            reply = server.request(method, path, b"{}" if method in ("POST", "PUT") else None, token=token)
            if reply.status != 401 or reply.json()["error"] != "Unauthorized":
                wrong.append((token, method, path, reply))
    assert not wrong
    assert read(server.root + "/a") == b"kept"


def test_files_put_get_range_delete(world):
    server = world.server()
    body = os.urandom(300000)
    assert server.request("PUT", "/files/x/y.bin", body).status in (200, 201, 204)
    assert read(server.root + "/x/y.bin") == body
    reply = server.request("GET", "/files/x/y.bin")
    assert reply.status == 200 and reply.body == body and "attachment" in reply.headers["Content-Disposition"]
    part = server.request("GET", "/files/x/y.bin", headers={"Range": "bytes=1000-1999"})
    assert part.status == 206 and part.body == body[1000:2000]
    assert server.request("PUT", "/files/x/y.bin", b"z", {"If-None-Match": "*"}).status == 412
    assert server.request("PUT", "/files/x/y.bin", b"z", {"If-Match": reply.headers["ETag"]}).status in (200, 204)
    assert server.request("DELETE", "/files/x/y.bin").status in (200, 204)
    assert server.request("GET", "/files/x/y.bin").status == 404


def test_mount_write_read_unmount(world):
    server = world.server()
    view = world.mount("A", server)
    assert os.listdir(view.path) == []
    write(view / "f", "content")
    assert read(view / "f") == b"content"
    assert read(view.backing + "/f") == b"content"
    wait_until(lambda: has(server.root + "/f", "content"), what="the file is on the server")
    view.unmount()
    assert os.listdir(view.path) == [] and has(view.backing + "/f", "content")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "fusermount3"])
def test_ends_by(world, how):
    view = world.mount("A", world.server())
    write(view / "f", "x")
    view.unmount(how)
    assert not is_mounted(view.path)


def test_goes_to_the_background(world):
    """The command returns 0 when the mount can be used, and its process goes on without it."""
    server = world.server()
    view = Mount(world, "A", server, start=False)
    done = subprocess.run(view.argv(), env=world.env, capture_output=True, text=True, timeout=30, cwd=world.path,
                          check=False)
    try:
        assert done.returncode == 0, done
        assert is_mounted(view.path), "usable at once"
        write(view / "f", "x")
        wait_until(lambda: has(server.root + "/f", "x"))
    finally:
        subprocess.run(["fusermount3", "-u", view.path], check=False, timeout=30)
    wait_until(lambda: not is_mounted(view.path))
    # the next mount gets the lock of the state directory only when the first daemon has ended
    wait_until(lambda: subprocess.run(view.argv(), env=world.env, capture_output=True, timeout=30,
                                      check=False).returncode == 0, what="mounted again", every=0.2)
    assert has(view / "f", "x")
    subprocess.run(["fusermount3", "-u", view.path], check=True, timeout=30)


def test_mount_over_the_backing_directory(world):
    server = world.server()
    over = world.join("both")
    os.mkdir(over)
    write(over + "/there", "before")
    view = world.mount("A", server, backing=over, mountpoint=over)
    assert has(over + "/there", "before")
    write(over + "/new", "through the mount")
    wait_until(lambda: has(server.root + "/new", "through the mount") and has(server.root + "/there", "before"))
    view.unmount()
    assert sorted(n for n in os.listdir(over) if n != ".syncfs") == ["new", "there"]


def test_reserved_name(world):
    view = world.mount("A", world.server())
    assert ".syncfs" not in os.listdir(view.path)
    with pytest.raises(PermissionError):
        os.mkdir(view / ".syncfs")
    with pytest.raises(PermissionError):
        write(view / ".syncfs", "x")
    os.mkdir(view / "d")
    os.mkdir(view / "d/.syncfs")


def test_status_wait_and_token(world):
    server, a, b = world.pair()
    write(a / "f", "1")
    a.wait()
    assert has(server.root + "/f", "1"), "wait returned, so the server has it"
    token = a.ctl("token", a.path)
    assert token.returncode == 0 and token.stdout.strip()
    done = b.ctl("wait", "--timeout", "20", "--seq", token.stdout.strip(), b.path)
    assert done.returncode == 0, done
    assert has(b / "f", "1"), "read-your-writes across machines"
    assert a.status()
    human = a.ctl("status", a.path)
    assert human.returncode == 0 and "connected" in human.stdout


def test_wait_times_out_without_a_server(world):
    server = world.server()
    view = world.mount("A", server)
    write(view / "f", "1")
    view.wait()
    server.kill9()
    write(view / "g", "2")
    done = view.ctl("wait", "--timeout", "1", view.path)
    assert done.returncode == 1 and (done.stdout + done.stderr).strip(), "and says why"
    server.start()
    view.wait()


def test_ctl_without_a_mount(world):
    done = subprocess.run([SYNCFSCTL, "status"], env=world.env, capture_output=True, text=True, cwd=world.path,
                          timeout=20, check=False)
    assert done.returncode == 2


def test_env_style_config_file(world):
    """The file that users of the ancestor have: remote_url, api_key, local_sync_dir, poll_interval."""
    server = world.server()
    config, backing = world.join("env"), world.join("sync")
    os.mkdir(backing)
    write(config, f"# mine\nremote_url={server.url}\napi_key={server.token}\nlocal_sync_dir={backing}\npoll_interval=5\n")
    os.chmod(config, 0o600)
    view = Mount(world, "A", start=False)
    view.options = {"config": config, "state": view.state}
    view.start()
    write(view / "f", "from the file")
    wait_until(lambda: has(server.root + "/f", "from the file"))
    assert has(backing + "/f", "from the file")


def test_token_commands(world):
    server = world.server("server")
    token = server.add_token("laptop")
    assert server.request("GET", "/poll", token=token).status == 200
    listing = world.run([SYNCFSD, "--root", server.root, "token", "list"])
    assert "laptop" in listing and token not in listing
    world.run([SYNCFSD, "--root", server.root, "token", "revoke", "laptop"])
    wait_until(lambda: server.request("GET", "/poll", token=token).status == 401, what="the revoked token is refused")
