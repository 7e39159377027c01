"""Model names, parsed by Ollama's rules (its types/model/name.go and modelref).

A name is `[host/][namespace/]model[:tag]`; the defaults are `registry.ollama.ai`, `library` and `latest`. Names are
case-insensitive.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache
from typing import Literal, NewType

from msgspec import Struct

from ollama_router_core.errors import InvalidModelName

__all__ = [
    "CanonicalName",
    "ModelName",
    "canonical_name",
    "is_cloud_name",
    "is_converted_copy",
    "is_model_name",
    "parse_model_name",
    "without_spaces",
]

CanonicalName = NewType("CanonicalName", str)
"""A result of `canonical_name`; two are equal if and only if Ollama would find the same model."""

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
LONGEST_NAME = 1024
"""Maximum number of characters; Ollama's own names have at most 593, other servers' ids far fewer."""

_GO_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_CONVERTED = re.compile(r"(?:(?:registry\.)?ollama\.(?:ai|com)/)?(?:library/)?llamacpp:[0-9a-f]{64}")
_ASCII_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,79}", re.ASCII)
_MODEL_OR_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}", re.ASCII)


class ModelName(Struct, frozen=True, kw_only=True):
    """A fully qualified model name, in the client's spelling.

    `source` is `cloud` if the text selects Ollama's hosted service, `local` if it excludes it, else None.
    """

    host: str = DEFAULT_HOST
    namespace: str = DEFAULT_NAMESPACE
    model: str
    tag: str = DEFAULT_TAG
    source: Literal["cloud", "local"] | None = None

    @property
    def short(self) -> str:
        """The name without the default host and namespace, always with its tag."""
        prefix = ""
        if self.host.lower() != DEFAULT_HOST:
            prefix = f"{self.host}/{self.namespace}/"
        elif self.namespace.lower() != DEFAULT_NAMESPACE:
            prefix = f"{self.namespace}/"
        return f"{prefix}{self.model}:{self.tag}"

    @property
    def canonical(self) -> CanonicalName:
        """The short name in lower case, the key of every map of models."""
        return CanonicalName(self.short.lower())

    def __str__(self) -> str:
        return self.short


def _tag(text: str) -> str | None:
    _, colon, last = text.rpartition(":")
    return last.lower() if colon and "/" not in last else None


def _split_source(text: str) -> tuple[str, Literal["cloud", "local"] | None]:
    tag = _tag(text)
    if tag not in ("cloud", "local"):
        return text, "cloud" if tag is not None and tag.endswith("-cloud") else None
    head = text[: -len(tag) - 1]
    inner = _tag(head)
    if inner in ("cloud", "local") or (inner is not None and inner.endswith("-cloud")):
        # `x:cloud:local` would be a cloud model if the result were parsed again.
        raise InvalidModelName("invalid model name")
    if tag == "local":
        return head, "local"
    return (text if inner is None else f"{head}-cloud"), "cloud"


@lru_cache(maxsize=4096)  # 17 us
def parse_model_name(text: str) -> ModelName:
    """Parse a model name as Ollama does.

    Parsing `ModelName.short` yields an equal name, except for a `local` source, which only the client's text has.
    `x:20b:cloud` means `x:20b-cloud`.

    Raises:
        InvalidModelName: Ollama would answer `invalid model name`, or the text has two sources.
    """
    rest, source = _split_source(text)
    tag, host, namespace = DEFAULT_TAG, DEFAULT_HOST, DEFAULT_NAMESPACE
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    rest, slash, model = rest.rpartition("/")
    if slash:
        rest, slash, namespace = rest.rpartition("/")
        if slash:
            host = rest.partition("://")[2] if "://" in rest else rest
    parts = ((host, _HOST), (namespace, _NAMESPACE), (model, _MODEL_OR_TAG), (tag, _MODEL_OR_TAG))
    if not all(pattern.fullmatch(part) for part, pattern in parts):
        raise InvalidModelName("invalid model name")
    return ModelName(host=host, namespace=namespace, model=model, tag=tag, source=source)


@lru_cache(maxsize=4096)  # called for every alias and assignment of a config: 0.3 us each
def canonical_name(text: str) -> CanonicalName:
    """Return the lookup key of any model id, including other servers' ids that are no Ollama names.

    In other servers' ids only ASCII letters are lower-cased: full lower-casing would turn some into the name of another
    model (the Kelvin sign into `k`).
    """
    try:
        return parse_model_name(text).canonical
    except InvalidModelName:
        return CanonicalName(text.translate(_ASCII_LOWER))


def without_spaces(text: str) -> str:
    """Strip white space from a name as Go's `strings.TrimSpace` does.

    Ollama strips the names in most requests, but not those of copy and push, nor the new name of create.
    """
    return text.strip(_GO_SPACES)


def is_model_name(text: str) -> bool:
    """Return whether Ollama would accept the text as a model name."""
    try:
        parse_model_name(text)
    except InvalidModelName:
        return False
    return True


def is_converted_copy(text: str) -> bool:
    """Return whether a name is internal to a server: since 0.40 Ollama keeps `llamacpp:<64 hex>` copies of models."""
    return _CONVERTED.fullmatch(text) is not None


def is_cloud_name(text: str) -> bool:
    """Return whether a name means a model of ollama.com: its tag is `cloud` or ends in `-cloud`, in any case.

    Texts with two sources (`x:cloud:local`) also count, as some version of Ollama might parse them that way.
    """
    try:
        return parse_model_name(text).source == "cloud"
    except InvalidModelName:
        tags = text.lower().rpartition("/")[2].split(":")[1:]
        return any(tag == "cloud" or tag.endswith("-cloud") for tag in map(without_spaces, tags))
