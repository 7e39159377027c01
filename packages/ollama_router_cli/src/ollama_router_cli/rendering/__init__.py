"""What is printed: streams, tables, and how each kind of result reads."""
