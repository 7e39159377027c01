"""Discovery of servers that the config does not list."""
