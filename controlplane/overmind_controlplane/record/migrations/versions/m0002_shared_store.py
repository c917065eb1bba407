"""Leases, reservations and the offer as facts of the database; priority, labels, the sweep, the audit."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN: Final = sa.text("status = 'Pending' AND NOT is_archived AND NOT is_deleted")
_WANTS: Final = (
    "project_id",
    "function_name",
    "module_name",
    "module_version",
    "assigned_agent_id",
)


def upgrade() -> None:
    """Add what several servers on one database need."""
    op.create_table(
        "demands",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.String(36), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("function_name", sa.String(255), nullable=False),
        sa.Column("module_name", sa.String(255), nullable=False),
        sa.Column("module_version", sa.String(255)),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("assigned_agent_id", sa.String(36)),
        sa.UniqueConstraint("project_id", "digest"),
    )
    op.create_table(
        "sweeps",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("swept_at", sa.Float(), nullable=False),
        sa.Column("pruned", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("project_id", sa.String(36)),
        sa.Column("token_id", sa.String(36)),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("object", sa.String(512), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("http_status", sa.Integer()),
        sa.Column("code", sa.String(32)),
    )
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("labels", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("jobs", sa.Column("demand", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("reserved_for", sa.String(36)))
    op.add_column("jobs", sa.Column("reserved_until", sa.Float()))
    op.add_column("jobs", sa.Column("lease_until", sa.Float()))
    _name_demands()
    op.create_index(
        "jobs_open",
        "jobs",
        ["demand", sa.text("priority DESC"), "number"],
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    for name, column in (("jobs_reserved", "reserved_until"), ("jobs_leased", "lease_until")):
        kept = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, "jobs", [column], sqlite_where=kept, postgresql_where=kept)


def _name_demands() -> None:
    """Give the jobs that are there what they ask of an agent."""
    jobs = sa.table("jobs", *(sa.column(name) for name in (*_WANTS, "demand")))
    demands = sa.table(
        "demands",
        *(sa.column(name) for name in (*_WANTS, "number", "digest")),
        sa.column("labels", sa.JSON),
    )
    connection = op.get_bind()
    wanted: list[dict[str, Any]] = [
        dict(zip(_WANTS, row, strict=True))
        for row in connection.execute(sa.select(*(jobs.c[name] for name in _WANTS)).distinct())
    ]
    for position, want in enumerate(wanted, start=1):
        # The digest only has to be its own: the next job of the kind makes a demand of its own beside this one.
        digest = f"0001-{position}"
        connection.execute(demands.insert().values(digest=digest, labels=[], **want))
        number = sa.select(demands.c.number).where(demands.c.digest == digest).scalar_subquery()
        same = [jobs.c[name].is_not_distinct_from(value) for name, value in want.items()]
        connection.execute(jobs.update().where(*same).values(demand=number))
