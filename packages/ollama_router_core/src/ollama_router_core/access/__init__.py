"""Authentication, authorisation and limits: tokens, grants, limits, trusted proxies."""
