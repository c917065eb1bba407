"""The commands `project`, and `restored`, which is about the jobs of all of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overmind_controlplane.administration.shared import REFUSED, add_store, fail, show

if TYPE_CHECKING:
    from overmind_controlplane.record.tables import Project


def add(project: Any, environment: Mapping[str, str]) -> None:
    """Add them to the commands of *project*."""
    create = project.add_parser("create", help="make a project; prints its id")
    create.add_argument("name", metavar="NAME")
    add_store(create, environment, _create)
    add_store(project.add_parser("list", help="list projects"), environment, _list)


def restored(arguments: argparse.Namespace) -> int:
    """A backup of the database was put back: nobody may go on with what was granted after it."""
    from overmind_controlplane.jobs.fence import fence_off
    from overmind_controlplane.plane import open_database

    with open_database(arguments.data, arguments.database).write() as session:
        count = fence_off(session)
    show({"jobs": count} if arguments.json else f"fenced off whoever holds one of {count} jobs from before")
    return 0


def _create(arguments: argparse.Namespace) -> int:
    from overmind_controlplane.access import make_project
    from overmind_controlplane.plane import open_database
    from overmind_controlplane.refusals import Refused

    try:
        with open_database(arguments.data, arguments.database).write() as session:
            project = make_project(session, arguments.name)
    except Refused as error:
        return fail(error.detail, REFUSED)
    show(_record(project) if arguments.json else project.id)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from sqlalchemy import select

    from overmind_controlplane.plane import open_database
    from overmind_controlplane.record.tables import Project

    with open_database(arguments.data, arguments.database).read() as session:
        records = [_record(row) for row in session.scalars(select(Project).order_by(Project.created, Project.name))]
    if arguments.json:
        show(records)
        return 0
    for record in records:
        show(f"{record['id']}  {record['created'][:19]}Z  {record['name']}")
    return 0


def _record(project: Project) -> dict[str, Any]:
    return {"id": project.id, "name": project.name, "created": project.created.isoformat()}
