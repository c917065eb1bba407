"""
One agent made of the published client, in a race for a job.

Called as `python istari_race.py URL AGENT_TOKEN JOB_ID`; says `ready`, waits for a line, claims, and prints what
came of it.
"""

from __future__ import annotations

import faulthandler
import sys

from istari_digital_client import Client, Configuration
from istari_digital_client.exceptions import ApiException
from istari_digital_client.models.job_status_name import JobStatusName
from istari_digital_client.models.new_agent import NewAgent


def main(url: str, token: str, job_id: str) -> None:
    faulthandler.dump_traceback_later(60, exit=True)
    client = Client(Configuration(registry_url=url, registry_auth_token=token))
    agent = client.register_agent(NewAgent(agent_version="1.0", host_os="Debian"))
    say("ready")
    sys.stdin.readline()
    try:
        claimed = client.update_job_status(job_id, JobStatusName.CLAIMED, agent_id=agent.id)
        say(f"{claimed.status.name.value} {claimed.agent_id == agent.id}")
    except ApiException as error:
        say(f"{type(error).__name__} {error.status}")


def say(line: str) -> None:
    """To whoever started us, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
