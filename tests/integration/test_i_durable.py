# SPDX-License-Identifier: Apache-2.0
"""i: with durable=fsync and durable=close a call returns when the server has it, and says so when it has not."""
import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness import SLOW, has, is_mounted, read, wait_same, wait_until, write
from peer import Proxy, Silent


def view(world, server, **options):
    return world.mount("A", server, **{"durable": "fsync", **options})


def fsynced(path, content, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    """Writes, fsyncs, closes; 0 or the errno of fsync."""
    fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, content)
        os.fsync(fd)
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)
    return 0


def closed(path, content):
    """Writes and closes; 0 or the errno of close."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, content)
    try:
        os.close(fd)
    except OSError as e:
        return e.errno
    return 0


def timed(function, *args):
    started = time.monotonic()
    return function(*args), time.monotonic() - started


class Waiting:
    """A program that writes a file, fsyncs it, and prints what came of it."""

    CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it runs in the background
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
os.write(fd, b"x" * 100)
print("waits", flush=True)
try:
    os.fsync(fd)
    print("done", flush=True)
except OSError as e:
    print("error", e.errno, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

    def __init__(self, world, mount, name):
        self.mount = mount
        self.process = subprocess.Popen([sys.executable, "-c", self.CODE, mount / name], stdout=subprocess.PIPE, cwd="/",
                                        stderr=subprocess.DEVNULL, text=True)
        world.others.append(self)
        assert self.process.stdout.readline() == "waits\n"
        wait_until(lambda: mount.status()["status"]["waiting_calls"] > 0, what="the call waits")

    def end(self, timeout=20):
        said = self.process.stdout.read()
        self.process.wait(timeout * SLOW)
        return said

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.stdout.close()


def stall(world, server):
    """A proxy that can be stalled: the server is there and never answers."""
    proxy = Proxy(server.port)
    world.others.append(proxy)
    return proxy


# ---- acknowledged means: at the server ----


@pytest.mark.parametrize("durable", ["fsync", "close"])
def test_survives_the_client(world, durable):
    """All that was said to be done is at the server when the client and its disk are gone in the same instant."""
    server = world.server()
    a = view(world, server, durable=durable)
    call = fsynced if durable == "fsync" else closed
    os.makedirs(a / "d/e")
    content = {}
    for i in range(20):
        name = f"d/e/f{i}"
        content[name] = os.urandom(100 + i * 37)
        assert call(a / name, content[name]) == 0
    content["large"] = os.urandom(3 << 20)
    assert call(a / "large", content["large"]) == 0
    a.kill()
    shutil.rmtree(a.backing)
    shutil.rmtree(a.state)
    for name, expected in content.items():
        assert read(os.path.join(server.root, name)) == expected, name


def test_control_without_it(world):
    """The control: with durable=local nothing waits, so a stalled server changes nothing."""
    server = world.server()
    proxy = stall(world, server)
    a = view(world, server, durable="local", url=proxy.url)
    assert fsynced(a / "f", b"1") == 0
    a.wait()
    proxy.stall()
    assert timed(fsynced, a / "f", b"2")[1] < 3 * SLOW
    assert has(server.root + "/f", "1")


def test_renames_and_new_directories(world):
    """The name counts, too: what leads to it is at the server with the content."""
    server = world.server()
    a = view(world, server)
    os.makedirs(a / "x/y")
    with open(a / "x/y/f", "wb", 0) as f:
        f.write(b"content")
        os.rename(a / "x/y/f", a / "x/g")
        os.rename(a / "x", a / "z")
        os.fsync(f.fileno())
        assert has(server.root + "/z/g", "content")
    with open(a / "z/tmp", "wb", 0) as f:
        f.write(b"second")
        os.rename(a / "z/tmp", a / "z/g")
        os.fsync(f.fileno())
        assert has(server.root + "/z/g", "second")
    assert not os.path.exists(server.root + "/z/tmp")


def test_fsync_by_another_descriptor(world):
    """fsync is about the file, whoever wrote it; also one that is open for reading only."""
    server = world.server()
    a = view(world, server)
    with open(a / "f", "wb", 0) as writer, open(a / "f", "rb") as reader:
        writer.write(b"by another")
        os.fsync(reader.fileno())
        assert has(server.root + "/f", "by another")
        writer.write(b", again")
        os.fsync(reader.fileno())
        assert has(server.root + "/f", "by another, again")


def test_nothing_to_wait_for(world):
    """Who changed nothing waits for nobody, without a server, too."""
    server = world.server()
    a = view(world, server, durable="close")
    assert closed(a / "f", b"1") == 0
    server.kill9()
    fd = os.open(a / "f", os.O_RDWR)
    os.close(fd)
    assert read(a / "f") == b"1"
    fd = os.open(a / "f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    folder = os.open(a.path, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(a / "d")
    assert timed(os.fsync, folder)[1] < 3 * SLOW
    os.close(folder)
    fd = os.open(a / "gone", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x")
    os.remove(a / "gone")
    os.fsync(fd)
    os.close(fd)


@pytest.mark.parametrize("size", [100 << 10, 24 << 20])
def test_file_that_never_rests(world, size):
    """A file that another keeps writing through a mapping and a descriptor: what was there at the close arrives."""
    server = world.server()
    a = view(world, server, durable="close")
    write(a / "f", b"\0" * size)
    stop = threading.Event()

    def scribble():
        fd = os.open(a / "f", os.O_RDWR)
        with mmap.mmap(fd, size) as pages:
            at = 0
            while not stop.is_set():
                at += 1
                os.pwrite(fd, at.to_bytes(8, "big"), 8192)
                pages[4096:4104] = at.to_bytes(8, "big")
        try:
            os.close(fd)
        except OSError:
            pass

    scribblers = [threading.Thread(target=scribble) for _ in range(2)]
    for thread in scribblers:
        thread.start()
    try:
        for i in range(3):
            fd = os.open(a / "f", os.O_RDWR)
            os.pwrite(fd, b"%8d" % i, 0)
            os.close(fd)
            assert read(server.root + "/f")[:8] == b"%8d" % i
    finally:
        stop.set()
        for thread in scribblers:
            thread.join()
    a.wait()
    wait_same(a.path, server.root)


def test_conflict_is_acknowledged(world):
    """Bytes that were kept under another name are safe: the call succeeds, and both are at the server."""
    server, a = world.server(), None
    a = view(world, server)
    b = world.mount("B", server)
    assert fsynced(a / "f", b"base") == 0
    wait_until(lambda: has(b / "f", "base"))
    assert a.ctl("pause", a.path).returncode == 0
    a.ctl("resume", a.path)
    fd = os.open(a / "f", os.O_WRONLY | os.O_TRUNC)  # a writer: what comes from B waits
    write(b / "f", "of B")
    b.wait()
    os.write(fd, b"of A")
    os.fsync(fd)
    found = [read(os.path.join(server.root, n)) for n in os.listdir(server.root) if n.startswith("f")]
    assert sorted(found) == [b"of A", b"of B"]
    os.close(fd)
    wait_same(a.path, b.path, server.root)


def test_remote_change_waits(world):
    """What comes from elsewhere for a file that is waited for is applied afterwards, and nothing is lost."""
    server = world.server()
    proxy = stall(world, server)
    a = view(world, server, url=proxy.url, offline="block:30")
    b = world.mount("B", server)
    assert fsynced(a / "f", b"base") == 0
    wait_until(lambda: has(b / "f", "base"))
    proxy.stall()
    waiting = Waiting(world, a, "f")
    write(b / "f", "of B")
    b.wait()
    proxy.resume()
    assert waiting.end(60) == "done\n"
    tree = wait_same(a.path, b.path, server.root, timeout=60)
    assert len(tree) == 2, tree  # both contents, one as a conflict copy


# ---- without a server ----


@pytest.mark.seconds(180)
@pytest.mark.parametrize("durable", ["fsync", "close"])
@pytest.mark.parametrize("trouble", ["killed", "refused", "stopped", "stalled"])
def test_eio(world, durable, trouble):
    server = world.server()
    proxy = stall(world, server)
    a = view(world, server, durable=durable, url=proxy.url)
    call = fsynced if durable == "fsync" else closed
    assert call(a / "before", b"x") == 0
    {"killed": server.kill9, "refused": proxy.refuse, "stopped": lambda: os.kill(server.process.pid, signal.SIGSTOP),
     "stalled": proxy.stall}[trouble]()
    try:
        error, taken = timed(call, a / "f", b"kept here")
        assert error == errno.EIO
        assert taken < 40 * SLOW, taken
        if trouble in ("killed", "refused"):
            wait_until(lambda: not a.status()["status"]["connected"])
            error, taken = timed(call, a / "g", b"and this")
            assert error == errno.EIO and taken < 5 * SLOW, (error, taken)
        assert has(a / "f", "kept here")
        assert a.status()["status"]["deferred_calls"] == 0
    finally:
        {"killed": server.start, "refused": proxy.open, "stopped": lambda: os.kill(server.process.pid, signal.SIGCONT),
         "stalled": proxy.resume}[trouble]()
    a.ctl("reconnect", a.path)
    wait_until(lambda: has(server.root + "/f", "kept here"), 75, "what was refused to be promised is sent all the same")
    a.wait(75)
    assert call(a / "after", b"y") == 0
    assert has(server.root + "/after", "y")


def test_nobody_ever_answered(world):
    """From the start: accepts connections and says nothing."""
    server = world.server()
    silent = Silent()
    world.others.append(silent)
    a = view(world, server, url=silent.url)
    error, taken = timed(fsynced, a / "f", b"x")
    assert error == errno.EIO and taken < 20 * SLOW, (error, taken)


@pytest.mark.parametrize("trouble", ["refused", "stalled"])
def test_block(world, trouble):
    server = world.server()
    proxy = stall(world, server)
    a = view(world, server, url=proxy.url, offline="block:2")
    assert fsynced(a / "before", b"x") == 0
    getattr(proxy, {"refused": "refuse", "stalled": "stall"}[trouble])()
    error, taken = timed(fsynced, a / "f", b"x")
    assert error == errno.EIO
    assert 1.5 < taken < 20 * SLOW, taken


def test_block_is_long_enough(world):
    """A server that comes back in time: the call succeeds."""
    server = world.server()
    a = view(world, server, offline="block:60")
    assert fsynced(a / "before", b"x") == 0
    server.kill9()
    waiting = Waiting(world, a, "f")
    started = time.monotonic()
    wait_until(lambda: time.monotonic() > started + 3, 20)  # the pauses between attempts grow
    server.start()
    assert waiting.end(20) == "done\n"  # while somebody waits it is tried for every second
    assert has(server.root + "/f", b"x" * 100)


def test_defer(world):
    server = world.server()
    a = view(world, server, offline="defer")
    assert fsynced(a / "before", b"x") == 0
    assert a.status()["status"]["deferred_calls"] == 0
    server.kill9()
    wait_until(lambda: not a.status()["status"]["connected"])
    for i in range(3):
        result, taken = timed(fsynced, a / f"f{i}", b"later")
        assert result == 0 and taken < 5 * SLOW
    assert a.status()["status"]["deferred_calls"] == 3
    shown = a.ctl("status", a.path).stdout
    assert "3 calls were answered before the server had them" in shown, shown
    a.kill()  # the mark outlives the process
    a.start()
    assert a.status()["status"]["deferred_calls"] == 3
    server.start()
    a.ctl("reconnect", a.path)
    wait_until(lambda: a.status()["status"]["deferred_calls"] == 0, 75, "made up for")
    assert all(has(server.root + f"/f{i}", "later") for i in range(3))
    assert "answered before" not in a.ctl("status", a.path).stdout


# ---- who waits holds up nobody ----


def test_others_go_on(world):
    """More calls wait than there are threads; the mount is of use all the same, and ends."""
    server = world.server()
    a = view(world, server, offline="block:60")
    write(a / "old", "old")
    a.wait()
    server.kill9()
    waiting = [Waiting(world, a, f"w{i}") for i in range(14)]
    wait_until(lambda: a.status()["status"]["waiting_calls"] == len(waiting))
    assert "old" in timed(os.listdir, a.path)[0]
    for what in (lambda: subprocess.run(["ls", "-l", a.path], check=True, timeout=20, stdout=subprocess.DEVNULL),
                 lambda: read(a / "old"), lambda: read(a / "w0"), lambda: write(a / "new", "new"),
                 lambda: os.rename(a / "new", a / "newer"), lambda: os.mkdir(a / "d")):
        assert timed(what)[1] < 5 * SLOW
    assert all(w.process.poll() is None for w in waiting)
    a.unmount(signal.SIGTERM)
    assert not is_mounted(a.path)
    for w in waiting:
        assert w.end() == f"error {errno.EIO}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("durable", ["fsync", "close"])
def test_signals(world, number, durable):
    server = world.server()
    a = view(world, server, durable=durable, offline="block:60")
    assert fsynced(a / "before", b"x") == 0
    server.kill9()
    waiting = Waiting(world, a, "f")
    started = time.monotonic()
    waiting.process.send_signal(number)
    said = waiting.end()  # its end closes the file: that does not wait for a server that is known to be away
    assert time.monotonic() - started < 15 * SLOW
    assert said == ("interrupted\n" if number == signal.SIGINT else "")
    waiting.process.wait(15 * SLOW)
    wait_until(lambda: a.status()["status"]["waiting_calls"] == 0)
    server.start()
    a.ctl("reconnect", a.path)
    wait_until(lambda: has(server.root + "/f", b"x" * 100), 75, "it is sent all the same")


def test_lazy_unmount(world):
    """The mount is taken away from under a waiting call: the daemon ends when that is answered."""
    server = world.server()
    a = view(world, server, offline="block:3")
    assert fsynced(a / "before", b"x") == 0
    server.kill9()
    waiting = Waiting(world, a, "f")
    subprocess.run(["fusermount3", "-uz", a.path], check=True, timeout=30)
    assert waiting.end() == f"error {errno.EIO}\n"
    assert a.wait_exit(30) == 0
