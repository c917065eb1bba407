"""
The published client asks for a function on a model file, in a process of its own.

Called as `python istari_function.py URL TOKEN MODEL_FILE WHAT`; prints the job's id.
"""

from __future__ import annotations

import faulthandler
import sys
from pathlib import Path

from istari_digital_client import Client, Configuration


def main(url: str, token: str, file: str, do: str) -> None:
    """Upload the model, make the job."""
    faulthandler.dump_traceback_later(60, exit=True)
    client = Client(Configuration(registry_url=url, registry_auth_token=token))
    model = client.add_model(path=Path(file), display_name="words")
    job = client.add_job(model.id, "@acme:count", parameters={"do": do}, display_name="count them")
    sys.stdout.write(job.id)


if __name__ == "__main__":
    main(*sys.argv[1:])
