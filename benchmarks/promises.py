"""Two promises with numbers: an upload of any size in little memory, and lists that no hanging server holds up.

    python benchmarks/promises.py [--megabytes 2048]

Starts the router as a process over small servers in another process. Memory is the kernel's own count of the router's
(`VmRSS`, `VmHWM`), so this runs on Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HANGING, ANSWERING = 3, 17
PIECE = 1 << 20


def main():
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--megabytes", type=int, default=2048)
    options = asked.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports, hang = _servers(stack, HANGING + ANSWERING)
        port, pid, token = _router(stack, folder, ports)
        _upload(port, pid, token, options.megabytes)
        _lists(port, token, hang)


def _upload(port, pid, token, megabytes):
    _send(port, token, 8)  # what is allocated once is not growth
    before = _memory(pid)[0]
    started = time.monotonic()
    reply, digest = _send(port, token, megabytes)
    seconds = time.monotonic() - started
    same = reply["sha256"] == digest and reply["bytes"] == megabytes * PIECE
    print(f"upload of {megabytes} MiB: {seconds:.1f} s, {megabytes / seconds:.0f} MiB/s")
    print(f"  bytes and digest at the server are {'the same' if same else 'NOT the same'}")
    print(f"  router's memory: {before / 1024:.1f} MiB before, {_memory(pid)[1] / 1024:.1f} MiB at most")
    print(f"  growth: {(_memory(pid)[1] - before) / 1024:.1f} MiB")


def _send(port, token, megabytes):
    size, digest = megabytes * PIECE, hashlib.sha256()
    blocks = [os.urandom(PIECE) for _ in range(4)]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        path = "/api/blobs/sha256:" + "0" * 64
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        sock.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
        for number in range(megabytes):
            digest.update(blocks[number % 4])
            sock.sendall(blocks[number % 4])
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return json.loads(answer.partition(b"\r\n\r\n")[2]), digest.hexdigest()


def _lists(port, token, hang):
    for state in ("all answer", f"{HANGING} of {HANGING + ANSWERING} hang"):
        times = []
        for _ in range(5):
            started = time.monotonic()
            names = {row["name"] for row in _get(port, token, "/api/tags")["models"]}
            times.append(time.monotonic() - started)
        print(f"/api/tags, {state}: {max(times):.2f} s at most of 5, {len(names)} models")
        hang.set()


def _get(port, token, path):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def _memory(pid):
    """Now and at most, in KiB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = (re.search(rf"{name}:\s+(\d+)", text) for name in ("VmRSS", "VmHWM"))
    return tuple(int(one[1]) for one in found if one)


def _router(stack, folder, ports):
    servers = {f"s{number}": {"host": "127.0.0.1", "port": port} for number, port in enumerate(ports)}
    config = {"servers": servers, "health_check_interval": 3600, "logging": {"enabled": False}}
    (folder / "orouter.yml").write_text(json.dumps(config), encoding="utf-8")
    variables = {"OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"}
    command = [sys.executable, "-m", "ollama_router_cli", "serve", "--port", "0", "-c", str(folder / "orouter.yml")]
    with (folder / "err").open("w") as err:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=err, text=True, env={**os.environ, **variables}
        )
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    line = process.stdout.readline()
    token = re.search(r"^ {4}(\S+)$", (folder / "err").read_text(encoding="utf-8"), re.MULTILINE)[1]
    return int(line.rpartition(":")[2]), process.pid, token


def _servers(stack, count):
    hang, pipe, theirs = multiprocessing.Event(), *multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(count, hang, theirs), daemon=True)
    process.start()
    stack.callback(process.join, 5)
    stack.callback(process.terminate)
    return pipe.recv(), hang


def _serve(count, hang, pipe):
    asyncio.run(_serve_all(count, hang, pipe))


async def _serve_all(count, hang, pipe):
    servers = [await asyncio.start_server(_Server(number, hang).answer, "127.0.0.1", 0) for number in range(count)]
    pipe.send([one.sockets[0].getsockname()[1] for one in servers])
    await asyncio.Event().wait()


class _Server:
    """One small server: lists a model of its own, and counts what is uploaded."""

    def __init__(self, number, hang):
        self.number = number
        self.hang = hang
        self.never = asyncio.Event()

    async def answer(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if self.number < HANGING and self.hang.is_set():
                    await self.never.wait()
                body = json.dumps(await self._reply(head, reader)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    async def _reply(self, head, reader):
        path = head.split(b" ")[1].decode()
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        digest, size = hashlib.sha256(), 0
        while length and size < int(length[1]):
            piece = await reader.read(min(1 << 18, int(length[1]) - size))
            if not piece:
                raise ConnectionError
            digest.update(piece)
            size += len(piece)
        name = f"model{self.number}:7b"
        row = {"name": name, "model": name, "size": 1, "digest": f"{self.number:064d}", "modified_at": ""}
        known = {"/api/tags": {"models": [row]}, "/api/ps": {"models": []}, "/api/version": {"version": "0.32.15"}}
        return known.get(path, {"sha256": digest.hexdigest(), "bytes": size})


if __name__ == "__main__":
    main()
