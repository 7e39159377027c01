"""Plays the same exchanges against an Ollama server and through a router, and compares what comes back."""
