"""What one request costs this process beyond the kernel: everything on, but no sockets.

    python benchmarks/hot_path.py [--requests 20000] [--profile] [--strategy fastest] [--route /api/chat] [--stream]
        [--num-ctx 8192]

Bytes go straight into the front's protocol and a canned answer into the upstream's connection, so what is measured is
processor time of our own code: strict front, user, reading, decision, request and answer heads, usage, metrics, row.
The row writer, a task of its own, is measured by `logs.py`. With `--num-ctx` a rule gives the model a context, so that
requests in another dialect go to Ollama's own route and their answers come back translated.
"""

# ruff: noqa: D102, D103, SLF001 - stand-ins reach into what they stand in for

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import tempfile
import time

import uvicorn
import uvloop
from uvicorn.server import ServerState

from ollama_router_core.config import load_config
from ollama_router_server.app import create_app
from ollama_router_server.http.strict import StrictProtocol
from ollama_router_server.services import Services
from ollama_router_server.upstream.connection import Connection

_ROUNDS = 50
CONFIG = """
routing_strategy: {strategy}
servers:
{servers}
logging: {{level: error}}
"""
RULE = "model_config: {{rules: [{{pattern: '*', num_ctx: {num_ctx}}}]}}\n"
SERVER = "  s{n}: {{host: 127.0.0.1, port: {port}, priority: {n}, max_memory_gb: 24}}\n"
CHAT = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"hello"}],"stream":%b}'
HEAD = (
    b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
OPENAI = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"llama3.1:8b","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello there, how can I help?"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}}'
)
MODEL = {"name": "llama3.1:8b", "model": "llama3.1:8b", "size": 4920753328, "size_vram": 4920753328, "digest": "ab"}
FACTS = {
    b"/api/tags": {"models": [{**MODEL, "details": {}}]},
    b"/api/ps": {"models": [{**MODEL, "details": {}, "context_length": 4096}]},
    b"/api/version": {"version": "0.32.15"},
    b"/api/show": {"capabilities": ["completion", "tools"], "model_info": {}, "details": {}},
}
OLLAMA = (
    b'{"model":"llama3.1:8b","created_at":"2024-07-22T20:33:28.123648Z","message":{"role":"assistant","content":'
    b'"Hello!"},"done":true,"total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,'
    b'"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}'
)


class Transport:
    """A client or a server that takes everything at once."""

    def __init__(self):
        self.closed = False
        self.written = b""

    def write(self, data):
        self.written = data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close

    def get_extra_info(self, name, default=None):
        return {"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8080)}.get(name, default)

    def get_write_buffer_size(self):
        return 0

    def can_write_eof(self):
        return False

    def set_write_buffer_limits(self, **_limits):
        pass

    def pause_reading(self):
        pass

    resume_reading = pause_reading


class Questioned(Transport):
    """A server's side: what the fleet asks is answered at once, what clients ask by `answered`."""

    def __init__(self, connection, loop):
        super().__init__()
        self.connection = connection
        self.loop = loop

    def abort(self):
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.connection.connection_lost, None)

    def write(self, data):
        self.written = data
        if b"hello" not in data:
            body = json.dumps(FACTS.get(data.split(b" ")[1], {})).encode()
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            self.loop.call_soon(respond, self.connection, whole)


def respond(connection, whole):
    connection.get_buffer(-1)[: len(whole)] = whole
    connection.buffer_updated(len(whole))


async def backend(reader, writer):
    """Answers what the fleet asks; requests never come here."""
    try:
        while line := await reader.readline():
            length = 0
            while (field := await reader.readline()) not in {b"\r\n", b""}:
                if field.lower().startswith(b"content-length:"):
                    length = int(field.split(b":")[1])
            await reader.readexactly(length)
            body = json.dumps(FACTS.get(line.split(b" ")[1], {})).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def measure(options):
    with tempfile.TemporaryDirectory() as folder:
        fleet = [await asyncio.start_server(backend, "127.0.0.1", 0) for _ in range(options.servers)]
        ports = [server.sockets[0].getsockname()[1] for server in fleet]
        servers = "".join(SERVER.format(n=n, port=port) for n, port in enumerate(ports, 1))
        rule = RULE.format(num_ctx=options.num_ctx) if options.num_ctx else ""
        config = load_config(CONFIG.format(strategy=options.strategy, servers=servers) + rule)
        services = Services(config, {"OROUTER_DATABASE_URL": f"sqlite:///{folder}/db.sqlite3"})
        await services.prepare()
        created = await services.users.create("admin", role="admin")
        app = create_app(services)
        await services.start()
        try:
            await run(options, services, app, created.token.reveal().encode())
        finally:
            await services.aclose()
            for server in fleet:
                server.close()


async def run(options, services, app, token):
    loop = asyncio.get_running_loop()
    uvicorn_config = uvicorn.Config(app, http=StrictProtocol, access_log=False, log_config=None, proxy_headers=False)
    uvicorn_config.load()
    front = StrictProtocol(uvicorn_config, ServerState(), {}, loop)
    client = Transport()
    front.connection_made(client)
    connections = []
    for target in services.targets.values():
        services.upstream._pool._idle.pop(target.origin, None)
        upstream = services.upstream
        connection = Connection(target.origin, loop, upstream._buffer, upstream._pool, 1e9)
        connection.connection_made(Questioned(connection, loop))
        upstream._pool.opened(connection)
        connection._give_back()
        connections.append(connection)
    body = CHAT % (b"true" if options.stream else b"false")
    request = HEAD % (options.route.encode(), token, len(body), body)
    answer = OPENAI if options.route.startswith("/v1") and not options.num_ctx else OLLAMA
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
    front.data_received(request)  # the token is verified once
    while b"200 OK" not in client.written:
        answered(connections, whole)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    for connection in connections:  # no real one is taken instead
        services.upstream._pool._idle[connection.origin] = [connection]
    profile = cProfile.Profile() if options.profile else None
    best = []
    for _ in range(_ROUNDS):
        count = options.requests // _ROUNDS
        began = time.process_time()
        if profile:
            profile.enable()
        for _ in range(count):
            front.data_received(request)
            answered(connections, whole)
        if profile:
            profile.disable()
        best.append((time.process_time() - began) / count * 1e6)
        assert services.sink.pending, "no answer came at once"
        services.sink._queue.clear()
    ruled = f", num_ctx {options.num_ctx}" if options.num_ctx else ""
    asked = f"{options.route} {options.strategy}, {options.servers} servers{ruled}"
    print(f"{asked}: {min(best):.1f} us a request (median {sorted(best)[_ROUNDS // 2]:.1f})")
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)


def answered(connections, whole):
    """Answer the request that is under way, if there is one."""
    for connection in connections:
        if connection._busy and b"hello" in connection._transport.written:
            connection._transport.written = b""
            respond(connection, whole)
            return True
    return False


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--requests", type=int, default=20000)
    asked.add_argument("--servers", type=int, default=1)
    asked.add_argument("--strategy", default="priority_with_memory")
    asked.add_argument("--route", default="/v1/chat/completions")
    asked.add_argument("--num-ctx", type=int)
    asked.add_argument("--stream", action="store_true")
    asked.add_argument("--profile", action="store_true")
    uvloop.run(measure(asked.parse_args()))


if __name__ == "__main__":
    main()
