"""The bytes that requests are made of: good ones, and everything a front end has ever been fooled with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BAD", "GOOD", "Bad", "Good", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the application must see it."""

    method: str
    target: bytes
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Good:
    """Bytes of well-formed requests, and the requests."""

    name: str
    data: bytes
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that must be refused with a status, and the connection closed.

    `seen` are good requests before them on the same connection. `body` says that the head is good and the fault
    is in the body: the application may have been started, but is told that the client has gone.
    """

    name: str
    data: bytes
    status: int = 400
    body: bool = False


_HOST = b"Host: a\r\n"
_GET = b"GET /x HTTP/1.1\r\n" + _HOST
_POST = b"POST /x HTTP/1.1\r\n" + _HOST
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def _good(name: str, data: bytes, *seen: Seen) -> Good:
    return Good(name, data, seen)


_SEEN_GET = Seen("GET", b"/x")
_SEEN_ABC = Seen("POST", b"/x", b"abc")

GOOD: tuple[Good, ...] = (
    _good("get", _GET + b"\r\n", _SEEN_GET),
    _good("http-1.0", b"GET /x HTTP/1.0\r\n\r\n", _SEEN_GET),
    _good("http-1.0-with-host", b"GET /x HTTP/1.0\r\n" + _HOST + b"\r\n", _SEEN_GET),
    _good("connection-close", _GET + b"Connection: close\r\n\r\n", _SEEN_GET),
    _good("bytes-after-close", _GET + b"Connection: close\r\n\r\n" + _NEXT, _SEEN_GET),
    _good("content-length", _POST + b"Content-Length: 3\r\n\r\nabc", _SEEN_ABC),
    _good("content-length-zero", _POST + b"Content-Length: 0\r\n\r\n", Seen("POST", b"/x")),
    _good("chunked", _CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", _SEEN_ABC),
    _good("chunked-upper-case", _POST + b"TRANSFER-ENCODING: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", _SEEN_ABC),
    _good("chunk-extension", _CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n0;last\r\n\r\n', _SEEN_ABC),
    _good("chunk-with-empty-lines", _CHUNKED + b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", Seen("POST", b"/x", b"\r\n" * 4)),
    _good("leading-zeros", _CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", _SEEN_ABC),
    _good(
        "trailers-dropped",
        _CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer evil\r\nX-Forwarded-For: 9.9.9.9\r\nHost: evil\r\n\r\n",
        _SEEN_ABC,
    ),
    _good("blanks-around-values", b"GET /x HTTP/1.1\r\nHost:  a \t\r\nX-A:\tb \r\n\r\n", _SEEN_GET),
    _good("empty-value", _GET + b"X-A:\r\n\r\n", _SEEN_GET),
    _good("latin-1-value", _GET + b"X-A: \xe9\r\n\r\n", _SEEN_GET),
    _good("repeated-field", _GET + b"Accept: a\r\nAccept: b\r\n\r\n", _SEEN_GET),
    _good("host-with-port", b"GET /x HTTP/1.1\r\nHost: ollama_router:8080\r\n\r\n", _SEEN_GET),
    _good("host-ipv6", b"GET /x HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", _SEEN_GET),
    _good("empty-lines-before", b"\r\n\r\n" + _GET + b"\r\n", _SEEN_GET),
    _good("query", b"GET /x?a=b&c=%20?d HTTP/1.1\r\n" + _HOST + b"\r\n", Seen("GET", b"/x?a=b&c=%20?d")),
    _good("encoded-path", b"GET /a%2fb/../c//d HTTP/1.1\r\n" + _HOST + b"\r\n", Seen("GET", b"/a%2fb/../c//d")),
    _good("two-slashes", b"GET //evil/x HTTP/1.1\r\n" + _HOST + b"\r\n", Seen("GET", b"//evil/x")),
    _good("upgrade-ignored", _GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", _SEEN_GET),
    _good(
        "upgrade-with-body-is-one-request",
        _POST + b"Connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nContent-Length: 3\r\n\r\nabc" + _GET + b"\r\n",
        _SEEN_ABC,
        _SEEN_GET,
    ),
    _good("pipelined-gets", (_GET + b"\r\n") * 3, _SEEN_GET, _SEEN_GET, _SEEN_GET),
    _good(
        "pipelined-bodies",
        _POST + b"Content-Length: 3\r\n\r\nabc" + _CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + _GET + b"\r\n",
        _SEEN_ABC,
        _SEEN_ABC,
        _SEEN_GET,
    ),
    _good("stray-line-after-body", _POST + b"Content-Length: 3\r\n\r\nabc\r\n" + _GET + b"\r\n", _SEEN_ABC, _SEEN_GET),
    _good("header-block-at-the-limit", _GET + b"X-A: " + b"a" * (32768 - len(_GET) - 9) + b"\r\n\r\n", _SEEN_GET),
    _good("hundred-fields", _GET + b"".join(b"X-%d: a\r\n" % n for n in range(99)) + b"\r\n", _SEEN_GET),
)

BAD: tuple[Bad, ...] = (
    # framing
    Bad("cl-te", _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _NEXT),
    Bad("te-cl", _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + _NEXT),
    Bad("cl-duplicate-equal", _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    Bad("cl-duplicate-different", _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    Bad("cl-list", _POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    Bad("cl-plus", _POST + b"Content-Length: +3\r\n\r\nabc"),
    Bad("cl-minus", _POST + b"Content-Length: -3\r\n\r\nabc"),
    Bad("cl-underscore", _POST + b"Content-Length: 1_0\r\n\r\n0123456789"),
    Bad("cl-hex", _POST + b"Content-Length: 0x3\r\n\r\nabc"),
    Bad("cl-huge", _POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc"),
    Bad("cl-empty", _POST + b"Content-Length:\r\n\r\n" + _NEXT),
    Bad("cl-blank-inside", _POST + b"Content-Length: 3 3\r\n\r\nabc"),
    Bad("te-gzip-chunked", _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    Bad("te-chunked-gzip", _POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    Bad("te-xchunked", _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    Bad("te-identity", _POST + b"Transfer-Encoding: identity\r\n\r\n"),
    Bad("te-empty", _POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    Bad("te-quoted", _POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    Bad("te-list-of-one-and-nothing", _POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    Bad("te-duplicate", _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Bad("te-duplicate-identity", _POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Bad("te-http-1.0", b"POST /x HTTP/1.0\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Bad("te-blank-before-colon", _POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    Bad("te-vertical-tab", _POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    Bad("cl-blank-before-colon", _POST + b"Content-Length : 3\r\n\r\nabc"),
    Bad("chunk-bare-lf", _CHUNKED + b"3\nabc\n0\n\n", body=True),
    Bad("chunk-size-0x", _CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-plus", _CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-minus", _CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-blank", _CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-empty", _CHUNKED + b"\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-17-digits", _CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-zeros-overflow", _CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-size-word", _CHUNKED + b"three\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-terminator-missing", _CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", body=True),
    Bad("chunk-terminator-any-two-bytes", _CHUNKED + b"3\r\nabcXX0\r\n\r\n", body=True),
    Bad("chunk-terminator-lf", _CHUNKED + b"3\r\nabc\n0\r\n\r\n", body=True),
    Bad("chunk-extension-lf", _CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-extension-cr", _CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n", body=True),
    Bad("chunk-extension-endless", _CHUNKED + b"3;" + b"a" * 70_000, body=True),
    Bad("trailer-lf", _CHUNKED + b"3\r\nabc\r\n0\r\nX: y\n\r\n", body=True),
    Bad("trailers-endless", _CHUNKED + b"0\r\n" + b"X-T: y\r\n" * 10_000, body=True),
    Bad("tiny-chunks-endless", _CHUNKED + b"1\r\na\r\n" * 60_000, body=True),
    # heads
    Bad("obs-fold", _GET + b"X-A: a\r\n b\r\n\r\n"),
    Bad("obs-fold-tab", _GET + b"X-A: a\r\n\tb\r\n\r\n"),
    Bad("obs-fold-first", b"GET /x HTTP/1.1\r\n Host: a\r\n\r\n"),
    Bad("bare-lf", b"GET /x HTTP/1.1\nHost: a\n\n"),
    Bad("bare-lf-in-one-line", b"GET /x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    Bad("bare-cr", _GET + b"X-A: a\rX-B: b\r\n\r\n"),
    Bad("bare-cr-as-line-end", b"GET /x HTTP/1.1\rHost: a\r\r\n\r\n"),
    Bad("nul-in-value", _GET + b"X-A: a\x00b\r\n\r\n"),
    Bad("nul-in-name", _GET + b"X\x00A: a\r\n\r\n"),
    Bad("nul-in-target", b"GET /\x00 HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("control-in-value", _GET + b"X-A: a\x01b\r\n\r\n"),
    Bad("delete-in-target", b"GET /\x7f HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("name-with-blank", _GET + b"X A: a\r\n\r\n"),
    Bad("name-empty", _GET + b": a\r\n\r\n"),
    Bad("name-not-ascii", _GET + b"X\xe9: a\r\n\r\n"),
    Bad("no-colon", _GET + b"nothing\r\n\r\n"),
    Bad("name-underscore", _GET + b"Content_Length: 3\r\n\r\n"),
    Bad("name-dot", _GET + b"Content.Length: 3\r\n\r\n"),
    Bad("two-authorizations", _GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
    # Host
    Bad("host-missing", b"GET /x HTTP/1.1\r\n\r\n"),
    Bad("host-twice", b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    Bad("host-twice-http-1.0", b"GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    Bad("host-empty", b"GET /x HTTP/1.1\r\nHost:\r\n\r\n"),
    Bad("host-blank", b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"),
    Bad("host-list", b"GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    Bad("host-path", b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    Bad("host-user", b"GET /x HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    Bad("host-port-word", b"GET /x HTTP/1.1\r\nHost: a:http\r\n\r\n"),
    # request lines
    Bad("absolute-form", b"GET http://evil/x HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("asterisk", b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("get-asterisk", b"GET * HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("connect", b"CONNECT evil:443 HTTP/1.1\r\n" + _HOST + b"\r\n", 405),
    Bad("trace", b"TRACE /x HTTP/1.1\r\n" + _HOST + b"\r\n", 405),
    Bad("trace-with-body", b"TRACE /x HTTP/1.1\r\n" + _HOST + b"Content-Length: 3\r\n\r\nabc", 405),
    Bad("fragment", b"GET /x#y HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("target-not-ascii", b"GET /\xc3\xa9 HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("target-with-blank", b"GET /a b HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("target-relative", b"GET x HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("http-0.9", b"GET /x\r\n"),
    Bad("http-0.9-in-full", b"GET /x HTTP/0.9\r\n" + _HOST + b"\r\n"),
    Bad("http-1.2", b"GET /x HTTP/1.2\r\n" + _HOST + b"\r\n"),
    Bad("http-1.10", b"GET /x HTTP/1.10\r\n" + _HOST + b"\r\n"),
    Bad("http-2.0", b"GET /x HTTP/2.0\r\n" + _HOST + b"\r\n"),
    Bad("http-lower-case", b"GET /x http/1.1\r\n" + _HOST + b"\r\n"),
    Bad("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Bad("version-missing", b"GET /x \r\n" + _HOST + b"\r\n"),
    Bad("tabs", b"GET\t/x\tHTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("two-blanks", b"GET  /x HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("blank-at-the-end", b"GET /x HTTP/1.1 \r\n" + _HOST + b"\r\n"),
    Bad("blank-before", b" GET /x HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("method-lower-case", b"get /x HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("method-unknown", b"FETCH /x HTTP/1.1\r\n" + _HOST + b"\r\n"),
    Bad("lf-before", b"\n" + _GET + b"\r\n"),
    Bad("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    Bad("smb", b"\x00\x00\x00\x85\xffSMBr"),
    # sizes
    Bad("target-long", b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + _HOST + b"\r\n", 414),
    Bad("target-endless", b"GET /" + b"a" * 100_000, 414),
    Bad("fields-101", b"GET /x HTTP/1.1\r\n" + _HOST + b"X: y\r\n" * 100 + b"\r\n", 431),
    Bad("fields-endless", _GET + b"X-A: bcd\r\n" * 20_000, 431),
    Bad("field-large", _GET + b"X-A: " + b"a" * 32_768 + b"\r\n\r\n", 431),
    Bad("field-endless", _GET + b"X-A: " + b"a" * 100_000, 431),
    Bad("blanks-endless", _GET + b"X-A: " + b" " * 100_000, 431),
    Bad("empty-lines-endless", b"\r\n" * 40_000, 414),
)
