"""Views of the router's state: one typed view per resource, rendered as JSON, as HTML and by the command line."""
