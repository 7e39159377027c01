"""Strict parsing of requests: endpoints, bodies, model names, error texts."""
