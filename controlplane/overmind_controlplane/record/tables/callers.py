"""Who calls: projects, tokens, and the agents with their histories."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from overmind_controlplane.record.tables.columns import Any_JSON, Id, Moment, Row, new_id, now


class Project(Row):
    """What tokens belong to; nothing is seen across projects."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)


class Token(Row):
    """
    A credential; the secret itself is never kept. `number` is the integer user of the Lab dialect.

    Attributes:
        more_projects: ids of those that an agent's token serves besides `project_id`.
    """

    __tablename__ = "tokens"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    more_projects: Mapped[list[str]] = mapped_column(Any_JSON, default=list, server_default="[]")
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255), default="")
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)


class Agent(Row):
    """
    A worker daemon.

    Attributes:
        modules: `[[name, version], …]`; empty when it reported none.
        capabilities: what it can do of our extensions; `lease` decides whether it gets one.
        slots, draining: as its last heartbeat said.
        instance: which start of it registered last; None from a client that does not say.
        not_accepting: why it takes no job, as its last heartbeat said; None when it does.
    """

    __tablename__ = "agents"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
    agent_version: Mapped[str] = mapped_column(String(255), default="")
    host_os: Mapped[str] = mapped_column(String(255), default="")
    status: Mapped[str] = mapped_column(String(32), default="")
    modules: Mapped[list[list[str]]] = mapped_column(Any_JSON, default=list)
    capabilities: Mapped[list[str]] = mapped_column(Any_JSON, default=list)
    slots: Mapped[int | None]
    draining: Mapped[bool] = mapped_column(default=False)
    instance: Mapped[str | None] = mapped_column(String(128))
    not_accepting: Mapped[str | None] = mapped_column(String(255))
    seen_at: Mapped[datetime] = mapped_column(Moment, default=now)


class AgentEvent(Row):
    """One entry of an agent's histories; *kind* is `information`, `display_name`, `modules` or `status`."""

    __tablename__ = "agent_events"
    __table_args__ = (Index("agent_events_by_kind", "agent_id", "kind", "number"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Id, unique=True, default=new_id)
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    kind: Mapped[str] = mapped_column(String(16))
    value: Mapped[Any] = mapped_column(Any_JSON)
    created: Mapped[datetime] = mapped_column(Moment, default=now)
    created_by: Mapped[str] = mapped_column(Id)
