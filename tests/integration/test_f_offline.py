# SPDX-License-Identifier: Apache-2.0
"""f: no call on the mount waits for the network, whatever the network does."""
import os
import random
import re
import shutil
import sqlite3
import subprocess
import time

import pytest

from harness import SLOW, has, tree, wait_same, wait_until, write
from peer import Proxy, Silent


def quick(what, function, limit=2.0):
    started = time.monotonic()
    result = function()
    taken = time.monotonic() - started
    assert taken < limit * SLOW, f"{what} took {taken:.2f} s"
    return result


def exercise(view):
    """What people do in a folder; nothing of it may wait."""
    quick("cp", lambda: subprocess.run(["cp", "-r", "/usr/include/linux", view / "inc"], check=True, timeout=60), 20)
    quick("ls -lR", lambda: subprocess.run(["ls", "-lR", view.path], check=True, timeout=60, stdout=subprocess.DEVNULL), 5)
    quick("df", lambda: subprocess.run(["df", view.path], check=True, timeout=60, stdout=subprocess.DEVNULL))
    quick("cat", lambda: subprocess.run(["cat", view / "inc/fuse.h"], check=True, timeout=60, stdout=subprocess.DEVNULL))
    quick("mv", lambda: os.rename(view / "inc", view / "moved"))
    quick("rm -r", lambda: shutil.rmtree(view / "moved"), 10)
    quick("write", lambda: write(view / "after", "written without a server"))
    with open(view / "after", "ab") as f:
        quick("fsync", lambda: os.fsync(f.fileno()))
    quick("stat", lambda: os.stat(view / "after"))


@pytest.mark.parametrize("trouble", ["stopped", "refused", "stalled"])
def test_offline_after_contact(world, trouble):
    server = world.server()
    proxy = Proxy(server.port)
    world.others.append(proxy)
    a = world.mount("A", server, url=proxy.url)
    write(a / "before", "x")
    a.wait()
    {"stopped": lambda: os.kill(server.process.pid, 19), "refused": proxy.refuse, "stalled": proxy.stall}[trouble]()
    try:
        exercise(a)
    finally:
        {"stopped": lambda: os.kill(server.process.pid, 18), "refused": proxy.open, "stalled": proxy.resume}[trouble]()
    wait_until(lambda: has(server.root + "/after", "written without a server"), 75, "sent when it can be")
    wait_same(a.path, server.root)


@pytest.mark.parametrize("trouble", ["nobody listens", "accepts and never answers"])
def test_offline_from_the_start(world, trouble):
    server = world.server()
    silent = Silent()
    world.others.append(silent)
    if trouble == "nobody listens":
        server.kill9()
        a = world.mount("A", server)
    else:
        a = world.mount("A", server, url=silent.url)
    exercise(a)
    quick("unmount", a.unmount, 5)
    quick("mount again", a.start, 15)
    assert has(a / "after", "written without a server")


@pytest.mark.parametrize("trouble", ["killed", "stalled"])
def test_unmount_is_quick(world, trouble):
    server = world.server()
    proxy = Proxy(server.port)
    world.others.append(proxy)
    a = world.mount("A", server, url=proxy.url)
    write(a / "f", "x")
    a.wait()
    if trouble == "killed":
        server.kill9()
    else:
        proxy.stall()
    write(a / "g", "y")
    quick("unmount", a.unmount, 5)


@pytest.mark.seconds(180)
def test_disconnected_is_said_once(world):
    server = world.server()
    a = world.mount("A", server)
    write(a / "f", "x")
    a.wait()
    server.kill9()
    for i in range(5):
        write(a / f"f{i}", "x")
    wait_until(lambda: b"connect" in a.log(), what="says that it is disconnected")
    started = time.monotonic()
    wait_until(lambda: time.monotonic() > started + 6, 20)
    lines = [line for line in a.log().splitlines() if re.search(rb"(?i)disconnected|no connection|cannot reach|unreachable", line)]
    assert len(lines) == 1, lines
    status = a.ctl("status", a.path)
    assert status.returncode == 0 and ("not connected" in status.stdout or "disconnected" in status.stdout), status
    server.start()
    wait_until(lambda: has(server.root + "/f4", "x"), 75)


def test_receiver_comes_back(world):
    server, a, b = world.pair()
    proxy = Proxy(server.port)
    world.others.append(proxy)
    c = world.mount("C", server, url=proxy.url)
    write(a / "one", "1")
    wait_until(lambda: has(c / "one", "1"))
    proxy.refuse()
    write(a / "two", "2")
    os.remove(a / "one")
    wait_until(lambda: has(b / "two", "2"))
    assert tree(c.path).keys() == {b"one"}
    proxy.open()
    wait_same(a.path, c.path, timeout=75)


def test_pause_and_resume(world):
    server, a, _ = world.pair()
    write(a / "f", "x")
    a.wait()
    assert a.ctl("pause", a.path).returncode == 0
    write(a / "g", "y")
    assert a.ctl("wait", "--timeout", "1", a.path).returncode == 1
    assert not os.path.exists(server.root + "/g")
    assert a.ctl("resume", a.path).returncode == 0
    a.wait()
    assert has(server.root + "/g", "y")


def test_reconnect_now(world):
    """Asked for, the next attempt is not waited for, however long the server was away."""
    server = world.server()
    a = world.mount("A", server)
    write(a / "f", "x")
    a.wait()
    server.kill9()
    write(a / "g", "y")
    wait_until(lambda: b"connect" in a.log(), what="says that it is disconnected")
    server.start()
    assert a.ctl("reconnect", a.path).returncode == 0
    wait_until(lambda: has(server.root + "/g", "y"), 3)


def test_durable_local(world):
    """close() makes durable here; it does not wait for a server that is away."""
    server = world.server()
    a = world.mount("A", server, durable="local")
    server.kill9()
    quick("write and close", lambda: write(a / "f", "x"))
    server.start()
    wait_until(lambda: has(server.root + "/f", "x"), 75)


def test_lost_answers(world):
    """Three in ten answers are lost: what is sent again is answered from the first time, never done twice."""
    server = world.server()
    proxy = Proxy(server.port)
    world.others.append(proxy)
    a = world.mount("A", server, url=proxy.url)
    b = world.mount("B", server)
    rng = random.Random(7)
    proxy.lose_answers = lambda: rng.random() < 0.3
    for n in range(1000):
        write(a / f"f{n % 10}", f"edit {n}\n" * 20)
        if n % 4 == 3:  # else most would be taken together
            sent = len(proxy.snapshot()[0])
            wait_until(lambda s=sent: len(proxy.snapshot()[0]) > s, 20, "something is sent", every=0.002)
    a.wait(120)
    assert proxy.lost > 20, "control: answers were lost"
    expected = wait_same(a.path, server.root, b.path)
    assert sorted(expected) == [f"f{n}".encode() for n in range(10)]
    with sqlite3.connect(f"file:{server.root}/.syncfs/meta.db?mode=ro", uri=True) as rows:
        versions = rows.execute("select node, content from history").fetchall()
        versions += rows.execute("select id, hash from node where hash is not null and tomb = 0").fetchall()
    assert len(versions) > 100
    assert len(set(versions)) == len(versions), "a version was made twice"
