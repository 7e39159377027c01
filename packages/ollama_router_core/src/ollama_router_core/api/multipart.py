"""Strict parsing and re-encoding of multipart forms.

The client's bytes are not forwarded, as Go (Ollama) lets a query string override a form field, uses the first of
duplicate fields, decodes quoted-printable parts and RFC 2231 names, and accepts other line ends. All of that is
rejected here, and the upstream body is encoded from the parsed values.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.ollama_errors import no_form
from ollama_router_core.errors import AmbiguousKey, InvalidBody

__all__ = ["Form", "Part", "parse_form"]

_BOUNDARY = re.compile(
    rb'multipart/form-data\s*;\s*boundary=(?:"([0-9A-Za-z\'()+_,./:=?\- ]{1,70})"|([0-9A-Za-z\'+_.\-]{1,70}))\s*',
    re.IGNORECASE,
)
_DISPOSITION = re.compile(
    rb'form-data\s*;\s*name="([^"\\\x00-\x1f\x7f]{1,200})"(?:\s*;\s*filename="([^"\\\x00-\x1f\x7f]{0,1024})")?\s*',
    re.IGNORECASE,
)
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}):([^\x00-\x08\x0a-\x1f\x7f]{0,4096})")
"""Blanks around the value are stripped later: adjacent quantifiers for blanks would backtrack over every split."""
_MOST_PARTS = 200
_LONGEST_HEAD = 8 * 1024
_LONGEST_VALUE = 1024 * 1024


class Part(Struct, frozen=True, kw_only=True):
    """One field (`filename` is None) or file; `content_type` is None if the client sent none."""

    name: str
    data: bytes
    filename: bytes | None = None
    content_type: bytes | None = None


class Form(Struct, frozen=True, kw_only=True):
    """A form, and the boundary between its parts."""

    boundary: bytes
    parts: tuple[Part, ...]

    @property
    def content_type(self) -> bytes:
        """The Content-Type of the encoded form."""
        return b'multipart/form-data; boundary="' + self.boundary + b'"'

    def value(self, name: str) -> str | None:
        """Return a field's text, or None if it is absent.

        Raises:
            InvalidBody: the field is a file, too long, or not UTF-8.
        """
        for part in self.parts:
            if part.name == name:
                return _text(part)
        return None

    def with_value(self, name: str, text: str) -> Form:
        """Return the form with one field's value replaced."""
        changed = tuple(replace(one, data=text.encode()) if one.name == name else one for one in self.parts)
        return replace(self, parts=changed)

    def encode(self) -> bytes:
        """Encode the form. No part contains the boundary, as each was parsed between two boundaries."""
        pieces: list[bytes] = []
        for part in self.parts:
            name = part.name.encode()
            filename = b"" if part.filename is None else b'; filename="' + part.filename + b'"'
            kind = b"" if part.content_type is None else b"Content-Type: " + part.content_type + b"\r\n"
            pieces += (b"--", self.boundary, b'\r\nContent-Disposition: form-data; name="', name, b'"', filename)
            pieces += (b"\r\n", kind, b"\r\n", part.data, b"\r\n")
        pieces += (b"--", self.boundary, b"--\r\n")
        return b"".join(pieces)


def parse_form(content_type: bytes, body: bytes) -> Form:
    """Parse an unambiguous form.

    Raises:
        InvalidBody: the body is not multipart, or servers could parse it differently.
        AmbiguousKey: a field is repeated, or names differ in case only.
    """
    found = _BOUNDARY.fullmatch(content_type.strip())
    if found is None:
        raise no_form(content_type)
    boundary = found[1] or found[2]
    if boundary.endswith(b" "):
        raise InvalidBody("a boundary may not end in a space")
    form = Form(boundary=boundary, parts=tuple(_part(piece) for piece in _split(body, boundary)))
    _refuse_doubles(form)
    return form


def _split(body: bytes, boundary: bytes) -> list[bytes]:
    mark = b"\r\n--" + boundary
    if not body.startswith(mark[2:]):
        raise InvalidBody("the form must begin with its boundary")
    pieces = (b"\r\n" + body).split(mark, _MOST_PARTS + 2)[1:]
    if len(pieces) > _MOST_PARTS + 1:
        raise InvalidBody(f"the form has more than {_MOST_PARTS} parts")
    if pieces[-1] not in {b"--", b"--\r\n"}:
        raise InvalidBody("the form does not end with its boundary")
    if not all(piece.startswith(b"\r\n") for piece in pieces[:-1]):
        raise InvalidBody("a boundary in the form is not followed by a line end")
    return [piece[2:] for piece in pieces[:-1]]


def _part(piece: bytes) -> Part:
    head, end, data = piece.partition(b"\r\n\r\n")
    if not end or len(head) > _LONGEST_HEAD:
        raise InvalidBody("a part of the form has no blank line after its header fields")
    fields = _fields(head)
    disposition = _DISPOSITION.fullmatch(fields.pop(b"content-disposition", b""))
    if disposition is None:
        raise InvalidBody('each part of the form needs: Content-Disposition: form-data; name="..."')
    kind = fields.pop(b"content-type", None)
    fields.pop(b"content-length", None)
    if fields:
        raise InvalidBody(f"a part of the form has the field {min(fields).decode('ascii')}, which is not accepted")
    try:
        name = disposition[1].decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidBody("a name in the form is not UTF-8") from None
    return Part(name=name, data=data, filename=disposition[2], content_type=kind)


def _fields(head: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        found = _FIELD.fullmatch(line)
        if found is None:
            raise InvalidBody("a header field in the form is ambiguous")
        name = found[1].lower()
        if name in fields:
            raise AmbiguousKey(f"a part of the form has the field {name.decode('ascii')} twice")
        fields[name] = found[2].strip(b" \t")
    return fields


def _refuse_doubles(form: Form) -> None:
    """Reject duplicate fields, except lists such as `timestamp_granularities[]`."""
    seen: set[str] = set()
    for part in form.parts:
        key = part.name.casefold()
        if key in seen and not part.name.endswith("[]"):
            raise AmbiguousKey(f"the form has the field {part.name[:64]!r} twice")
        if key == "model" != part.name:
            raise AmbiguousKey("write the field 'model' in lower case")
        seen.add(key)


def _text(part: Part) -> str:
    if part.filename is not None or len(part.data) > _LONGEST_VALUE:
        raise InvalidBody(f"{part.name} must be a plain field of the form")
    try:
        return part.data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidBody(f"{part.name} is not UTF-8") from None
