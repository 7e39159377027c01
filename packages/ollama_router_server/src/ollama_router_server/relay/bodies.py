"""Request bodies that have to be looked into: read under a limit, decompressed under a cap.

Ollama decodes zstd on its compatible routes; what it would decode has to be decoded here, or the check would look at
something else than the server does.
"""

from __future__ import annotations

import sys

from ollama_router_core.api.endpoints import Endpoint
from ollama_router_core.errors import BodyTooLarge, InvalidBody, UnsupportedEncoding
from ollama_router_server.relay.exchange import Exchange

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["decoded", "read_body"]

_MOST_DECODED = 20 * 1024 * 1024  # Ollama's own cap
_WINDOW_LOG = 23  # 8 MiB: what RFC 8878 asks every decoder to support


async def read_body(exchange: Exchange, endpoint: Endpoint, limit: int) -> bytes:
    """The body as the server would read it.

    Raises:
        UnsupportedEncoding: compressed in a way that this route does not take.
        BodyTooLarge: more than `limit` bytes, or more than 20 MiB of what was compressed.
        InvalidBody: not what its encoding says.
        ClientGone: the client left.
    """
    encodings = [value.strip().lower() for name, value in exchange.headers if name == b"content-encoding"]
    encodings = [value for value in encodings if value not in {b"", b"identity"}]
    if encodings and (not endpoint.zstd or encodings != [b"zstd"]):
        raise UnsupportedEncoding("send the body without Content-Encoding" + (" or with zstd" * endpoint.zstd))
    declared = exchange.header(b"content-length")
    if declared is not None and int(declared) > limit:
        raise BodyTooLarge(f"the body is larger than the limit of {limit} bytes")
    body = await exchange.client.read_body(limit)
    return decoded(body, min(limit, _MOST_DECODED)) if encodings else body


def decoded(body: bytes, limit: int) -> bytes:
    """What a zstd body holds, frame after frame.

    Raises:
        BodyTooLarge: more than `limit` bytes, or a window of more than 8 MiB.
        InvalidBody: not zstd, or cut off.
    """
    pieces: list[bytes] = []
    left = limit
    while body:
        decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        try:
            piece = decoder.decompress(body, max_length=left + 1)
        except zstd.ZstdError:
            raise InvalidBody("failed to decompress zstd body") from None
        left -= len(piece)
        if left < 0:
            raise BodyTooLarge(f"the decompressed body is larger than the limit of {limit} bytes")
        if not decoder.eof:
            raise InvalidBody("failed to decompress zstd body: it is cut off")
        pieces.append(piece)
        body = decoder.unused_data
    return b"".join(pieces)
