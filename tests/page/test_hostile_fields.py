"""The payloads are in every field of the record that words of strangers can get into: read off its own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hostile import OWN, PAYLOADS, plant
from sqlalchemy import select

import overmind_controlplane.serving.app  # noqa: F401 - with it come the tables of all dialects
from overmind_controlplane.access import authenticate, make_project, make_token
from overmind_controlplane.caller import Role
from overmind_controlplane.plane import Plane, Settings
from overmind_controlplane.record.tables import Row

# Ids, digests and words of our own, by the ends of their names.
OUR_OWN: Final = ("id", "created_by", "instance", "digest", "sha", "sha256", "salt", "kind", "role")
# Ours, or checked on its way in; then what strangers write and no page shows. Before a page does, plant it.
CLEAN: Final = {
    "files": {"resource_type"},
    "jobs": {"holder", "reserved_for", "job_type", "traceparent"}
    | {"function_version", "module_version", "signature", "analyzer_model", "prompt_slug", "data_source"},
    "projects": {"name"},
    "demands": {"module_version"},
    "links": {"relationship_identifier"},
    "revisions": {"extension", "mime", "description", "display_name", "version_name", "external_identifier"},
}
# No job, agent or token of the planted ones has a line there; nothing of them is on a page.
EMPTY: Final = {
    *("archive_entries", "audit", "idempotency_keys", "sweeps", "said"),
    *("datapoints", "datasets", "grants", "target_agents"),
}


def test_a_new_field_is_planted_or_named_here(tmp_path: Path) -> None:
    plane = Plane.build(Settings(data=tmp_path))
    with plane.database.write() as session:
        make_project(session, "one")
        secret, _ = make_token(session, "one", Role.ADMIN)
    with plane.database.write() as session:
        plant(session, plane, authenticate(session, secret), PAYLOADS[0])

    clean: dict[str, set[str]] = {}
    empty = set()
    with plane.database.read() as session:
        for table in Row.metadata.sorted_tables:
            rows: list[Any] = [row._mapping for row in session.execute(select(table))]
            words = [column for column in table.columns if column.type.python_type in (str, dict, list)]
            bare = {one.name for one in words if not any(OWN in repr(row[one]) for row in rows)}
            if not rows:
                empty.add(table.name)
            elif left := {name for name in bare if not name.endswith(OUR_OWN)}:
                clean[table.name] = left
    plane.database.close()

    assert CLEAN == clean
    assert EMPTY == empty
