"""Sources of facts: the config, the database, the servers, a running router, a file."""
