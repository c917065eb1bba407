"""What the submitter of a job signed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Those that are there are not signed."""
    op.add_column("jobs", sa.Column("signature", sa.Text()))
