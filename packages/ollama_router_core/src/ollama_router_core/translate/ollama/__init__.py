"""Ollama's own dialect: `/api/chat` and `/api/generate`."""
