"""Tokens that serve several projects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Which ones; tokens that are there serve the one that they have."""
    op.add_column("tokens", sa.Column("more_projects", sa.JSON(), nullable=False, server_default="[]"))
