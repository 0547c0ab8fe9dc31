# SPDX-License-Identifier: Apache-2.0
"""a: what README.md tells people to paste works as pasted; the mount helper passes on what it should."""
import os
import re
import socket
import subprocess

import pytest

from harness import BUILD, TOP, read

PORT = 3459


def blocks(title):
    """The indented lines of one section of README.md, continuations joined."""
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as page:
        section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## )", page.read(), re.MULTILINE | re.DOTALL).group(1)
    text = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    return text.replace("\\\n", "").splitlines()


def test_run_one_and_two_instances(world):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            pytest.skip(f"port {PORT} is in use on this machine")
    place = world.join("one")
    script = ["set -e", "trap 'kill %1; wait' EXIT"]
    for line in blocks("Run one instance") + blocks("Run two instances"):
        if line.startswith("meson "):
            continue
        line = line.replace("/tmp/one", place).replace("build/src/", BUILD + "/src/")
        if line.startswith("cat "):  # what a person does not notice: the way back from the server takes a moment
            script.append(f"for i in $(seq 200); do [ -s {place}/B/hello.txt ] && break; sleep 0.05; done")
        script.append(line)
        if line.endswith("&"):
            script.append(f"for i in $(seq 200); do curl -s http://127.0.0.1:{PORT}/healthz >/dev/null && break; sleep 0.05; done")
        if line.startswith("ls "):
            script.append(f"[ ! -e {place}/tree/dir/a.txt ]; cmp README.md {place}/tree/README.md")
    world.mountpoints |= {place + "/A", place + "/B"}
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=TOP, env=world.env, capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert '"message":"File uploaded successfully"' in done.stdout.replace(": ", ":")
    assert "This is a test file content." in done.stdout, "told by the poll"
    assert '"message":"File deleted successfully"' in done.stdout.replace(": ", ":")
    assert done.stdout.count("hello\n") == 2, "on the server and in B"


@pytest.mark.parametrize("arguments,expected", [
    (["none", "/mnt"], ["/mnt"]),
    (["/srv/x", "/mnt"], ["-o", "backing=/srv/x", "/mnt"]),
    (["/srv/x", "/mnt", "-n", "-o", "rw,_netdev,url=http://h:1,x-systemd.automount,allow_other"],
     ["-o", "backing=/srv/x,url=http://h:1,allow_other", "/mnt"]),
    (["/srv/x", "/mnt", "-o", "backing=/other"], ["-o", "backing=/other", "/mnt"]),
    (["none", "/m n t", "-o", "state=/a b"], ["-o", "state=/a b", "/m n t"]),
    (["none", "/mnt", "-f"], None)])
def test_mount_helper(world, arguments, expected):
    helper = os.path.join(BUILD, "src", "install", "mount.syncfs")
    if not os.path.exists(helper):
        pytest.fail(f"not built: {helper}")
    # in place of the installed program: one that writes down how it was called
    script = read(helper).decode()
    script = re.sub(r'^PATH="', f'PATH="{world.path}:', script, count=1, flags=re.MULTILINE)
    with open(world.join("syncfs"), "w", encoding="utf-8") as fake:
        fake.write(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {world.path}/called\n")
    os.chmod(world.join("syncfs"), 0o755)
    world.run(["sh", "-c", script, "mount.syncfs", *arguments])
    called = world.join("called")
    assert (read(called).decode().splitlines() if os.path.exists(called) else None) == expected
