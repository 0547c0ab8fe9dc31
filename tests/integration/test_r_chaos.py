# SPDX-License-Identifier: Apache-2.0
"""r: random operations through the mounts, with programs killed and restarted in between; what must hold when all is quiet.

The same operations run on a plain directory, the oracle, wherever one writer decides alone. Seeds are printed.
    SYNCFS_CHAOS_SEEDS=A-B    these seeds instead of the usual few
    SYNCFS_CHAOS_STEPS=N      operations per round
    SYNCFS_CHAOS_TOGETHER=1   also the runs in which two writers change the same names: a view still misses a change now and then
                              (seeds 400, 501, 505); they wait for the conflict rules of the whole matrix
    SYNCFS_CHAOS_STRICT=1     look for a difference to the oracle after each operation
"""
import ctypes
import errno
import hashlib
import os
import random
import shutil
import stat
import threading
import time

import pytest

from harness import SLOW, Timeout, conflict_copies, difference, leftovers, read, tree, wait_until, write

STEPS = int(os.environ.get("SYNCFS_CHAOS_STEPS", "80"))
TOGETHER = pytest.mark.skipif(not os.environ.get("SYNCFS_CHAOS_TOGETHER"),
                              reason="known to diverge now and then: SYNCFS_CHAOS_TOGETHER=1 runs it")
STRICT = bool(os.environ.get("SYNCFS_CHAOS_STRICT"))
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, EXCHANGE = -100, 2


def seeds(first, count):
    """The usual seeds, or those asked for."""
    asked = os.environ.get("SYNCFS_CHAOS_SEEDS")
    if not asked:
        return list(range(first, first + count))
    a, _, b = asked.partition("-")
    return list(range(int(a), int(b or a) + 1))


def exchange(a, b):
    if LIBC.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def stamped(tag, blocks):
    """Every 64 bytes say who wrote them, in what operation, and where they belong."""
    return b"".join(f"{tag} {n}".encode().ljust(63, b".") + b"\n" for n in range(blocks))


class Writer:
    """Random operations below one directory of a mount; `shadow`: a plain directory that must answer the same."""

    def __init__(self, mount, rng, folder="", shadow=None, tag="w"):
        self.mount, self.rng, self.tag, self.folder = mount, rng, tag, folder
        self.shadow = shadow
        self.number = 0
        self.held = {}  # name -> open files, of the mount and of the shadow
        self.versions = set()  # hashes of every content that some file had after a call
        self.trace = []

    def roots(self):
        return [os.path.join(p, self.folder) for p in ([self.mount.path, self.shadow] if self.shadow else
                                                      [self.mount.path])]

    def forget_handles(self):
        for files in self.held.values():
            for f in files:
                try:
                    os.close(f)
                except OSError:
                    pass
        self.held.clear()

    def note(self, content):
        self.versions.add(hashlib.sha256(content).hexdigest())

    def pick(self, *kinds):
        """A name that is there, of these kinds, or None."""
        top = self.roots()[0]
        found = []

        def enter(folder, prefix):
            try:
                entries = sorted(os.scandir(folder), key=lambda e: e.name)
            except OSError:  # another writer was here
                return
            for entry in entries:
                if prefix + entry.name == ".syncfs":
                    continue
                kind = "l" if entry.is_symlink() else "d" if entry.is_dir(follow_symlinks=False) else "f"
                if kind in kinds:
                    found.append(prefix + entry.name)
                if kind == "d":
                    enter(entry.path, prefix + entry.name + "/")

        enter(top, "")
        return self.rng.choice(found) if found else None

    def new_name(self):
        """In some directory; of few names, so that they meet again."""
        folder = self.pick("d") if self.rng.random() < 0.6 else None
        if folder and folder.count("/") > 3:
            folder = None
        name = self.rng.choice("abcdefgh") + self.rng.choice(["", "", "1", ".txt", " ü"])
        return f"{folder}/{name}" if folder else name

    def content(self):
        self.number += 1
        return stamped(f"{self.tag}{self.number}", self.rng.choice((0, 1, 1, 3, 20, 200, 3000)))

    def step(self):
        """One operation. On an error the oracle must answer with the same."""
        operation = self.rng.choices([o for o, _ in OPERATIONS], [w for _, w in OPERATIONS])[0]
        doit = operation(self)
        if not doit:
            return
        results = []
        for n, root in enumerate(self.roots()):
            try:
                doit(root, n)
                results.append(0)
            except OSError as e:
                results.append(e.errno)
        self.trace.append((doit.__doc__ or operation.__name__, results[0]))
        bad = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENOSYS, errno.EBADF}
        if self.shadow:
            assert results[0] == results[1], f"{self.trace[-8:]}: {[errno.errorcode.get(r, r) for r in results]}"
        assert results[0] not in bad or len(set(results)) == 1 and self.shadow, \
            f"{self.trace[-8:]}: {errno.errorcode.get(results[0])}"


def described(text, call):
    call.__doc__ = text
    return call


def op_create(w):
    name, content, mode = w.new_name(), w.content(), w.rng.choice((0o644, 0o600, 0o755, 0o666))
    w.note(content)
    w.note(b"")

    def doit(root, _n):
        fd = os.open(f"{root}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            for at in range(0, len(content), 65536):
                os.write(fd, content[at:at + 65536])
        finally:
            os.close(fd)
    return described(f"create {name} {len(content)}", doit)


def changed_by(w, name, call):
    """Opens the file, runs call(fd), notes what it holds then."""
    def doit(root, n):
        fd = os.open(f"{root}/{name}", os.O_RDWR | os.O_NOFOLLOW)
        try:
            call(fd)
            if n == 0:
                w.note(os.pread(fd, os.fstat(fd).st_size, 0))
        finally:
            os.close(fd)
    return doit


def op_append(w):
    name, content = w.pick("f"), w.content()
    return name and described(f"append {name}",
                              changed_by(w, name, lambda fd: os.pwrite(fd, content, os.fstat(fd).st_size)))


def op_overwrite(w):
    name, content, at = w.pick("f"), w.content(), w.rng.randrange(5) * 64
    return name and described(f"overwrite {name} at {at}", changed_by(w, name, lambda fd: os.pwrite(fd, content, at)))


def op_truncate(w):
    name, size = w.pick("f"), w.rng.choice((0, 0, 64, 100, 7000))
    if not name:
        return None

    def doit(root, n):
        os.truncate(f"{root}/{name}", size)
        if n == 0:
            w.note(read(f"{root}/{name}"))
    return described(f"truncate {name} {size}", doit)


def op_save(w):
    """As editors do."""
    name, content = w.pick("f"), w.content()
    w.note(content)

    def doit(root, _n):
        temporary = os.path.join(os.path.dirname(f"{root}/{name}"), f".{os.path.basename(name)}.tmp")
        with open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            if len(content) % 128:
                os.fsync(f.fileno())
        os.rename(temporary, f"{root}/{name}")
    return name and described(f"save {name} {len(content)}", doit)


def op_rename(w):
    name, to = w.pick("f", "d", "l"), w.new_name()
    return name and described(f"rename {name} {to}", lambda root, _n: os.rename(f"{root}/{name}", f"{root}/{to}"))


def op_rename_over(w):
    name, to = w.pick("f", "l"), w.pick("f", "l")
    return name and described(f"rename over {name} {to}", lambda root, _n: os.rename(f"{root}/{name}", f"{root}/{to}"))


def op_rename_dir(w):
    name, to = w.pick("d"), w.new_name()
    return name and described(f"rename dir {name} {to}", lambda root, _n: os.rename(f"{root}/{name}", f"{root}/{to}"))


def op_exchange(w):
    a, b = w.pick("f", "d", "l"), w.pick("f", "d", "l")
    return a and described(f"exchange {a} {b}", lambda root, _n: exchange(f"{root}/{a}", f"{root}/{b}"))


def op_link(w):
    name, to = w.pick("f"), w.new_name()
    return name and described(f"link {name} {to}", lambda root, _n: os.link(f"{root}/{name}", f"{root}/{to}"))


def op_unlink(w):
    name = w.pick("f", "l")
    return name and described(f"unlink {name}", lambda root, _n: os.unlink(f"{root}/{name}"))


def op_rmtree(w):
    name = w.pick("d")
    return name and described(f"rm -r {name}", lambda root, _n: shutil.rmtree(f"{root}/{name}"))


def op_rmdir(w):
    name = w.pick("d")
    return name and described(f"rmdir {name}", lambda root, _n: os.rmdir(f"{root}/{name}"))


def op_mkdir(w):
    name = w.new_name()
    return described(f"mkdir {name}", lambda root, _n: os.mkdir(f"{root}/{name}"))


def op_deep(w):
    """A whole tree at once."""
    name = w.new_name()
    content = w.content()
    w.note(content)

    def doit(root, _n):
        for part in ("", "/x", "/x/y"):
            os.mkdir(f"{root}/{name}{part}")
            write(f"{root}/{name}{part}/file", content)
    return described(f"deep {name}", doit)


def op_chmod(w):
    name = w.pick("f", "d")
    mode = w.rng.choice((0o700, 0o755, 0o777, 0o740, 0o400, 0o000))
    return name and described(f"chmod {name} {mode:o}", lambda root, _n: os.chmod(f"{root}/{name}", mode))


def op_utimens(w):
    name, at = w.pick("f"), w.rng.randrange(10**18)
    return name and described(f"utimens {name}", lambda root, _n: os.utime(f"{root}/{name}", ns=(at, at)))


def op_xattr(w):
    name, value = w.pick("f", "d"), str(w.rng.random()).encode()
    return name and described(f"xattr {name}", lambda root, _n: os.setxattr(f"{root}/{name}", "user.chaos", value))


def op_symlink(w):
    name, target = w.new_name(), w.rng.choice(("a", "../b", "/nowhere", "x" * 300))
    return described(f"symlink {name}", lambda root, _n: os.symlink(target, f"{root}/{name}"))


def op_hold(w):
    """Opens a file, writes, and keeps it open."""
    name, content = w.pick("f"), w.content()
    if not name or len(w.held) > 2 or name in w.held:
        return op_held(w)
    w.held[name] = []

    def doit(root, n):
        w.held[name].append(os.open(f"{root}/{name}", os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW))
        os.write(w.held[name][n], content)
        if n == 0:
            w.note(os.pread(w.held[name][n], 1 << 30, 0))
    return described(f"hold {name}", doit)


def op_held(w):
    """Writes to a file that is held, or lets it go."""
    if not w.held:
        return None
    name, content, last = w.rng.choice(sorted(w.held)), w.content(), w.rng.random() < 0.6
    sync = w.rng.random() < 0.3
    files = w.held[name]
    if last:
        del w.held[name]

    def doit(_root, n):
        if n >= len(files):
            return
        os.write(files[n], content)
        if n == 0:
            w.note(os.pread(files[n], 1 << 30, 0))
        if sync:
            os.fsync(files[n])
        if last:
            os.close(files[n])
    return described(f"held {name} {'let go' if last else ''}", doit)


OPERATIONS = [(op_create, 14), (op_append, 5), (op_overwrite, 5), (op_truncate, 4), (op_save, 8), (op_rename, 9),
              (op_rename_over, 4), (op_rename_dir, 4), (op_exchange, 5), (op_link, 5), (op_unlink, 7), (op_rmtree, 2),
              (op_rmdir, 2), (op_mkdir, 6), (op_deep, 2), (op_chmod, 4), (op_utimens, 3), (op_xattr, 2),
              (op_symlink, 3), (op_hold, 3), (op_held, 5)]


# ---- disturbances ----

def disturb(rng, server, mounts, writers, log):
    """Ends something in some way, starts it again. Who holds files in a mount that ends lets them go before."""
    what = rng.choice(("kill mount", "kill mount", "kill server", "kill server", "restart mount", "restart server",
                       "stop server", "start server", "kill both"))
    log.append(what)
    if "mount" in what or "both" in what:
        mount = rng.choice(mounts)
        log[-1] += " " + mount.name
        for writer in writers:
            if writer.mount is mount:
                writer.forget_handles()
        if what == "restart mount":
            mount.restart()
        else:
            mount.kill()
            if what == "kill both":
                server.kill9()
                server.start()
            mount.start()
    elif what == "kill server":
        server.kill9()
        server.start()
    elif what == "restart server":
        server.restart()
    elif what == "stop server":
        server.stop()
    elif not server.is_running():
        server.start()


# ---- what must hold at quiet ----

def groups(root):
    """Hard links: the sets of names with one inode."""
    found = {}
    for name, what in tree(root, ()).items():
        if what[0] == "file":
            found.setdefault(os.lstat(os.path.join(os.fsencode(root), name)).st_ino, []).append(name)
    return sorted(names for names in found.values() if len(names) > 1)


def names(root):
    """Just the names, quickly."""
    found = set()
    for folder, folders, files in os.walk(root):
        if ".syncfs" in folders:
            folders.remove(".syncfs")
        found.update(os.path.relpath(os.path.join(folder, n), root) for n in folders + files)
    return found


def snapshot(root, of=("mode", "mtime", "xattr")):
    return tree(root, of), groups(root)


def wait_quiet(server, mounts, shadow=None, timeout=30):
    """All sent, all received, all trees equal; the oracle was written at other times."""
    for mount in mounts:
        mount.wait(timeout)
    roots = [m.path for m in mounts] + [server.root]
    last = []

    def equal():
        last[:] = [snapshot(r) for r in roots]
        return all(s == last[0] for s in last)


    try:
        wait_until(equal, timeout, "equal trees", every=0.1)
    except Timeout as e:
        lines = [f"{roots[0]} | {r}: {difference(last[0][0], s[0])[:10]}, links {s[1] != last[0][1]}"
                 for r, s in zip(roots, last) if s != last[0]]
        raise Timeout(f"{e}\n" + "\n".join(lines)) from None
    if shadow:
        of = ("mode", "xattr")
        assert snapshot(shadow, of) == snapshot(roots[0], of), f"the oracle: {difference(tree(shadow, of), tree(roots[0], of))}"
    return last[0]


def check_still(server, mounts, dead_letters=0):
    """Nothing is left over anywhere, and nothing is done any more."""
    for mount in mounts:
        wait_until(lambda m=mount: not leftovers(m, dead_letters), 15, f"{mount.name}: nothing is left")
        mount.wait(30)
    seq = server.seq()
    cpu = [d.cpu_s() for d in (server, *mounts)]
    time.sleep(0.7)
    assert server.seq() == seq, "no commit when nothing happens"
    for daemon, before in zip((server, *mounts), cpu):
        assert daemon.cpu_s() - before < 0.15 * SLOW, f"{daemon.name}: works when nothing happens"


def no_spam(daemons, lines):
    for daemon in daemons:
        count = read(daemon.log_path).count(b"\n")
        assert count < lines, f"{daemon.name}: {count} lines of log"


class Chaos:
    def __init__(self, world, seed, views, writers, together):
        print(f"seed {seed}, {views} views, {writers} writers, together: {together}")
        self.rng = random.Random(seed)
        self.server = world.server()
        self.mounts = [world.mount("ABC"[n], self.server) for n in range(views)]
        self.shadow = None if together else world.join("oracle")
        self.together = together
        self.writers = []
        self.log = []
        if self.shadow:
            os.mkdir(self.shadow)
        for n in range(writers):
            folder = "" if together or writers == 1 else f"only{n}"
            if folder:
                for top in (self.mounts[n].path, self.shadow):
                    os.mkdir(os.path.join(top, folder))
            self.writers.append(Writer(self.mounts[n], random.Random(seed * 7 + n), folder, self.shadow, f"w{n}."))

    def run(self, rounds, steps, disturbances):
        try:
            for _ in range(rounds):
                self.round(steps, disturbances)
        finally:
            for writer in self.writers:
                print(f"{writer.tag} {writer.trace[-1000 if STRICT else -30:]}")
                writer.forget_handles()
            print(self.log)

    def round(self, steps, disturbances):
        when = set(self.rng.sample(range(steps), min(disturbances, steps)))
        pauses = set(self.rng.sample(range(steps), steps // 20))
        for n in range(steps):
            self.rng.choice(self.writers).step()
            if n in pauses:
                time.sleep(self.rng.uniform(0, 0.3))
            if self.shadow and (STRICT or n in when):
                for writer in self.writers:
                    view, oracle = (names(root) for root in writer.roots())
                    assert view == oracle, f"{writer.trace[-8:]}: only in the view {view - oracle}, missing {oracle - view}"
            if n in when:
                disturb(self.rng, self.server, self.mounts, self.writers, self.log)
        for writer in self.writers:
            writer.forget_handles()
            if self.shadow:
                writer.forget_handles()
        if not self.server.is_running():
            self.server.start()
        self.check()

    def check(self):
        found, _ = wait_quiet(self.server, self.mounts, self.shadow, 40)
        if self.together:
            versions = set().union(*(w.versions for w in self.writers))
            for name, what in found.items():
                assert what[0] != "file" or what[2] in versions, f"{name!r} is nothing that anybody wrote"
        else:
            assert not conflict_copies(self.server.root)
        check_still(self.server, self.mounts)
        no_spam([self.server, *self.mounts], 400)


# ---- small scenarios that random runs have found broken ----

def test_content_of_many_names(world):
    """A file with three names was never accepted by the server again."""
    server, a, b = world.pair()
    write(a / "f", "1")
    for n in range(4):
        os.link(a / "f", a / f"g{n}")
    a.wait()
    write(a / "g1", "second")
    wait_quiet(server, [a, b])
    check_still(server, [a, b])


def test_ring_of_names(world):
    """Nodes that swap names, two and three: none may be left waiting in R."""
    server, a, b = world.pair()
    for n in range(3):
        write(a / f"f{n}", str(n))
        os.mkdir(a / f"d{n}")
        write(a / f"d{n}/f", str(n))
    wait_quiet(server, [a, b])
    b.unmount()
    for kind in "fd":
        exchange(a / f"{kind}0", a / f"{kind}1")
        exchange(a / f"{kind}1", a / f"{kind}2")
    a.wait()
    b.start()
    wait_quiet(server, [a, b])
    check_still(server, [a, b])


def test_dying_directory_loses_its_name(world):
    """A directory with content is removed and another object takes its name, all in one page for B."""
    server, a, b = world.pair()
    for n in range(2):
        os.makedirs(a / f"d{n}/e/f")
        write(a / f"d{n}/e/f/g", str(n))
    write(a / "file", "moves over")
    wait_quiet(server, [a, b])
    b.unmount()
    shutil.rmtree(a / "d0")
    os.rename(a / "file", a / "d0")
    shutil.rmtree(a / "d1")
    write(a / "d1", "new")
    a.wait()
    b.start()
    wait_quiet(server, [a, b])
    check_still(server, [a, b])


@pytest.mark.parametrize("inside", ["e", "x/e", "x/y/e"])
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_child_takes_the_name_of_its_directory(world, inside, kind):
    """As "unpack into a folder, move the one inner folder up" does."""
    server, a, b = world.pair()
    os.makedirs(os.path.dirname(a / f"d/{inside}"))
    if kind == "file":
        write(a / f"d/{inside}", "0")
    else:
        os.makedirs(a / f"d/{inside}/f")
        write(a / f"d/{inside}/f/g", "0")
    wait_quiet(server, [a, b])
    b.unmount()
    os.rename(a / f"d/{inside}", a / "moved")
    shutil.rmtree(a / "d")
    os.rename(a / "moved", a / "d")
    a.wait()
    b.start()
    wait_quiet(server, [a, b])
    check_still(server, [a, b])


def test_short_lived_trees(world):
    """Made and removed at once, again and again: nothing comes back, in the writer's view least of all."""
    server, a, b = world.pair()
    for n in range(120):
        os.makedirs(a / "d/x/y")
        write(a / "d/x/y/f", str(n) * (n * 40))
        os.link(a / "d/x/y/f", a / "d/g")
        os.truncate(a / "d/g", 0)
        shutil.rmtree(a / "d")
        assert os.listdir(a.path) == [], n
        time.sleep(0.002 * (n % 7))
        assert os.listdir(a.path) == [], n
    wait_quiet(server, [a, b])
    assert tree(b.path) == {}
    check_still(server, [a, b])


def test_attributes_merged_unseen(world):
    """B writes while an extended attribute of A's waits for it: B gets that, too."""
    server, a, b = world.pair()
    write(a / "f", "1")
    wait_quiet(server, [a, b])
    with open(b / "f", "ab") as f:
        f.write(b"2")
        f.flush()
        os.setxattr(a / "f", "user.chaos", b"x")
        a.wait()
    wait_quiet(server, [a, b])
    check_still(server, [a, b])


def test_saves_are_seen_whole(world):
    """A file replaced 200 times a second: on the other view never absent, never a part of it."""
    server, a, b = world.pair()
    write(a / "f", stamped("0", 1))
    wait_until(lambda: os.path.exists(b / "f"))
    bad, reads, stop = [], [0], threading.Event()

    def probe():
        while not stop.is_set():
            try:
                found = read(b / "f")
            except OSError as e:
                bad.append(e)
                continue
            reads[0] += 1
            tag = found.split(b" ", 1)[0].decode()
            if not tag or found != stamped(tag, int(tag) % 50 + 1):
                bad.append(found[:200])

    prober = threading.Thread(target=probe)
    prober.start()
    started = time.monotonic()
    try:
        for n in range(1, 800):
            write(a / "f.tmp", stamped(str(n), n % 50 + 1))
            os.rename(a / "f.tmp", a / "f")
            time.sleep(max(0, started + n / 200 - time.monotonic()))
    finally:
        stop.set()
        prober.join()
    assert not bad, bad[:3]
    assert reads[0] > 50
    wait_quiet(server, [a, b])
    assert not conflict_copies(a.path)


# ---- random runs ----

@pytest.mark.parametrize("seed", seeds(100, 1))
def test_one_writer(world, seed):
    Chaos(world, seed, 2, 1, False).run(2, STEPS, 0)


@pytest.mark.seconds(300)
@pytest.mark.parametrize("seed", seeds(200, 1))
def test_one_writer_disturbed(world, seed):
    Chaos(world, seed, 2, 1, False).run(2, STEPS, 5)


@pytest.mark.seconds(300)
@pytest.mark.parametrize("seed", seeds(300, 1))
def test_writers_apart_disturbed(world, seed):
    Chaos(world, seed, 3, 2, False).run(2, STEPS, 5)


@TOGETHER
@pytest.mark.parametrize("seed", seeds(400, 1))
def test_writers_together(world, seed):
    Chaos(world, seed, 2, 2, True).run(2, STEPS, 0)


@TOGETHER
@pytest.mark.seconds(300)
@pytest.mark.parametrize("seed", seeds(500, 1))
def test_writers_together_disturbed(world, seed):
    Chaos(world, seed, 3, 2, True).run(2, STEPS, 4)
