"""The chat models that a job needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Of the jobs that wait, nothing is known: they are offered as before."""
    op.add_column("demands", sa.Column("models", sa.JSON(), nullable=False, server_default="[]"))
