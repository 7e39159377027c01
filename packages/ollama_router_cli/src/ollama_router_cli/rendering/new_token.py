"""Output of a new token, which is shown only once."""

from __future__ import annotations

from ollama_router_cli.rendering.output import clean, print_json, print_result
from ollama_router_cli.sources.settings_source import Settings
from ollama_router_server.storage.identities import CreatedToken

__all__ = ["show_token"]


def show_token(settings: Settings, created: CreatedToken, headline: str, *, as_json: bool) -> None:
    """Print a new token, which cannot be shown again."""
    secret = created.token.reveal()
    if as_json:
        print_json({"name": created.user, "role": created.role, "token": secret})
        return
    print_result(clean(headline))
    print_result()
    print_result(f"token: {secret}")
    print_result("It is shown only now; keep it like a password. To try it while the router runs:")
    print_result()
    print_result(f'curl {settings.router_url}/api/tags -H "Authorization: Bearer {secret}"')
