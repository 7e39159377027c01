"""Output: streams, tables, and the format of each kind of result."""
