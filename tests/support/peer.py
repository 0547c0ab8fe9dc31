# SPDX-License-Identifier: Apache-2.0
"""Peers between or instead of the real programs: a proxy that counts and can stall, and a server that never answers."""
import re
import select
import socket
import threading


class Proxy:
    """TCP between syncfs and syncfsd. Counts request lines and bytes sent up; can stop forwarding, or refuse."""

    def __init__(self, port):
        self.target = port
        self.requests = []  # "METHOD /path", in order
        self.bytes_up = 0
        self.stalled = threading.Event()
        self.lose_answers = lambda: False  # asked for each POST /sync: its answer is dropped, the connection ends
        self.lost = 0
        self.lock = threading.Lock()
        self.pairs = set()
        self.closing = False
        self.listener = None
        self.port = 0
        self.open()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def open(self):
        """Accepts connections, on the same port again after refuse()."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self.listener = listener
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def refuse(self):
        """Connection refused from now on, and the open ones are cut."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self):
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stall(self):
        """Accepts, and neither forwards nor answers."""
        self.stalled.set()

    def resume(self):
        self.stalled.clear()

    def reset(self):
        with self.lock:
            self.requests.clear()
            self.bytes_up = 0

    def snapshot(self):
        with self.lock:
            return list(self.requests), self.bytes_up

    def others_than_polls(self):
        requests, _ = self.snapshot()
        return [r for r in requests if not r.startswith(("GET /poll", "GET /healthz"))]

    def close(self):
        self.closing = True
        self.refuse()

    def accept(self, listener):
        while not self.closing:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            client.close()
            return
        pair = (client, server)
        with self.lock:
            self.pairs.add(pair)
        tail, lose = b"", False
        try:
            while not self.closing:
                ready, _, _ = select.select([client, server], [], [], 0.5)
                while self.stalled.wait(0) and not self.closing:
                    threading.Event().wait(0.05)
                for end in ready:
                    data = end.recv(262144)
                    if not data:
                        return
                    if end is client:
                        if b"POST /sync HTTP/1.1\r\n" in tail[-20:] + data:
                            lose = self.lose_answers()
                        tail = self.count(tail, data)
                        server.sendall(data)
                    elif lose:
                        self.lost += 1
                        return
                    else:
                        client.sendall(data)
        except OSError:
            pass
        finally:
            with self.lock:
                self.pairs.discard(pair)
            client.close()
            server.close()

    def count(self, tail, data):
        text = tail + data
        with self.lock:
            self.bytes_up += len(data)
            for match in re.finditer(rb"(GET|POST|PUT|DELETE|HEAD) (/\S*) HTTP/1\.1\r\n", text):
                if match.end() > len(tail):
                    self.requests.append((match.group(1) + b" " + match.group(2)).decode(errors="replace"))
        return text[-200:]


class Silent:
    """Accepts connections and never answers."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.kept = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                self.kept.append(self.listener.accept()[0])
            except OSError:
                return

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.kept:
            connection.close()


class Impostor(Silent):
    """A web server that is none of ours: answers every request with a page."""

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n"
                                   b"Connection: close\r\n\r\n<p>Hello.</p>\n")
            except OSError:
                pass
            connection.close()


def free_port():
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raw(port, data, timeout=15):
    """Sends bytes as they are, returns all that comes until the end or the timeout."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while True:
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
                head, separator, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                if separator and length and len(body) >= int(length.group(1)):
                    break
        except OSError:
            pass
        return answer
