"""
What stands in for the chat models of the docs: the small one, for whose weights nobody wants to wait, and a
provider's.

`python doc_models.py` serves them on the port that `overmind-local-model` has. Each knows the label of every review
in `examples/`, and is right as often as its name is worth.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from zoo import Zoo  # noqa: E402
from zoo_writers import Writer, draw  # noqa: E402

PORT: Final = 8471
REVIEWS: Final = [json.loads(line) for line in (ROOT / "examples" / "reviews.jsonl").read_text().splitlines()]
OTHER: Final = {"positive": "negative", "negative": "positive"}
NEW_PROMPT: Final = "Is the review positive or negative? Answer in one word."


def label(name: str, text: str, worth: float) -> str:
    """The label of the review in *text*, or the other one, as a draw over *name* and review says."""
    review = next(review for review in REVIEWS if review["input"] in text)
    truth: str = review["expected_output"]
    return truth if draw(name, review["id"]) < worth else OTHER[truth]


class Reader:
    """Says the label when it is asked for one of the two, and chats when it is not. As a judge it says no."""

    def __init__(self, name: str, worth: float) -> None:
        self._name = name
        self._worth = worth

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        text = "\n".join(str(message["content"]) for message in messages)
        if "<<<OUTPUT" in text:
            return json.dumps({"verdict": "no"})
        if "positive or negative" not in text:
            return "I see. Tell me more."
        return label(self._name, text, self._worth)


def main() -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    worth = {"smollm2": 1.0, "large": 0.7, "small": 0.98, "tiny": 0.4}
    models = {name: Reader(name, share) for name, share in worth.items()}
    with Zoo({**models, "writer": Writer([NEW_PROMPT])}, port=PORT) as zoo:
        print(f"listening on {zoo.url}", flush=True)  # noqa: T201
        signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    main()
