"""What the server keeps for itself: keys of calls that were granted, the sweep, the audit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Float, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from overmind_controlplane.record.tables.columns import Id, Moment, Row, now


class IdempotencyKey(Row):
    """
    A call that was granted under a key.

    Attributes:
        scope: project, who and which verb, so that no caller meets another's key.
        digest: of what was asked.
        made: what the call was about: the job's id, or the made artifact's.
    """

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(String(128), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    made: Mapped[str] = mapped_column(Id)
    attempt: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(Moment, default=now, index=True)


class Sweep(Row):
    """
    One row: who holds it, sweeps.

    Attributes:
        swept_at: when somebody did, seconds on `StoreClock`.
        pruned: when old records were last thrown away.
    """

    __tablename__ = "sweeps"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    swept_at: Mapped[float] = mapped_column(Float)
    pruned: Mapped[datetime | None] = mapped_column(Moment)


class AuditEntry(Row):
    """
    A change that was made, or a call that was refused.

    Attributes:
        who: the token's name; the secret is nowhere.
        verb, object: the method and the path of the call.
        decision: `granted` or `refused`.
        http_status, code: of a refusal.
        calls: how many refusals alike it stands for.
    """

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    created: Mapped[datetime] = mapped_column(Moment, default=now, index=True)
    project_id: Mapped[str | None] = mapped_column(Id)
    token_id: Mapped[str | None] = mapped_column(Id)
    who: Mapped[str] = mapped_column(String(255), default="")
    verb: Mapped[str] = mapped_column(String(16))
    object: Mapped[str] = mapped_column(String(512))
    decision: Mapped[str] = mapped_column(String(16))
    http_status: Mapped[int | None]
    code: Mapped[str | None] = mapped_column(String(32))
    calls: Mapped[int] = mapped_column(default=1, server_default="1")
