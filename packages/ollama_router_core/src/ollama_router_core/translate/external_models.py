"""What the settings say about a model that runs elsewhere; each dialect lists it in its own words.

Only what the settings say, or what is known of the model by its name, is ever told: no size, no format, no template.
"""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.translate.known_models import KnownModel, known_model

__all__ = ["ExternalModel"]

_UNKNOWN = KnownModel(("completion",))


class ExternalModel(Struct, frozen=True, kw_only=True):
    """A model of an external host.

    Attributes:
        name: how clients call it.
        remote_name: how its host calls it.
        host: the host's name in the settings or its address, without any credential.
        capabilities: what the operator says it can do (`completion`, `tools`, `vision`, `thinking`, `embedding`);
            None when the settings do not say.
        context_length: tokens, None when the settings do not say.
        max_output_tokens: the longest answer, None when the settings do not say.
        since_ns: since when the router knows it, nanoseconds since 1970.
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
        """What the operator says it can do, else what is known of it by its name."""
        return self._known.capabilities if self.capabilities is None else self.capabilities

    @property
    def context(self) -> int | None:
        """The context in tokens: what the operator says, else what is known of it."""
        return self._known.context if self.context_length is None else self.context_length

    @property
    def output(self) -> int | None:
        """The longest answer in tokens: what the operator says, else what is known of it."""
        return self._known.output if self.max_output_tokens is None else self.max_output_tokens

    @property
    def _known(self) -> KnownModel:
        return known_model(self.remote_name) or _UNKNOWN
