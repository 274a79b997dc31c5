"""Starts a server of each kind, runs the same case against both, and compares what the client saw.

It owns processes, their addresses, folders and logs, and the comparison; what is asked is the tests' part. A process
started here never outlives the program (the kernel ends it with the thread that started it), and every wait has a
deadline.
"""

import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

READY_LIMIT = 30.0
"""Seconds for a start, an expiry or a client's reconnection on a busy machine."""

CALL_LIMIT = 15
"""Seconds for one call of a client."""

CASE_LIMIT = 90.0
"""Seconds for one case."""

_addresses = itertools.count(1)


def program(variable, name):
    """The program that the environment names, else the one that `cargo xtask test-programs` built."""
    named = os.environ.get(variable)
    path = pathlib.Path(named) if named else pathlib.Path(__file__).parents[2] / "target" / "test-bin" / name
    assert path.exists(), f"{path} is missing: set {variable} or run `cargo xtask test-programs`"
    return str(path.absolute())


def eventually(what, condition, limit=READY_LIMIT):
    """Asks until the condition gives something true, and gives that; fails when the deadline passes first."""
    deadline = time.monotonic() + limit
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {limit} s"
        time.sleep(0.01)


def _address():
    """host:port that nobody else uses: a loopback address of this process alone, and a port that the kernel chose."""
    host = f"127.{1 + (os.getpid() >> 8) % 200}.{os.getpid() % 256}.{1 + next(_addresses) % 250}"
    with socket.socket() as listener:
        listener.bind((host, 0))
        return "%s:%d" % listener.getsockname()


class Server:
    """One member: a process, its folder, its addresses. It keeps folder and addresses over kill and start."""

    def __init__(self, binary, flags=()):
        self.binary = binary
        self.flags = flags
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="quorate-python-"))
        self.endpoint = _address()
        self.host, port = self.endpoint.split(":")
        self.port = int(port)
        self.peer = _address()
        self.process = None
        self.start()

    def start(self):
        """Starts the process on its folder; await_ready waits until it serves."""
        client, peer = f"http://{self.endpoint}", f"http://{self.peer}"
        arguments = [
            "--name", "m0", "--data-dir", str(self.folder / "data"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"m0={peer}", *self.flags,
        ]  # fmt: skip
        with open(self.folder / "log", "ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", "--", self.binary, *arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def await_ready(self):
        """Waits until the member serves linearizable requests."""
        eventually(f"{self.binary} ready", self._healthy)
        return self

    def _healthy(self):
        assert self.process.poll() is None, f"{self.binary} ended:\n{self.log()}"
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://{self.endpoint}/health", timeout=2) as reply:
                return reply.status == 200
        except OSError:
            return False

    def kill(self):
        """Ends the process as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(READY_LIMIT)

    def restart(self):
        """Kills the process and starts it again on the same folder and addresses."""
        self.kill()
        self.start()
        self.await_ready()

    def log(self):
        """The last lines that the process printed."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-15:])

    def remove(self):
        """Ends the process and leaves nothing behind."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Side:
    """One of the two servers, and what the case saw of it."""

    def __init__(self, name, server):
        self.name = name
        self.server = server
        self.transcript = []

    def note(self, asked, seen):
        """Records what is to be the same on both sides."""
        self.transcript.append((asked, seen))
        return seen


class Pair:
    """Real etcd and Quorate with equal histories; with v2, real etcd is 3.4, the last that serves it by itself."""

    def __init__(self, v2=False):
        peer = (program("OLD_ETCD", "etcd-old"), ["--enable-v2=true"]) if v2 else (program("PEER_BIN", "etcd-peer"), [])
        servers = [("etcd", *peer), ("ours", program("QUORATE_BIN", "etcd"), [])]
        self.sides = [Side(name, Server(binary, flags)) for name, binary, flags in servers]
        for side in self.sides:
            side.server.await_ready()

    def both(self, case):
        """Runs the case against both at the same time, each in a thread, and compares what they showed."""
        self.begin()
        failures = {}

        def run(side):
            try:
                case(side)
            except BaseException as failure:  # whatever it is, it is the case's failure
                failures[side] = failure

        threads = [threading.Thread(target=run, args=[side], daemon=True) for side in self.sides]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + CASE_LIMIT
        for thread, side in zip(threads, self.sides):
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                failures[side] = TimeoutError(f"the case still waits after {CASE_LIMIT} s")
        self.compare(failures)

    def begin(self):
        """Empties the transcripts."""
        for side in self.sides:
            side.transcript = []

    def compare(self, failures):
        """Holds the transcripts against each other, entry by entry; a side that failed fails the test."""
        for side, failure in failures.items():
            raise AssertionError(f"{side.name} after {side.transcript[-1:]}:\n{side.server.log()}") from failure
        peer, ours = (side.transcript for side in self.sides)
        assert peer, "the case saw nothing"
        for wanted, seen in itertools.zip_longest(peer, ours):
            assert seen == wanted, f"etcd: {wanted}\nours: {seen}"

    def remove(self):
        """Ends both servers."""
        for side in self.sides:
            side.server.remove()
