# SPDX-License-Identifier: Apache-2.0
"""m: two views change the same things, neither knowing of the other: the conflict matrix, row by row, on real mounts.

Each row has a directory of its own; all rows of one run share the server and the mounts, and are cut off, changed and
connected again together. The one that is connected first wins.
    SYNCFS_MATRIX=all      each order also with one view away for a while, mounted anew or killed before it comes back
    SYNCFS_MATRIX=each     the same, one row after the other
    SYNCFS_MATRIX_ROWS=04,17b,28    only these rows
"""
import ctypes
import os
import re
import shutil
import stat
import time

import pytest

from harness import ALL, Timeout, leftovers, read, wait_same, wait_until, write
from peer import Proxy

WANTED = os.environ.get("SYNCFS_MATRIX", "")
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, NOREPLACE, EXCHANGE = -100, 1, 2
T0, T1, T2 = 1_000_000_000_123_456_789, 1_111_111_111_000_000_001, 1_222_222_222_000_000_002


# ---- what lies somewhere: a string is a file with these bytes, mode 644, one name ----

DIR = "a directory"
FILE_MODE, DIR_MODE = 0o644, 0o755


class Folder(dict):
    """A directory, of this mode."""


class File(dict):
    """A file of which also mode, links, mtime or xattr are looked at."""

    def __init__(self, content, **more):
        super().__init__({"content": content, "mode": FILE_MODE, "links": 1, **more})


class To(str):
    """A symbolic link to there."""


class Same(str):
    """Another name of the file there (before)."""


def make(top, what):
    """The state before: {path: what}."""
    for name, value in what.items():
        path = os.path.join(top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if value is DIR:
            os.makedirs(path, exist_ok=True)
        elif isinstance(value, To):
            os.symlink(value, path)
        elif isinstance(value, Same):
            os.link(os.path.join(top, value), path)
        else:
            write(path, value)
            os.utime(path, ns=(T0, T0))


def look(top, path=""):
    """{path: what} as in the table."""
    found = {}
    for entry in os.scandir(os.path.join(top, path)):
        name = os.path.join(path, entry.name)
        st = os.lstat(entry.path)
        if stat.S_ISDIR(st.st_mode):
            found[name] = Folder(mode=stat.S_IMODE(st.st_mode))
            found.update(look(top, name))
        elif stat.S_ISLNK(st.st_mode):
            found[name] = To(os.readlink(entry.path))
        else:
            found[name] = File(read(entry.path).decode(), mode=stat.S_IMODE(st.st_mode), links=st.st_nlink,
                               mtime=st.st_mtime_ns,
                               xattr={n: os.getxattr(entry.path, n).decode() for n in os.listxattr(entry.path)})
    return found


def expected(what):
    """The state after, in full."""
    full = {}
    for name, value in what.items():
        while os.path.dirname(name):
            name = os.path.dirname(name)
            full.setdefault(name, Folder(mode=DIR_MODE))
    for name, value in what.items():
        if value is DIR:
            full[name] = Folder(mode=DIR_MODE)
        elif isinstance(value, (dict, To)):
            full[name] = value
        else:
            full[name] = File(value)
    return full


def differs(value, wanted):
    if type(value) is not type(wanted):
        return True
    if isinstance(wanted, dict):
        return any(value.get(k) != v for k, v in wanted.items())
    return value != wanted


def compare(found, wanted, loser):
    """Complaints. In the table "f~.txt" is the conflict copy of f.txt that has the name of the one who came second."""
    mark = re.compile(rf" \(conflict {loser} [0-9a-f]{{8}}\)")
    short = {}
    bad = []
    for name, value in found.items():
        key = mark.sub("~", name)
        while key in short:
            key += "~"
        short[key] = value
    for name in sorted(set(short) | set(wanted)):
        if name not in wanted:
            bad.append(f"{name}: {short[name]} should not be there")
        elif name not in short:
            bad.append(f"{name}: missing, should be {wanted[name]}")
        elif differs(short[name], wanted[name]):
            bad.append(f"{name}: {short[name]}, should be {wanted[name]}")
    return bad


# ---- what somebody does ----

def put(name, content):
    """Creates, or writes over what is there."""
    return lambda top: write(os.path.join(top, name), content)


def save(name, content, temporary=None):
    """As editors do: a new file, renamed over the old one."""
    temporary = temporary or f".{name}.new"
    return [put(temporary, content), mv(temporary, name)]


def mv(name, to, flags=0):
    def doit(top):
        if LIBC.renameat2(AT_FDCWD, os.fsencode(os.path.join(top, name)), AT_FDCWD, os.fsencode(os.path.join(top, to)), flags):
            raise OSError(ctypes.get_errno(), f"renameat2 {name} {to}")
    return doit


def swap(a, b):
    return mv(a, b, EXCHANGE)


def rm(name):
    return lambda top: os.unlink(os.path.join(top, name))


def rmdir(name):
    return lambda top: os.rmdir(os.path.join(top, name))


def rmtree(name):
    return lambda top: shutil.rmtree(os.path.join(top, name))


def mkdir(name):
    return lambda top: os.mkdir(os.path.join(top, name))


def symlink(name, target):
    return lambda top: os.symlink(target, os.path.join(top, name))


def relink(name, target):
    """ln -sfn"""
    return [symlink(name + ".new", target), mv(name + ".new", name)]


def chmod(name, mode):
    return lambda top: os.chmod(os.path.join(top, name), mode)


def utime(name, at):
    return lambda top: os.utime(os.path.join(top, name), ns=(at, at))


def xattr(name, value):
    return lambda top: os.setxattr(os.path.join(top, name), "user.m", value.encode())


class Row:
    """As in the table: what was there, what the first and the second one do, what must be there in the end."""

    def __init__(self, name, before, first, second, after):
        self.name, self.before = name, before
        self.first, self.second = ([step for each in steps for step in (each if isinstance(each, list) else [each])]
                                   for steps in (first, second))
        self.after = expected(after)

    def __repr__(self):
        return self.name


D = {"d/f": "0", "d/g": "g", "d/s/h": "h"}
AB = {"a": "1", "b": "2"}

ROWS = [
    Row("01  edit | edit", {"f.txt": "0"}, [put("f.txt", "x")], [put("f.txt", "y")], {"f.txt": "x", "f~.txt": "y"}),
    Row("01b edit | edit twice", {"f": "0"}, [put("f", "x")], [put("f", "y"), put("f", "z")], {"f": "x", "f~": "z"}),
    Row("01c edit | edit, delete", {"f": "0"}, [put("f", "x")], [put("f", "y"), rm("f")], {"f": "x"}),
    Row("01d edit | edit, replace", {"f": "0"}, [put("f", "x")], [put("f", "y"), save("f", "z")], {"f": "x", "f~": "z"}),
    Row("01e edit | edit, rename", {"f": "0"}, [put("f", "x")], [put("f", "y"), mv("f", "p")], {"p": "x", "f~": "y"}),
    Row("02  edit | the same edit", {"f": "0"}, [put("f", "x")], [put("f", "x")], {"f": "x"}),
    Row("03  edit | delete", {"f": "0"}, [put("f", "x")], [rm("f")], {"f": "x"}),
    Row("04  delete | edit", {"f": "0"}, [rm("f")], [put("f", "y")], {"f": "y"}),
    Row("05  delete | delete", {"f": "0"}, [rm("f")], [rm("f")], {}),
    Row("06  rename | the same rename", {"f": "0"}, [mv("f", "p")], [mv("f", "p")], {"p": "0"}),
    Row("07  rename | rename", {"f": "0"}, [mv("f", "p")], [mv("f", "q")], {"p": "0"}),
    Row("08  rename | edit", {"f": "0"}, [mv("f", "p")], [put("f", "y")], {"p": "y"}),
    Row("09  edit | rename", {"f": "0"}, [put("f", "x")], [mv("f", "p")], {"p": "x"}),
    Row("10  rename | delete", {"f": "0"}, [mv("f", "p")], [rm("f")], {"p": "0"}),
    Row("11  delete | rename", {"f": "0"}, [rm("f")], [mv("f", "p")], {"p": "0"}),
    Row("12  create | create equal", {}, [put("n", "x")], [put("n", "x")], {"n": "x"}),
    Row("12b create | create equal, symlink", {}, [symlink("n", "x")], [symlink("n", "x")], {"n": To("x")}),
    Row("13  create | create", {}, [put("n", "x")], [put("n", "y")], {"n": "x", "n~": "y"}),
    Row("13b create | create, symlink", {}, [symlink("n", "x")], [symlink("n", "y")], {"n": To("x"), "n~": To("y")}),
    Row("13c create | create, renamed", {}, [put("n", "x")], [put("n", "y"), mv("n", "m")], {"n": "x", "m": "y"}),
    Row("13d create | create, edited, deleted", {}, [put("n", "x")], [put("n", "y"), put("n", "z"), rm("n")], {"n": "x"}),
    Row("13e create | create, replaced", {}, [put("n", "x")], [put("n", "y"), save("n", "z")], {"n": "x", "n~": "z"}),
    Row("13f create | renamed twice", {"f": "0"}, [put("n", "x")], [mv("f", "n"), mv("n", "m")], {"n": "x", "m": "0"}),
    Row("13g mkdir | mkdir, renamed", {}, [mkdir("n"), put("n/c", "x")], [mkdir("n"), put("n/c", "y"), mv("n", "m")],
        {"m/c": "x", "m/c~": "y"}),
    Row("14  mkdir | mkdir", {},
        [mkdir("d"), put("d/f", "x"), put("d/equal", "z"), put("d/a", "a")],
        [mkdir("d"), put("d/f", "y"), put("d/equal", "z"), put("d/b", "b")],
        {"d/f": "x", "d/f~": "y", "d/equal": "z", "d/a": "a", "d/b": "b"}),
    Row("15  create | mkdir", {}, [put("n", "x")], [mkdir("n"), put("n/c", "c")], {"n": "x", "n~/c": "c"}),
    Row("15b mkdir | create", {}, [mkdir("n"), put("n/c", "c")], [put("n", "y")], {"n/c": "c", "n~": "y"}),
    Row("15c symlink | create", {}, [symlink("n", "x")], [put("n", "y")], {"n": To("x"), "n~": "y"}),
    Row("15d create | symlink", {}, [put("n", "x")], [symlink("n", "y")], {"n": "x", "n~": To("y")}),
    Row("15e symlink | mkdir", {}, [symlink("n", "x")], [mkdir("n"), put("n/c", "c")], {"n": To("x"), "n~/c": "c"}),
    Row("15f mkdir | symlink", {}, [mkdir("n"), put("n/c", "c")], [symlink("n", "y")], {"n/c": "c", "n~": To("y")}),
    Row("16  rename | create", {"f": "0"}, [mv("f", "n")], [put("n", "y")], {"n": "0", "n~": "y"}),
    Row("16b create | rename", {"f": "0"}, [put("n", "x")], [mv("f", "n")], {"n": "x", "n~": "0"}),
    Row("16c rename | create equal", {"f": "0"}, [mv("f", "n")], [put("n", "0")], {"n": "0"}),
    Row("16d rename | mkdir", {"f": "0"}, [mv("f", "n")], [mkdir("n"), put("n/c", "c")], {"n": "0", "n~/c": "c"}),
    Row("16e rename dir | mkdir", D, [mv("d", "n")], [mkdir("n"), put("n/c", "c"), put("n/f", "0")],
        {"n/f": "0", "n/g": "g", "n/s/h": "h", "n/c": "c"}),
    Row("16f rename | create equal, renamed", {"f": "0"}, [mv("f", "n")], [put("n", "0"), mv("n", "m")], {"m": "0"}),
    Row("16g mkdir | rename dir", D, [mkdir("n"), put("n/c", "c")], [mv("d", "n")],
        {"n/c": "c", "n~/f": "0", "n~/g": "g", "n~/s/h": "h"}),
    Row("17  rename over | rename over", {"t": "0"}, [save("t", "x")], [save("t", "y")], {"t": "x", "t~": "y"}),
    Row("17f rename over | rename over twice", {"t": "0"}, [save("t", "x")], [save("t", "y"), save("t", "z")],
        {"t": "x", "t~": "z"}),
    Row("17b rename over | rename over, equal", {"t": "0"}, [save("t", "x")], [save("t", "x")], {"t": "x"}),
    Row("17c rename over | rename over, old files", {"t": "0", "x": "x", "y": "y"}, [mv("x", "t")], [mv("y", "t")],
        {"t": "x", "t~": "y"}),
    Row("17d rename over | rename over, old equal files", {"t": "0", "x": "x", "y": "x"}, [mv("x", "t")],
        [mv("y", "t")], {"t": "x"}),
    Row("17e rename over | rename over, the same file", {"t": "0", "x": "x"}, [mv("x", "t")], [mv("x", "t")], {"t": "x"}),
    Row("18  edit | rename over", {"t": "0"}, [put("t", "x")], [save("t", "y")], {"t": "x", "t~": "y"}),
    Row("18b edit | rename over, equal", {"t": "0"}, [put("t", "x")], [save("t", "x")], {"t": "x"}),
    Row("19  rename over | delete", {"t": "0"}, [save("t", "x")], [rm("t")], {"t": "x"}),
    Row("19b delete | rename over", {"t": "0"}, [rm("t")], [save("t", "y")], {"t": "y"}),
    Row("20  rename over | edit", {"t": "0"}, [save("t", "x")], [put("t", "y")], {"t": "x", "t~": "y"}),
    Row("20b rename over | the same edit", {"t": "0"}, [save("t", "x")], [put("t", "x")], {"t": "x"}),
    Row("21  rm -r | edit in it", D, [rmtree("d")], [put("d/f", "y")], {"d/f": "y"}),
    Row("21b rm -r | create in it", D, [rmtree("d")], [put("d/n", "y")], {"d/n": "y"}),
    Row("21c rm -r | edit and create deep in it", D, [rmtree("d")],
        [put("d/s/h", "y"), mkdir("d/s/u"), put("d/s/u/n", "n")], {"d/s/h": "y", "d/s/u/n": "n"}),
    Row("21d rmdir | mkdir in it", {"d": DIR}, [rmdir("d")], [mkdir("d/n")], {"d/n": DIR}),
    Row("22  edit in it | rm -r", D, [put("d/f", "x")], [rmtree("d")], {"d/f": "x"}),
    Row("22b create in it | rm -r", D, [put("d/n", "x")], [rmtree("d")], {"d/n": "x"}),
    Row("22c edit and create deep in it | rm -r", D, [put("d/s/h", "x"), mkdir("d/s/u"), put("d/s/u/n", "n")],
        [rmtree("d")], {"d/s/h": "x", "d/s/u/n": "n"}),
    Row("22d mkdir in it | rmdir", {"d": DIR}, [mkdir("d/n")], [rmdir("d")], {"d/n": DIR}),
    Row("23  rename dir | edit and create in it", D, [mv("d", "e")], [put("d/f", "y"), put("d/n", "n")],
        {"e/f": "y", "e/g": "g", "e/s/h": "h", "e/n": "n"}),
    Row("24  edit and create in it | rename dir", D, [put("d/f", "x"), put("d/n", "n")], [mv("d", "e")],
        {"e/f": "x", "e/g": "g", "e/s/h": "h", "e/n": "n"}),
    Row("25  rename dir | rename dir", D, [mv("d", "e")], [mv("d", "g")], {"e/f": "0", "e/g": "g", "e/s/h": "h"}),
    Row("26  rename dir | rm -r", D, [mv("d", "e")], [rmtree("d")], {"e": DIR}),
    Row("26b rename dir, edit in it | rm -r", D, [mv("d", "e"), put("e/f", "x")], [rmtree("d")], {"e/f": "x"}),
    Row("26c rename dir and in it | rm -r", D, [mv("d", "e"), mv("e/f", "e/p"), mv("e/s", "e/t")], [rmtree("d")],
        {"e/p": "0", "e/t": DIR}),
    Row("27  rm -r | rename dir", D, [rmtree("d")], [mv("d", "e")], {"e": DIR}),
    Row("27b rm -r | rename dir, edit in it", D, [rmtree("d")], [mv("d", "e"), put("e/f", "y")], {"e/f": "y"}),
    Row("28  a into b | b into a", {"a/1": "1", "b/2": "2"}, [mv("a", "b/a")], [mv("b", "a/b")],
        {"b/2": "2", "b/a/1": "1"}),
    Row("28b three in a ring", {"a/1": "1", "b/2": "2", "c/3": "3"}, [mv("a", "b/a")], [mv("b", "c/b"), mv("c", "a/c")],
        {"c/3": "3", "c/b/2": "2", "c/b/a/1": "1"}),
    Row("28c three in a ring, the other way", {"a/1": "1", "b/2": "2", "c/3": "3"}, [mv("a", "b/a"), mv("b", "c/b")],
        [mv("c", "a/c")], {"c/3": "3", "c/b/2": "2", "c/b/a/1": "1"}),
    Row("28d deep", {"a/1": "1", "b/x/2": "2"}, [mv("a", "b/x/a")], [mv("b", "a/b"), put("a/b/x/2", "y")],
        {"b/x/2": "y", "b/x/a/1": "1"}),
    Row("29  rmdir | move into it", {"d": DIR, "f": "0"}, [rmdir("d")], [mv("f", "d/f")], {"d/f": "0"}),
    Row("29b rm -r | move into it", {**D, "n": "0"}, [rmtree("d")], [mv("n", "d/s/n")], {"d/s/n": "0"}),
    Row("29c move into it | rmdir", {"d": DIR, "f": "0"}, [mv("f", "d/f")], [rmdir("d")], {"d/f": "0"}),
    Row("29d move into it | rm -r", {**D, "n": "0"}, [mv("n", "d/s/n")], [rmtree("d")], {"d/s/n": "0"}),
    Row("30  two onto one name", {"d": DIR, "f": "1", "g": "2"}, [mv("f", "d/n")], [mv("g", "d/n")],
        {"d/n": "1", "d/n~": "2"}),
    Row("30b two onto one name, equal", {"d": DIR, "f": "1", "g": "1"}, [mv("f", "d/n")], [mv("g", "d/n")], {"d/n": "1"}),
    Row("30c two directories onto one name", {"f/1": "1", "g/2": "2"}, [mv("f", "n")], [mv("g", "n")],
        {"n/1": "1", "n~/2": "2"}),
    Row("31  chmod | chmod", {"f": "0"}, [chmod("f", 0o600)], [chmod("f", 0o755)], {"f": File("0", mode=0o755)}),
    Row("31b chmod | mtime and xattr", {"f": "0"}, [chmod("f", 0o600)], [utime("f", T2), xattr("f", "y")],
        {"f": File("0", mode=0o600, mtime=T2, xattr={"user.m": "y"})}),
    Row("31c chmod | chmod, directory", {"d": DIR}, [chmod("d", 0o700)], [chmod("d", 0o750)],
        {"d": Folder(mode=0o750)}),
    Row("32  chmod | edit", {"f": "0"}, [chmod("f", 0o600)], [put("f", "y")], {"f": File("y", mode=0o600)}),
    Row("32b xattr | edit", {"f": "0"}, [xattr("f", "x")], [put("f", "y")], {"f": File("y", xattr={"user.m": "x"})}),
    Row("32c mtime | edit", {"f": "0"}, [utime("f", T1)], [put("f", "y"), utime("f", T2)], {"f": File("y", mtime=T2)}),
    Row("32d edit | chmod", {"f": "0"}, [put("f", "x")], [chmod("f", 0o600)], {"f": File("x", mode=0o600)}),
    Row("32e edit | xattr", {"f": "0"}, [put("f", "x")], [xattr("f", "y")], {"f": File("x", xattr={"user.m": "y"})}),
    Row("33  mtime | mtime", {"f": "0"}, [utime("f", T1)], [utime("f", T2)], {"f": File("0", mtime=T2)}),
    Row("33b edit | mtime", {"f": "0"}, [put("f", "x")], [utime("f", T2)], {"f": File("x", mtime=T2)}),
    Row("33c mtime | rename", {"f": "0"}, [utime("f", T1)], [mv("f", "p")], {"p": File("0", mtime=T1)}),
    Row("33d rename | mtime", {"f": "0"}, [mv("f", "p")], [utime("f", T2)], {"p": File("0", mtime=T2)}),
    Row("34  chmod | delete", {"f": "0"}, [chmod("f", 0o600)], [rm("f")], {}),
    Row("34b mtime | delete", {"f": "0"}, [utime("f", T1)], [rm("f")], {}),
    Row("34c delete | chmod", {"f": "0"}, [rm("f")], [chmod("f", 0o600)], {}),
    Row("34d delete | mtime", {"f": "0"}, [rm("f")], [utime("f", T2)], {}),
    Row("34e delete | xattr", {"f": "0"}, [rm("f")], [xattr("f", "y")], {}),
    Row("35  symlink | symlink", {"l": To("0")}, [relink("l", "x")], [relink("l", "y")], {"l": To("x"), "l~": To("y")}),
    Row("35b symlink removed and made | the same", {"l": To("0")}, [rm("l"), symlink("l", "x")],
        [rm("l"), symlink("l", "y")], {"l": To("x"), "l~": To("y")}),
    Row("35c symlink | symlink, equal", {"l": To("0")}, [relink("l", "x")], [relink("l", "x")], {"l": To("x")}),
    Row("36  edit by h1 | edit by h2", {"h1": "0", "h2": Same("h1")}, [put("h1", "x")], [put("h2", "y")],
        {"h1": File("x", links=2), "h2": File("x", links=2), "h1~": "y"}),
    Row("37  unlink h1 | edit by h2", {"h1": "0", "h2": Same("h1")}, [rm("h1")], [put("h2", "y")], {"h2": "y"}),
    Row("37b edit by h2 | unlink h1", {"h1": "0", "h2": Same("h1")}, [put("h2", "x")], [rm("h1")], {"h2": "x"}),
    Row("37c unlink h1 | unlink h2: nobody meant the content", {"h1": "0", "h2": Same("h1")}, [rm("h1")], [rm("h2")],
        {"h2": "0"}),
    Row("37d unlink h1 | edit by h1", {"h1": "0", "h2": Same("h1")}, [rm("h1")], [put("h1", "y")], {"h2": "y"}),
    Row("38  exchange | edit", AB, [swap("a", "b")], [put("a", "y")], {"a": "2", "b": "y"}),
    Row("38b exchange | delete", AB, [swap("a", "b")], [rm("a")], {"a": "2", "b": "1"}),
    Row("38c exchange | rename", AB, [swap("a", "b")], [mv("a", "p")], {"a": "2", "b": "1"}),
    Row("38d edit | exchange", AB, [put("a", "x")], [swap("a", "b")], {"a": "2", "b": "x"}),
    Row("38e delete | exchange", AB, [rm("a")], [swap("a", "b")], {"a": "2", "b": "1"}),
    Row("38f rename | exchange", AB, [mv("a", "p")], [swap("a", "b")], {"p": "1", "b": "2"}),
    Row("38g exchange | exchange", AB, [swap("a", "b")], [swap("a", "b")], {"a": "2", "b": "1"}),
    Row("39  swap by three renames | the same", AB, [mv("a", "t"), mv("b", "a"), mv("t", "b")],
        [mv("a", "t"), mv("b", "a"), mv("t", "b")], {"a": "2", "b": "1"}),
    Row("39b exchange | swap by three renames", AB, [swap("a", "b")], [mv("a", "t"), mv("b", "a"), mv("t", "b")],
        {"a": "2", "b": "1"}),
    Row("40  mkdir | a chain of directories", {}, [mkdir("d"), put("d/g", "x")],
        [mkdir("d"), mkdir("d/e"), mkdir("d/e/f"), put("d/e/f/n", "y")], {"d/g": "x", "d/e/f/n": "y"}),
    Row("40b a chain of directories | mkdir", {}, [mkdir("d"), mkdir("d/e"), mkdir("d/e/f"), put("d/e/f/n", "x")],
        [mkdir("d"), put("d/g", "y")], {"d/g": "y", "d/e/f/n": "x"}),
    Row("40c the same chain twice", {}, [mkdir("d"), mkdir("d/e"), mkdir("d/e/f"), put("d/e/f/n", "x")],
        [mkdir("d"), mkdir("d/e"), mkdir("d/e/f"), put("d/e/f/m", "y")], {"d/e/f/n": "x", "d/e/f/m": "y"}),
    Row("40d chain made and moved", {}, [mkdir("d"), put("d/g", "x")], [mkdir("d"), mkdir("d/e"), mv("d/e", "e"), rmdir("d")],
        {"d/g": "x", "e": DIR}),
    Row("41  delete, create | edit", {"f": "0"}, [rm("f"), put("f", "x")], [put("f", "y")], {"f": "x", "f~": "y"}),
    Row("41b edit | delete, create", {"f": "0"}, [put("f", "x")], [rm("f"), put("f", "y")], {"f": "x", "f~": "y"}),
    Row("41c delete, mkdir | edit", {"f": "0"}, [rm("f"), mkdir("f"), put("f/c", "c")], [put("f", "y")],
        {"f/c": "c", "f~": "y"}),
    Row("41e delete, create | the same edit", {"f": "0"}, [rm("f"), put("f", "x")], [put("f", "x")], {"f": "x"}),
    Row("41f delete, create | rename, edit", {"f": "0"}, [rm("f"), put("f", "x")], [mv("f", "p"), put("p", "y")],
        {"f": "x", "p": "y"}),
    Row("41d delete, create | delete, create", {"f": "0"}, [rm("f"), put("f", "x")], [rm("f"), put("f", "y")],
        {"f": "x", "f~": "y"}),
]


def chosen():
    asked = [r for r in os.environ.get("SYNCFS_MATRIX_ROWS", "").split(",") if r]
    rows = [r for r in ROWS if not asked or r.name.split()[0] in asked]
    assert rows, asked
    return rows


# ---- the runs ----

class View:
    """A mount whose connection can be held and cut."""

    def __init__(self, world, server, name):
        self.proxy = Proxy(server.port)
        world.others.append(self.proxy)
        self.mount = world.mount(name, server, url=self.proxy.url, label=name)
        self.name = name

    def do(self, rows, is_first, slowly):
        """slowly: what comes first is on its way before the rest is done, and goes into another batch."""
        for turn in range(max(len(row.first if is_first else row.second) for row in rows)):
            for row in rows:
                steps = row.first if is_first else row.second
                if turn < len(steps):
                    steps[turn](os.path.join(self.mount.path, row.name.split()[0]))
            if slowly:
                time.sleep(0.2)

    def leave(self):
        self.proxy.refuse()

    def away(self, how):
        """What happens to it while it has no connection."""
        if how == "mounted anew":
            self.mount.restart()
        elif how == "killed":
            self.mount.kill()
            self.mount.start()

    def come_back(self):
        """All that it did is acknowledged after that."""
        if self.proxy.listener:
            self.proxy.resume()
        else:
            self.proxy.open()
            self.mount.ctl("reconnect", self.mount.path)
        self.mount.wait()


class Bench:
    def __init__(self, world, order, mode):
        """mode: "online", or "A away, killed" and the like: who, and what happens to him meanwhile."""
        self.server = world.server()
        self.views = [View(world, self.server, name) for name in order]
        who, _, self.how = mode.partition(" away, ")
        self.slowly = mode.endswith("slowly")
        self.absent = [v for v in self.views if v.name == who]
        os.umask(0o022)

    def roots(self, folder):
        return [os.path.join(r, folder) for r in [*(v.mount.path for v in self.views), self.server.root]]

    def disagree(self, do):
        """Each view does its part, none seeing anything of the others; then they meet, in their order."""
        for view in self.absent:
            view.leave()
            do(view)
            view.away(self.how)
        for view in self.views:
            if view not in self.absent:
                view.proxy.stall()
                do(view)
        for view in self.views:
            view.come_back()

    def run(self, rows):
        """{row: complaints}"""
        for row in rows:
            folder = os.path.join(self.views[0].mount.path, row.name.split()[0])
            os.mkdir(folder)
            make(folder, row.before)
        for row in rows:
            wait_same(*self.roots(row.name.split()[0]), of=ALL)
        self.disagree(lambda view: view.do(rows, view is self.views[0], self.slowly))
        return {row: bad for row in rows if (bad := self.judge(row))}

    def judge(self, row):
        loser = self.views[-1].name
        bad = []
        try:
            wait_same(*self.roots(row.name.split()[0]), of=ALL, timeout=8)
        except Timeout as e:
            bad.append(str(e))
        for root in self.roots(row.name.split()[0]):
            wrong = compare(look(root), row.after, loser)
            if wrong:
                return bad + [f"{root}: {w}" for w in wrong]
        return bad

    def check_clean(self):
        for view in self.views:
            view.mount.wait()
            wait_until(lambda v=view: not leftovers(v.mount), 15, f"nothing is left in {view.name}")
        stage = os.path.join(self.server.root, ".syncfs", "stage")
        wait_until(lambda: not os.path.isdir(stage) or not os.listdir(stage), 15, "nothing is left in the server's staging")


MODES = ["online", "online, slowly"] + [f"{who} away, {how}" for how in ("mounted anew", "killed") for who in "AB"]
USUAL = {"AB": ["online", "B away, mounted anew"], "BA": ["online, slowly"]}


def runs():
    for order, usual in USUAL.items():
        for mode in MODES if WANTED else usual:
            yield pytest.param(order, mode, id=f"{order[0]} first, {mode}")


@pytest.mark.seconds(600)
@pytest.mark.parametrize("order, mode", runs())
def test_rows(world, order, mode):
    bench = Bench(world, order, mode)
    rows = chosen()
    bad = {}
    for some in [[r] for r in rows] if WANTED == "each" else [rows]:
        bad.update(bench.run(some))
    for row, complaints in bad.items():
        print(f"row {row}\n    " + "\n    ".join(complaints))
    print(f"{len(rows) - len(bad)} of {len(rows)} rows as in the table")
    assert not bad, f"{len(bad)} of {len(rows)} rows: {[r.name.split()[0] for r in bad]}"
    bench.check_clean()


@pytest.mark.parametrize("mode", MODES if WANTED else MODES[:1])
@pytest.mark.parametrize("order", ["ABCDE", "EDCBA"])
def test_row_42_five_create_one_name(world, order, mode):
    bench = Bench(world, order, mode)
    bench.disagree(lambda view: write(view.mount / "n.txt", f"of {view.name}"))
    found = wait_same(*bench.roots(""), of=ALL)
    texts = {re.sub(r" [0-9a-f]{8}\)", ")", os.fsdecode(n)): read(os.path.join(bench.server.root, os.fsdecode(n)))
             for n in found}
    assert len(found) == 5
    assert texts == {"n.txt": f"of {order[0]}".encode(),
                     **{f"n (conflict {name}).txt": f"of {name}".encode() for name in order[1:]}}
    bench.check_clean()
