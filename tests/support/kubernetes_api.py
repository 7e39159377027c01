"""The part of Kubernetes' API server that tells of EndpointSlices, on loopback, and a pod's service account for it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.certificates import certificate_for_loopback

__all__ = ["SELECTOR", "KubernetesApi", "endpoint", "kubernetes_api"]

SELECTOR = "kubernetes.io/service-name=ollama"
_PATH = "/apis/discovery.k8s.io/v1/namespaces/ai/endpointslices"
_PORTS = [{"name": "metrics", "port": 9090}, {"name": "http", "port": 11434}]


def endpoint(address: str, pod: str | None = None, *, ready: bool | None = True) -> dict[str, Any]:
    """One pod of a slice."""
    target = {} if pod is None else {"targetRef": {"kind": "Pod", "name": pod}}
    return {"addresses": [address], "conditions": {"ready": ready}, **target}


class KubernetesApi:
    """Slices of namespace `ai`; pages hold one each. `asked` are the queries, each with its token.

    `statuses` are answers instead of the right ones, by `list` or `watch`; `last_word` is all that a watch tells.
    """

    def __init__(self, account: Path) -> None:
        self.account = account
        self.environment: dict[str, str] = {}
        self.token = "of-the-pod"
        self.statuses: dict[str, int] = {}
        self.last_word: bytes | None = None
        self.asked: list[dict[str, str]] = []
        self.slices: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()
        self.epoch = 0
        self._version = self._oldest = 100
        self._events: list[tuple[int, dict[str, Any]]] = []

    def put(self, name: str, *endpoints: dict[str, Any], ports: object = _PORTS) -> None:
        """Make or change a slice."""
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self.slices[name] = {"ports": ports, "endpoints": list(endpoints), "metadata": {"name": name}}
        self._tell(kind, self.slices[name])

    def delete(self, name: str) -> None:
        """Remove a slice."""
        self._tell("DELETED", self.slices.pop(name))

    def bookmark(self) -> None:
        """Tell a version, and nothing else."""
        self._tell("BOOKMARK", {"metadata": {}})

    def forget(self) -> None:
        """Compact the history: whoever asks for what has changed since before now is told 410."""
        with self.changed:
            self._version += 1
            self._oldest = self._version
            self._events.clear()

    def end_watches(self) -> None:
        """Close the connections of all watches, without a last word."""
        with self.changed:
            self.epoch += 1
            self.changed.notify_all()

    def asked_for(self, verb: str) -> list[dict[str, str]]:
        """The queries of lists, or of watches."""
        return [one for one in self.asked if ("watch" in one) == (verb == "watch")]

    def page(self, more: str) -> dict[str, Any]:
        """One slice of the list."""
        number = int(more or 0)
        items = [self.slices[name] for name in sorted(self.slices)][number : number + 1]
        rest = str(number + 1) if number + 1 < len(self.slices) else ""
        return {"metadata": {"resourceVersion": str(self._version), "continue": rest}, "items": items}

    def after(self, version: int) -> list[tuple[int, dict[str, Any]]] | None:
        """What has changed since a version; None if nobody knows any more."""
        return None if version < self._oldest else [one for one in self._events if one[0] > version]

    def _tell(self, kind: str, slice_: dict[str, Any]) -> None:
        with self.changed:
            self._version += 1
            metadata = {**slice_["metadata"], "resourceVersion": str(self._version)}
            self._events.append((self._version, {"type": kind, "object": {**slice_, "metadata": metadata}}))
            self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KubernetesApi

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        token = self.headers["authorization"]
        self.api.asked.append({**query, "token": token})
        verb = "watch" if "watch" in query else "list"
        known = url.path == _PATH and query["labelSelector"] == SELECTOR and token == f"Bearer {self.api.token}"
        status = self.api.statuses.get(verb, 200) if known else 403
        if status != 200:
            self._whole(status, {"kind": "Status"})
        elif verb == "list":
            self._whole(200, self.api.page(query.get("continue", "")))
        elif self.api.last_word is not None:
            self._send(200, self.api.last_word)
        else:
            self._watch(int(query["resourceVersion"]))

    def _whole(self, status: int, value: object) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, known: int) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        epoch = self.api.epoch
        with suppress(OSError):
            while self.api.epoch == epoch:
                with self.api.changed:
                    events = self.api.after(known)
                    if events == []:
                        self.api.changed.wait(0.1)
                        continue
                if events is None:
                    self._event({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
                    self.wfile.write(b"0\r\n\r\n")
                    return
                for _, event in events:
                    self._event(event)
                known = events[-1][0]

    def _event(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        for piece in (line[:20], line[20:]):  # events do not come in one piece
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing."""


@contextmanager
def kubernetes_api(folder: Path) -> Iterator[KubernetesApi]:
    """Run it in threads; its `account` and `environment` are those of a pod."""
    certificate = certificate_for_loopback(folder)
    account = folder / "serviceaccount"
    account.mkdir()
    (account / "ca.crt").write_bytes(certificate.with_suffix(".crt").read_bytes())
    (account / "namespace").write_text("ai")
    (account / "token").write_text("of-the-pod\n")
    api = KubernetesApi(account)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    host, port = server.server_address[:2]
    api.environment = {"KUBERNETES_SERVICE_HOST": str(host), "KUBERNETES_SERVICE_PORT": str(port)}
    try:
        yield api
    finally:
        api.end_watches()
        server.shutdown()
        thread.join()
        server.server_close()
