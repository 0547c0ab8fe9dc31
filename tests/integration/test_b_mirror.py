# SPDX-License-Identifier: Apache-2.0
"""b: what is done in one view is so on the server and in the other view, byte for byte, attribute for attribute."""
import os
import shutil
import sqlite3
import subprocess
import time

import pytest

from harness import conflict_copies, has, read, tree, wait_same, wait_until, write

ODD_NAMES = [b"with space", b" leading and trailing ", b"'single' \"double\" `back`", b"new\nline", b"tab\tand\x01control",
             b"back\\slash", b"percent%20and+plus", b"-rf", b"latin1 \xe9\xff", b"\xf0\x9f\x99\x82 emoji", b"a" * 255,
             b"half surrogate \xed\xa0\x80", b"...", b".hidden", b"nul\xc0\x80", "ü".encode(), "u\u0308".encode()]


def everywhere(server, a, b, **kwargs):
    return wait_same(a.path, b.path, server.root, b.backing, **kwargs)


def test_odd_names(pair):
    server, a, b = pair
    root = os.fsencode(a.path)
    for name in ODD_NAMES:
        os.mkdir(os.path.join(root, name))
        write(os.path.join(root, name, name), b"x" + name)
    expected = {n for name in ODD_NAMES for n in (name, name + b"/" + name)}
    assert everywhere(server, a, b).keys() == expected
    for i, name in enumerate(ODD_NAMES):
        os.rename(os.path.join(root, name, name), os.path.join(root, b"plain %d" % i))
    assert everywhere(server, a, b).keys() == set(ODD_NAMES) | {b"plain %d" % i for i in range(len(ODD_NAMES))}
    for i, name in enumerate(ODD_NAMES):
        os.rename(os.path.join(os.fsencode(b.path), b"plain %d" % i), os.path.join(os.fsencode(b.path), name, b"back"))
    assert everywhere(server, a, b).keys() == {n for name in ODD_NAMES for n in (name, name + b"/back")}


def test_sizes_both_ways(pair):
    server, a, b = pair
    for size in (0, 1, 4096, 16384, 16385, 65536, 262144, 262145, 1 << 20, 5_000_003):
        write(a / f"from a {size}", os.urandom(size))
        write(b / f"from b {size}", os.urandom(size))
    assert len(everywhere(server, a, b)) == 20


def test_binary_content(pair):
    server, a, b = pair
    write(a / "f", bytes(range(256)) * 1000)
    everywhere(server, a, b)


def test_empty_folders_and_deep_ones(pair):
    server, a, b = pair
    os.makedirs(a / "e1/e2/e3")
    os.makedirs(a / ("d/" * 60))
    assert b"e1/e2/e3" in everywhere(server, a, b)


def test_overwrite_append_truncate(pair):
    server, a, b = pair
    write(a / "f", "one")
    everywhere(server, a, b)
    write(b / "f", "two, longer")
    everywhere(server, a, b)
    with open(a / "f", "ab") as f:
        f.write(b" and appended")
    everywhere(server, a, b)
    os.truncate(b / "f", 3)
    everywhere(server, a, b)
    assert read(a / "f") == b"two"
    with open(a / "f", "r+b") as f:
        f.seek(1 << 20)
        f.write(b"end")
    everywhere(server, a, b)
    assert not conflict_copies(a.path)


def test_modes(pair):
    server, a, b = pair
    modes = (0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o000)
    for mode in modes:
        write(a / f"f{mode:o}", "x")
        os.mkdir(a / f"d{mode:o}")
        os.chmod(a / f"d{mode:o}", mode | 0o700)
        if mode or os.geteuid() == 0:
            os.chmod(a / f"f{mode:o}", mode)
    wait_same(a.path, b.path, server.root, of=("mode",))


def test_set_id_bits_stay_here(pair):
    server, a, b = pair
    write(a / "f", "x")
    os.chmod(a / "f", 0o6755)
    wait_same(a.path, b.path, of=("mode",))
    assert os.stat(b / "f").st_mode & 0o7777 == 0o755
    assert os.stat(a / "f").st_mode & 0o7777 == 0o6755


def test_mtimes_to_the_nanosecond(pair):
    server, a, b = pair
    for mtime in (1, 1_000_000_007_123_456_789, 4_102_444_800_999_999_999, -5_000_000_001):
        write(a / f"f{mtime}", "x")
        os.utime(a / f"f{mtime}", ns=(0, mtime))
        os.mkdir(a / f"d{mtime}")
        os.utime(a / f"d{mtime}", ns=(0, mtime))
    for mtime in (1, 1_000_000_007_123_456_789, 4_102_444_800_999_999_999, -5_000_000_001):
        for place in (b.path, server.root, a.path):
            for kind in "fd":
                wait_until(lambda p=f"{place}/{kind}{mtime}", m=mtime: os.stat(p).st_mtime_ns == m,
                           what=f"{place}/{kind}{mtime} has its time")


def test_symlinks(pair):
    server, a, b = pair
    for name, target in (("rel", "f"), ("abs", "/etc/hostname"), ("dangling", "no such"), ("up", "../../.."),
                         ("odd", "new\nline \udcff"), ("self", "self"), ("long", "x" * 4000)):
        os.symlink(target, a / name)
    everywhere(server, a, b)
    os.remove(b / "abs")
    os.symlink("f2", b / "abs")
    everywhere(server, a, b)
    assert os.readlink(a / "abs") == "f2"


def test_hard_links(pair):
    server, a, b = pair
    os.mkdir(a / "d")
    write(a / "one", "same")
    os.link(a / "one", a / "d/two")
    wait_same(a.path, b.path, of=("mode", "links"))
    assert os.stat(b / "one").st_nlink == 2 and os.stat(b / "one").st_ino == os.stat(b / "d/two").st_ino
    write(b / "d/two", "changed through the other name")
    wait_until(lambda: has(a / "one", "changed through the other name"))
    wait_same(a.path, b.path, server.root, of=("mode", "links"))
    os.remove(a / "one")
    wait_same(a.path, b.path, of=("mode", "links"))
    assert has(b / "d/two", "changed through the other name")


def test_user_xattrs(pair):
    server, a, b = pair
    write(a / "f", "x")
    os.mkdir(a / "d")
    os.setxattr(a / "f", "user.text", b"value")
    os.setxattr(a / "f", "user.bin", bytes(range(256)))
    os.setxattr(a / "d", "user.empty", b"")
    wait_same(a.path, b.path, of=("xattr",))
    os.removexattr(b / "f", "user.text")
    wait_same(a.path, b.path, of=("xattr",))
    assert os.listxattr(a / "f") == ["user.bin"]


def test_virtual_xattrs(pair):
    _, a, _ = pair
    write(a / "f", "x")
    a.wait()
    wait_until(lambda: os.getxattr(a / "f", "user.syncfs.state") == b"synced")
    assert not [n for n in os.listxattr(a / "f") if n.startswith("user.syncfs.")]
    with pytest.raises(PermissionError):
        os.setxattr(a / "f", "user.syncfs.state", b"mine")


def test_delete_file_and_folder(pair):
    server, a, b = pair
    for i in range(5):
        os.makedirs(a / f"d/s{i}")
        for j in range(5):
            write(a / f"d/s{i}/f{j}", f"{i}{j}")
    everywhere(server, a, b)
    os.remove(b / "d/s0/f0")
    everywhere(server, a, b)
    shutil.rmtree(b / "d")
    wait_until(lambda: not os.path.lexists(a / "d") and not os.path.lexists(server.root + "/d"), what="gone everywhere")
    assert tree(a.path) == {}


def test_folder_rename_is_one_operation(pair):
    server, a, b = pair
    for i in range(100):
        os.makedirs(a / f"old/s{i % 10}", exist_ok=True)
        write(a / f"old/s{i % 10}/f{i}", str(i))
    everywhere(server, a, b)
    a.wait()
    before = server.seq()
    inode = os.stat(b.backing + "/old").st_ino
    os.rename(a / "old", a / "new")
    wait_until(lambda: os.path.exists(b / "new/s9/f99") and not os.path.lexists(b / "old"), 5)
    everywhere(server, a, b)
    for place in (a.path, b.path, server.root, a.backing, b.backing):
        assert not os.path.lexists(os.path.join(place, "old")), "nothing is left under the old name"
    assert server.seq() - before <= 3, "one operation (and the parent's time), not one per file"
    assert os.stat(b.backing + "/new").st_ino == inode, "moved there, not made again"


def test_rename_over_and_between_folders(pair):
    server, a, b = pair
    os.makedirs(a / "x/y")
    write(a / "f", "new")
    write(a / "x/y/g", "old")
    everywhere(server, a, b)
    os.rename(a / "f", a / "x/y/g")
    everywhere(server, a, b)
    assert has(b / "x/y/g", "new") and not os.path.lexists(b / "f")
    os.rename(b / "x/y", b / "z")
    everywhere(server, a, b)
    assert has(a / "z/g", "new") and os.listdir(a / "x") == []
    assert not conflict_copies(a.path)


def test_rename_exchange(pair):
    server, a, b = pair
    write(a / "one", "1")
    write(a / "two", "2")
    everywhere(server, a, b)
    code = ("import ctypes,os,sys; l=ctypes.CDLL(None,use_errno=True); "
            "sys.exit(l.renameat2(-100,sys.argv[1].encode(),-100,sys.argv[2].encode(),2) and ctypes.get_errno())")
    done = subprocess.run(["/usr/bin/python3", "-c", code, a / "one", a / "two"], check=False, timeout=30)
    assert done.returncode == 0
    everywhere(server, a, b)
    assert has(b / "one", "2") and has(b / "two", "1")


def test_sockets_and_fifos_stay_here(pair):
    server, a, b = pair
    os.mkfifo(a / "fifo")
    write(a / "after", "x")
    wait_until(lambda: has(b / "after", "x"))
    a.wait()
    assert not os.path.lexists(b / "fifo") and not os.path.lexists(server.root + "/fifo")
    assert os.path.lexists(a / "fifo")


def test_attributes_all_together(pair):
    server, a, b = pair
    source = "/usr/share/perl" if os.path.isdir("/usr/share/perl") else "/usr/share/doc/git"
    subprocess.run(["cp", "-a", source, a / "copy"], check=True, timeout=120)
    a.wait(60)
    wait_same(a.path, b.path, server.root, timeout=60, of=("mode", "mtime"))


def test_open_file_follows_after_close_and_sync(pair):
    """fsync shows what is written so far; a file that stays open does not hold up others."""
    server, a, b = pair
    with open(a / "log", "wb") as log:
        log.write(b"first line\n")
        log.flush()
        os.fsync(log.fileno())
        write(a / "other", "x")
        wait_until(lambda: has(b / "other", "x"))
        log.write(b"second line\n")
    wait_until(lambda: has(b / "log", "first line\nsecond line\n"))
    everywhere(server, a, b)


def test_slow_writer_is_not_seen_half_way(pair):
    """A file that is open and written to all the time is not idle, and once written on no longer what was fsynced."""
    server, a, b = pair
    server.stop()
    with open(a / "slow", "wb") as f:
        f.write(b"1" * 100)
        f.flush()
        os.fsync(f.fileno())
        for n in range(12):
            f.write(b"2" * 100)
            f.flush()
            if n == 1:
                server.start()
            assert not os.path.exists(b / "slow") and not os.path.exists(f"{server.root}/slow")
            time.sleep(0.4)
    wait_until(lambda: has(b / "slow", b"1" * 100 + b"2" * 1200), what="the whole file")


def test_reader_keeps_what_it_opened(pair):
    server, a, b = pair
    write(a / "f", "old content")
    everywhere(server, a, b)
    with open(b / "f", "rb") as f:
        write(a / "f", "NEW CONTENT, longer")
        wait_until(lambda: has(b / "f", "NEW CONTENT, longer"))
        assert f.read() in (b"old content", b"NEW CONTENT, longer"), "a whole version"


def test_unlinked_open_file(pair):
    server, a, b = pair
    with open(a / "tmp", "w+b") as f:
        f.write(b"still mine")
        f.flush()
        os.remove(a / "tmp")
        f.seek(0)
        assert f.read() == b"still mine"
        f.write(b"!")
    a.wait()
    everywhere(server, a, b)
    assert tree(b.path) == {}


def test_shared_mapping(pair):
    import mmap
    server, a, b = pair
    write(a / "f", b"\0" * 8192)
    with open(a / "f", "r+b") as f:
        mapping = mmap.mmap(f.fileno(), 8192)
        mapping[4096:4101] = b"mmap!"
        mapping.flush()
        mapping.close()
    everywhere(server, a, b)
    assert read(b / "f")[4096:4101] == b"mmap!"


@pytest.mark.seconds(240)
def test_git_in_the_mount(pair, world):
    server, a, b = pair
    world.env.update(GIT_CONFIG_GLOBAL=world.join("gitconfig"), GIT_CONFIG_SYSTEM="/dev/null")
    write(world.join("gitconfig"), "[user]\nname = t\nemail = t@example.org\n[safe]\ndirectory = *\n"
                                   "[init]\ndefaultBranch = main\n[gc]\nauto = 0\n")
    origin = world.join("origin")
    world.run(["git", "init", "-q", origin])
    for i in range(200):
        os.makedirs(f"{origin}/d{i % 10}", exist_ok=True)
        write(f"{origin}/d{i % 10}/f{i}", f"file {i}\n" * i)
    world.run(["git", "-C", origin, "add", "."])
    world.run(["git", "-C", origin, "commit", "-q", "-m", "first"])
    world.run(["git", "clone", "-q", origin, a / "clone"])
    for i in range(3):
        write(a / f"clone/new{i}", str(i))
        world.run(["git", "-C", a / "clone", "add", "."])
        world.run(["git", "-C", a / "clone", "commit", "-q", "-m", f"commit {i}"])
    assert world.run(["git", "-C", a / "clone", "status", "--porcelain"]) == ""
    a.wait(60)
    everywhere(server, a, b, timeout=60)
    assert world.run(["git", "-C", b / "clone", "status", "--porcelain"]) == ""
    world.run(["git", "-C", b / "clone", "fsck", "--strict"])
    world.run(["git", "-C", b / "clone", "checkout", "-q", "-b", "other", "HEAD~2"])
    b.wait(60)
    everywhere(server, a, b, timeout=60)
    assert world.run(["git", "-C", a / "clone", "log", "--oneline", "other"]).count("\n") == 2
    assert not conflict_copies(a.path)
    assert not [n for n in tree(b.path) if n.endswith(b".lock") or b"tmp_" in n]


def test_make_in_the_mount(pair, world):
    server, a, b = pair
    write(a / "Makefile", "all: prog\nprog: main.o other.o\n\t$(CC) -o $@ $^\n%.o: %.c\n\t$(CC) -c -o $@ $<\n")
    write(a / "main.c", "int other(void);\nint main(void) { return other(); }\n")
    write(a / "other.c", "int other(void) { return 7; }\n")
    world.run(["make", "-s", "-j2", "-C", a.path])
    a.wait()
    everywhere(server, a, b)
    assert subprocess.run([b / "prog"], check=False, timeout=30).returncode == 7
    assert not conflict_copies(a.path)


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_sqlite_in_the_mount(pair, journal):
    server, a, b = pair
    db = sqlite3.connect(a / "base.db")
    db.execute(f"PRAGMA journal_mode={journal}")
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT)")
    for i in range(50):
        with db:
            db.execute("INSERT INTO t (s) VALUES (?)", ("x" * i,))
    db.close()
    a.wait()
    everywhere(server, a, b)
    copy = sqlite3.connect(b / "base.db")
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert copy.execute("SELECT count(*) FROM t").fetchone() == (50,)
    copy.close()
    assert {n for n in tree(a.path)} == {b"base.db"}, "no journal file and no conflict copy is left"


@pytest.mark.parametrize("style", ["write temp, rename over", "backup, then write anew", "vim: 4913, backup, rename"])
def test_editor_saves(pair, style):
    server, a, b = pair
    write(a / "text", "version 0\n")
    everywhere(server, a, b)
    for i in range(1, 11):
        content = f"version {i}\n"
        if style.startswith("write temp"):
            with open(a / ".text.tmp", "w", encoding="ascii") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            os.rename(a / ".text.tmp", a / "text")
        else:
            if style.startswith("vim"):
                write(a / "4913", "")
                os.remove(a / "4913")
            os.rename(a / "text", a / "text~")
            write(a / "text", content)
            os.remove(a / "text~")
        if i % 5 == 0:
            wait_until(lambda c=content: has(b / "text", c))
    everywhere(server, a, b)
    assert list(tree(b.path)) == [b"text"] and has(server.root + "/text", "version 10\n")


@pytest.mark.seconds(300)
def test_usr_include(pair):
    """The real tree of the brief: some thousand files and symlinks, one folder rename, deleted from the other side."""
    server, a, b = pair
    subprocess.run(["cp", "-a", "/usr/include", a / "inc"], check=True, timeout=120)
    wait_same("/usr/include", a / "inc", server.root + "/inc", b / "inc", timeout=120)
    os.rename(a / "inc", a / "renamed")
    wait_until(lambda: os.path.isdir(b / "renamed") and not os.path.lexists(b / "inc")
               and not os.path.lexists(server.root + "/inc"), 5)
    wait_same("/usr/include", server.root + "/renamed", b / "renamed", timeout=10)
    shutil.rmtree(b / "renamed")
    wait_until(lambda: tree(a.path) == tree(server.root) == {}, 60, "gone everywhere")
    assert not conflict_copies(a.path)


def test_many_small_changes_to_one_file(pair):
    server, a, b = pair
    for i in range(200):
        write(a / "f", f"{i}\n")
    wait_until(lambda: has(b / "f", "199\n"))
    everywhere(server, a, b)
    assert not conflict_copies(a.path)


def test_taking_turns(pair):
    """One after the other on the same file: no conflict, however fast the turns."""
    server, a, b = pair
    write(a / "ball", "0")
    for i in range(1, 31):
        here, there = (a, b) if i % 2 else (b, a)
        wait_until(lambda h=here, n=i: has(h / "ball", str(n - 1)))
        write(here / "ball", str(i))
    wait_until(lambda: has(a / "ball", "30") and has(b / "ball", "30"))
    assert tree(a.path).keys() == {b"ball"}
