"""A router process with a scripted host of each dialect behind it: what clients that are not ours talk to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.orouter import Orouter
from support.scripted_hosts import Dialect, ScriptedHost

__all__ = ["Desk", "run_desk"]


_NAMES = {
    Dialect.OPENAI: "a-model",
    Dialect.OPENAI_RESPONSES: "a-model",
    Dialect.ANTHROPIC: "claude-sonnet-4-5",
}
"""What the models are called at the external hosts; profiles have rules for names."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A running router (`url`), the hosts behind it, and the token of a user."""

    url: str
    hosts: Mapping[Dialect, ScriptedHost]
    orouter: Orouter
    token: str = field(repr=False)

    @staticmethod
    def model(dialect: Dialect) -> str:
        """The model that the host of the dialect has."""
        return f"at-{dialect}"


@contextmanager
def run_desk(home: Path) -> Iterator[Desk]:
    """Serve from `home` until the block ends."""
    with ExitStack() as stack:
        hosts = {one: stack.enter_context(ScriptedHost(one, (Desk.model(one),))) for one in Dialect}
        orouter = Orouter(home=home)
        orouter.config.write_text(_config(hosts))
        user = orouter.json("users", "create", "alice")
        url = stack.enter_context(orouter.serve("--port", "0"))
        yield Desk(url=url, hosts=hosts, orouter=orouter, token=user["token"])


def _config(hosts: Mapping[Dialect, ScriptedHost]) -> str:
    """One entry for each host; the external ones have a model by assignment, and may run tools of their own."""
    lines = ["servers:", f"  gpu: {{host: 127.0.0.1, port: {hosts[Dialect.OLLAMA].port}}}", "external_hosts:"]
    external = [one for one in hosts if one is not Dialect.OLLAMA]
    for one in external:
        place = f"host: 127.0.0.1, port: {hosts[one].port}, protocol: http, api: {one}"
        more = f"models: {{{Desk.model(one)}: {_NAMES[one]}}}, reach: [tools]"
        more += ", profile: anthropic" if one is Dialect.ANTHROPIC else ""
        lines.append(f"  {one}: {{{place}, {more}}}")
    assigned = ", ".join(f"{Desk.model(one)}: {one}" for one in external)
    lines.append(f"model_config: {{explicit_assignments: {{{assigned}}}}}")
    return "\n".join(lines) + "\n"
