"""
Every metric of the daemon, as data: its name below `overmind_agent_`, its kind, its labels, and what it says.

The page docs/seeing-inside.md lists the same, and a test compares the two. Units are seconds, bytes and US dollars.
Labels are few and bounded: see `labels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "overmind_agent_"

# From a call on the same host to a poll that is held open for half a minute.
CALL_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
# From a job in milliseconds to one that runs a day.
WORK_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0)
# From a status that goes out at once to one that waited for the end of an outage.
DELAY_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)


@dataclass(frozen=True)
class Metric:
    """
    One metric.

    Attributes:
        name: without the prefix; of a counter without `_total`, which comes with its kind.
        buckets: upper ends in seconds, of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def shown_name(self) -> str:
        """As a query writes it; of a histogram, what `_bucket`, `_sum` and `_count` stand behind."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


COUNTED: Final = (
    Metric("jobs_claimed", "counter", "Jobs that were claimed.", ("job_type",)),
    Metric(
        "jobs_resumed", "counter", "Jobs that were gone on with after an interruption, by what it was.", ("after",)
    ),
    Metric(
        "jobs_finished",
        "counter",
        "Jobs that ended here: completed, failed, canceled, released or lost.",
        ("job_type", "outcome"),
    ),
    Metric("job_failures", "counter", "Jobs that failed, by their reason.", ("reason",)),
    Metric(
        "jobs_not_run",
        "counter",
        "Jobs that were offered or held and not run, by the event.",
        ("event",),
    ),
    Metric("claim_to_start_seconds", "histogram", "From a claim to the start of the work.", ("job_type",), WORK_S),
    Metric("job_seconds", "histogram", "From the claim to the last word.", ("job_type",), WORK_S),
    Metric(
        "job_phase_seconds",
        "histogram",
        "In one phase of a job: validating, running or uploading.",
        ("phase",),
        WORK_S,
    ),
    Metric("result_files", "counter", "Result files that were uploaded."),
    Metric("result_bytes", "counter", "Bytes of result files that were uploaded."),
    Metric("result_files_left", "counter", "Result files that were left: the job is complete without."),
    Metric("job_crashes", "counter", "Jobs that met an error which nothing foresaw."),
    Metric("strays_killed", "counter", "Processes that a job left behind and that were ended."),
    Metric("children_started", "counter", "Processes for jobs, by the way: forked or started.", ("way",)),
    Metric("nursery_faults", "counter", "Times the process that forks did not, by the event.", ("event",)),
    Metric(
        "control_plane_calls", "counter", "Calls to the control plane that ended, by outcome.", ("verb", "outcome")
    ),
    Metric("control_plane_call_seconds", "histogram", "How long a call took, polls included.", ("verb",), CALL_S),
    Metric("control_plane_retries", "counter", "Calls that will be tried again."),
    Metric("token_refusals", "counter", "Times the control plane did not accept the token."),
    Metric("reports_delivered", "counter", "Statuses that the control plane has confirmed."),
    Metric("reports_refused", "counter", "Statuses that the control plane would not have."),
    Metric("report_delay_seconds", "histogram", "From a status in the outbox to its delivery.", (), DELAY_S),
    Metric("loop_failures", "counter", "Errors that a loop met and survived.", ("loop",)),
    Metric("duty_failures", "counter", "Duties that failed.", ("duty",)),
    Metric("journal_refusals", "counter", "Times the journal could not be written."),
    Metric("log_shipping_faults", "counter", "Logs of jobs that wait or were refused, by the event.", ("event",)),
    Metric("clock_faults", "counter", "Steps and skews of the host's clock, by the event.", ("event",)),
    Metric("reloads", "counter", "Times the configuration was read again, by the event.", ("event",)),
    Metric("model_calls", "counter", "Calls of chat models that ended, by kind of answer.", ("model", "kind")),
    Metric("model_call_seconds", "counter", "Seconds that calls of chat models took, together.", ("model",)),
    Metric("model_tokens", "counter", "Tokens that chat models read or wrote.", ("model", "direction")),
    Metric("model_cost_usd", "counter", "US dollars that calls of chat models cost, as far as priced.", ("model",)),
    Metric("model_calls_refused", "counter", "Calls that were not made, by why.", ("model", "reason")),
    Metric("log_events", "counter", "Events of the daemon's log, shown or not, by level.", ("level",)),
    Metric("telemetry_requests", "counter", "Requests to this listener, by answer.", ("code",)),
    Metric("spans", "counter", "Spans that were sent or lost.", ("outcome",)),
)
"""What is counted while it happens."""

LOOKED_AT: Final = (
    Metric("build_info", "gauge", "Always 1; which version this is.", ("version",)),
    Metric("live", "gauge", "1 while the daemon's loops turn."),
    Metric("ready", "gauge", "1 while a job that is submitted now would be taken here."),
    Metric("not_ready_reason", "gauge", "1 for each code of /readyz that holds now.", ("code",)),
    Metric("uptime_seconds", "gauge", "Since the start, suspension included."),
    Metric("slots", "gauge", "How many slots there are."),
    Metric("slots_in_use", "gauge", "How many of them are taken."),
    Metric("jobs_held", "gauge", "Jobs that are held now.", ("job_type",)),
    Metric("lease_remaining_seconds", "gauge", "Until the first held job is stopped without a heartbeat."),
    Metric("draining", "gauge", "1 while no job is taken and the present ones may end."),
    Metric("paused", "gauge", "1 while somebody has paused it."),
    Metric("outbox_depth", "gauge", "Statuses that wait to be delivered."),
    Metric("outbox_parked", "gauge", "Statuses that were refused, and wait for a person."),
    Metric("outbox_oldest_seconds", "gauge", "For how long the oldest of them has waited; 0 when none does."),
    Metric("control_plane_silent_seconds", "gauge", "Since the last answer of the control plane."),
    Metric("token_expires_timestamp_seconds", "gauge", "When the control plane's token ends, if it does."),
    Metric("disk_free_bytes", "gauge", "Free on the disk of the state folder."),
    Metric("disk_least_free_bytes", "gauge", "Below this no job is taken."),
    Metric("loop_quiet_seconds", "gauge", "Since the last sign of life of a loop.", ("loop",)),
    Metric("log_lines_lost", "counter", "Lines of the daemon's log that its stream did not take."),
    Metric("secrets_masked", "counter", "Secrets that were masked in logs, words and results."),
)
"""What is looked at when somebody asks."""

METRICS: Final = (*COUNTED, *LOOKED_AT)
