"""Request records and their sinks."""
