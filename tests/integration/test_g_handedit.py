# SPDX-License-Identifier: Apache-2.0
"""g: edits made by hand in the server's directory reach every client, and are never a conflict with themselves."""
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from harness import SYNCFSD, conflict_copies, has, tree, wait_same, wait_until, write


def filled(world):
    server, a, b = world.pair()
    for i in range(20):
        os.makedirs(a / f"d{i % 4}", exist_ok=True)
        write(a / f"d{i % 4}/f{i}", f"file {i}\n" * 100)
    a.wait()
    wait_same(a.path, b.path, server.root)
    return server, a, b


def edit(root):
    subprocess.run(["cp", "-r", "/usr/include/linux/netfilter", root + "/copied"], check=True)
    os.remove(root + "/d0/f0")
    shutil.rmtree(root + "/d1")
    os.rename(root + "/d2", root + "/moved")
    write(root + "/d3/.f3.swp", "x")
    write(root + "/d3/f3.new", "edited by an editor")
    os.rename(root + "/d3/f3.new", root + "/d3/f3")
    os.remove(root + "/d3/.f3.swp")
    with open(root + "/d3/f7", "ab") as f:
        f.write(b"appended")
    os.chmod(root + "/d3/f11", 0o600)
    os.symlink("f3", root + "/d3/link")
    os.mkdir(root + "/empty")


def test_while_it_runs(world):
    server, a, b = filled(world)
    edit(server.root)
    expected = tree(server.root)
    wait_until(lambda: tree(a.path) == expected and tree(b.path) == expected, 30, "both views follow")
    assert tree(server.root) == expected, "the server leaves alone what it was told by hand"
    assert not conflict_copies(server.root)
    write(a / "d3/f3", "and edited in A")
    wait_same(a.path, b.path, server.root)
    assert not conflict_copies(server.root)


def test_while_it_is_down(world):
    server, a, b = filled(world)
    server.stop()
    edit(server.root)
    expected = tree(server.root)
    server.start()
    wait_until(lambda: tree(a.path) == expected and tree(b.path) == expected, 75, "both views follow")
    assert tree(server.root) == expected
    assert not conflict_copies(server.root)


def test_nothing_done_while_down_is_nothing_new(world):
    server, a, _ = filled(world)
    seq = server.seq()
    for stop in (server.stop, server.kill9):
        stop()
        server.start()
        wait_until(lambda: server.request("GET", "/healthz", token="").status == 200)
        assert server.seq() == seq
    # touched but equal: content is looked at, no new version of it is made
    os.utime(server.root + "/d0/f0")
    a.wait()
    assert not conflict_copies(server.root)


def test_new_folder_with_files_in_it(world):
    """A watch on a new folder comes later than the files that are put there: found all the same."""
    server, a, _ = filled(world)
    for i in range(30):
        os.makedirs(server.root + f"/n{i}/x/y")
        write(server.root + f"/n{i}/x/y/f", str(i))
    wait_same(server.root, a.path)


def test_rename_by_hand_is_a_rename(world):
    server, a, b = filled(world)
    inode = os.stat(b.backing + "/d0").st_ino
    os.rename(server.root + "/d0", server.root + "/by hand")
    wait_until(lambda: os.path.isdir(b / "by hand") and not os.path.lexists(b / "d0"))
    assert os.stat(b.backing + "/by hand").st_ino == inode


def test_by_hand_and_in_a_view_at_once(world):
    """The same file from both sides: nobody's bytes are lost."""
    server, a, b = filled(world)
    write(server.root + "/d0/f0", "by hand")
    write(a / "d0/f0", "in the view")
    wait_same(a.path, b.path, server.root)
    contents = {open(os.path.join(os.fsencode(server.root), p), "rb").read() for p in tree(server.root) if p.startswith(b"d0/f0")}
    assert contents <= {b"by hand", b"in the view"} and contents


def test_emptied_root_deletes_nothing(world):
    """The disk of the server is not mounted: nothing is deleted anywhere."""
    server, a, b = filled(world)
    before = tree(a.path)
    server.stop()
    aside = server.root + ".aside"
    os.rename(server.root, aside)
    os.mkdir(server.root)
    server.spawn([SYNCFSD, "--root", server.root, "--listen", f"127.0.0.1:{server.port}"] + server.args)
    wait_until(lambda: not server.is_running() or b"127.0.0.1:" in server.log(), 10)
    server.kill9()
    shutil.rmtree(server.root)
    os.rename(aside, server.root)
    server.start()
    wait_until(lambda: server.request("GET", "/healthz", token="").status == 200)
    write(a / "still", "working")
    a.wait(75)
    del before
    wait_same(a.path, b.path, server.root, timeout=75)
    assert len(tree(a.path)) >= 25


def empty(root):
    """Everything but the marker."""
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name == ".syncfs":
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def of_every_size(a, root):
    """At the top and below, empty and of several chunks, twice the same, one with two names."""
    write(a / "top", "at the top")
    write(a / "none", "")
    write(a / "d0/twin", "at the top")
    write(a / "d0/large", os.urandom(3 << 20))
    os.chmod(a / "d0/large", 0o604)
    os.link(a / "d0/large", a / "d1/second")
    a.wait()
    wait_same(a.path, root)


def test_children_of_root_gone_while_down(world):
    """Refused at the start, and adopted when told to: nothing is deleted, the clients bring all of it back."""
    server, a, b = filled(world)
    of_every_size(a, server.root)
    b.wait()
    before = tree(a.path)
    server.stop()
    empty(server.root)
    server.spawn([SYNCFSD, "--root", server.root, "--listen", f"127.0.0.1:{server.port}"] + server.args)
    assert server.wait_exit() != 0
    assert b"--adopt" in server.log()
    assert tree(a.path) == before and tree(b.path) == before, "kept while it is down"
    server.args.append("--adopt")
    server.start()
    wait_until(lambda: tree(server.root) == before, 75, "whole again")
    wait_same(a.path, b.path, server.root, timeout=75)
    assert tree(a.path) == before
    assert not conflict_copies(server.root)


def test_children_of_root_gone_while_running(world):
    """Everything but the marker removed at once: held, not passed on; after `reject` all of it comes back."""
    server, a, b = filled(world)
    of_every_size(a, server.root)
    b.wait()
    before = tree(a.path)
    empty(server.root)
    wait_until(lambda: b"no deletion in it is believed" in server.log(), 30, "held")
    b.ctl("wait", "--timeout", "3", b.path)
    assert tree(a.path) == before and tree(b.path) == before, "held"
    world.run([SYNCFSD, "--root", server.root, "reject"])
    wait_until(lambda: tree(server.root) == before, 60, "put back")
    assert tree(a.path) == before and tree(b.path) == before
    server.restart()
    write(a / "d3/f3", "goes on")
    wait_same(a.path, b.path, server.root, timeout=75)
    assert not conflict_copies(server.root)


def test_what_is_wanted_is_told_and_waited_for(world):
    """Nobody is there who could send it: a poll that waits hears of it once, then polls wait their time."""
    server, a, b = filled(world)
    before = tree(a.path)
    a.unmount()
    b.unmount()
    cursor = server.request("GET", "/session?client=" + "0" * 32).json()["cursor"]

    def poll(wait):
        begun = time.monotonic()
        page = server.request("GET", f"/poll?cursor={cursor}&wait={wait}").json()
        assert page["changes"] == []
        return len(page.get("want", [])), time.monotonic() - begun

    empty(server.root)
    wait_until(lambda: b"no deletion in it is believed" in server.log(), 30, "held")
    with ThreadPoolExecutor() as pool:
        parked = pool.submit(lambda: (poll(40), poll(30)))
        wait_until(lambda: re.search(rb"^syncfs_parked_polls 1$", server.request("GET", "/metrics").body, re.M), 10, "parked")
        world.run([SYNCFSD, "--root", server.root, "reject"])
        first, second = parked.result()
    assert first[0] == 20 and first[1] < 30
    assert second[0] == 20 and second[1] < 15, "it may have come between two polls: told again, a moment later"
    count, took = poll(4)
    assert count == 20 and took >= 4, "old news"
    server.restart()
    assert poll(0)[0] == 20
    b.start()
    wait_until(lambda: tree(server.root) == before, 60, "put back by the one who has it")
    assert poll(0)[0] == 0


def bulk(world):
    server, a, b = world.pair()
    for i in range(1500):
        os.makedirs(a / f"d{i // 100}", exist_ok=True)
        write(a / f"d{i // 100}/f{i}", str(i))
    a.wait(120)
    wait_same(a.path, b.path, server.root, timeout=120)
    server.stop()
    for i in range(14):
        shutil.rmtree(server.root + f"/d{i}")
    server.start()
    wait_until(lambda: server.request("GET", "/healthz", token="").status == 200)
    write(a / "later", "goes on")
    wait_until(lambda: has(b / "later", "goes on"), 75)
    assert os.path.exists(a / "d0/f0") and os.path.exists(b / "d13/f1300"), "a bulk deletion is held"
    return server, a, b


def test_bulk_deletion_is_held_and_approved(world):
    server, a, b = bulk(world)
    world.run([SYNCFSD, "--root", server.root, "approve"])
    wait_until(lambda: not os.path.exists(a / "d0") and not os.path.exists(b / "d13"), 60, "deleted after the approval")
    wait_same(a.path, b.path, server.root, timeout=60)


def test_bulk_deletion_is_held_and_rejected(world):
    server, a, b = bulk(world)
    world.run([SYNCFSD, "--root", server.root, "reject"])
    wait_until(lambda: has(server.root + "/d0/f0", "0") and has(server.root + "/d13/f1300", "1300"), 60, "put back")
    wait_same(a.path, b.path, server.root, timeout=60)
    assert os.path.exists(a / "d0/f0")
