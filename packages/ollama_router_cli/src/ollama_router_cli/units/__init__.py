"""The package's systemd units: those of `deploy/`, and one for a user's own manager."""
