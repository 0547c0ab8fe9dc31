# SPDX-License-Identifier: Apache-2.0
"""h: when nothing happens, nothing happens: no echo, no loop, no work."""
import os
import time

import pytest

from harness import SLOW, conflict_copies, has, tree, wait_same, wait_until, write
from peer import Proxy


def idle(seconds):
    """Stillness can only be seen by watching for a while."""
    time.sleep(seconds)


def proxied_pair(world):
    server = world.server()
    proxies = [Proxy(server.port), Proxy(server.port)]
    world.others += proxies
    return server, proxies, [world.mount(n, server, url=p.url) for n, p in zip("AB", proxies)]


def test_only_polls_when_idle(world):
    server, proxies, (a, b) = proxied_pair(world)
    for i in range(50):
        write(a / f"f{i}", str(i))
        write(b / f"g{i}", str(i))
    a.wait()
    b.wait()
    wait_same(a.path, b.path, server.root)
    a.wait()
    b.wait()
    seq = server.seq()
    for proxy in proxies:
        proxy.reset()
    cpu = [d.cpu_s() for d in (server, a, b)]
    idle(8)
    for proxy in proxies:
        assert not proxy.others_than_polls(), "no echo"
        assert len(proxy.snapshot()[0]) <= 3, "long polls, not many"
    assert server.seq() == seq
    assert all(d.cpu_s() - before < 0.2 * SLOW for d, before in zip((server, a, b), cpu)), "no work"
    assert not conflict_copies(a.path)


def test_requests_are_counted_control(world):
    """The control of the test above: the proxies do see a change that goes up, and no echo from who receives it."""
    server, proxies, (a, b) = proxied_pair(world)
    a.wait()
    b.wait()
    for proxy in proxies:
        proxy.reset()
    write(a / "f", "x")
    wait_until(lambda: has(b / "f", "x"))
    a.wait()
    assert proxies[0].others_than_polls()
    idle(1)
    assert not [r for r in proxies[1].others_than_polls() if not r.startswith("GET")], "the receiver sends nothing back"


def test_reading_sends_nothing(world):
    server, proxies, (a, b) = proxied_pair(world)
    for i in range(20):
        write(a / f"f{i}", str(i))
    wait_same(a.path, b.path)
    a.wait()
    proxies[1].reset()
    for name in os.listdir(b.path):
        with open(b / name, "rb") as f:
            f.read()
    idle(1)
    assert not [r for r in proxies[1].others_than_polls() if not r.startswith("GET")]
    assert server.seq() >= 20


def test_no_change_is_no_version(world):
    """The same content written again: at most its time changes."""
    server, a, b = world.pair()
    write(a / "f", "same")
    wait_until(lambda: has(b / "f", "same"))
    a.wait()
    inode = os.stat(b.backing + "/f").st_ino
    write(a / "f", "same")
    a.wait()
    b.wait()
    wait_same(a.path, b.path, server.root)
    assert os.stat(b.backing + "/f").st_ino == inode, "B's copy is not replaced"


def test_two_simple_pollers_that_upload_back(world):
    """The ancestor looped here: each told the other what it had just been told."""
    server = world.server()
    tokens = [server.add_token("one"), server.add_token("two")]
    server.upload("f", "content")
    server.upload("d/bin", b"\x00\xff")
    told = [0, 0]
    for _ in range(6):
        for n, token in enumerate(tokens):
            for change in server.poll(token=token):
                told[n] += 1
                change["timestamp"] = time.time()
                reply = server.sync(change, token=token)
                assert reply.status == 200, reply
    for n, token in enumerate(tokens):
        assert server.poll(token=token) == [], "silence"
        assert told[n] == 2, f"each was told each file once, not {told[n]} times"


def test_simple_client_and_mount(world):
    server = world.server()
    a = world.mount("A", server)
    token = server.add_token("script")
    assert server.poll(token=token) == []
    write(a / "f", "from the mount")
    a.wait()
    changes = server.poll(token=token)
    assert [(c["action"], c["file_path"]) for c in changes] == [("upload", "f")]
    assert server.sync(changes[0], token=token).status == 200
    server.upload("g", "from the script")
    wait_until(lambda: has(a / "g", "from the script"))
    assert tree(a.path).keys() == {b"f", b"g"}


@pytest.mark.seconds(200)
def test_memory_of_an_idle_mount(world):
    server = world.server()
    a = world.mount("A", server)
    for i in range(40):
        os.mkdir(a / f"d{i}")
        for j in range(50):
            write(a / f"d{i}/f{j}", "x")
    a.wait(120)
    if SLOW == 1:
        assert a.rss_kib() < 40 * 1024, "2,000 files"
        assert server.rss_kib() < 64 * 1024
