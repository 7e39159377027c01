"""`GET /console/whatif/events`: progress of a what-if answer, then the answer as the page shows it."""

from __future__ import annotations

from typing import Any

from falcon.asgi import Request, Response

from ollama_router_core.errors import Forbidden
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.views.whatif import WhatIfView
from ollama_router_server.admin.whatif_resource import WhatIf, events_of
from ollama_router_server.console.pages import Pages
from ollama_router_server.console.rendering import Renderer

__all__ = ["WhatIfEvents"]


class WhatIfEvents:
    """Streams a what-if answer to the page, with progress; a disconnect cancels the replay."""

    roles = ADMINS

    def __init__(self, whatif: WhatIf, renderer: Renderer, pages: Pages) -> None:
        self._whatif = whatif
        self._renderer = renderer
        self._pages = pages

    async def on_get(self, request: Request, response: Response) -> None:
        """Stream events; the last one has the page's part with the answer."""
        if request.get_header("x-console") != "1":
            raise Forbidden("only the console's own pages may ask this")
        days = request.get_param_as_int("days")

        def written(view: WhatIfView) -> dict[str, Any]:
            values = {"view": view, "chosen_days": days, **self._pages.worlds()}
            return {"html": self._renderer.text("parts/whatif.html", "/console/whatif", **values)}

        response.set_header("x-accel-buffering", "no")  # nginx would buffer events
        response.sse = events_of(self._whatif.follow(request), written)
