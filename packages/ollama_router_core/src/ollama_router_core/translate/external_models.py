"""External hosts' models, for the model lists of all dialects.

Entries have only facts from the settings or of well-known models: no size, format or template.
"""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.translate.known_models import KnownModel, known_model

__all__ = ["ExternalModel"]

_UNKNOWN = KnownModel(("completion",))


class ExternalModel(Struct, frozen=True, kw_only=True):
    """A model of an external host.

    Attributes:
        name: its name for clients.
        remote_name: its name at the host.
        host: the host's name in the settings or its address, without credentials.
        capabilities: its configured capabilities (`completion`, `tools`, `vision`, `thinking`, `embedding`); None if
            not configured.
        context_length: its configured context in tokens, or None.
        max_output_tokens: its configured maximum response length in tokens, or None.
        since_ns: when the router first knew it, nanoseconds since 1970.
    """

    name: str
    remote_name: str
    host: str
    capabilities: tuple[str, ...] | None = None
    context_length: int | None = None
    max_output_tokens: int | None = None
    since_ns: int = 0

    @property
    def abilities(self) -> tuple[str, ...]:
        """The configured capabilities, else those of the well-known model."""
        return self._known.capabilities if self.capabilities is None else self.capabilities

    @property
    def context(self) -> int | None:
        """The configured context in tokens, else that of the well-known model."""
        return self._known.context if self.context_length is None else self.context_length

    @property
    def output(self) -> int | None:
        """The configured maximum response length in tokens, else that of the well-known model."""
        return self._known.output if self.max_output_tokens is None else self.max_output_tokens

    @property
    def _known(self) -> KnownModel:
        return known_model(self.remote_name) or _UNKNOWN
