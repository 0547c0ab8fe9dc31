# SPDX-License-Identifier: Apache-2.0
"""Real daemons for integration tests: starts syncfsd and syncfs, waits with deadlines, cleans up in every case.

A test gets a World (fixture `world` of conftest.py): a temporary directory, any number of servers and mounts in it.
Nothing here sleeps for a fixed time to "let things settle"; every wait polls a condition and has a deadline.
"""
import base64
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SYNCFS_BUILD", "build")
if not os.path.isabs(BUILD):
    BUILD = os.path.join(TOP, BUILD)
SYNCFS = os.path.join(BUILD, "src", "syncfs")
SYNCFSD = os.path.join(BUILD, "src", "syncfsd")
SYNCFSCTL = os.path.join(BUILD, "src", "syncfsctl")


def is_sanitized():
    """The build that is tested runs slower than others; deadlines and not expectations are stretched."""
    try:
        with open(os.path.join(BUILD, "meson-info", "intro-buildoptions.json"), encoding="utf-8") as options:
            return any(o["name"] == "b_sanitize" and o["value"] not in ("none", []) for o in json.load(options))
    except OSError:
        return False


SLOW = 4 if is_sanitized() else 1
SANITIZER_WORDS = re.compile(rb"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|: runtime error: ")


class Timeout(AssertionError):
    pass


def wait_until(condition, timeout=15, what=None, every=0.02):
    """Polls until condition() is truthy and returns that; an OSError counts as "not yet"."""
    deadline = time.monotonic() + timeout * SLOW
    error = None
    while True:
        try:
            value = condition()
            if value:
                return value
            error = None
        except OSError as e:
            error = e
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout * SLOW} s: {what or condition}{f' ({error})' if error else ''}")
        time.sleep(every)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, content):
    with open(path, "wb") as f:
        f.write(content if isinstance(content, bytes) else content.encode())


def has(path, content):
    """path holds exactly these bytes."""
    content = content if isinstance(content, bytes) else content.encode()
    try:
        return read(path) == content
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def is_mounted(mountpoint):
    """By mountinfo, so that a dead mount cannot hang us."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(os.fsencode(line.split(" ")[4]).decode("unicode_escape").encode("latin-1", "replace").decode(
            "utf-8", "surrogateescape") == mountpoint for line in table)


def free_mount(mountpoint):
    """Whether the mount of a process that is gone is gone, too. Forced first: a thread that was telling the kernel what is
    stale may wait for a directory that a request holds, whose answer nobody gives any more; that keeps the device open, so
    that the kernel does not end the requests by itself."""
    if os.geteuid() == 0:
        subprocess.run(["umount", "-f", mountpoint], capture_output=True, timeout=30, check=False)
    subprocess.run(["fusermount3", "-uz", mountpoint], capture_output=True, timeout=30, check=False)
    return not is_mounted(mountpoint)


# What a mirror has to carry over. A member left out of `of` is not compared.
ALL = ("mode", "mtime", "xattr", "links")


def tree(root, of=("mode",)):
    """{relative path (bytes): what is there}; .syncfs at the root left out. Raises FileNotFoundError while it moves."""
    root = os.fsencode(root)
    found = {}

    def enter(folder, prefix):
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            name = prefix + entry.name
            if name == b".syncfs":
                continue
            found[name] = describe(entry.path, of)
            if entry.is_dir(follow_symlinks=False):
                enter(entry.path, name + b"/")

    enter(root, b"")
    return found


def describe(path, of=("mode",)):
    st = os.lstat(path)
    if stat.S_ISREG(st.st_mode):
        what = ["file", st.st_size, hashlib.sha256(read(path)).hexdigest()]
    elif stat.S_ISLNK(st.st_mode):
        what = ["symlink", os.readlink(path)]
    elif stat.S_ISDIR(st.st_mode):
        what = ["dir"]
    else:
        what = ["other", stat.S_IFMT(st.st_mode)]
    if "mode" in of and not stat.S_ISLNK(st.st_mode):
        what.append("%o" % (st.st_mode & 0o777))
    if "mtime" in of and stat.S_ISREG(st.st_mode):
        what.append(st.st_mtime_ns)
    if "links" in of and stat.S_ISREG(st.st_mode):
        what.append(f"links {st.st_nlink}")
    if "xattr" in of and not stat.S_ISLNK(st.st_mode):
        what.append(sorted((n, os.getxattr(path, n)) for n in os.listxattr(path) if n.startswith("user.")))
    return what


def difference(a, b):
    lines = []
    for name in sorted(set(a) | set(b)):
        if a.get(name) != b.get(name):
            lines.append(f"  {name!r}: {a.get(name)} | {b.get(name)}")
    return lines


def wait_same(first, *others, timeout=30, of=("mode",)):
    """Until all the trees are equal; says what differs when they do not become so."""
    last = {}

    def equal():
        last["trees"] = [tree(t, of) for t in (first, *others)]
        return all(t == last["trees"][0] for t in last["trees"])

    try:
        wait_until(equal, timeout, "equal trees", every=0.05)
    except Timeout as e:
        lines = []
        for path, other in zip(others, last.get("trees", [])[1:]):
            differing = difference(last["trees"][0], other)
            lines += [f"{first} | {path}: {len(differing)} differences"] + differing[:20]
        raise Timeout(str(e) + "\n" + "\n".join(lines)) from None
    return last["trees"][0]


def query(mount, sql):
    """One value from the state database of a mount."""
    with sqlite3.connect(f"file:{mount.state}/state.db?mode=ro", uri=True, timeout=10) as db:
        return db.execute(sql).fetchone()[0]


def leftovers(mount, dead_letters=0):
    """What must not be there when all is quiet: news not applied, operations refused, files in staging, files rescued."""
    found = []
    if query(mount, "SELECT count(*) FROM remote"):
        found.append("remote")
    if query(mount, "SELECT count(*) FROM dead") != dead_letters:
        found.append("dead letters")
    for folder in ("stage", "recovered"):
        where = os.path.join(mount.backing, ".syncfs", folder)
        if os.path.isdir(where) and os.listdir(where):
            found.append(where)
    return found


def conflict_copies(root):
    return [p for p in tree(root) if b" (conflict " in p]


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"Reply({self.status}, {self.body[:300]!r})"


class Daemon:
    """A child process with a log. Its exit status is checked by stop(), its log for sanitizer reports at the end."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.process = None
        self.log_path = os.path.join(world.path, f"{name}.log")
        world.daemons.append(self)

    def spawn(self, argv, **kwargs):
        with open(self.log_path, "ab") as log:
            log.write(b"--- start: " + " ".join(map(str, argv)).encode(errors="replace") + b"\n")
            log.flush()
            self.started_at = log.tell()
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.world.env, cwd="/", **kwargs)

    def log(self):
        """What it has printed since its last start."""
        with open(self.log_path, "rb") as log:
            log.seek(self.started_at)
            return log.read()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def wait_exit(self, timeout=15):
        try:
            return self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} has not ended within {timeout * SLOW} s") from None

    def kill9(self):
        if self.is_running():
            self.process.kill()
            self.process.wait()

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as line:
            fields = line.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server(Daemon):
    def __init__(self, world, name="server", root=None, args=(), token="file"):
        super().__init__(world, name)
        self.root = root or os.path.join(world.path, f"{name}-root")
        os.makedirs(self.root, exist_ok=True)
        self.args = list(args)
        self.port = 0
        self.token = token
        if token == "file":
            self.token_file = os.path.join(world.path, f"{name}.token")
            self.token = hashlib.sha256(os.urandom(16)).hexdigest()
            with open(os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w",
                      encoding="ascii") as f:
                f.write(self.token + "\n")
            self.args += ["--token-file", self.token_file]
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """On the same port again after the first start, so that clients find it."""
        self.spawn([SYNCFSD, "--root", self.root, "--listen", f"127.0.0.1:{self.port}"] + self.args)

        def listening():
            match = re.search(rb"127\.0\.0\.1:([1-9]\d*)", self.log())
            if not match and not self.is_running():
                raise AssertionError(f"syncfsd ended: {self.log().decode(errors='replace')}")
            return match

        self.port = int(wait_until(listening, 20, "syncfsd prints where it listens").group(1))
        return self

    def stop(self):
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
            status = self.wait_exit(20)
            assert status == 0, f"{self.name} ended with {status} on SIGTERM"

    def restart(self):
        self.stop()
        self.start()

    def request(self, method, path, body=None, headers=None, token=None, timeout=70):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            all_headers = {}
            token = self.token if token is None else token
            if token:
                all_headers["Authorization"] = f"Bearer {token}"
            all_headers.update(headers or {})
            connection.request(method, path, body=body, headers=all_headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    def sync(self, message, **kwargs):
        """POST /sync in the simple form; message: an object, or bytes sent as they are."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.request("POST", "/sync", body, {"Content-Type": "application/json"}, **kwargs)

    def upload(self, path, content):
        message = {"action": "upload", "file_path": path}
        if isinstance(content, bytes):
            message.update(file_content=base64.b64encode(content).decode(), encoding="base64")
        else:
            message.update(file_content=content)
        reply = self.sync(message)
        assert reply.status == 200, reply
        return reply

    def poll(self, token=None):
        reply = self.request("GET", "/poll", token=token)
        assert reply.status == 200, reply
        return reply.json()

    def add_token(self, name, *args):
        """`syncfsd token add`: the token is what is printed that looks like one."""
        out = subprocess.run([SYNCFSD, "--root", self.root, "token", "add", name, *args], capture_output=True,
                             text=True, env=self.world.env, timeout=30, check=False)
        assert out.returncode == 0, out
        words = [w for w in re.split(r"\s+", out.stdout) if re.fullmatch(r"[A-Za-z0-9_.\-]{20,}", w)]
        assert words, out
        return max(words, key=len)

    def seq(self):
        """Commits so far: the session answer's cursor EPOCH.SEQ.TAG."""
        reply = self.request("GET", "/session?client=" + "0" * 32)
        assert reply.status == 200, reply
        cursor = reply.json()["cursor"]
        return int(cursor.split(".")[1]) if isinstance(cursor, str) else int(cursor["seq"])


class Mount(Daemon):
    def __init__(self, world, name, server=None, backing=None, mountpoint=None, url=None, token_file=None, start=True,
                 **options):
        super().__init__(world, name)
        self.server = server
        self.path = mountpoint or os.path.join(world.path, name)
        self.backing = backing or os.path.join(world.path, f"{name}-backing")
        self.state = os.path.join(world.path, f"{name}-state")
        os.makedirs(self.path, exist_ok=True)
        os.makedirs(self.backing, exist_ok=True)
        self.options = {"url": url or (server and server.url), "token_file": token_file or (server and server.token_file),
                        "backing": self.backing, "state": self.state, **options}
        world.mountpoints.add(self.path)
        if start:
            self.start()

    def argv(self, *more):
        options = ",".join(k if v is True else f"{k}={v}" for k, v in self.options.items() if v not in (None, False))
        return [SYNCFS, *more, "-o", options, self.path]

    def start(self):
        self.spawn(self.argv("-f"))

        def usable():
            if not self.is_running():
                raise AssertionError(f"syncfs ended: {self.log().decode(errors='replace')}")
            if not is_mounted(self.path):
                return False
            try:
                os.statvfs(self.path)  # nothing of it is cached
            except OSError as e:
                if e.errno != errno.ENOTCONN:  # the dead mount of one that was killed; the new one frees it first
                    raise
                return False
            return True

        wait_until(usable, 20, f"{self.name} is mounted")
        return self

    def unmount(self, how="fusermount3"):
        """An ordinary end: the daemon exits 0 and the mountpoint is free."""
        if how == "fusermount3":
            done = subprocess.run(["fusermount3", "-u", self.path], capture_output=True, text=True, timeout=60,
                                  check=False)
            assert done.returncode == 0, done
        else:
            self.process.send_signal(how)
        status = self.wait_exit(30)
        assert status == 0, f"{self.name} ended with {status}"
        wait_until(lambda: not is_mounted(self.path), 5, "unmounted")

    def kill(self):
        """kill -9, and what init would do about the dead mount."""
        self.kill9()
        free_mount(self.path)

    def restart(self):
        self.unmount()
        self.start()

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def ctl(self, *args, timeout=60):
        return subprocess.run([SYNCFSCTL, *args], capture_output=True, text=True, env=self.world.env, cwd="/",
                              timeout=timeout * SLOW, check=False)

    def wait(self, timeout=30):
        """`syncfsctl wait`: all done so far is acknowledged by the server."""
        done = self.ctl("wait", "--timeout", str(timeout * SLOW), self.path, timeout=timeout + 10)
        assert done.returncode == 0, done

    def status(self):
        done = self.ctl("--json", "status", self.path)
        if done.returncode != 0:
            done = self.ctl("status", "--json", self.path)
        assert done.returncode == 0, done
        return json.loads(done.stdout)


class World:
    """One test's directory and everything it started."""

    def __init__(self, name):
        base = os.environ.get("TMPDIR", "/tmp")
        self.path = tempfile.mkdtemp(prefix=f"syncfs-test-{re.sub(r'[^a-z0-9]+', '-', name.lower())[:40]}-", dir=base)
        self.daemons, self.mountpoints, self.others = [], set(), []
        self.env = dict(os.environ)
        for variable in ("SYNCFS_TOKEN", "REMOTE_URL", "API_KEY"):
            self.env.pop(variable, None)
        for variable, folder in (("XDG_RUNTIME_DIR", "run"), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"),
                                 ("XDG_STATE_HOME", "xdg-state"), ("HOME", "home")):
            self.env[variable] = os.path.join(self.path, folder)
            os.mkdir(self.env[variable], 0o700)

    def join(self, *names):
        return os.path.join(self.path, *names)

    def server(self, name="server", **kwargs):
        return Server(self, name, **kwargs)

    def mount(self, name, server=None, **kwargs):
        return Mount(self, name, server, **kwargs)

    def pair(self):
        """The usual set: a server and two views of it."""
        server = self.server()
        return server, self.mount("A", server), self.mount("B", server)

    def run(self, argv, timeout=60, **kwargs):
        """A command that must succeed."""
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=self.env,
                              timeout=timeout * SLOW, check=False, **kwargs)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def force(self):
        """Ends everything without asking; called by the watchdog, too, to free a thread stuck in a mount."""
        for daemon in self.daemons:
            if daemon.is_running():
                daemon.process.kill()
        for mountpoint in self.mountpoints:
            while is_mounted(mountpoint):
                if not free_mount(mountpoint):
                    break

    def close(self):
        """Returns complaints: a daemon that cannot end in peace, a sanitizer's report."""
        complaints = []
        for other in self.others:
            other.close()
        for daemon in reversed(self.daemons):
            if not daemon.is_running():
                continue
            daemon.process.send_signal(signal.SIGTERM)
            try:
                status = daemon.process.wait(20 * SLOW)
                if status not in (0, -signal.SIGTERM):
                    complaints.append(f"{daemon.name} ended with {status}")
            except subprocess.TimeoutExpired:
                complaints.append(f"{daemon.name} did not end on SIGTERM")
        self.force()
        for daemon in self.daemons:
            if os.path.exists(daemon.log_path) and SANITIZER_WORDS.search(read(daemon.log_path)):
                complaints.append(f"{daemon.name}: sanitizer report")
        return complaints

    def logs(self):
        parts = []
        for daemon in self.daemons:
            if os.path.exists(daemon.log_path):
                text = read(daemon.log_path).decode(errors="replace")
                parts.append(f"===== {daemon.name}\n{text[-6000:]}")
        return "\n".join(parts)

    def remove(self):
        if not any(is_mounted(m) for m in self.mountpoints):
            shutil.rmtree(self.path, ignore_errors=True)


class Watchdog:
    """Frees a test that is stuck in a dead mount, where no signal reaches it: ends the daemons under it."""

    def __init__(self, world, seconds):
        self.world, self.fired = world, False
        self.timer = threading.Timer(seconds, self.fire)
        self.timer.daemon = True
        self.timer.start()

    def fire(self):
        self.fired = True
        self.world.force()

    def cancel(self):
        self.timer.cancel()
