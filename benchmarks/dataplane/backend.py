"""A backend that costs almost nothing, so that what is measured is the proxy.

    python backend.py PORT [SLOTS]

`POST /v1/chat/completions` answers one small JSON; with `"stream":true` it streams 100 events at once, or as the
User-Agent `gap/MILLISECONDS/EVENTS/BYTES` asks, each made longer by so many bytes; one JSON is answered after such a
gap too, and of those only SLOTS are worked on at once, the others in turn. Each event holds the sender's
monotonic clock in nanoseconds, so that a reader on the same machine can tell how long it was on its way. The facts of
one Ollama model are answered as well.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque

import httptools
import uvloop

MODEL = b"llama3.1:8b"
REPLY = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"' + MODEL + b'","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello there, how can I help?"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}}'
)
TAGS = b'{"models":[{"name":"' + MODEL + b'","model":"' + MODEL + b'","size":4920753328,"digest":"ab","details":{}}]}'
CHUNK = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"llama3.1:8b",'
EVENT = CHUNK + b'"sent":%d,"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
USAGE = b'{"prompt_tokens":12,"completion_tokens":100,"total_tokens":112}'
LAST = CHUNK + b'"choices":[],"usage":' + USAGE + b"}\n\ndata: [DONE]\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def whole(body: bytes) -> bytes:
    """A complete answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


READS = {
    b"/api/version": whole(b'{"version":"0.32.15"}'),
    b"/api/tags": whole(TAGS),
    b"/api/ps": whole(TAGS),
    b"/v1/models": whole(
        b'{"object":"list","data":[{"id":"' + MODEL + b'","object":"model","created":1,"owned_by":"x"}]}'
    ),
}
CHAT = whole(REPLY)


class Slots:
    """How many whole answers are worked on at once, and who waits."""

    def __init__(self, free):
        self.free = free
        self.line = deque()

    def take(self, connection):
        """Work on a connection's answer, now or in its turn."""
        if self.free:
            self.free -= 1
            asyncio.get_running_loop().call_later(connection.gap, self.done, connection)
        else:
            self.line.append(connection)

    def done(self, connection):
        """Answer, and go on with the next."""
        connection.transport.write(CHAT)
        self.free += 1
        while self.line and self.free:
            following = self.line.popleft()
            if not following.transport.is_closing():
                self.take(following)


SLOTS = Slots(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)


class Backend(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport):
        """A client has connected."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.task = None
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self):
        """The other side takes less than is sent."""
        self.room.clear()

    def resume_writing(self):
        """It has caught up."""
        self.room.set()

    def connection_lost(self, _error):
        """It has left: stop streaming."""
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data):
        """Bytes for the parser."""
        self.parser.feed_data(data)

    def on_url(self, url):
        """A request begins."""
        self.url, self.body, self.chunks, self.gap, self.pad = url.partition(b"?")[0], b"", 100, 0.0, b""

    def on_header(self, name, value):
        """How fast to stream."""
        if name.lower() == b"user-agent" and value.startswith(b"gap/"):
            gap, self.chunks, *pad = (int(part) for part in value[4:].split(b"/"))
            self.gap = gap / 1000
            self.pad = b":%b\n" % (b" " * pad[0]) if pad else b""

    def on_body(self, body):
        """A piece of the body."""
        self.body += body

    def on_message_complete(self):
        """Answer."""
        if self.url != b"/v1/chat/completions":
            self.transport.write(READS.get(self.url, whole(b"{}")))
        elif b'"stream":true' in self.body or b'"stream": true' in self.body:
            self.task = asyncio.ensure_future(self.stream(self.chunks, self.gap))
        elif self.gap:
            SLOTS.take(self)
        else:
            self.transport.write(CHAT)

    async def stream(self, chunks, gap):
        """Stream events."""
        self.transport.write(STREAM_HEAD)
        for _ in range(chunks):
            await asyncio.sleep(gap)
            if not self.room.is_set():
                await self.room.wait()
            event = self.pad + EVENT % time.monotonic_ns()
            self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))
        self.task = None


async def main():
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
