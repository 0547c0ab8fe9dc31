# SPDX-License-Identifier: Apache-2.0
"""d: what was finished before an end of any kind is everywhere after the restart, once, and nothing is sent again."""
import os
import random
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import SLOW, SYNCFSD, conflict_copies, has, leftovers, read, tree, wait_same, wait_until, write
from peer import Proxy, free_port


def fill(view, count=60):
    for i in range(count):
        os.makedirs(view / f"d{i % 6}", exist_ok=True)
        write(view / f"d{i % 6}/f{i}", os.urandom(3000 + 500 * i))


def contents(root):
    """The bytes of all files, wherever they lie."""
    found = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".syncfs"]
        found |= {read(os.path.join(folder, name)) for name in files}
    return found


def test_nothing_is_sent_again(world):
    server = world.server()
    proxy = Proxy(server.port)
    world.others.append(proxy)
    a = world.mount("A", server, url=proxy.url)
    fill(a)
    a.wait(60)
    wait_same(a.path, server.root)
    seq = server.seq()
    for restart in (a.restart, server.restart, lambda: (a.kill(), a.start())):
        proxy.reset()
        restart()
        a.wait(60)
        requests, sent = proxy.snapshot()
        assert sent < 50_000, (sent, requests)
        assert not [r for r in requests if r.startswith("PUT") or r == "POST /sync"], requests
        assert server.seq() == seq
    assert not conflict_copies(a.path)


def test_queue_is_kept_across_unmount(world):
    server, a, b = world.pair()
    write(a / "first", "1")
    a.wait()
    server.stop()
    write(a / "queued", "2")
    os.mkdir(a / "folder")
    os.rename(a / "first", a / "folder/moved")
    a.unmount()
    a.start()
    assert has(a / "queued", "2")
    server.start()
    a.wait(60)
    wait_same(a.path, server.root, b.path, timeout=60)
    assert set(tree(b.path)) == {b"queued", b"folder", b"folder/moved"}


def test_client_killed_and_server_down(world):
    """Journal on its own: the client dies while nobody listens."""
    server, a, b = world.pair()
    write(a / "gone", "x")
    a.wait()
    server.kill9()
    fill(a, 20)
    os.remove(a / "gone")
    expected = tree(a.path)
    a.kill()
    server.start()
    a.start()
    a.wait(60)
    assert wait_same(a.path, server.root, b.path, timeout=60) == expected


@pytest.mark.seconds(300)
@pytest.mark.parametrize("victim", ["syncfs", "syncfsd"])
def test_kill9_at_any_moment(world, victim):
    """Files finished before the kill are whole on all sides; an unfinished one is absent, or a prefix in A only."""
    server, a, b = world.pair()
    seed = int(os.environ.get("SYNCFS_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"SYNCFS_SEED={seed}")
    rng = random.Random(seed)
    finished, number = {}, [0]
    for round_ in range(6):
        stop = threading.Event()

        def work(n=round_):
            while not stop.is_set():
                number[0] += 1
                name, content = f"r{n}/f{number[0]}", os.urandom(rng.choice((0, 10, 5000, 300000)))
                try:
                    os.makedirs(a / f"r{n}", exist_ok=True)
                    write(a / (name + ".tmp"), content)
                    os.rename(a / (name + ".tmp"), a / name)
                    finished[name.encode()] = content
                except OSError:
                    if victim == "syncfs":
                        return
                    raise

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(rng.uniform(0.05, 0.6) * SLOW)
        if victim == "syncfs":
            a.kill9()
            stop.set()
            worker.join(60)  # before the dead mount goes: else it would write below the mountpoint
            a.kill()
            a.start()
        else:
            server.kill9()
            server.start()
            stop.set()
            worker.join(60)
    assert len(finished) > 5
    a.wait(120)
    wait_same(a.path, server.root, b.path, timeout=60)
    for name, content in finished.items():
        assert has(os.path.join(os.fsencode(b.path), name), content), f"{name!r}, seed {seed}"
    assert not conflict_copies(b.path)


def test_damaged_journal(world):
    """It is kept aside, everything is compared, nothing is deleted; what was made meanwhile arrives."""
    server, a, b = world.pair()
    fill(a, 5)
    a.wait()
    server.kill9()
    write(a / "more", "made while nobody listened")
    os.remove(a / "d3/f3")
    for i in range(20):
        write(a / f"later{i}", "x")
    a.kill9()
    [journal] = [n for n in os.listdir(a.state) if n.startswith("journal.")]
    with open(os.path.join(a.state, journal), "r+b") as f:
        f.seek(200)
        f.write(b"\xff" * 40)
    server.start()
    a.kill()
    a.start()
    a.wait(60)
    found = wait_same(a.path, server.root, b.path, timeout=60)
    assert b"more" in found and b"later19" in found
    assert b"d3/f3" in found  # of its removal nothing can be known
    assert not conflict_copies(a.path)
    assert [n for n in os.listdir(a.state) if n.startswith(journal) and n.endswith(".damaged")]


def test_kill9_of_the_receiver(world):
    server, a, b = world.pair()
    for _ in range(4):
        fill(a, 30)
        b.kill()
        b.start()
    wait_same(a.path, server.root, b.path, timeout=60)
    assert not conflict_copies(a.path)


def test_changes_made_while_unmounted(world):
    """In the backing directory, with no daemon running: seen by identity at the next mount."""
    server, a, b = world.pair()
    fill(a, 12)
    a.wait()
    wait_same(a.path, b.path)
    a.unmount()
    write(a.backing + "/d0/f0", "edited in the backing directory")
    write(a.backing + "/added", "new")
    os.remove(a.backing + "/d1/f1")
    os.rename(a.backing + "/d2", a.backing + "/renamed")
    a.start()
    wait_until(lambda: has(b / "d0/f0", "edited in the backing directory") and has(b / "added", "new")
               and not os.path.lexists(b / "d1/f1") and not os.path.lexists(b / "d2"), 30)
    wait_same(a.path, server.root, b.path)
    assert not conflict_copies(b.path)


def test_backing_is_the_mountpoint_across_restarts(world):
    server = world.server()
    over = world.join("both")
    a = world.mount("A", server, backing=over, mountpoint=over)
    b = world.mount("B", server)
    fill(a, 12)
    a.wait()
    a.restart()
    fill(a, 18)
    a.kill()
    a.start()
    a.wait()
    wait_same(over, server.root, b.path)
    assert not conflict_copies(b.path)


def test_mounted_before_there_is_a_server(world):
    port = free_port()
    server = world.server()
    server.stop()
    server.port = port
    a = world.mount("A", server)
    write(a / "f", "early")
    server.start()
    wait_until(lambda: has(server.root + "/f", "early"), 75, "sent when the server came")


@pytest.mark.parametrize("last", ["file", "tree"])
def test_the_last_is_removed_in_the_view_before_a_kill(world, last):
    """Then the backing directory is empty by our own doing, and the journal says so."""
    server, a, b = world.pair()
    if last == "tree":
        os.makedirs(a / "d/e")
    write(a / ("d/e/f" if last == "tree" else "f"), "the last one")
    a.wait()
    wait_same(a.path, b.path)
    server.stop()
    if last == "tree":
        shutil.rmtree(a / "d")
    else:
        os.unlink(a / "f")
    a.kill()
    a.start()
    server.start()
    a.wait()
    wait_until(lambda: not os.listdir(b.path), 30, "it is gone everywhere")


def test_emptied_backing_deletes_nothing(world):
    """An unmounted disk or an emptied container: refused, and the server keeps everything."""
    server, a, b = world.pair()
    fill(a, 12)
    a.wait()
    before = wait_same(a.path, b.path, server.root)
    a.unmount()
    shutil.rmtree(a.backing)
    os.mkdir(a.backing)
    a.spawn(a.argv("-f"))
    assert a.wait_exit() != 0, "says that this is not the directory it knows"
    assert b"--adopt" in a.log() or b"adopt" in a.log()
    assert tree(server.root) == before and tree(b.path) == before


def bulk(world):
    """A client that finds most of its backing directory gone, and believes none of it."""
    server, a, b = world.pair()
    for i in range(1300):
        os.makedirs(a / f"d{i // 100}", exist_ok=True)
        write(a / f"d{i // 100}/f{i}", str(i))
    os.link(a / "d0/f0", a / "link")
    a.wait(120)
    before = wait_same(a.path, b.path, server.root, timeout=120)
    a.unmount()
    for i in range(12):
        shutil.rmtree(a.backing + f"/d{i}")
    a.start()
    wait_until(lambda: a.status()["status"]["held_deletions"] == 1200 + 12, 30, "held")
    write(a / "later", "goes on")
    wait_until(lambda: has(b / "later", "goes on"), 75)
    assert os.path.exists(b / "d0/f0") and os.path.exists(server.root + "/d11/f1100")
    assert "1212 deletions found" in a.ctl("status", a.path).stdout
    return server, a, b, before


@pytest.mark.seconds(300)
def test_bulk_deletion_here_is_approved(world):
    server, a, b, _ = bulk(world)
    assert a.ctl("approve", a.path).returncode == 0
    wait_until(lambda: not os.path.exists(server.root + "/d0") and not os.path.exists(server.root + "/d11"), 60)
    wait_same(a.path, b.path, server.root, timeout=60)
    assert a.status()["status"]["held_deletions"] == 0
    assert a.ctl("approve", a.path).returncode == 1, "nothing is held any more"


@pytest.mark.seconds(300)
def test_bulk_deletion_here_is_undone(world):
    server, a, b, before = bulk(world)
    assert a.ctl("restore", a.path).returncode == 0
    wait_until(lambda: has(a / "d0/f0", "0") and has(a / "d11/f1199", "1199"), 60, "fetched again")
    now = wait_same(a.path, b.path, server.root, timeout=60)
    assert now == {**before, b"later": now[b"later"]}
    assert a.status()["status"]["held_deletions"] == 0
    assert os.stat(a / "link").st_nlink == 2
    a.restart()
    assert wait_same(a.path, b.path, server.root) == now


def test_second_syncfs_on_the_same_backing(world):
    server, a, _ = world.pair()
    c = world.mount("C", server, backing=a.backing, start=False)
    c.spawn(c.argv("-f"))
    assert c.wait_exit() != 0
    write(a / "f", "x")
    wait_until(lambda: has(server.root + "/f", "x"), what="the first goes on")


@pytest.mark.seconds(300)
@pytest.mark.parametrize("moved_on", [False, True], ids=["behind", "moved on"])
def test_server_put_back_to_an_older_copy(world, moved_on):
    """What any client had is there afterwards, on all sides; also when the server went on before they came back."""
    server = world.server()
    a, b = world.mount("A", server), world.mount("B", server)
    fill(a, 30)
    write(a / "edited", "old")
    write(a / "removed", "removed later")
    wait_same(a.path, server.root, b.path)
    server.stop()
    copy = world.join("copy")
    subprocess.run(["cp", "-a", server.root, copy], check=True)
    server.start()

    for view in (a, b):
        os.mkdir(view / f"new{view.name}")
        write(view / f"new{view.name}/file", f"made by {view.name}")
        write(view / f"d1/more{view.name}", f"more of {view.name}")
    write(a / "edited", "new")
    os.rename(a / "d2", a / "d2 moved")
    os.unlink(a / "removed")
    write(a / "closed", "at B, too")
    for view in (a, b):
        view.wait(60)
    wait_same(a.path, server.root, b.path)
    had = contents(a.path)

    a.unmount()
    b.unmount()
    server.stop()
    shutil.rmtree(server.root)
    subprocess.run(["cp", "-a", copy, server.root], check=True)
    server.start()
    if moved_on:
        for i in range(200):
            assert server.upload(f"gone on/{i}", b"%d" % i).status == 200
    a.start()
    write(a / "after", "written while it is merged")
    b.start()

    def all_there():
        a.wait(60)
        b.wait(60)
        return not (had | {b"written while it is merged", b"old"}) - contents(b.path)
    wait_until(all_there, 60, "what any client had is everywhere")
    wait_same(a.path, server.root, b.path, timeout=60)
    assert has(a / "after", "written while it is merged")
    wait_until(lambda: not leftovers(a) and not leftovers(b), 30, "nothing is left over")


def test_new_epoch(world):
    """An epoch made by hand: what is equal stays agreed, what is not is merged, what is gone comes back."""
    server = world.server()
    a = world.mount("A", server)
    fill(a, 20)
    write(a / "removed", "here when the epoch ends")
    a.wait(30)
    wait_same(a.path, server.root)
    command = [SYNCFSD, "--root", server.root, "new-epoch"]
    running = subprocess.run(command, capture_output=True, text=True, env=world.env, timeout=30, check=False)
    assert running.returncode != 0 and "in use" in running.stderr
    server.stop()
    os.unlink(a / "removed")
    write(a / "written", "while it was down")
    world.run(command)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(a.wait)
        server.start()
        waits.result()
    assert has(os.path.join(server.root, "written"), "while it was down"), "who waits waits through the merge"
    wait_until(lambda: has(a / "removed", "here when the epoch ends"), 30, "nothing is deleted by a merge")
    wait_same(a.path, server.root)
    assert not conflict_copies(server.root)
    assert b"are as the server has them" in a.log()
