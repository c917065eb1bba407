"""The parts of prompt_tuning, one by one: the split, the seal, the constraints, replay, the verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from overmind_executors.calls.budget import Limits, Spent
from overmind_executors.contract import ExecutionFailed, InvalidParameters
from overmind_executors.inference.parameters import TemplateMessage
from overmind_executors.rows.rows import Row
from overmind_executors.tuning.constraints import Code, Constraints
from overmind_executors.tuning.iterations import fitted
from overmind_executors.tuning.leaks import SPAN, LeakScan
from overmind_executors.tuning.ledger import Ledger
from overmind_executors.tuning.promotion import Decision, decide
from overmind_executors.tuning.proposing import new_text
from overmind_executors.tuning.reserve import Reserve
from overmind_executors.tuning.sealed import Registration, Sealed
from overmind_executors.tuning.splitting import Shares, split
from overmind_executors.tuning.step_log import StepLog
from overmind_executors.tuning.texts import as_code, guiding, prompt_of, texts_of
from overmind_executors.tuning.trials import Trial
from zoo_writers import rows

REGISTERED = Registration(0.05, 0.0, 1, 20, 0.8, "before", "after")


def made(entries: list[dict[str, Any]]) -> list[Row]:
    """Rows of *entries*."""
    return [Row(n, n, e["id"], e, e["input"], e["expected_output"]) for n, e in enumerate(entries)]


# ------------------------------------------------------------------------------------------ the split


def test_a_row_has_its_place_whatever_the_order_of_the_rows() -> None:
    given_rows = made(rows(40))

    one, other = split(given_rows, Shares(), 7), split(given_rows[::-1], Shares(), 7)

    assert (10, 10, 20) == (len(one.train), len(one.validation), len(one.held_out))
    assert {case.row.id for case in one.held_out} == {case.row.id for case in other.held_out}
    assert {case.row.id for case in one.held_out} != {c.row.id for c in split(given_rows, Shares(), 8).held_out}


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_near_duplicate_is_moved_to_its_twin(seed: int) -> None:
    """Other letters, other signs, one word of many: it is on the side of what it copies."""
    entries = rows(40)
    twins = []
    for number in range(0, 40, 4):
        text = f"{entries[number]['input']} {' '.join(f'w{place}x{number}' for place in range(20))}"
        entries[number]["input"] = text
        twins.append({**entries[number], "id": f"twin{number}", "input": text.upper().replace(" ", ", ") + "!"})

    parts = split(made([*entries, *twins]), Shares(), seed)

    side = {case.row.id: name for name in ("train", "validation", "held_out") for case in getattr(parts, name)}
    assert len(twins) == parts.moved
    assert [side[f"r{number}"] for number in range(0, 40, 4)] == [side[f"twin{n}"] for n in range(0, 40, 4)]


def test_rows_that_are_all_alike_cannot_be_split() -> None:
    entries = [{"id": f"r{n}", "input": "the very same words in each row", "expected_output": n} for n in range(20)]

    with pytest.raises(InvalidParameters, match="the largest of 20, are too few: the part validation"):
        split(made([*entries, *rows(6)]), Shares(held_out=0.4, validation=0.4), 0)


# ------------------------------------------------------------------------------------------ the seal


def test_held_out_rows_are_opened_for_one_test_only(tmp_path: Path) -> None:
    parts = split(made(rows(20)), Shares(), 0)
    sealed = Sealed(tmp_path)
    sealed.seal(parts.held_out)

    first = sealed.open(REGISTERED)

    assert list(parts.held_out) == first
    assert first == Sealed(tmp_path).open(REGISTERED)
    with pytest.raises(ExecutionFailed, match="opened before, for another test"):
        sealed.open(Registration(0.05, 0.0, 1, 20, 0.8, "before", "another"))


# ------------------------------------------------------------------------------------------ constraints

PROMPT = 'Judge {text} for {{reader}}. Answer in JSON:\n```\n{"label": "x"}\n```\nNever mention the price.'


def constraints(**changes: Any) -> Constraints:
    """Of `PROMPT`."""
    return Constraints(
        **{"original": {"prompt": PROMPT}, "fixed": ["Never mention the price."], "most_characters": 300,
           "leaks": LeakScan([], []), **changes}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PROMPT + " Be brief.", None),
        ("", Code.INVALID_TEMPLATE),
        (PROMPT.replace("{text}", "the text"), Code.INVALID_TEMPLATE),
        (PROMPT.replace("{{reader}}", "{reader}"), Code.INVALID_TEMPLATE),
        (PROMPT + " {more}", Code.INVALID_TEMPLATE),
        (PROMPT.replace('"label"', '"verdict"'), Code.INVALID_TEMPLATE),
        (PROMPT.replace("JSON", "words"), Code.INVALID_TEMPLATE),
        (PROMPT.replace("Never mention the price.", "Mention no price."), Code.FIXED_REGION),
        (PROMPT + "x" * 300, Code.DISCARD_CONSTRAINT),
    ],
)
def test_what_a_candidate_must_not_change(text: str, code: Code | None) -> None:
    found = constraints().objection({"prompt": text})

    assert code == (found and found.code)


NAMES = some.lists(some.from_regex(r"[a-z_]{1,8}", fullmatch=True), min_size=1, max_size=6, unique=True)
FILLER = some.text(alphabet=some.characters(blacklist_characters="{}", blacklist_categories=["Cs"]), max_size=30)
# What writers do to a variable: drop it, spell it out, in capitals, with blanks, in other braces, twice as many.
DAMAGE = (
    "",
    "{0}",
    "{{{1}}}",
    "{{ {0} }}",
    "<{0}>",
    "[{0}]",
    "${0}",
    "{{{{{0}}}}}",
    "{{{0}",
    "{0}}}",
    "{{{0}s}}",
    "%{0}%",
)


@settings(max_examples=300, deadline=None)
@given(NAMES, some.data(), FILLER, some.sampled_from(DAMAGE), some.booleans())
def test_a_lost_variable_is_always_caught(
    names: list[str], data: some.DataObject, filler: str, damage: str, in_two: bool
) -> None:
    """In one text or in one of two, whatever stands in its place; so no call is ever paid for such a candidate."""
    before = filler.join("{" + name + "}" for name in names) + " ask"
    lost = data.draw(some.sampled_from(names))
    after = before.replace("{" + lost + "}", damage.format(lost, lost.upper() + "_"))
    other = {"user": "and {" + lost + "}"} if in_two else {}

    found = constraints(original={"prompt": before, **other}, fixed=[]).objection({"prompt": after, **other})

    assert found is not None
    assert Code.INVALID_TEMPLATE == found.code


@settings(max_examples=200, deadline=None)
@given(
    some.lists(some.text(alphabet="abcdefghij klmno", min_size=30, max_size=80), min_size=1, max_size=5),
    some.data(),
    some.sampled_from((str.upper, str.lower, str.title, lambda text: text.replace(" ", "  "))),
)
def test_any_span_of_a_hidden_answer_is_found_wherever_it_stands(
    answers: list[str], data: some.DataObject, written: Callable[[str], str]
) -> None:
    """Twenty letters of it, however they are written, in the midst of other words."""
    hidden = [Row(n, n, f"h{n}", {}, "in", answer) for n, answer in enumerate(answers)]
    folded_answer = " ".join(data.draw(some.sampled_from(answers)).split())
    assume(len(folded_answer) >= SPAN)
    start = data.draw(some.integers(0, len(folded_answer) - SPAN))
    span = folded_answer[start : start + SPAN]
    assume(span == span.strip())

    assert LeakScan(hidden, []).finds(f"Judge it. {written(span)}. Be brief.")


def test_a_span_of_a_held_out_answer_is_a_leak_and_is_not_quoted() -> None:
    hidden = Row(0, 0, "h", {}, "in", "The treaty was signed in Lisbon in 2007.")
    scan = LeakScan([hidden], ["The treaty was signed in"])
    rules = constraints(leaks=scan, most_characters=1000)

    found = rules.objection({"prompt": PROMPT + " Say: SIGNED IN  Lisbon in 2007"})

    assert found is not None
    assert (Code.LEAKAGE, False) == (found.code, "Lisbon" in found.message)
    assert rules.objection({"prompt": PROMPT + " The treaty was signed in"}) is None
    assert rules.objection({"prompt": PROMPT + " Lisbon in 2007"}) is None


# ------------------------------------------------------------------------------------------ texts


def test_the_texts_of_messages_have_names_and_the_systems_are_tuned() -> None:
    prompt = [
        TemplateMessage(role="system", content="a"),
        TemplateMessage(role="user", content="b {input}"),
        TemplateMessage(role="user", content="c"),
    ]

    texts = texts_of(prompt)

    assert {"system": "a", "user_1": "b {input}", "user_2": "c"} == texts
    assert ("system",) == guiding(prompt)
    assert ("user_1", "user_2") == guiding([m.model_copy(update={"role": "user"}) for m in prompt[1:]])
    assert texts == texts_of(prompt_of(texts))
    assert '{"role":"system","content":"z"}' in as_code(prompt, {**texts, "system": "z"}).replace(" ", "")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("x <new_text>\nA\nB\n</new_text> y", "A\nB"),
        ("<new_text>A</new_text><new_text>B</new_text>", "B"),
        ("```text\nA\n```", "A"),
        (" A ", "A"),
        ("<new_text>A\0\ud800B</new_text>", "A\ufffd?B"),
    ],
)
def test_a_new_text_is_found_in_an_answer(answer: str, text: str) -> None:
    assert text == new_text(answer)


# ------------------------------------------------------------------------------------------ replay and budget


def test_a_search_that_takes_another_step_than_before_is_stopped(tmp_path: Path) -> None:
    with StepLog(tmp_path / "log") as log:
        log.step("trials", "a", 1)
        assert log.decide("short", lambda: True)
        log.step("propose", "b")

    with StepLog(tmp_path / "log") as log:
        log.step("trials", "a", 1)
        assert log.decide("short", lambda: False), "what was decided stays decided"
        with pytest.raises(ExecutionFailed, match=r"step 3 \(propose\)") as caught:
            log.step("propose", "c")

    assert "replay_mismatch" == caught.value.reason


def test_a_step_that_was_torn_off_is_taken_again(tmp_path: Path) -> None:
    with StepLog(tmp_path / "log") as log:
        log.step("trials", "a")
        log.step("trials", "b")
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:-5])

    with StepLog(tmp_path / "log") as log:
        log.step("trials", "a")
        log.step("trials", "b")

    assert whole == (tmp_path / "log").read_bytes()


@pytest.mark.parametrize(("trials", "is_short"), [(10, False), (11, True)])
def test_the_search_leaves_what_the_test_needs(trials: int, is_short: bool) -> None:
    """100 calls, 20 spent on 10 trials: two each; 30 trials are kept, which leaves 20 calls."""
    reserve = Reserve(Limits(max_calls=100), lambda: Spent(calls=20), 30)
    reserve.learn(10)

    assert is_short is reserve.is_short(trials)


# ------------------------------------------------------------------------------------------ the verdict


@pytest.mark.parametrize(
    ("before", "after", "decision"),
    [
        ([0.0] * 10 + [1.0] * 10, [1.0] * 20, Decision.PROMOTED),
        ([0.0] * 10 + [1.0] * 10, [0.0] * 10 + [1.0] * 10, Decision.INCONCLUSIVE),
        ([0.0, 0.0] + [1.0] * 18, [1.0] * 20, Decision.INCONCLUSIVE),
        ([1.0] * 20, [0.0] * 15 + [1.0] * 5, Decision.REFUSED),
        ([0.0] * 20, [1.0] * 15 + [None] * 5, Decision.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_from_the_rows(
    before: list[float | None], after: list[float | None], decision: Decision
) -> None:
    found = decide([[v] for v in before], [[v] for v in after], range(20), REGISTERED)

    assert decision == found.decision


def test_too_few_rows_say_how_many_are_needed() -> None:
    before, after = [0.0, 0.0, 0.0] + [1.0] * 17, [1.0, 1.0, 1.0] + [0.0] + [1.0] * 16

    found = decide([[v] for v in before], [[v] for v in after], range(20), REGISTERED)

    assert (Decision.INCONCLUSIVE, 126) == (found.decision, found.rows_needed)


def test_a_gain_within_the_margin_is_not_promoted() -> None:
    before, after = [[0.5, 0.5]] * 20, [[0.6, 0.6 + 0.01 * (n % 2)] for n in range(20)]
    at_ten_points = Registration(0.05, 0.2, 2, 20, 0.8, "before", "after")

    free, held = decide(before, after, range(20), REGISTERED), decide(before, after, range(20), at_ten_points)

    assert (Decision.PROMOTED, Decision.REFUSED) == (free.decision, held.decision)
    assert free.comparison is not None
    assert held.comparison is not None
    assert free.comparison.difference == pytest.approx(held.comparison.difference)


def test_near_duplicates_among_held_out_rows_count_once() -> None:
    groups = [n // 10 for n in range(20)]

    found = decide([[0.0]] * 20, [[1.0]] * 20, groups, REGISTERED)

    assert found.comparison is not None
    assert (2, Decision.INCONCLUSIVE) == (found.comparison.units, found.decision)


# ------------------------------------------------------------------------------------------ the ledger


def test_every_candidate_has_its_code() -> None:
    told: list[str] = []
    ledger = Ledger(lambda one: told.append(f"{one.name} {one.code.value}"))
    base = {"prompt": "base"}

    def trials(*values: float | None, kind: str = "ok") -> list[Trial]:
        return [Trial(f"r{n}", value, kind) for n, value in enumerate(values)]

    ledger.baseline(base, trials(1.0, 0.0, 0.0))
    ledger.iteration = 1
    ledger.tried({"prompt": "better"}, base, trials(1.0, 1.0, 0.0))
    ledger.tried({"prompt": "other row"}, base, trials(0.0, 0.0, 1.0))
    ledger.tried({"prompt": "worse"}, base, trials(0.0, 1.0, 0.0))
    ledger.tried({"prompt": "broken"}, base, trials(None, None, None))
    ledger.tried({"prompt": "slow"}, base, trials(None, None, None, kind="timeout"))
    ledger.screened({"prompt": "screened"}, base)

    assert [
        "baseline KEEP_BETTER", "i01c1 KEEP_BETTER", "i01c2 KEEP_PARETO", "i01c3 DISCARD_WORSE", "i01c4 CRASH",
        "i01c5 TIMEOUT",
    ] == told  # fmt: skip
    assert "better" == ledger.best().texts["prompt"]
    assert Code.DISCARD_SCREEN == ledger.candidates[-1].code


def test_of_equal_candidates_the_cheapest_is_tested_and_none_beats_the_baseline() -> None:
    """A tie with the baseline is no gain; among the others money decides, then length, then who came first."""

    def trials(value: float, usd: float | None) -> list[Trial]:
        return [Trial(f"r{n}", value, cost_usd=usd) for n in range(4)]

    ledger = Ledger(lambda _candidate: None)
    start = {"prompt": "as it was"}
    ledger.baseline(start, trials(0.5, 0.1))
    ledger.tried({"prompt": "as good and cheaper"}, start, trials(0.5, 0.01))
    tie = ledger.best().texts
    ledger.tried({"prompt": "better"}, start, trials(0.75, 0.2))
    ledger.tried({"prompt": "better and as dear, but longer"}, start, trials(0.75, 0.2))
    ledger.tried({"prompt": "better and cheaper, though longer than both"}, start, trials(0.75, 0.1))
    cheapest = ledger.best().texts
    ledger.tried({"prompt": "best"}, start, trials(0.75, None))
    shortest = ledger.best().texts

    assert start == tie
    assert {"prompt": "better and cheaper, though longer than both"} == cheapest
    assert {"prompt": "best"} == shortest, "with a price unknown money decides nothing"


@pytest.mark.parametrize("number", [1, 40, 400])
def test_an_outcome_with_its_iterations_fits_into_a_record(number: int) -> None:
    steps = [
        {"order": n, "iteration_name": f"i{n}", "agent_code": "ü" * 5000, "x": "y" * 100} for n in range(number)
    ]

    found = fitted({"best_agent_code": "z" * 9000}, steps)

    assert len(str(found).encode()) < 64_000
    assert found["iterations"][0]["order"] == 0
