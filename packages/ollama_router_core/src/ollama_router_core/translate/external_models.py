"""What the settings say about a model that runs elsewhere; each dialect lists it in its own words.

Only what the settings or the model's own name say is ever told: no size, no format, no template.
"""

from __future__ import annotations

from msgspec import Struct

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
        since_ns: since when the router knows it, nanoseconds since 1970.
    """

    name: str
    remote_name: str
    host: str
    capabilities: tuple[str, ...] | None = None
    context_length: int | None = None
    since_ns: int = 0

    @property
    def abilities(self) -> tuple[str, ...]:
        """What the operator says it can do, else what its name says."""
        if self.capabilities is not None:
            return self.capabilities
        return ("embedding",) if "embed" in self.remote_name.lower() else ("completion",)
