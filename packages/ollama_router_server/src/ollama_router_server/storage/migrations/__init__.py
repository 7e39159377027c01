"""Alembic's folder: `env` runs a migration, `versions` holds one module for each step of the schema."""
