"""Load: wrk for requests, our own reader for the delay of single chunks and for idle streams."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import time
from pathlib import Path

LUA = """wrk.method="POST"
wrk.body='{{"model":"llama3.1:8b","messages":[{{"role":"user","content":"hello"}}],"stream":{stream}}}'
wrk.headers["Authorization"]="Bearer {token}"
wrk.headers["Content-Type"]="application/json"
"""
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def wrk(running, *, connections, seconds, stream=False):
    """Requests a second and latencies (s) at p50 and p99; raises when an answer was not 200."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        Path(script.name).write_text(LUA.format(token=running.token, stream=str(stream).lower()))
        url = f"http://127.0.0.1:{running.port}/v1/chat/completions"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", script.name, url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{running.name}: {text}")
    percentiles = dict(re.findall(r"(50|99)%\s+([\d.]+[mu]?s)", text))
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), *(_seconds(percentiles[p]) for p in ("50", "99"))


def _seconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * UNITS[unit]


def chunk_delays(running, *, streams, chunks, gap_ms):
    """Delays (s, sorted) of every chunk of many slow streams, from the backend's write to our read."""
    return sorted(asyncio.run(_many(running, streams, chunks, gap_ms)))


async def _many(running, streams, chunks, gap_ms):
    delays = []
    await asyncio.gather(*(_stream(running, chunks, gap_ms, delays, wait=i * 0.002) for i in range(streams)))
    return delays


async def _stream(running, chunks, gap_ms, delays, *, wait):
    await asyncio.sleep(wait)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request(running, chunks, gap_ms))
    async for line in reader:
        now = time.monotonic_ns()
        sent = line.partition(b'"sent":')[2].partition(b",")[0]
        if sent:
            delays.append((now - int(sent)) / 1e9)
        if line.startswith(b"data: [DONE]"):
            break
    writer.close()


def request(running, chunks, gap_ms):
    """A streamed request; how fast the backend shall stream travels in the User-Agent, which every proxy keeps."""
    body = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"hello"}],"stream":true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.token}\r\n"
    head += (
        f"User-Agent: gap/{gap_ms}/{chunks}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def memory_per_stream(running, *, streams):
    """Bytes of resident memory that each of many streams costs while nothing flows on it."""
    return asyncio.run(_hold(running, streams))


async def _hold(running, streams):
    before = running.rss()
    writers = []
    for _ in range(streams):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request(running, 2, 60_000))
        writers.append((reader, writer))
    await asyncio.gather(*(reader.readline() for reader, _ in writers))
    await asyncio.sleep(1)
    held = (running.rss() - before) / streams
    for _, writer in writers:
        writer.transport.abort()
    await asyncio.sleep(1)
    return held
