"""Conversion of files to text for hosts without file support: text files, and the text layer of PDFs."""

from __future__ import annotations

import base64
import binascii
import io

from ollama_router_core.translate.conversation import File

__all__ = ["PDF", "document_text", "is_text", "text_file"]

PDF = "application/pdf"
_TEXT_TYPES = frozenset(
    {
        "application/json",
        "application/javascript",
        "application/sql",
        "application/toml",
        "application/typescript",
        "application/x-ndjson",
        "application/x-sh",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
    }
)
_MOST_PAGES = 100
_LONGEST_PDF = 24 * 1024 * 1024
"""Maximum characters of base64; pages and bytes are limited, as parsing PDFs is slow."""


def is_text(file: File) -> bool:
    """Return whether the file's media type is text."""
    kind = file.media_type
    return kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml"))


def text_file(text: str, name: str = "") -> File:
    """Return a text as a file."""
    return File("text/plain", base64.b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii"), name)


def document_text(file: File) -> str | None:
    """Return the text of a file; None if it has none or is unreadable."""
    try:
        if is_text(file):
            return base64.b64decode(file.data).decode("utf-8", "replace")
        if file.media_type == PDF and len(file.data) <= _LONGEST_PDF:
            return _layer(base64.b64decode(file.data)) or None
    except (binascii.Error, ValueError):
        pass
    return None


def _layer(data: bytes) -> str:
    # Imported on use: it takes 8 MB, and few requests have a PDF for a host without file support.
    from pypdf import PdfReader  # noqa: PLC0415
    from pypdf.errors import PyPdfError  # noqa: PLC0415

    try:
        pages = PdfReader(io.BytesIO(data)).pages
        texts = [pages[number].extract_text() for number in range(min(len(pages), _MOST_PAGES))]
        left = len(pages) - len(texts)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError):
        return ""  # a broken file
    note = f"\n\n[{left} more pages]" if left > 0 else ""
    text = "\n\n".join(texts).strip()
    return text + note if text else ""
