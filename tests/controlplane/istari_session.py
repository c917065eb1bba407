"""
The published client at work, in a process of its own: its native code holds Python's lock while it waits.

Called as `python istari_session.py URL SUBMIT_TOKEN AGENT_TOKEN`; prints one JSON object of what it saw.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from istari_digital_client import Client, Configuration
from istari_digital_client.exceptions import ApiException
from istari_digital_client.models.agent_status_name import AgentStatusName
from istari_digital_client.models.job_status_name import JobStatusName
from istari_digital_client.models.new_agent import NewAgent
from istari_digital_client.models.new_agent_display_name import NewAgentDisplayName
from istari_digital_client.models.new_agent_information import NewAgentInformation
from istari_digital_client.models.new_agent_module_version import NewAgentModuleVersion
from istari_digital_client.models.new_agent_status import NewAgentStatus
from istari_digital_client.models.new_job_assigned_agent import NewJobAssignedAgent
from istari_digital_client.models.new_source import NewSource


def main(url: str, submit_token: str, agent_token: str) -> None:
    faulthandler.dump_traceback_later(60, exit=True)
    folder = Path(tempfile.mkdtemp())
    submitter = Client(Configuration(registry_url=url, registry_auth_token=submit_token))
    worker = Client(Configuration(registry_url=url, registry_auth_token=agent_token))
    (folder / "rows.json").write_text('{"rows": [1, 2, 3]}')
    (folder / "result.json").write_text('{"score": 0.5}')
    seen: dict[str, Any] = {}

    model = submitter.add_model(path=folder / "rows.json", display_name="rows")
    job = submitter.add_job(model.id, "@overmind:inference", parameters={"target": "x"}, display_name="drive")
    seen["created"] = job.status.name.value

    agent = worker.register_agent(NewAgent(agent_version="1.0", host_os="Debian"))
    worker.update_agent_modules(
        agent.id, [NewAgentModuleVersion(module_name="@overmind:executors", module_version="1.0.0")]
    )
    available = list(worker.get_agent_available_jobs(agent.id).iter_items())
    seen["available"] = [one.id == job.id for one in available]
    for name in ("Claimed", "Validating", "Running", "Uploading"):
        worker.update_job_status(job.id, JobStatusName(name), agent_id=agent.id)
    seen["rows"] = worker.get_model(model.id).read_json()
    seen["parameters"] = worker.get_job(job.id).read_json()
    source = NewSource(revision_id=job.revision.id, relationship_identifier="job")
    artifact = worker.add_artifact(model.id, folder / "result.json", sources=[source])
    worker.update_job_status(job.id, JobStatusName.COMPLETED, agent_id=agent.id)

    seen["polled"] = submitter.get_job(job.id).poll_job().value
    seen["result"] = submitter.get_artifact(artifact.id).read_bytes().decode()
    reader = Client(
        Configuration(registry_url=url, registry_auth_token=submit_token, filesystem_cache_enabled=False)
    )
    copied = reader.get_artifact(artifact.id).copy_to(folder / "copied.json")
    seen["copied"] = (Path(copied) if copied else folder / "copied.json").read_text()
    seen["listed"] = [one.id == job.id for one in submitter.list_jobs().iter_items()]
    seen["artifacts"] = [one.id == artifact.id for one in submitter.list_model_artifacts(model.id).iter_items()]
    products = submitter.get_job(job.id).file.revisions[-1].products
    seen["products"] = [(one.resource_type, one.resource_id == artifact.id) for one in products]
    seen["archived"] = submitter.archive_job(job.id).archive_status.name.value
    seen["restored"] = submitter.restore_job(job.id).archive_status.name.value
    seen |= agent_calls(worker, agent.id)
    seen |= other_calls(submitter, worker, model.id, agent.id)
    seen["in_parts"] = upload_in_parts(url, submit_token, folder)
    seen["refusals"] = refusals(worker, job.id, agent.id, model.id, folder)
    sys.stdout.write(json.dumps(seen))


def agent_calls(worker: Client, agent_id: str) -> dict[str, Any]:
    """What an agent says of itself."""
    worker.update_agent_display_name(agent_id, NewAgentDisplayName(display_name="worker-1"))
    worker.update_agent_information(agent_id, NewAgentInformation(agent_version="1.1", host_os="Debian"))
    for name in (AgentStatusName.EXECUTINGJOB, AgentStatusName.IDLE):
        worker.update_agent_status(agent_id, NewAgentStatus(name=name))
    history = worker.list_agent_status_history(agent_id).items
    return {
        "agent_name": worker.get_agent(agent_id).display_name.display_name,
        "agent_status": worker.get_agent_status(agent_id).name.value,
        "history": [line.name.value for line in history],
    }


def other_calls(submitter: Client, worker: Client, model_id: str, agent_id: str) -> dict[str, Any]:
    """What a submitter does with a job that waits."""
    job = submitter.add_job(model_id, "@overmind:inference", parameters={"target": "x"})
    parameters = Path(tempfile.mkdtemp()) / "parameters.json"
    parameters.write_text('{"target": "y"}')
    updated = submitter.update_job(job.id, parameters)
    assigned = submitter.update_job_assigned_agent(job.id, NewJobAssignedAgent(agent_id=agent_id))
    removed = submitter.remove_job_assigned_agent(job.id)
    canceled = submitter.update_job_status(job.id, JobStatusName.CANCELED)
    return {
        "updated": updated.read_json(),
        "assigned": [assigned.assigned_agent_id == agent_id, removed.assigned_agent_id is None],
        "cancelled": canceled.status.name.value,
        "model_jobs": submitter.list_model_jobs(model_id).total,
    }


def upload_in_parts(url: str, token: str, folder: Path) -> int:
    """Upload a file in parts; the length of what comes back."""
    configuration = Configuration(
        registry_url=url,
        registry_auth_token=token,
        multipart_threshold=100_000,
        multipart_chunksize=100_000,
        filesystem_cache_enabled=False,
    )
    client = Client(configuration)
    (folder / "large.bin").write_bytes(b"0123456789" * 30_000)
    return len(client.get_model(client.add_model(path=folder / "large.bin").id).read_bytes())


def refusals(worker: Client, job_id: str, agent_id: str, model_id: str, folder: Path) -> list[str]:
    """What the client makes of a no: its exception's name and status."""
    found = []
    for call in (
        lambda: worker.update_job_status(job_id, JobStatusName.CLAIMED, agent_id=agent_id),
        lambda: worker.get_job("00000000-0000-4000-8000-000000000000"),
        lambda: worker.add_model(path=folder / "rows.json"),
    ):
        try:
            call()
        except ApiException as error:
            found.append(f"{type(error).__name__} {error.status}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
