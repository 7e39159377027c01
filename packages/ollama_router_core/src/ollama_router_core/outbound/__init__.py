"""Requests to destinations, and the translation of their responses."""
