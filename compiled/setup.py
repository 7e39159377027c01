"""Which modules are compiled, and how.

Belongs here: the list. A module is on it when a request runs through it and mypyc takes it as it is.

What stays interpreted beside them: async generators, msgspec's structs that inherit from `Struct` itself (see
`ollama_router_core.values`), and what runs once in a while. Nothing may inherit from a compiled class at run time.
"""

from __future__ import annotations

from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
CORE = (
    "access",
    "admission/coordinator",
    "admission/floor",
    "admission/line",
    "admission/outlook",
    "admission/placement",
    "breaker",
    "candidates",
    "decision",
    "endpoints",
    "fleet",
    "forwarded",
    "header_fields",
    "observations",
    "placement",
    "plans",
    "prefixes",
    "request_keys",
    "requests",
    "selection",
    "strict_json",
    "tokens",
    "traffic",
    "usage",
)
SERVER = (
    "auth",
    "fleet_service",
    "health",
    "field_lines",
    "lazy_timer",
    "ledger",
    "metrics",
    "protocol/cycle",
    "protocol/deadlines",
    "protocol/request_head",
    "protocol/serving",
    "protocol/strict",
    "relay/access",
    "relay/admitting",
    "relay/delivery",
    "relay/exchange",
    "relay/fast_path",
    "relay/forwarder",
    "relay/learning",
    "relay/policy",
    "relay/relay",
    "sinks",
    "targets",
    "upstream/connection",
    "upstream/engine",
    "upstream/framing",
    "upstream/known_answers",
    "upstream/pool",
)


def sources(package: str, modules: tuple[str, ...]) -> list[str]:
    """The files of a package's modules."""
    return [str(PACKAGES / package / "src" / package / f"{module}.py") for module in modules]


setup(
    packages=[],
    py_modules=[],
    options={"build_ext": {"parallel": 2}},
    # One group: modules of both packages call each other without going through the interpreter.
    ext_modules=mypycify(
        [
            f"--config-file={Path(__file__).with_name('mypy.ini')}",
            *sources("ollama_router_core", CORE),
            *sources("ollama_router_server", SERVER),
        ],
        group_name="ollama_router_compiled",
        opt_level="2",
        debug_level="0",
        multi_file=True,
    ),
)
