"""What the router shows of itself: one typed view a resource, rendered as JSON, as HTML and by the command line."""
