"""Why an agent takes no job, and how often agents have ended at a job's work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Nothing is known of what was before."""
    op.add_column("agents", sa.Column("not_accepting", sa.String(255)))
    for name in ("ends", "ends_now"):
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
