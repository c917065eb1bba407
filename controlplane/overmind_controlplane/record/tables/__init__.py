"""
The record, as tables. What a column means is said here; how it changes, in `board`, `files`, `agents` and `access`.

Every table that a caller can name things of has an `id` (a UUID as text, the name on the wire). Where order
matters there is a `number` that only grows, since two rows may share a moment.
"""

from __future__ import annotations

from overmind_controlplane.record.tables.callers import Agent, AgentEvent, Project, Token
from overmind_controlplane.record.tables.columns import Any_JSON, Id, Moment, Row, StatusName, new_id, now
from overmind_controlplane.record.tables.files import ArchiveEntry, Artifact, File, Link, Model, Revision
from overmind_controlplane.record.tables.jobs import OPEN, Demand, Iteration, Job, JobEvent, Said
from overmind_controlplane.record.tables.keeping import AuditEntry, IdempotencyKey, Sweep
