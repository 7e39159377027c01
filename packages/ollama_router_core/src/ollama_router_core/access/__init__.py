"""Who is asking, may they, and how much is left: tokens, grants, limits, trusted proxies."""
