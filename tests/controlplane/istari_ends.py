"""
How jobs end, as the published client sees it: cancels, final states, archives, and what is refused.

Called as `python istari_ends.py URL SUBMIT_TOKEN AGENT_TOKEN`; prints one JSON object of what it saw.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from istari_digital_client import Client, Configuration
from istari_digital_client.exceptions import ApiException
from istari_digital_client.models.access_relation import AccessRelation
from istari_digital_client.models.access_relationship import AccessRelationship
from istari_digital_client.models.access_resource_type import AccessResourceType
from istari_digital_client.models.access_subject_type import AccessSubjectType
from istari_digital_client.models.job_status_name import JobStatusName as Name
from istari_digital_client.models.new_agent import NewAgent
from istari_digital_client.models.new_source import NewSource
from istari_digital_client.models.update_access_relationship import UpdateAccessRelationship

WAY = (Name.CLAIMED, Name.VALIDATING, Name.RUNNING, Name.UPLOADING, Name.COMPLETED)
NOBODY = "00000000-0000-4000-8000-000000000000"


def main(url: str, submit_token: str, agent_token: str) -> None:
    faulthandler.dump_traceback_later(60, exit=True)
    folder = Path(tempfile.mkdtemp())
    submitter = Client(Configuration(registry_url=url, registry_auth_token=submit_token))
    worker = Client(Configuration(registry_url=url, registry_auth_token=agent_token))
    stranger = Client(Configuration(registry_url=url, registry_auth_token="ovr_wrong"))
    (folder / "rows.json").write_text("[1]")
    model = submitter.add_model(path=folder / "rows.json")
    agent = worker.register_agent(NewAgent(agent_version="1.0", host_os="Debian"))

    def make() -> Any:
        return submitter.add_job(model.id, "@overmind:inference", parameters={"target": "x"})

    def say(job: Any, *names: Name) -> Any:
        for name in names:
            job = worker.update_job_status(job.id, name, agent_id=agent.id)
        return job

    waiting, claimed, done, failed = make(), say(make(), Name.CLAIMED), say(make(), *WAY), say(make(), Name.CLAIMED)
    say(failed, Name.FAILED)
    seen: dict[str, Any] = {
        "waiting": submitter.update_job_status(waiting.id, Name.CANCELED).status.name.value,
        "claimed": submitter.update_job_status(claimed.id, Name.CANCELED).status.name.value,
        "polled": [submitter.get_job(job.id).poll_job().value for job in (waiting, claimed, done, failed)],
    }
    (folder / "late.json").write_text("{}")
    source = NewSource(revision_id=claimed.revision.id, relationship_identifier="job")
    calls: dict[str, Callable[[], object]] = {
        "holder goes on after the cancel": lambda: say(claimed, Name.VALIDATING),
        "holder uploads after the cancel": lambda: worker.add_artifact(
            model.id, folder / "late.json", sources=[source]
        ),
        "claim of a canceled job": lambda: say(waiting, Name.CLAIMED),
        "step after the end": lambda: say(done, Name.RUNNING),
        "cancel after the end": lambda: submitter.update_job_status(done.id, Name.CANCELED),
        "cancel after a failure": lambda: submitter.update_job_status(failed.id, Name.CANCELED),
        "archive": lambda: submitter.archive_job(done.id),
        "archive again": lambda: submitter.archive_job(done.id),
        "restore": lambda: submitter.restore_job(done.id),
        "restore again": lambda: submitter.restore_job(done.id),
        "wrong token": lambda: stranger.get_job(done.id),
        "unknown job": lambda: submitter.get_job(NOBODY),
        "unknown job's status": lambda: worker.update_job_status(NOBODY, Name.CLAIMED, agent_id=agent.id),
        "unknown agent": lambda: worker.update_job_status(make().id, Name.CLAIMED, agent_id=NOBODY),
    }
    seen["answers"] = {name: answer_of(call) for name, call in calls.items()}
    seen["access"] = access(submitter, done.id)
    sys.stdout.write(json.dumps(seen))


def answer_of(call: Callable[[], object]) -> int:
    """The status that a call was answered with."""
    try:
        call()
    except ApiException as error:
        return int(error.status)
    return 200


def access(client: Client, job_id: str) -> list[list[str]]:
    """The relations to a job at the start, with one more, with that one changed, and without it."""
    user, job = AccessSubjectType.USER, AccessResourceType.JOB
    seen = [client.list_access(job, job_id)]
    told = AccessRelationship(
        subject_type=user, subject_id="other", relation=AccessRelation.VIEWER, resource_type=job, resource_id=job_id
    )
    client.create_access(told)
    seen.append(client.list_access(job, job_id))
    client.update_access(user, "other", job, job_id, UpdateAccessRelationship(relation=AccessRelation.EDITOR))
    seen.append(client.list_job_access(job_id))
    client.remove_access(user, "other", job, job_id)
    seen.append(client.list_access(job, job_id))
    return [[line.relation.value for line in lines] for lines in seen]


if __name__ == "__main__":
    main(*sys.argv[1:])
