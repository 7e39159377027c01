"""`python -m conformance --direct URL --through URL [--token TOKEN]`.

Exit 0: nothing differs; 1: something does; 2: it could not be played: no server there, or no model in it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.catalogue import exchanges
from conformance.playing import Result, play
from conformance.report import as_json, as_text
from conformance.subject import NoModelError, Subject, discover
from conformance.wire import Server

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Play everything, print the table."""
    options = _parser().parse_args(arguments)
    direct = Server(url=options.direct, token=options.direct_token, timeout=options.timeout)
    through = Server(url=options.through, token=options.token, timeout=options.timeout)
    try:
        subject = discover(direct)
        discover(through)
    except NoModelError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    results = _play(options, subject, direct, through)
    sys.stdout.write(as_text(subject, results) + "\n")
    if options.json:
        options.json.write_text(json.dumps(as_json(subject, results), indent=2) + "\n")
    return 1 if any(result.different for result in results) else 0


def _play(options: argparse.Namespace, subject: Subject, direct: Server, through: Server) -> list[Result]:
    nonces = (secrets.token_hex(6), secrets.token_hex(6))
    here, there = (exchanges(subject, nonce=nonce, destructive=options.destructive) for nonce in nonces)
    wanted = [
        (one, other)
        for one, other in zip(here, there, strict=True)
        if not options.only or any(word in f"{one.group}: {one.name}" for word in options.only)
    ]
    results: list[Result] = []
    for result in play(wanted, direct, through, nonces):
        results.append(result)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{len(results)} of {len(wanted)} exchanges")
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("--direct", required=True, metavar="URL", help="an Ollama server")
    parser.add_argument("--through", required=True, metavar="URL", help="a router with that server alone behind it")
    parser.add_argument("--token", help="the router's token; an admin's for --destructive")
    parser.add_argument("--direct-token", help="if the server stands behind something that asks for one")
    parser.add_argument("--destructive", action="store_true", help="also create, copy and delete models made here")
    parser.add_argument("--only", action="append", metavar="TEXT", help="exchanges with this text in group or name")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for bytes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
