"""Rendering of views as pages: templates escape all values and fail on undefined ones."""

from __future__ import annotations

import gzip
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import yaml
from falcon.asgi import Request, Response

from ollama_router_server.admin.views.active import turn
from ollama_router_server.admin.views.error_reference import known_codes
from ollama_router_server.admin.views.history import clock
from ollama_router_server.console import wording
from ollama_router_server.console.assets import Assets, send
from ollama_router_server.console.charts import day_marks, segments
from ollama_router_server.console.memory_map import memory_map

if TYPE_CHECKING:
    import jinja2

__all__ = ["Rendered", "Renderer"]

_WORTH_PACKING: Final = 1024


@dataclass(frozen=True)
class Rendered:
    """A page, or a part of one, ready to send."""

    body: bytes

    @cached_property
    def tag(self) -> str:
        """The entity tag."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:20]}"'

    @cached_property
    def packed(self) -> bytes:
        """The body, gzipped."""
        return gzip.compress(self.body, 5, mtime=0)


class Renderer:
    """Renders the console's templates."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    def text(self, template: str, path: str, **values: Any) -> str:
        """Render a template for the page at this path; its links are relative, so that a path prefix works.

        `path` has encoded slashes in names; the template gets the decoded path.
        """
        root = "../" * path.removeprefix("/console/").count("/") or "./"
        assets, page = f"{root}v/{self._assets.version}/", unquote(path.removeprefix("/console/"))
        return _environment().get_template(template).render(root=root, assets=assets, path=page, **values)

    def rendered(self, template: str, path: str, **values: Any) -> Rendered:
        """Render a template into bytes, to send once or to several watchers of a page."""
        return Rendered(self.text(template, path, **values).encode("utf-8", "replace"))

    def answer(self, request: Request, response: Response, template: str, **values: Any) -> None:
        """Render and send a page."""
        self.send(request, response, self.rendered(template, request.path, **values))

    def send(self, request: Request, response: Response, page: Rendered) -> None:
        """Send a rendered page, or 304 if the browser has exactly this one."""
        response.content_type = "text/html; charset=utf-8"
        response.set_header("etag", page.tag)
        if request.get_header("if-none-match") == page.tag:
            response.status = 304
        elif len(page.body) < _WORTH_PACKING:
            response.data = page.body
        else:
            send(request, response, page.body, page.packed)


@cache
def _environment() -> jinja2.Environment:
    """Return the Jinja environment, created once per process."""
    import jinja2  # noqa: PLC0415 - many routers never show a page

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ollama_router_server.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        age=wording.age,
        clock=clock,
        count=wording.count,
        duration=wording.duration,
        gib=wording.gib,
        moment=wording.moment,
        money=wording.money,
        plain=wording.plain,
        quoted=shlex.quote,
        segment=partial(quote, safe=""),
        short=wording.short,
        turn=turn,
    )
    environment.globals.update(
        segments=segments, day_marks=day_marks, memory_map=memory_map, error_codes=known_codes(), glossary=_glossary()
    )
    return environment


@cache
def _glossary() -> Mapping[str, str]:
    """Return the meaning of each term, from the package's file."""
    found: dict[str, str] = yaml.safe_load((files("ollama_router_server.console") / "glossary.yml").read_text("utf-8"))
    return found
