"""Types of settings' values, validated and with display names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from ollama_router_core.config.linear_patterns import InvalidPattern, linear_pattern
from ollama_router_core.config.words import Words, value_words

__all__ = [
    "MOST_NAME_CHARACTERS",
    "TARGET_WORDS",
    "DestinationName",
    "Entries",
    "FieldName",
    "FieldValue",
    "Host",
    "Network",
    "OriginText",
    "PathPrefix",
    "Port",
    "QueryText",
    "Regex",
    "RouteText",
    "Seconds",
    "ServerUrl",
    "SizeText",
    "UnknownPath",
    "VariableName",
    "matching",
    "parse_size",
    "safe_name",
    "with_address",
]

MOST_NAME_CHARACTERS = 80
"""Maximum length of a name from `safe_name`."""
TARGET_WORDS: Final = frozenset({"all", "where-it-fits"})
"""Keywords that stand for several servers, reserved as names."""
_SIZE = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE | re.ASCII)
_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,251}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]+)?", re.ASCII
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ORIGIN = re.compile(r"\*|(?=[^*]*\*?[^*]*\Z)[A-Za-z*][A-Za-z0-9+.*\-]*://[A-Za-z0-9._*\[\]:\-]+")
_NAME = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_SERVER_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9_.\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9_\-][A-Za-z0-9_.\-]*)*/?)",
    re.ASCII,
)
_UNKNOWN_PATH = re.compile(r"/(?:api|v1)(?:/[A-Za-z0-9_\-][A-Za-z0-9_.\-]*)*(?:/\.\.\.)?", re.ASCII)
_PREFIX = re.compile(r"(?:/(?:\{model\}|[A-Za-z0-9_\-][A-Za-z0-9_.\-]*))+", re.ASCII)
_QUERY = re.compile(r"[A-Za-z0-9_\-]+=[A-Za-z0-9_.\-]*(?:&[A-Za-z0-9_\-]+=[A-Za-z0-9_.\-]*)*", re.ASCII)
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]{1,100}", re.ASCII)
_FIELD_VALUE = re.compile(r"[!-~](?:[\t -~]{0,4094}[!-~])?", re.ASCII)
_RESERVED_FIELDS = frozenset({"connection", "content-length", "content-type", "host", "keep-alive", "te", "trailer",
                              "transfer-encoding", "upgrade"})  # fmt: skip
_ROUTE = re.compile(r"(?:GET|POST|PUT|DELETE|PATCH) (?:/(?:\{[a-z_]+\}|[A-Za-z0-9_\-][A-Za-z0-9_.\-]*))+", re.ASCII)
_UNIT = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    """Return a validator that matches a whole text. Its message omits the text, which may contain a key."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def parse_size(text: str) -> int:
    """Parse a size such as `100MB`, `1.5 GiB` or `4096` to bytes; units are powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a size such as 100MB or 1GiB, got {value_words(text)}")
    return int(Decimal(found[1]) * _UNIT[found[2].upper()])


def safe_name(text: str) -> str:
    """Turn a text into a valid server name: invalid characters become `-`, an empty text `server`."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", text)[:MOST_NAME_CHARACTERS].strip("-.") or "server"


def _size(text: str) -> str:
    if parse_size(text) < 1:
        raise ValueError(f"expected a size above 0, such as 100MB, got {value_words(text)}")
    return text


def _regex(text: str) -> str:
    try:
        linear_pattern(text)
    except InvalidPattern as error:
        raise ValueError(f"expected a regular expression without lookarounds and back-references: {error}") from None
    return text


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not _HOST.fullmatch(bare) or (":" in bare and not _is_ipv6(bare)):
        # The message omits the text: users paste whole URLs here, with passwords.
        raise ValueError("expected a host name or address alone, without scheme, port, path or user")
    return bare


def _field_name(text: str) -> str:
    if not _FIELD_NAME.fullmatch(text) or text.lower() in _RESERVED_FIELDS:
        raise ValueError("expected the name of a header field that is not part of HTTP's own framing")
    return text


def _field_value(value: Any) -> str:
    # The message omits the value, which may be a key.
    if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
        raise ValueError("expected a text of printable ASCII characters")
    return value


def with_address(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a server's values with its `url` split into address settings; an invalid URL is left to its validator."""
    found = _SERVER_URL.fullmatch(values["url"])
    if found is None:
        return dict(values)
    usual = {"http": 80, "https": 443}[found["scheme"]]
    address = {"protocol": found["scheme"], "host": found["host"].strip("[]"), "port": int(found["port"] or usual)}
    prefix = found["path"].rstrip("/")
    kept = {key: value for key, value in values.items() if key != "url"}
    return {**address, **({"path_prefix": prefix} if prefix else {}), **kept}


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError("expected a network such as 10.0.0.0/8 or fd00::/8, or an address") from None


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0), Words("a number of seconds above 0")]
SizeText = Annotated[str, AfterValidator(_size), Words("a size such as 100MB")]
Regex = Annotated[str, AfterValidator(_regex), Words("a regular expression")]
Host = Annotated[str, AfterValidator(_host), Words("a host name or address")]
VariableName = Annotated[
    str,
    matching(_VARIABLE, "the name of an environment variable that holds the key, not the key itself"),
    Words("the name of an environment variable"),
]
PathPrefix = Annotated[
    str, matching(_PREFIX, "a path such as `/v1` or `/openai/v1`, without a slash at its end"), Words("a path")
]
QueryText = Annotated[
    str,
    matching(_QUERY, "`name=value` pairs with & between them, without a question mark"),
    Words("`name=value` pairs"),
]
FieldName = Annotated[str, AfterValidator(_field_name), Words("the name of a header field")]
FieldValue = Annotated[str, BeforeValidator(_field_value), Words("a text of printable ASCII characters")]
UnknownPath = Annotated[
    str,
    matching(_UNKNOWN_PATH, "a path such as `/v1/rerank`, or `/v1/...` for everything below /v1"),
    Words("a path below /api or /v1"),
]
ServerUrl = Annotated[
    str,
    matching(_SERVER_URL, "http:// or https://, a host, an optional port, and a path without a query"),
    Words("an address such as `https://gpu.example/ollama`"),
]
OriginText = Annotated[
    str,
    matching(_ORIGIN, "scheme://host[:port] without a path, with one * at most"),
    Words("an origin such as https://chat.example.org, or *"),
]
RouteText = Annotated[
    str,
    matching(_ROUTE, "a method and a path such as `GET /v1/files` or `DELETE /v1/files/{id}`"),
    Words("a method and a path"),
]
Network = Annotated[str, AfterValidator(_network), Words("a network such as 10.0.0.0/8")]
DestinationName = Annotated[
    str, matching(_NAME, "a name of at most 100 ASCII characters, since it is sent in a header"), Words("a name")
]
Entry = TypeVar("Entry")
Entries = Annotated[tuple[Entry, ...], Field(strict=False)]
"""A tuple that accepts YAML's lists; the entries stay strict."""
