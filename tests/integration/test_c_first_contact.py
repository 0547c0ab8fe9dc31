# SPDX-License-Identifier: Apache-2.0
"""c: a client and a server that meet for the first time merge; what is equal by content is not sent."""
import os
import shutil

from harness import conflict_copies, has, tree, wait_same, wait_until, write
from peer import Proxy


def fill(root, count=40, size=20000, seed=0):
    for i in range(count):
        os.makedirs(f"{root}/d{i % 5}", exist_ok=True)
        write(f"{root}/d{i % 5}/f{i}", f"{seed} {i} ".encode() * (size // 5))
    os.symlink("d0/f0", f"{root}/link")
    os.mkdir(f"{root}/empty")


def proxied(world, server):
    proxy = Proxy(server.port)
    world.others.append(proxy)
    return proxy


def test_client_with_files(world):
    backing = world.join("mine")
    os.mkdir(backing)
    fill(backing)
    before = tree(backing)
    server = world.server()
    a = world.mount("A", server, backing=backing)
    b = world.mount("B", server)
    wait_same(a.path, server.root, b.path, timeout=60)
    assert tree(b.path) == before


def test_server_with_files(world):
    root = world.join("tree")
    os.mkdir(root)
    fill(root)
    before = tree(root)
    server = world.server(root=root)
    a = world.mount("A", server)
    wait_same(a.path, root, timeout=60)
    assert tree(root) == before


def test_both_with_different_files(world):
    root, backing = world.join("tree"), world.join("mine")
    for folder, seed in ((root, 1), (backing, 2)):
        os.makedirs(folder + f"/common/only{seed}")
        write(folder + f"/common/only{seed}/f", f"{seed}")
        write(folder + "/common/equal", "equal")
    server = world.server(root=root)
    a = world.mount("A", server, backing=backing)
    found = wait_same(a.path, root, timeout=60)
    assert set(found) == {b"common", b"common/equal", b"common/only1", b"common/only1/f", b"common/only2",
                          b"common/only2/f"}
    assert not conflict_copies(root)


def test_both_with_one_name_and_two_contents(world):
    """Nobody's bytes are lost: one keeps the name, the other is beside it, and both sides show the same."""
    root, backing = world.join("tree"), world.join("mine")
    os.mkdir(root)
    os.mkdir(backing)
    write(root + "/f.txt", "the server's")
    write(backing + "/f.txt", "the client's")
    server = world.server(root=root)
    a = world.mount("A", server, backing=backing)
    wait_until(lambda: len(tree(root)) == 2 and len(tree(a.path)) == 2, 30, "two files on both sides")
    found = wait_same(a.path, root)
    copies = conflict_copies(root)
    assert len(copies) == 1 and copies[0].startswith(b"f (conflict ") and copies[0].endswith(b").txt")
    contents = {os.path.join(root, "f.txt"), os.path.join(root, os.fsdecode(copies[0]))}
    assert {open(p, encoding="ascii").read() for p in contents} == {"the server's", "the client's"}
    assert b"f.txt" in found


def test_equal_content_is_not_sent(world):
    root, backing = world.join("tree"), world.join("mine")
    fill(root, 40, 100000)
    shutil.copytree(root, backing, symlinks=True)
    server = world.server(root=root)
    proxy = proxied(world, server)
    a = world.mount("A", server, backing=backing, url=proxy.url)
    a.wait(60)
    wait_same(a.path, root, timeout=60)
    _, sent = proxy.snapshot()
    total = sum(len(open(os.path.join(d, f), "rb").read()) for d, _, fs in os.walk(backing) for f in fs if ".syncfs" not in d)
    assert total > 3_000_000
    assert sent < 200_000, f"{sent} bytes went up for a tree of {total} that the server had"
    assert not conflict_copies(root)


def test_different_content_is_sent_control(world):
    """The control of the test above: the count does see content that has to go up."""
    backing = world.join("mine")
    fill(backing, 40, 100000)
    server = world.server()
    proxy = proxied(world, server)
    a = world.mount("A", server, backing=backing, url=proxy.url)
    a.wait(60)
    wait_same(a.path, server.root, timeout=60)
    _, sent = proxy.snapshot()
    assert sent > 1_000_000


def test_copy_inside_the_mount_is_not_sent_twice(world):
    server = world.server()
    proxy = proxied(world, server)
    a = world.mount("A", server, url=proxy.url)
    write(a / "big", os.urandom(3_000_000))
    a.wait(60)
    _, before = proxy.snapshot()
    shutil.copyfile(a / "big", a / "copy")
    a.wait(60)
    assert has(server.root + "/copy", open(a / "big", "rb").read())
    _, after = proxy.snapshot()
    assert after - before < 500_000, "the server holds these chunks"


def test_second_client_with_the_same_files(world):
    server, a, _ = world.pair()
    fill(a.path)
    a.wait(60)
    backing = world.join("mine")
    shutil.copytree(a.path, backing, symlinks=True)
    c = world.mount("C", server, backing=backing)
    c.wait(60)
    wait_same(a.path, c.path, server.root, timeout=60)
    assert not conflict_copies(c.path)
