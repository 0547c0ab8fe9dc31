# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests, and what happens around each of them."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import harness  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): this test may take longer than the usual 120 seconds")


def pytest_collection_finish(session):
    missing = [p for p in (harness.SYNCFS, harness.SYNCFSD, harness.SYNCFSCTL) if not os.path.exists(p)]
    if missing and not session.config.option.collectonly:
        pytest.exit(f"not built: {missing}", returncode=3)


def fuse_is_there():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
        return True
    except OSError:
        return False


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, "report_" + report.when, report)


@pytest.fixture
def world(request):
    if not fuse_is_there():
        if os.environ.get("CI"):
            pytest.fail("/dev/fuse cannot be opened")
        pytest.skip("/dev/fuse cannot be opened")
    marker = request.node.get_closest_marker("seconds")
    seconds = (marker.args[0] if marker else 120) * harness.SLOW
    made = harness.World(request.node.name)
    watchdog = harness.Watchdog(made, seconds)
    try:
        yield made
    finally:
        complaints = made.close()
        watchdog.cancel()
        if watchdog.fired:
            complaints.append(f"stuck: ended by the watchdog after {seconds} s")
        report = getattr(request.node, "report_call", None)
        if complaints or (report is not None and report.failed):
            sys.stdout.write(made.logs() + "\n")
        if not os.environ.get("SYNCFS_KEEP"):
            made.remove()
        if complaints:
            pytest.fail("; ".join(complaints))


@pytest.fixture
def pair(world):
    return world.pair()
