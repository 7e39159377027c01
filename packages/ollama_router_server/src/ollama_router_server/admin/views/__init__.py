"""Views of the router's state: one type per resource, for JSON, HTML and the command line."""
