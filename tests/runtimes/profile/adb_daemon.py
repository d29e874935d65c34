"""A test double of a phone's adb daemon, on loopback, for the real adb client.

Wire protocol of AOSP's packages/modules/adb: protocol.txt (packets), SYNC.TXT (files), shell_protocol.h (shell v2).
Commands run through `Phone.command`, files lie under `Phone.root`; what goes wrong on request is in `Faults`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import IO

VERSION = 0x01000001  # of the protocol: without checksums
LARGEST = 256 << 10  # bytes of a packet's payload
CHUNK = 64 << 10  # bytes of a sync DATA
STDOUT, STDERR, EXIT = 1, 2, 3  # kinds of shell v2 packets
RUN = "--json"  # only the runner is called with it


@dataclass(kw_only=True)
class Faults:
    """What goes wrong. Each of the drops happens once."""

    unauthorized: bool = False
    drop_after_bytes: int | None = None
    """Of files that are being pushed."""
    drop_at_run: int | None = None
    """The connection is lost when the runner is started so many times, counted from 1."""
    gone_after_drop: bool = False
    """Then nobody answers any more."""
    full_after_bytes: int | None = None
    commands: list[str] = field(default_factory=list)
    """All that were run."""
    pushed: list[str] = field(default_factory=list)
    """Paths of all files that arrived."""


class Daemon:
    """Listens until it is closed."""

    def __init__(self, root: Path, command: Callable[[str], list[str]], faults: Faults) -> None:
        self.root, self.command, self.faults = root, command, faults
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections: list[Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connected, _ = self._listener.accept()
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # answers are small, and waited for
                self.connections.append(Connection(connected, self))
                threading.Thread(target=self.connections[-1].serve, daemon=True).start()

    def stop(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def running(self) -> list[object]:
        """Commands that have not ended."""
        processes = [process for connection in self.connections for process in connection.processes]
        return [process.args for process in processes if process.poll() is None]

    def close(self) -> None:
        """Stop listening, drop connections, end what still runs."""
        self.stop()
        for connection in self.connections:
            connection.drop()
            for process in connection.processes:
                process.kill()
                process.wait()


class Connection:
    """One client: packets in, packets out, a thread a stream."""

    def __init__(self, connected: socket.socket, daemon: Daemon) -> None:
        self.socket, self.daemon = connected, daemon
        self.streams: dict[int, Stream] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._sending = threading.Lock()

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError, struct.error):
            while True:
                command, one, other, length = struct.unpack("<4sIII8x", self._receive(24))
                self._handle(command, one, other, self._receive(length))
        self.drop()

    def send(self, command: bytes, one: int, other: int, payload: bytes = b"") -> None:
        magic = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        header = struct.pack("<4sIIIII", command, one, other, len(payload), sum(payload) & 0xFFFFFFFF, magic)
        with self._sending:
            self.socket.sendall(header + payload)

    def drop(self) -> None:
        """As when a cable is pulled: streams end, processes go on."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for stream in self.streams.values():
            stream.end()

    def lose(self) -> None:
        """The fault that was asked for."""
        if self.daemon.faults.gone_after_drop:
            self.daemon.stop()
        self.drop()

    def _receive(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            part = self.socket.recv(length - len(found))
            if not part:
                raise EOFError
            found += part
        return bytes(found)

    def _handle(self, command: bytes, one: int, other: int, payload: bytes) -> None:
        if command in (b"CNXN", b"AUTH"):
            if self.daemon.faults.unauthorized:
                self.send(b"AUTH", 1, 0, os.urandom(20))  # a token to sign; no signature will do
                return
            properties = "ro.product.name=double;ro.product.model=Double;ro.product.device=double;"
            self.send(b"CNXN", VERSION, LARGEST, f"device::{properties}features=shell_v2,cmd".encode())
        elif command == b"OPEN":
            stream = Stream(self, remote=one)
            self.streams[stream.local] = stream
            self.send(b"OKAY", stream.local, one)
            threading.Thread(target=self._service(payload.rstrip(b"\0").decode(), stream), daemon=True).start()
        elif other in self.streams:
            stream = self.streams[other]
            if command == b"WRTE":
                stream.incoming.put(payload)
                self.send(b"OKAY", stream.local, one)
            elif command == b"OKAY":
                stream.taken.set()
            elif command == b"CLSE":
                stream.end()

    def _service(self, name: str, stream: Stream) -> Callable[[], None]:
        kind, _, command = name.partition(":")
        if kind == "sync":
            return lambda: Sync(stream, self.daemon).serve()
        if kind.split(",")[0] == "shell":
            return lambda: self._shell(command, stream)
        return stream.close

    def _shell(self, command: str, stream: Stream) -> None:
        faults = self.daemon.faults
        faults.commands.append(command)
        process = subprocess.Popen(
            self.daemon.command(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.processes.append(process)
        if RUN in command and faults.drop_at_run == sum(RUN in one for one in faults.commands):
            sleep(0.3)  # it has begun
            self.lose()
            return

        def copy(pipe: IO[bytes], kind: int) -> None:
            while part := os.read(pipe.fileno(), CHUNK):
                stream.write(struct.pack("<BI", kind, len(part)) + part)

        assert process.stdout is not None
        assert process.stderr is not None
        other = threading.Thread(target=copy, args=(process.stderr, STDERR), daemon=True)
        other.start()
        copy(process.stdout, STDOUT)
        other.join()
        code = process.wait()
        stream.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))
        stream.close()


class Stream:
    """A two-way pipe in a connection. One packet at a time is under way in each direction."""

    _next = 1

    def __init__(self, connection: Connection, remote: int) -> None:
        self.connection, self.remote = connection, remote
        self.local, Stream._next = Stream._next, Stream._next + 1
        self.incoming: queue.Queue[bytes | None] = queue.Queue()
        self.taken = threading.Event()
        self._ended = False
        self._rest = b""
        self._writing = threading.Lock()

    def write(self, payload: bytes) -> None:
        """Send, and wait until the client has taken it. Does nothing on a stream that has ended."""
        with self._writing:
            for start in range(0, len(payload), LARGEST):
                if self._ended:
                    return
                self.taken.clear()
                with contextlib.suppress(OSError):
                    self.connection.send(b"WRTE", self.local, self.remote, payload[start : start + LARGEST])
                    self.taken.wait(timeout=30)

    def read(self, length: int) -> bytes:
        """Exactly so many bytes. Raises EOFError when the client has closed."""
        while len(self._rest) < length:
            part = self.incoming.get()
            if part is None:
                raise EOFError
            self._rest += part
        found, self._rest = self._rest[:length], self._rest[length:]
        return found

    def end(self) -> None:
        """The client has closed."""
        self._ended = True
        self.taken.set()
        self.incoming.put(None)

    def close(self) -> None:
        """Tell the client."""
        if not self._ended:
            with contextlib.suppress(OSError):
                self.connection.send(b"CLSE", self.local, self.remote)


class Sync:
    """The file service: requests of four letters and a length."""

    def __init__(self, stream: Stream, daemon: Daemon) -> None:
        self.stream, self.daemon, self.faults = stream, daemon, daemon.faults

    def serve(self) -> None:
        handlers = {b"STAT": self._stat, b"LIST": self._list, b"SEND": self._send, b"RECV": self._receive}
        with contextlib.suppress(EOFError):
            while True:
                name, length = struct.unpack("<4sI", self.stream.read(8))
                if name == b"QUIT":
                    break
                handlers[name](self.stream.read(length).decode())
        self.stream.close()

    def _path(self, name: str) -> Path:
        return self.daemon.root / name.lstrip("/")

    def _stat(self, name: str) -> None:
        self.stream.write(b"STAT" + _status(self._path(name)))

    def _list(self, name: str) -> None:
        folder = self._path(name)
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            encoded = path.name.encode()
            self.stream.write(b"DENT" + _status(path) + struct.pack("<I", len(encoded)) + encoded)
        self.stream.write(b"DONE" + bytes(16))

    def _send(self, request: str) -> None:
        """A file from the client; after a fault the rest is read and forgotten, as the real daemon does."""
        name, _, mode = request.rpartition(",")
        path, failed, size = self._path(name), "", 0
        if not path.parent.is_dir():
            path, failed = Path(os.devnull), "couldn't create file: No such file or directory"
        with path.open("wb") as file:
            while True:
                kind, length = struct.unpack("<4sI", self.stream.read(8))
                if kind == b"DONE":
                    break
                payload = self.stream.read(length)
                size += length
                if self.faults.drop_after_bytes is not None and size > self.faults.drop_after_bytes:
                    self.faults.drop_after_bytes = None
                    self.stream.connection.lose()
                    raise EOFError
                if self.faults.full_after_bytes is not None and size > self.faults.full_after_bytes:
                    failed = failed or "write failed: No space left on device"
                if not failed:
                    file.write(payload)
        if failed:
            if path != Path(os.devnull):
                path.unlink()
            self.stream.write(b"FAIL" + struct.pack("<I", len(failed)) + failed.encode())
            return
        path.chmod(int(mode) & 0o777)
        self.faults.pushed.append(name)
        self.stream.write(b"OKAY" + bytes(4))

    def _receive(self, name: str) -> None:
        try:
            content = self._path(name).read_bytes()
        except OSError as error:
            said = f"open failed: {error.strerror}".encode()
            self.stream.write(b"FAIL" + struct.pack("<I", len(said)) + said)
            return
        for start in range(0, len(content), CHUNK):
            part = content[start : start + CHUNK]
            self.stream.write(b"DATA" + struct.pack("<I", len(part)) + part)
        self.stream.write(b"DONE" + bytes(4))


def _status(path: Path) -> bytes:
    """mode, size, time; zeros when there is nothing."""
    try:
        found = path.lstat()
    except OSError:
        return bytes(12)
    return struct.pack("<III", found.st_mode, found.st_size if stat.S_ISREG(found.st_mode) else 0, int(found.st_mtime))
