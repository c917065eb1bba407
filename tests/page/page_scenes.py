"""Jobs as people see them: what the pictures of `docs/watching.md` show, and what the tests click through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plane_calls import Project

PROMPT: Final = "You classify reviews.\nAnswer with one word: positive or negative.\nBe brief."
BETTER: Final = (
    "You classify reviews of products.\nAnswer with one word: positive or negative.\n"
    "Irony counts by what is meant, not by what is said.\nBe brief."
)
LOG: Final = """\
rows        64 from reviews.jsonl
model       fast (smollm2-135m-instruct), 2 at a time
  8 of 64   7 right so far
 16 of 64   15 right so far
 24 of 64   22 right so far
"""
STEPS: Final = (
    ("baseline", 71.9, "keep", "the prompt as it was"),
    ("iter_001", 75.0, "keep", "KEEP_BETTER: say what counts as positive"),
    ("iter_002", 68.8, "discard", "DISCARD_WORSE: ask for a reason first"),
    ("iter_003", 79.7, "keep", "KEEP_BETTER: irony counts by what is meant"),
    ("iter_004", 78.1, "discard", "DISCARD_NOISE: two examples"),
    ("iter_005", 76.6, "discard", "DISCARD_GATE: longer than allowed"),
    ("holdout", 78.9, "keep", "KEEP_BETTER: iter_003 on the held-out rows: promoted"),
)


class Scene:
    """A project with an agent, in which jobs are made to happen."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.api = project.agent
        self.agent_id = self.agent("gpu-host-07", "label:gpu", "model:fast")

    def agent(self, name: str, *capabilities: str) -> str:
        """Another agent; its id."""
        agent_id = self.api.register("lease", "fence", *capabilities)
        told = {
            "agent_version": "0.1.0",
            "host_os": "Debian GNU/Linux 12",
            "capabilities": ["lease", *capabilities],
        }
        self.api.read("PUT", f"/api/v2/agents/{agent_id}", told)
        self.api.read("PUT", f"/api/v2/agents/{agent_id}/display_name", {"display_name": name})
        return agent_id

    def begin(self, kind: str, parameters: Any, *, to: str = "Running") -> str:
        """A job that the agent has taken as far as *to*; its id."""
        job_id: str = self.project.submit.make_job(parameters, f"@overmind:{kind}")["id"]
        self.api.walk(job_id, self.agent_id, to)
        return job_id

    def progress(self, job_id: str, step: int, total: int, doing: str) -> None:
        """One heartbeat."""
        told = {"step": step, "total_steps": total, "step_name": doing}
        self.api.heartbeat(self.agent_id, (job_id, 1), progress=told)

    def write(self, job_id: str, text: str, offset: int = 0) -> int:
        """Add to the log; where it ends then."""
        address, held = f"/api/v2/jobs/{job_id}/logs", {"Overmind-Attempt": "1"}
        told = self.api.call("PUT", address, text.encode(), params={"offset": offset}, headers=held)
        end: int = told.json()["offset"]
        return end

    def add_file(self, job_id: str, name: str, data: bytes) -> None:
        """A result file."""
        job = self.project.submit.job(job_id)
        body = self.api.upload(data, name, (job["file"]["revisions"][-1]["id"],))
        self.api.read(
            "POST", f"/api/v2/models/{job['model_id']}/artifacts", body, headers={"Overmind-Attempt": "1"}
        )

    def complete(self, job_id: str, message: str, outcome: Mapping[str, Any]) -> None:
        """The last word."""
        self.api.say(job_id, "Uploading", self.agent_id)
        told = {"message": message, "detail": {"outcome": outcome}}
        answer = self.api.say(job_id, "Completed", self.agent_id, body=told)
        assert 200 == answer.status_code, answer.text


def inference(scene: Scene) -> str:
    """A job in the middle of its rows."""
    job_id = scene.begin("inference", {"system_prompt": PROMPT, "model": "fast", "max_items": 64})
    scene.progress(job_id, 24, 64, "rows")
    scene.write(job_id, LOG)
    return job_id


def answered(scene: Scene) -> str:
    """A job that has given its rows to a model."""
    job_id = scene.begin("inference", {"system_prompt": PROMPT, "model": "fast"})
    scene.add_file(job_id, "output.jsonl", b"{}\n")
    outcome = {
        "status": "partial",
        "termination_reason": "completed",
        "counts": {"total": 64, "ok": 62, "failed": 2, "skipped": 0},
        "accuracy": {"correct": 57, "compared": 62, "accuracy": 0.919355, "interval_95": [0.8247, 0.9652]},
        "latency_ms": {"p50": 412.0, "p95": 1870.0, "p99": 2410.0},
        "usage": {"model_calls": 66, "total_tokens": 9412, "cost_usd": 0.00518},
    }
    scene.complete(job_id, "62 of 64 rows", outcome)
    return job_id


def tuning(scene: Scene) -> str:
    """A search that found a better prompt."""
    job_id = scene.begin("prompt_tuning", {"prompt": PROMPT, "num_iterations": 5})
    scene.write(job_id, "search      gepa, 5 iterations\nholdout     64 rows that the search never saw\n")
    names = ("iteration_name", "avg_score", "status", "description")
    steps = [dict(zip(names, step, strict=True)) | {"order": place} for place, step in enumerate(STEPS)]
    scene.add_file(job_id, "best_prompt.txt", BETTER.encode())
    scene.add_file(job_id, "report.md", b"# Report\n")
    outcome = {"baseline_score": 70.3, "best_score": 78.9, "improvement": 8.6, "best_agent_code": BETTER}
    outcome |= {"iterations": steps, "status": "improved", "changes_summary": "says how irony counts"}
    ends = {"baseline": [0.582, 0.803], "candidate": [0.676, 0.872], "gain": [0.014, 0.158]}
    test = {"verdict": "promoted", "compared": 64, **{f"{name}_interval_95": pair for name, pair in ends.items()}}
    outcome |= {"scored_on": "holdout", "test": test, "data_sources_used": {"validation": 32}}
    scene.complete(job_id, "promoted: +8.6 points on the held-out rows", outcome)
    return job_id


def backtesting(scene: Scene) -> str:
    """A comparison of chat models."""
    job_id = scene.begin("model_backtesting", {"models": ["mini", "large"], "current_model": "fast"})
    metrics = {
        "avg_eval_score": 0.81,
        "success_rate": 1.0,
        "avg_latency_ms": 912.4,
        "avg_cost_per_request": 0.00104,
    }
    mini = {"avg_eval_score": 0.82, "success_rate": 0.98, "avg_latency_ms": 401.7, "avg_cost_per_request": 0.00021}
    large = {"avg_eval_score": 0.84, "success_rate": 1.0, "avg_latency_ms": 1510.0, "avg_cost_per_request": 0.0031}
    compared = {
        "mini": {"difference": 0.01, "interval": [-0.02, 0.04], "verdict": "switch", "reasons": ["COST_LOWER"]},
        "large": {
            "difference": 0.03,
            "interval": [-0.01, 0.07],
            "verdict": "inconclusive",
            "reasons": ["TOO_FEW_ROWS"],
        },
    }
    results = {
        "decision": {"verdict": "switch"},
        "model_results": {"mini": {"aggregate_metrics": mini}, "large": {"aggregate_metrics": large}},
        "baseline_metrics": metrics,
        "comparisons": compared,
        "recommendations": {
            "current_model": {"name": "fast"},
            "best_overall": {"model": "mini"},
            "fastest": {"model": "mini"},
            "summary": "Switch from fast to mini: quality changes by +1.0 points (interval -2.0 to +4.0).",
        },
    }
    outcome = {"baseline_score": 81.0, "best_score": 82.0, "improvement": 1.0, "backtest_results": results}
    scene.complete(job_id, "switch", outcome)
    return job_id


def scoring(scene: Scene) -> str:
    """Outputs that were judged."""
    job_id = scene.begin("judge_scoring", {"evaluators": [{"kind": "rubric"}]})
    scene.add_file(job_id, "scores.jsonl", b'{"item_id": "1", "outcome": "scored", "correctness": 0.9}\n')
    outcome = {
        "avg_score": 0.7431,
        "best_score": 74.31,
        "scored": 61,
        "abstained": 2,
        "not_applicable": 0,
        "skipped": 1,
        "distribution": {"poor": 6, "below_average": 9, "average": 11, "good": 21, "excellent": 14},
        "judge_model": "fast",
    }
    scene.complete(job_id, "61 of 64 rows scored", outcome)
    return job_id


def failed(scene: Scene) -> str:
    """A job that could not be done."""
    job_id = scene.begin("inference", {"model": "none"}, to="Validating")
    told = {"message": "this host offers no model 'none'; it has: fast", "detail": {"reason": "invalid_input"}}
    scene.api.say(job_id, "Failed", scene.agent_id, body=told)
    return job_id


def all_of_them(project: Project) -> dict[str, str]:
    """One of each, and one that waits; their ids by the name of the scene."""
    scene = Scene(project)
    scene.agent("laptop-anna")
    made = {one.__name__: one(scene) for one in (failed, answered, scoring, backtesting, tuning)}
    waiting = project.submit.make_job({"model": "fast"}, "@overmind:uploaded_outputs_setup")["id"]
    return {**made, "waiting": waiting, "inference": inference(scene)}
