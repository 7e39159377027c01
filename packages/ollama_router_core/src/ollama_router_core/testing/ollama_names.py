"""Model names as parsed by an Ollama server.

Contains the grammar, the short and full forms, and sources (`:cloud`, `:local`). Deliberately independent of
`ollama_router_core.api.model_names`: a double that shares code with the tested code shares its bugs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Name", "is_cloud", "parse_name", "parse_reference", "trimmed", "valid_name"]

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_GO_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_GO_SPACES += "\u2028\u2029\u202f\u205f\u3000"
_DEFAULT_HOST = "registry.ollama.ai"
_DEFAULT_NAMESPACE = "library"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A complete model name."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def short(self) -> str:
        """The name without the default host and namespace, always with the tag."""
        text = f"{self.model}:{self.tag}"
        if self.host != _DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{text}"
        return text if self.namespace == _DEFAULT_NAMESPACE else f"{self.namespace}/{text}"

    @property
    def full(self) -> str:
        """The name with all four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """The look-up key, equal for all spellings of a model."""
        return self.full.lower()


def parse_name(text: str) -> Name | None:
    """Parse a name; None if it is invalid."""
    rest, tag = text, "latest"
    if text.rfind(":") > text.rfind("/"):
        rest, _, tag = text.rpartition(":")
    rest, _, model = rest.rpartition("/")
    host, _, namespace = rest.rpartition("/")
    host = host.rpartition("://")[2]
    name = Name(host=host or _DEFAULT_HOST, namespace=namespace or _DEFAULT_NAMESPACE, model=model, tag=tag)
    return name if _is_valid(name) else None


def valid_name(text: str) -> Name:
    """Parse a name.

    Raises:
        ValueError: the name is invalid.
    """
    name = parse_name(text)
    if name is None:
        raise ValueError(f"not a model name: {text!r}")
    return name


def trimmed(text: str) -> str:
    """Strip white space as Go's `strings.TrimSpace` does."""
    return text.strip(_GO_SPACES)


def parse_reference(text: str) -> Name | None:
    """Parse the name in a request, without surrounding blanks and a trailing `:local`, which selects this server."""
    name = trimmed(text)
    return parse_name(name[: -len(":local")] if name.lower().endswith(":local") else name)


def is_cloud(text: str) -> bool:
    """Return whether the name means a model of ollama.com."""
    tag = trimmed(text.rpartition(":")[2]).lower() if ":" in text else ""
    return tag == "cloud" or tag.endswith("-cloud")


def _is_valid(name: Name) -> bool:
    return bool(
        _HOST.fullmatch(name.host)
        and _NAMESPACE.fullmatch(name.namespace)
        and _PART.fullmatch(name.model)
        and _PART.fullmatch(name.tag)
    )
