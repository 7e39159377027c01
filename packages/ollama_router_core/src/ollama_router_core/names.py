"""What model does this text mean, by Ollama's own rules (its types/model/name.go and modelref).

Belongs here: parsing, canonical form, `:cloud` and `:local`.
Does not belong here: which server has a model, permissions.

A name is `[host/][namespace/]model[:tag]`; missing parts are `registry.ollama.ai`, `library` and `latest`. Names
compare without regard to case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NewType

from ollama_router_core.errors import InvalidModelName

__all__ = ["CanonicalName", "ModelName", "canonical_name", "parse_model_name"]

CanonicalName = NewType("CanonicalName", str)
"""Text that went through `canonical_name`: equal exactly when Ollama would find the same model."""

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:\-]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,79}", re.ASCII)
_MODEL_OR_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A fully qualified model name, spelled as the client spelled it.

    `source` is `cloud` when the text asks for Ollama's hosted service, `local` when it forbids it, else None.
    """

    host: str = DEFAULT_HOST
    namespace: str = DEFAULT_NAMESPACE
    model: str
    tag: str = DEFAULT_TAG
    source: Literal["cloud", "local"] | None = None

    @property
    def short(self) -> str:
        """The name without default host and namespace; the tag always stays."""
        prefix = ""
        if self.host.lower() != DEFAULT_HOST:
            prefix = f"{self.host}/{self.namespace}/"
        elif self.namespace.lower() != DEFAULT_NAMESPACE:
            prefix = f"{self.namespace}/"
        return f"{prefix}{self.model}:{self.tag}"

    @property
    def canonical(self) -> CanonicalName:
        """The short name in lower case: what maps of models are keyed by."""
        return CanonicalName(self.short.lower())

    def __str__(self) -> str:
        return self.short


def _split_source(text: str) -> tuple[str, Literal["cloud", "local"] | None]:
    head, colon, last = text.rpartition(":")
    if not colon or "/" in last:
        return text, None
    lowered = last.lower()
    if lowered == "local":
        return head, "local"
    if lowered == "cloud":
        return (f"{head}-cloud" if ":" in head.rpartition("/")[2] else text), "cloud"
    return text, "cloud" if lowered.endswith("-cloud") else None


@lru_cache(maxsize=4096)
def parse_model_name(text: str) -> ModelName:
    """Parse a model name as Ollama does.

    Parsing what `ModelName.short` gives back changes nothing, and `x:20b:cloud` means `x:20b-cloud`.

    Raises:
        InvalidModelName: Ollama would answer `invalid model name`.
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


@lru_cache(maxsize=4096)
def canonical_name(text: str) -> CanonicalName:
    """The key for any model id, also for foreign ones that are no Ollama names (those in lower case as they are)."""
    try:
        return parse_model_name(text).canonical
    except InvalidModelName:
        return CanonicalName(text.lower())
