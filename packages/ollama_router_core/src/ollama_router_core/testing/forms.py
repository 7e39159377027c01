"""Parsing of form bodies as in Go's `Request.FormValue`: urlencoded body, then URL query, then multipart."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qs

__all__ = ["Form", "FormError", "read_form"]


class FormError(ValueError):
    """The body is not a form; the text is Go's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Values by name in Go's order of precedence, and uploaded files by name."""

    values: dict[str, list[str]]
    files: dict[str, bytes]

    def value(self, name: str) -> str:
        """Return the first value, or an empty string."""
        return self.values.get(name, [""])[0]


def read_form(content_type: str, body: bytes, query: str) -> Form:
    """Parse the form in a request.

    Raises:
        FormError: the content type is not multipart, or there is no boundary.
    """
    values: dict[str, list[str]] = {}
    if content_type.lower().startswith("application/x-www-form-urlencoded"):
        _add(values, parse_qs(body.decode("latin-1"), keep_blank_values=True))
    _add(values, parse_qs(query, keep_blank_values=True))
    if not content_type.lower().startswith("multipart/form-data"):
        raise FormError("request Content-Type isn't multipart/form-data")
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise FormError("no multipart boundary param in Content-Type")
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        _take(part, values, files)
    return Form(values=values, files=files)


def _take(part: Message, values: dict[str, list[str]], files: dict[str, bytes]) -> None:
    name = str(part.get_param("name", "", "content-disposition"))
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    if part.get_filename() is None:
        _add(values, {name: [data.decode("utf-8", errors="replace")]})
    else:
        files.setdefault(name, data)


def _add(values: dict[str, list[str]], more: dict[str, list[str]]) -> None:
    for name, texts in more.items():
        values.setdefault(name, []).extend(texts)
