"""The router's own routes, served by Falcon."""
