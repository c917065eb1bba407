"""Lines of the audit that stand for several calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """How many; those that are there stand for one."""
    op.add_column("audit", sa.Column("calls", sa.Integer(), nullable=False, server_default="1"))
