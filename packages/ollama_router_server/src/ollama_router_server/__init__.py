"""The ollama-router proxy server."""
