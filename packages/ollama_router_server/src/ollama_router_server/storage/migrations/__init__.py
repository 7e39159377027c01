"""Alembic's folder: `env` runs migrations, `versions` has one module per schema revision."""
