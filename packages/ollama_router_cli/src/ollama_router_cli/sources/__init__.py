"""Where facts come from: the config, the database, the servers, a running router, a file."""
