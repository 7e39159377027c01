"""The row that a request leaves, and where rows go."""
