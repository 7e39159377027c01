"""Persistent state: users, their tokens' digests, the request log."""
