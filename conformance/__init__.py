"""Plays the same exchanges against an Ollama server and through a router, and compares what comes back.

Belongs here: what is asked, what is compared, which differences are wanted. Nothing here knows the router's code; the
only dependency is h11, which reads HTTP and corrects nothing.
"""
