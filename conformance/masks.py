"""What differs between any two answers of one server, replaced by a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["masked"]

_TIMES = rb'"(created_at|completed_at|expires_at)":\s*("[^"]*"|-?\d+)'
_DURATIONS = rb'"(total_duration|load_duration|prompt_eval_duration|eval_duration)":\s*-?\d+'
_REQUEST_IDS = rb'"(request_id)":\s*"[^"]*"'
_IDS = rb'"(?:chatcmpl-|cmpl-|msg_|resp_|call_|toolu_|rs_|fc_|item_|req_)[A-Za-z0-9_-]*"'
_CREATED = rb'"(created)":\s*\d+'
_BY_KEY = re.compile(b"|".join((_TIMES, _DURATIONS, _REQUEST_IDS)))
_BY_VALUE = re.compile(_IDS)
_CREATED_NOW = re.compile(_CREATED)
_LAYER = re.compile(rb'"(?:creating new|using existing) layer ')
"""Whether a layer is new depends on what was made before, by this run too."""
_MODIFIED = re.compile(rb'"modified_at":"[^"]*"')
_DIGEST = re.compile(rb"sha256[:-][0-9a-fA-F]{64}")
_LINE = rb'(?:[^"\\]|\\[^n])*'
_PARAMETERS = re.compile(rb'(?:PARAMETER %b\\n)+|"parameters":"%b(?:\\n%b)*"' % (_LINE, _LINE, _LINE))
"""Of a model: Go lists them in another order each time."""


def masked(pieces: Iterable[bytes], *, lists_models: bool, own_digest: bool, nonce: str) -> Iterator[bytes]:
    """The pieces of a body without what changes by itself.

    `created` is the time of the answer everywhere but in lists of models. `own_digest` says that digests and times are
    of content made for this run, whose names hold `nonce`.
    """
    for piece in pieces:
        text = _LAYER.sub(b'"LAYER ', _BY_VALUE.sub(b'"ID"', _BY_KEY.sub(_keep_key, piece)))
        text = _PARAMETERS.sub(_sorted_lines, text)
        if not lists_models:
            text = _CREATED_NOW.sub(b'"created":"TIME"', text)
        if own_digest:
            text = _MODIFIED.sub(b'"modified_at":"TIME"', _DIGEST.sub(b"DIGEST", text))
        yield text.replace(nonce.encode(), b"NONCE") if nonce else text


def _keep_key(found: re.Match[bytes]) -> bytes:
    key = next(group for group in found.groups() if group and not group.startswith(b'"') and not group[:1].isdigit())
    return b'"%b":"MASKED"' % key


def _sorted_lines(found: re.Match[bytes]) -> bytes:
    head, quote, lines = found[0].partition(b':"')
    if not quote:
        return b"\\n".join(sorted(head.split(b"\\n")))
    return head + quote + b"\\n".join(sorted(lines[:-1].split(b"\\n"))) + b'"'
