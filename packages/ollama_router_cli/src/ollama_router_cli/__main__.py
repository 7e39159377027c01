"""`python -m ollama_router_cli` is `orouter`."""

from __future__ import annotations

from ollama_router_cli.main import main

if __name__ == "__main__":
    main()
