"""The schema revisions, oldest first; a released revision never changes."""
