"""Which trace a job belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Those that are there belong to none."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(55)))
