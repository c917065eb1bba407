"""
Tables of the Overmind Lab dialect alone: target agents and datasets. Jobs refer to them and do without them.

What Overmind Lab calls an agent is the AI program under test: a *target agent* here, and never a worker.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from overmind_controlplane.record.tables import Any_JSON, Id, Moment, Row, new_id, now


class TargetAgent(Row):
    """
    An AI program under test.

    Attributes:
        attributes: the fields of `lab_fields.AGENT_ATTRIBUTES` that somebody has written.
        is_deleted: out of everybody's sight; its datasets and jobs stay.
    """

    __tablename__ = "target_agents"
    __table_args__ = (Index("target_agents_by_slug", "project_id", "slug"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    user_number: Mapped[int]
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    updated: Mapped[datetime] = mapped_column(Moment, default=now)
    name: Mapped[str] = mapped_column(String(255))
    slug: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(20), default="active")
    model: Mapped[str] = mapped_column(String(128), default="")
    active_dataset_id: Mapped[str | None] = mapped_column(Id)
    is_deleted: Mapped[bool] = mapped_column(default=False)
    attributes: Mapped[dict[str, Any]] = mapped_column(Any_JSON, default=dict)


class Dataset(Row):
    """
    One version of a target agent's data. It never changes: what changes is another version.

    Attributes:
        version: 1, 2, 3… for each target agent.
        model_id: the same datapoints as an input file, JSON lines: what a job on this dataset reads.
        details: `metadata` on the wire.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("agent_id", "version"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    agent_id: Mapped[str] = mapped_column(ForeignKey("target_agents.id"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    version: Mapped[int]
    num_datapoints: Mapped[int]
    name: Mapped[str] = mapped_column(String(255), default="")
    source: Mapped[str] = mapped_column(String(32), default="seed")
    generator_model: Mapped[str] = mapped_column(String(128), default="")
    policy_hash: Mapped[str] = mapped_column(String(64), default="")
    details: Mapped[Any] = mapped_column(Any_JSON, nullable=True)
    is_deleted: Mapped[bool] = mapped_column(default=False)


class Datapoint(Row):
    """One row of a dataset."""

    __tablename__ = "datapoints"
    __table_args__ = (Index("datapoints_by_dataset", "dataset_id", "order", "number"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    input: Mapped[Any] = mapped_column(Any_JSON, nullable=True)
    expected_output: Mapped[Any] = mapped_column(Any_JSON, nullable=True)
    order: Mapped[int] = mapped_column(BigInteger, default=0)
    persona: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[Any] = mapped_column(Any_JSON, nullable=True)
