"""Differences that are wanted, each with its reason. What is not in this table is an error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from conformance.catalogue import Exchange
from conformance.comparison import Difference
from conformance.wire import Answer

__all__ = ["ROWS", "Row", "row_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A wanted difference: in exchanges of one topic, at places whose whole name matches the pattern `where`.

    None stands for any: `topic`; `status`, the code through the router; `instead_of`, the one without it; `among`, the
    codes that every answer through the router must have one of; `absent`, the side that must not have the header;
    `only`, the one value that is wanted through the router.
    """

    key: str
    reason: str
    where: str
    topic: str | None = None
    status: int | None = None
    instead_of: int | None = None
    among: frozenset[int] | None = None
    absent: str | None = None
    only: str | None = None

    def covers(
        self, exchange: Exchange, difference: Difference, direct: Sequence[Answer], through: Sequence[Answer]
    ) -> bool:
        """Whether this row explains the difference."""
        where = difference.where.rpartition("answer ")[2].partition(": ")[2] or difference.where
        return (
            (self.topic is None or self.topic in exchange.topics)
            and (self.status is None or any(answer.status == self.status for answer in through))
            and (self.instead_of is None or any(answer.status == self.instead_of for answer in direct))
            and (self.among is None or all(answer.status in self.among for answer in through))
            and (self.absent is None or getattr(difference, self.absent) == "None")
            and (self.only is None or difference.through == self.only)
            and re.fullmatch(self.where, where) is not None
        )


_REFUSED = r"status|header .*|framing|chunks|body .*"

ROWS: tuple[Row, ...] = (
    Row(
        key="X-Router headers",
        reason="say which server answered, why, after how many attempts; Ollama's clients ignore them",
        where="header x-router-.*",
        absent="direct",
    ),
    Row(
        key="X-Should-Retry",
        reason="tells OpenAI's and Anthropic's libraries which errors are worth another try; others ignore it",
        where="header x-should-retry",
        absent="direct",
    ),
    Row(
        key="streams are not buffered",
        reason="X-Accel-Buffering and Cache-Control keep proxies before the router from collecting a stream",
        where="header (x-accel-buffering|cache-control)",
        absent="direct",
    ),
    Row(
        key="an error is no stream",
        reason="says no-cache on /v1/messages and /v1/responses only with a stream: no cache keeps an answer to POST",
        topic="error of a stream",
        status=404,
        where="header cache-control",
        absent="through",
    ),
    Row(
        key="hop-by-hop header",
        reason="Connection is between two neighbours; HTTP/1.1 keeps connections without it",
        where="header connection",
        absent="through",
    ),
    Row(
        key="kept where Go gives up",
        reason="Go's server closes after a chunked body that it asked for with 100; the router goes on",
        where="connection kept",
        topic="100 in chunks",
    ),
    Row(
        key="chunks that arrive together",
        reason="are passed on together, as RFC 9112 lets a relay do; each still ends where a line or event ends",
        where="chunks joined",
    ),
    Row(
        key="401 without a token",
        reason="the router asks who is there, the server does not",
        topic="anonymous",
        status=401,
        where=_REFUSED,
    ),
    Row(
        key="ambiguous bodies",
        reason="two keys that Ollama takes for one, or data after the object, could pass a permission check: 400",
        topic="ambiguous body",
        status=400,
        where=_REFUSED,
    ),
    Row(
        key="text that is no UTF-8",
        reason="Ollama puts a replacement character where bytes are broken and goes on: 400 here",
        topic="not UTF-8",
        status=400,
        where=_REFUSED,
    ),
    Row(
        key="which of two mistakes",
        reason="a body with two is refused on both sides; the router looks at a model that is named before the rest",
        topic="two mistakes",
        where=r"status|header content-type|body .*",
        among=frozenset({400, 404}),
    ),
    Row(
        key="push of nothing",
        reason="a model that no server has cannot be pushed from any: 404 at once, not 200 and a line with the error",
        topic="push of nothing",
        status=404,
        where=_REFUSED,
    ),
    Row(
        key="odd path segments",
        reason="a name in a path that servers could read as more than one segment is refused in the router's words",
        topic="odd segment",
        status=400,
        where=r"header content-type|body .*",
    ),
    Row(
        key="refused before it is loaded",
        reason="a model that cannot see or hear is not loaded to find that out; the words are Ollama's before 0.30",
        topic="incapable",
        status=400,
        where=r"status|framing|header (content-type|cache-control)|body \$\.error(\.message)?",  # 400 or 500, by runner
    ),
    Row(
        key="no redirects but for slashes",
        reason="a path is compared as it was sent; Go's redirect of dots in it is 404",
        topic="unclean path",
        status=404,
        where=_REFUSED,
    ),
    Row(
        key="prompts are counted",
        reason="agents ask how long a prompt is; Ollama has no such route, the router answers with an estimate",
        topic="counting",
        where=_REFUSED,
    ),
    Row(
        key="relative redirects",
        reason="the address is relative, so that what a proxy took from the path stays; nobody reads the page",
        topic="unclean path",
        among=frozenset({301, 307}),
        where=r"header .*|framing|chunks|body .*",
    ),
    Row(
        key="a wrong base URL",
        reason="a path that only the wrong base URL of a client makes is answered with the right one",
        topic="wrong base",
        status=404,
        where=r"body \$|framing|header content-length",
    ),
    Row(
        key="a length of nothing",
        reason="the answer to HEAD says that there is no content, as that to GET would; Go leaves the length out",
        topic="blob there",
        where="framing",
        only="length",
    ),
    Row(
        key="405 for old servers",
        reason="servers before 0.6.9, or before a route came, answer 404 to its wrong methods; the router is newer",
        topic="wrong method",
        instead_of=404,
        status=405,
        where=r"status|header allow|body \$",
    ),
    Row(
        key="encoded bodies",
        reason="a body that the router cannot read it cannot check: 415 instead of reading the encoded bytes as JSON",
        topic="encoded body",
        status=415,
        where=_REFUSED,
    ),
    Row(
        key="merged lists have a length",
        reason="a list of all servers is written whole, whatever its size",
        topic="merged",
        where="framing",
        only="length",
    ),
)


def row_for(
    exchange: Exchange, difference: Difference, direct: Sequence[Answer], through: Sequence[Answer]
) -> Row | None:
    """The row that explains a difference, if there is one."""
    return next((row for row in ROWS if row.covers(exchange, difference, direct, through)), None)
