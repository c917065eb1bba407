"""The schema's history, one module a step. Alembic runs them; `migrating` decides when."""
