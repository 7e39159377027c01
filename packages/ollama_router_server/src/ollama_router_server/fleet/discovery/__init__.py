"""Where servers are found that the config does not list."""
