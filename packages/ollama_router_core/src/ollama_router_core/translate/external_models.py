"""What the settings say about a model that runs elsewhere; each dialect lists it in its own words.

Only what the settings say, or what is known of the model by its name, is ever told: no size, no format, no template.
"""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.translate.known_models import known_model

__all__ = ["ExternalModel"]


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
        if self.capabilities is not None:
            return self.capabilities
        known = known_model(self.remote_name)
        return ("completion",) if known is None else known.capabilities

    @property
    def context(self) -> int | None:
        """The context in tokens: what the operator says, else what is known of it."""
        known = known_model(self.remote_name)
        return self.context_length if self.context_length is not None or known is None else known.context

    @property
    def output(self) -> int | None:
        """The longest answer in tokens: what the operator says, else what is known of it."""
        known = known_model(self.remote_name)
        return self.max_output_tokens if self.max_output_tokens is not None or known is None else known.output
