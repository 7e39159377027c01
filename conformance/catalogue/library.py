"""What changes the server's library: create, copy, delete, blobs. Only names and blobs made here are touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from conformance.catalogue.building import GREEDY, MISSING, Exchange, get, post, raw, say
from conformance.subject import Subject
from conformance.wire import Request

__all__ = ["exchanges"]

_GROUP = "library"


def exchanges(subject: Subject, nonce: str) -> Iterator[Exchange]:
    """A model is created, copied, used and deleted; a blob is stored, which no route can remove."""
    made, copied = f"orouter-conformance-{nonce}:a", f"orouter-conformance-{nonce}:b"
    for one in (*_blobs(nonce), *_models(subject, made, copied), *_refused(subject, made)):
        yield _once(one)


def _once(one: Exchange) -> Exchange:
    return Exchange(group=one.group, name=one.name, requests=one.requests, topics=one.topics, repeatable=False)


def _blobs(nonce: str) -> Iterator[Exchange]:
    content = f"blob of {nonce}".encode()
    path = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    own = "own digest"
    octets = (("Content-Type", "application/octet-stream"),)
    yield get(_GROUP, "blob not there yet", path, own, method="HEAD")
    yield raw(_GROUP, "blob stored", path, content, own, headers=octets)
    yield get(_GROUP, "blob there", path, own, "blob there", method="HEAD")
    yield raw(_GROUP, "blob stored again", path, content, own, headers=octets)
    other = f"/api/blobs/sha256:{hashlib.sha256(b'x' + content).hexdigest()}"
    yield raw(_GROUP, "blob with a wrong digest", other, content + b"y", own, headers=octets)
    yield raw(_GROUP, "digest that is none", "/api/blobs/sha256:zz", content, headers=octets)
    yield get(_GROUP, "HEAD of a digest that is none", "/api/blobs/sha256:zz", method="HEAD")
    chunked = b"chunks of " + nonce.encode()
    digest = hashlib.sha256(chunked).hexdigest()
    request = Request(method="POST", path=f"/api/blobs/sha256:{digest}", pieces=(chunked[:5], chunked[5:]))
    yield Exchange(group=_GROUP, name="blob in chunks", requests=(request,), topics=frozenset({own}))
    waiting = b"waits " + nonce.encode()
    digest = hashlib.sha256(waiting).hexdigest()
    request = Request(method="POST", path=f"/api/blobs/sha256:{digest}", body=waiting, expects=True)
    yield Exchange(group=_GROUP, name="blob with 100-continue", requests=(request,), topics=frozenset({own}))


def _models(subject: Subject, made: str, copied: str) -> Iterator[Exchange]:
    base = {"from": subject.model, "system": "Be brief."}
    yield post(_GROUP, "create, streamed", "/api/create", {"model": made, **base})
    yield post(_GROUP, "create, whole", "/api/create", {"model": made, **base, "stream": False})
    yield post(_GROUP, "create by name", "/api/create", {"name": made, **base})
    yield post(_GROUP, "show what was created", "/api/show", {"model": made}, "own digest")
    yield post(_GROUP, "copy", "/api/copy", {"source": made, "destination": copied})
    yield post(_GROUP, "copy over itself", "/api/copy", {"source": made, "destination": made})
    used = {"model": copied, "messages": say(), "options": GREEDY, "stream": False}
    yield post(_GROUP, "use the copy", "/api/chat", used)
    yield post(_GROUP, "delete the copy", "/api/delete", {"model": copied}, method="DELETE")
    yield post(_GROUP, "delete it again", "/api/delete", {"model": copied}, method="DELETE")
    yield post(_GROUP, "use what is gone", "/api/chat", used)
    yield post(_GROUP, "delete by name", "/api/delete", {"name": made}, method="DELETE")


def _refused(subject: Subject, made: str) -> Iterator[Exchange]:
    yield post(_GROUP, "copy what is missing", "/api/copy", {"source": MISSING, "destination": made})
    yield post(_GROUP, "copy to no name", "/api/copy", {"source": subject.model, "destination": "bad name!"})
    yield post(_GROUP, "copy from no name", "/api/copy", {"source": "bad name!", "destination": made})
    yield post(_GROUP, "delete what is missing", "/api/delete", {"model": MISSING}, method="DELETE")
    for name in ("bad name!", "<b>&amp;</b>", "modèle é"):
        yield post(_GROUP, f"delete {name!a}", "/api/delete", {"model": name}, method="DELETE")
    yield post(_GROUP, "create without a base", "/api/create", {"model": made})
    yield post(_GROUP, "create with no name", "/api/create", {"model": "bad name!", "from": subject.model})
    files = {"model.gguf": "sha256:" + "0" * 64}
    yield post(_GROUP, "create from a blob that is missing", "/api/create", {"model": made, "files": files})
    for stream in (True, False):
        label = str(stream).lower()
        pull = {"model": f"nobody/{MISSING}", "stream": stream}
        yield post(_GROUP, f"pull what is missing, stream {label}", "/api/pull", pull)
        yield post(_GROUP, f"push what is missing, stream {label}", "/api/push", pull, "push of nothing")
    yield post(_GROUP, "pull no name", "/api/pull", {"model": "bad name!"})
