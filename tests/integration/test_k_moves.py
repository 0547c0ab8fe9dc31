# SPDX-License-Identifier: Apache-2.0
"""k: what was moved round while a client was away comes to the same there, however the moves depend on each other."""
import os
import shutil

import pytest

from harness import conflict_copies, has, read, wait_same, wait_until, write


@pytest.fixture
def both(world):
    """Two mounts that have the same."""
    _, a, b = world.pair()
    write(a / "f", "f")
    for name in ("d", "d/e", "d/e/deep"):
        os.mkdir(a / name)
    write(a / "d/in_d", "in d")
    write(a / "d/e/in_e", "in e")
    a.wait()
    wait_same(a.path, b.path)
    return a, b


@pytest.fixture
def away(both):
    """B is not there: it will hear of what came out of it only."""
    a, b = both
    b.unmount()
    yield a, b


@pytest.fixture
def paused(both):
    a, b = both
    assert b.ctl("pause", b.path).returncode == 0
    yield a, b


def come_back(a, b):
    a.wait()
    if b.is_running():
        assert b.ctl("resume", b.path).returncode == 0
    else:
        b.start()
    b.wait()
    wait_same(a.path, b.path)
    assert not [name for name in os.listdir(b.path) if name.startswith(".moving")]


def test_file_into_directory_of_its_name(away):
    a, b = away
    os.rename(a / "f", a / "t")
    os.mkdir(a / "f")
    os.rename(a / "t", a / "f/was")
    come_back(a, b)
    assert has(b / "f/was", "f")


def test_directory_into_what_was_in_it(away):
    a, b = away
    os.rename(a / "d/e", a / "t")
    os.rename(a / "d", a / "t/was_above")
    os.rename(a / "t", a / "d")
    come_back(a, b)
    assert has(b / "d/was_above/in_d", "in d") and has(b / "d/in_e", "in e")


@pytest.mark.parametrize("name", ["f", "d"])
def test_into_a_directory_that_then_takes_its_place(away, name):
    a, b = away
    os.mkdir(a / "new")
    os.rename(a / name, a / "new/was")
    os.rename(a / "new", a / name)
    come_back(a, b)
    assert has(b / "f/was", "f") if name == "f" else has(b / "d/was/in_d", "in d")


def test_directory_replaced_by_one_that_takes_its_files(away):
    a, b = away
    os.mkdir(a / "new")
    os.rename(a / "d/in_d", a / "new/in_d")
    shutil.rmtree(a / "d/e")
    os.rmdir(a / "d")
    os.rename(a / "new", a / "d")
    come_back(a, b)
    assert has(b / "d/in_d", "in d")


def test_replaced_here_and_moved_there(paused):
    """B puts g over f; A has moved f meanwhile: both live."""
    a, b = paused
    write(b / "g", "g")
    os.rename(b / "g", b / "f")
    os.rename(a / "f", a / "moved")
    come_back(a, b)
    wait_until(lambda: has(b / "moved", "f") and has(b / "f", "g"), 15, "both")
    assert conflict_copies(b.path) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_made_here_and_moved_there(paused, kind):
    """A moves what B makes anew under the new name, alike."""
    a, b = paused
    if kind == "file":
        os.rename(a / "f", a / "n")
        write(b / "n", "f")
    else:
        os.rename(a / "d", a / "n")
        os.mkdir(b / "n")
        write(b / "n/more", "more")
    come_back(a, b)
    a.wait()
    wait_same(a.path, b.path)
    if kind == "file":
        assert read(b / "n") == b"f"
    else:
        assert has(b / "n/in_d", "in d") and has(b / "n/more", "more") and has(b / "n/e/in_e", "in e")
    assert conflict_copies(b.path) == []
