"""
What only all rows together show: outputs and inputs that are nearly one, inputs that stand in two splits; and which
rows have personal data.

```
outputs.jsonl ─▶ add, line by line ─▶ card: the counts
              └▶ marks, once more  ─▶ flags.jsonl: which rows; split.jsonl: where each could go
```
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

from overmind_executors.rows.near_texts import NearTexts
from overmind_executors.scoring.texts import as_text
from overmind_executors.uploaded_outputs.personal import KINDS, personal_kinds

FLAGS: Final = "flags.jsonl"
SPLIT: Final = "split.jsonl"
MARKS: Final = (FLAGS, SPLIT)
# As many different texts are compared with each other, of the outputs and of the inputs.
MOST_COMPARED: Final = 200_000
# Upper ends of the shares that a suggested split has: half of the rows are for the one test in the end.
SHARES: Final[Mapping[str, float]] = {"train": 0.25, "validation": 0.5, "held_out": 1.0}
_MOST_SPLITS: Final = 32
_MOST_OF_A_NAME: Final = 64
_NONE: Final = -1


class CloserLook:
    """Some forty bytes for each row in memory, all else in databases that SQLite spills to disk and forgets."""

    def __enter__(self) -> CloserLook:
        with ExitStack() as stack:
            self._outputs = stack.enter_context(NearTexts(most=MOST_COMPARED))
            self._inputs = stack.enter_context(NearTexts(most=MOST_COMPARED))
            self._stack = stack.pop_all()
        self._lines = array("q")
        self._personal, self._near = array("Q"), array("b")
        self._split_of, self._input_of, self._output_of = array("b"), array("q"), array("q")
        self._row_of_input, self._row_of_output = array("q"), array("q")
        self._ranks = array("Q")
        self._splits: dict[str, int] = {}
        return self

    def __exit__(self, *_raised: object) -> None:
        self._stack.close()

    def add(self, line: Mapping[str, Any], usable: str | None) -> None:
        """One line of `outputs.jsonl`; *usable*: its output as text, None when there is none."""
        row = len(self._lines)
        self._lines.append(line["line"])
        texts = [as_text(line[name]) for name in ("input", "expected_output") if line[name] is not None]
        kinds = set().union(*map(personal_kinds, [*texts, usable or ""]))
        self._personal.append(sum(1 << n for n, kind in enumerate(KINDS) if kind in kinds))
        is_near = usable is not None and self._outputs.add(usable)
        self._near.append(is_near)
        self._output_of.append(_NONE if usable is None else len(self._row_of_output))
        if usable is not None:
            self._row_of_output.append(row)
        self._input_of.append(_NONE if line["input"] is None else len(self._row_of_input))
        if line["input"] is not None:
            text = as_text(line["input"])
            self._inputs.add(text)
            self._row_of_input.append(row)
            self._ranks.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))
        self._split_of.append(self._number_of(line.get("split")))

    def _number_of(self, split: Any) -> int:
        if not isinstance(split, str) or not 0 < len(split) <= _MOST_OF_A_NAME or not split.isprintable():
            return _NONE
        if split not in self._splits and len(self._splits) >= _MOST_SPLITS:
            return _NONE
        return self._splits.setdefault(split, len(self._splits))

    def card(self) -> dict[str, Any]:
        """The counts, all of rows."""
        kinds = {kind: sum(bits >> n & 1 for bits in self._personal) for n, kind in enumerate(KINDS)}
        return {
            "near_duplicates": {
                "outputs": sum(self._near),
                "inputs": sum(self._inputs.group(n) != n for n in range(len(self._row_of_input))),
                "compared": {"outputs": self._outputs.compared, "inputs": self._inputs.compared},
            },
            "personal": {
                "rows": sum(bits != 0 for bits in self._personal),
                "kinds": {kind: count for kind, count in kinds.items() if count},
            },
            "splits": self._leaks() if self._splits else None,
            "suggested_split": None if self._splits or not self._row_of_input else self._suggested(),
        }

    def _leaks(self) -> dict[str, Any]:
        names = list(self._splits)
        counts = Counter(names[number] for number in self._split_of if number != _NONE)
        bits = self._bits_of_groups()
        leaking = {group for group, found in bits.items() if found.bit_count() > 1}
        rows = sum(
            number != _NONE and self._split_of[row] != _NONE and self._inputs.group(number) in leaking
            for row, number in enumerate(self._input_of)
        )
        return {"rows": dict(sorted(counts.items())), "shared_inputs": len(leaking), "rows_of_shared_inputs": rows}

    def _bits_of_groups(self) -> dict[int, int]:
        """For each group of like inputs a bit for each split that it stands in."""
        bits: dict[int, int] = {}
        for row, number in enumerate(self._input_of):
            if number != _NONE and self._split_of[row] != _NONE:
                group = self._inputs.group(number)
                bits[group] = bits.get(group, 0) | 1 << self._split_of[row]
        return bits

    def _suggested(self) -> dict[str, Any]:
        counts = Counter(self._place(number) for number in self._input_of if number != _NONE)
        groups = sum(self._inputs.group(n) == n for n in range(len(self._row_of_input)))
        return {**{name: counts[name] for name in SHARES}, "groups_of_like_inputs": groups}

    def _place(self, number: int) -> str:
        """By the digest of the first input of its group, so that like inputs go together, in whatever order."""
        share = self._ranks[self._inputs.group(number)] / 2**64
        return next(name for name, end in SHARES.items() if share < end)

    def marks(self, lines: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The lines of FLAGS and SPLIT, each with the file's name; *lines* are those that were added, again."""
        bits = self._bits_of_groups() if self._splits else {}
        names = list(self._splits)
        for row, line in enumerate(lines):
            place = {"order": line["order"], "line": line["line"]}
            flags = {**self._repeats(row), **self._marks_of(row, bits, names)}
            if flags:
                yield FLAGS, {**place, **flags}
            if not self._splits and self._input_of[row] != _NONE:
                yield SPLIT, {**place, "split": self._place(self._input_of[row])}

    def _repeats(self, row: int) -> dict[str, Any]:
        found = {}
        output, given = self._output_of[row], self._input_of[row]
        if self._near[row]:
            found["near_output_of_line"] = self._lines[self._row_of_output[self._outputs.group(output)]]
        if given != _NONE and (first := self._inputs.group(given)) != given:
            found["like_input_of_line"] = self._lines[self._row_of_input[first]]
        return found

    def _marks_of(self, row: int, bits: Mapping[int, int], names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._personal[row]:
            found["personal"] = [kind for n, kind in enumerate(KINDS) if self._personal[row] >> n & 1]
        given = self._input_of[row]
        shared = bits.get(self._inputs.group(given), 0) if given != _NONE else 0
        if shared.bit_count() > 1 and self._split_of[row] != _NONE:
            found["input_in_splits"] = sorted(name for n, name in enumerate(names) if shared >> n & 1)
        return found
