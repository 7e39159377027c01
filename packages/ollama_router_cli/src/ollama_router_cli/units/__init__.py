"""Units of systemd that the package ships: those of `deploy/`, and one for a user's own manager."""
