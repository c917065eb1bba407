"""Which start of an agent registered last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Unknown of those that are there, until they register again."""
    op.add_column("agents", sa.Column("instance", sa.String(128)))
