"""The job type `uploaded_outputs_setup`: a stranger's file of outputs in, rows that can be judged out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overmind_executors import recount, result_files
from overmind_executors.contract import Context, ExecutionFailed, InvalidParameters, Result, WorkStopped
from overmind_executors.rows.files import row_file
from overmind_executors.rows.rows import Row
from overmind_executors.rows.source import RowSource
from overmind_executors.scoring.items import item_of
from overmind_executors.statistics.power import smallest_gain as exact_gain
from overmind_executors.stopping import StopFlag
from overmind_executors.uploaded_outputs import UploadedOutputsExecutor
from overmind_executors.uploaded_outputs.data_card import smallest_gain
from overmind_executors.uploaded_outputs.languages import language_of

Make = Callable[..., Context]
DATASET = [
    {"id": "a", "input": "one", "expected_output": "1", "metadata": {"ticket": "T-1"}},
    {"id": "b", "input": "two", "expected_output": "2", "metadata": {"ticket": "T-2"}},
    {"id": "c", "input": "three", "expected_output": "3", "metadata": {"ticket": "T-3"}},
]


def _run(context: Context, **parameters: Any) -> Result:
    executor = UploadedOutputsExecutor()
    return executor.run(executor.validate(parameters), context)


def _lines(context: Context, name: str = "outputs.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.output / name).read_text().splitlines()]


def _jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _bound(context: Context) -> list[tuple[str, Any]]:
    return [(line["datapoint_id"], line["output"]) for line in _lines(context)]


def _rejects(context: Context) -> list[tuple[int, str]]:
    return [(line["row"], line["code"]) for line in _lines(context, "rejected.jsonl")]


def test_a_line_says_what_was_answered_and_to_what(make_context: Make) -> None:
    context = make_context(
        _jsonl({"id": "b", "output": "zwei", "latency_ms": 12.5, "tags": ["x"]}, {"id": "a", "output": "eins"})
    )

    result = _run(context, dataset=DATASET)

    first, _ = _lines(context)
    assert {
        "datapoint_id": "b",
        "order": 1,
        "repetition": 0,
        "input_sha256": None,
        "input": "two",
        "output": "zwei",
        "expected_output": "2",
        "success": True,
        "error": None,
        "latency_ms": 12.5,
        "cost_usd": None,
        "tags": ["x"],
        "source": "uploaded",
        "line": 1,
        "bound_by": "id",
    } == first
    assert [{"datapoint_id": "c", "order": 2}] == _lines(context, "missing.jsonl")
    assert ("id", 3, 2, 0.666667) == tuple(
        result.outcome[key] for key in ("bound_by", "datapoints_total", "datapoints_covered", "coverage_rate")
    )


BINDINGS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "by id, in any order": ([{"id": "c", "output": "C"}, {"id": "a", "output": "A"}], {}, "id"),
    "by their place": ([{"output": "A"}, {"output": "B"}, {"output": "C"}], {}, "order"),
    "by their own order": (
        [{"order": 2, "output": "C"}, {"order": 0, "output": "A"}, {"order": 1, "output": "B"}],
        {},
        "order",
    ),
    "by input": ([{"input": "three", "output": "C"}, {"input": "one", "output": "A"}], {}, "input_hash"),
    "by a key": (
        [{"ticket": "T-2", "output": "B"}, {"ticket": "T-1", "output": "A"}],
        {"bind": "key", "bind_key": "ticket"},
        "key",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "more", "by"), BINDINGS.values(), ids=BINDINGS.keys())
def test_outputs_find_their_rows(make_context: Make, rows: list[Any], more: dict[str, Any], by: str) -> None:
    context = make_context(_jsonl(*rows))

    result = _run(context, dataset=DATASET, **more)

    assert by == result.outcome["bound_by"]
    assert [(row["output"].lower(), row["output"]) for row in rows] == _bound(context)


def test_inputs_are_the_same_however_their_keys_stand_and_their_letters_are_composed(make_context: Make) -> None:
    dataset = [
        {"id": "a", "input": {"q": "caf\u00e9", "n": 1}},
        {"id": "b", "input": "x"},
        {"id": "c", "input": "y"},
    ]
    context = make_context(_jsonl({"input": {"n": 1, "q": "cafe\u0301"}, "output": "A"}))

    _run(context, dataset=dataset)

    assert [("a", "A")] == _bound(context)


def test_what_cannot_be_bound_at_all_names_the_three_reasons(make_context: Make) -> None:
    context = make_context(_jsonl({"id": "a", "output": "A"}, {"output": "B"}))

    with pytest.raises(InvalidParameters) as caught:
        _run(context, dataset=DATASET)

    assert (
        "bind: outputs cannot be bound: 1 of 2 outputs have an id; there are 2 outputs for 3 rows; "
        "0 of 2 outputs have an input [cannot_bind]"
    ) == str(caught.value)


def test_an_input_that_stands_twice_in_the_data_set_binds_nothing(make_context: Make) -> None:
    dataset = [{"id": "a", "input": "same"}, {"id": "b", "input": "same"}, {"id": "c", "input": "other"}]
    context = make_context(_jsonl({"input": "same", "output": "?"}, {"input": "other", "output": "C"}))

    _run(context, dataset=dataset)

    assert [(1, "ambiguous_input")] == _rejects(context)
    assert [("c", "C")] == _bound(context)


@pytest.mark.parametrize(
    ("on_duplicate", "kept", "rejected"),
    [("error", ["B"], [1, 3]), ("first", ["A1", "B"], [3]), ("last", ["B", "A2"], [1])],
)
def test_two_outputs_for_one_row(
    make_context: Make, on_duplicate: str, kept: list[str], rejected: list[int]
) -> None:
    context = make_context(
        _jsonl({"id": "a", "output": "A1"}, {"id": "b", "output": "B"}, {"id": "a", "output": "A2"})
    )

    _run(context, dataset=DATASET, on_duplicate=on_duplicate, max_reject_ratio=0.9)

    assert kept == [output for _, output in _bound(context)]
    assert [(line, "duplicate_datapoint") for line in rejected] == _rejects(context)
    covered = {name for name, _ in _bound(context)}
    assert [p["id"] for p in DATASET if p["id"] not in covered] == [
        line["datapoint_id"] for line in _lines(context, "missing.jsonl")
    ]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"nope", "not_json"),
    "NaN": (b'{"id": "x", "output": NaN}', "not_finite"),
    "Infinity": (b'{"id": "x", "output": -Infinity}', "not_finite"),
    "1e999": (b'{"id": "x", "output": 1e999}', "number_too_large"),
    "a huge integer": (b'{"id": "x", "output": ' + b"9" * 5000 + b"}", "number_too_large"),
    "a key twice": (b'{"id": "x", "output": 1, "output": 2}', "duplicate_key"),
    "deep": (b'{"id": "x", "output": ' + b"[" * 100 + b"]" * 100 + b"}", "too_deep"),
    "very deep": (b'{"id": "x", "output": ' + b"[" * 100_000, "too_deep"),
    "half a surrogate pair": (b'{"id": "x", "output": "\\ud800"}', "lone_surrogate"),
    "another encoding": (b'{"id": "x", "output": "\xff"}', "bad_encoding"),
    "a NUL": (b'{"id": "x", "output": "\x00"}', "nul_byte"),
    "a huge line": (b'{"id": "x", "output": "' + b"a" * (4 << 20) + b'"}', "too_large"),
    "a huge output": (b'{"id": "x", "output": "' + b"a" * (1 << 20) + b'"}', "too_large"),
    "a list": (b'["x"]', "not_object"),
    "no output": (b'{"id": "x"}', "missing_output"),
    "an id of another type": (b'{"id": [], "output": ""}', "bad_id"),
    "a datapoint_id that is no line": (b'{"datapoint_id": "a\\nb", "output": ""}', "bad_id"),
    "an order below zero": (b'{"id": "x", "order": -1, "output": ""}', "bad_order"),
    "an order that is true": (b'{"id": "x", "order": true, "output": ""}', "bad_order"),
    "a long persona": (json.dumps({"id": "x", "persona": "p" * 129, "output": ""}).encode(), "schema_mismatch"),
    "an unknown id": (b'{"id": "x", "output": ""}', "unknown_datapoint"),
}


@pytest.mark.parametrize(("line", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_line_is_rejected_by_its_number_and_harms_no_other(
    make_context: Make, line: bytes, code: str
) -> None:
    context = make_context("{}\n%s\n{}\n".replace("{}", '{"id": "é", "output": "ok"}').encode() % line)
    dataset = [{"id": "é", "input": "a"}, *DATASET]

    _run(context, dataset=dataset, on_duplicate="first", max_reject_ratio=0.9)

    assert [(2, code), (3, "duplicate_datapoint")] == _rejects(context)
    assert [("é", "ok")] == _bound(context)


def test_a_reject_shows_what_stood_there_cut_short(make_context: Make) -> None:
    bad = b'{"output": ' + b"x" * 5000
    context = make_context(_jsonl({"id": "a", "output": 1}) + bad)

    _run(context)

    (line,) = _lines(context, "rejected.jsonl")
    assert hashlib.sha256(bad).hexdigest() == line["raw_sha256"]
    assert bad[:2048].decode() == line["raw"]


def test_null_is_an_output_and_an_error_needs_none(make_context: Make) -> None:
    context = make_context(
        _jsonl({"id": "a", "output": None}, {"id": "b", "error": "timeout"}, {"id": "c", "output": "-"})
    )

    result = _run(context, dataset=DATASET)

    assert [(True, None), (False, "timeout"), (True, None)] == [(r["success"], r["error"]) for r in _lines(context)]
    assert (3, 0.0) == (result.outcome["rows_accepted"], result.outcome["coverage_rate"])
    assert [
        "2 outputs are empty: they are left out of means, not counted as zero",
        "1 outputs are marked as failed",
    ] == result.outcome["warnings"]


def test_too_many_rejects_fail_the_job_without_a_word_of_the_file(make_context: Make) -> None:
    context = make_context(_jsonl({"id": "a", "output": 1}, "secret", {"id": "b", "token": "secret"}))

    with pytest.raises(ExecutionFailed) as caught:
        _run(context)

    assert "too_many_rejects" == caught.value.reason
    assert (
        "2 of 3 rows rejected: 1 x missing_output, 1 x not_object; the first at line 2: not a JSON object"
    ) == str(caught.value)


def test_accepted_and_rejected_are_all_rows(make_context: Make) -> None:
    lines = [b'{"id": "%d", "output": "x"}' % n for n in range(40)] + [line for line, _ in HOSTILE.values()]
    context = make_context(b"\n".join(lines))

    result = _run(context, max_reject_ratio=1.0)

    counts = result.outcome["counts"]
    assert len(lines) == counts["total"] == counts["ok"] + counts["failed"]
    assert [counts["ok"], counts["failed"]] == [len(_lines(context)), len(_lines(context, "rejected.jsonl"))]


def test_the_output_of_inference_is_taken_in_as_it_is(make_context: Make) -> None:
    rows = [
        {"id": "row_1", "custom_id": "a", "error": None, "x_overmind": {"latency_ms": 3.0},
         "response": {"status_code": 200, "body": {"choices": [{"message": {"content": "eins"}}]}}},
        {"id": "row_2", "custom_id": "b", "response": None, "error": {"code": "timeout", "message": "too late"}},
    ]  # fmt: skip
    context = make_context(_jsonl(*rows))

    _run(context, dataset=DATASET)

    first, second = _lines(context)
    assert ("a", "eins", True, 3.0) == tuple(
        first[key] for key in ("datapoint_id", "output", "success", "latency_ms")
    )
    assert ("b", None, False, "too late") == tuple(
        second[key] for key in ("datapoint_id", "output", "success", "error")
    )


def test_what_comes_out_can_be_scored(make_context: Make) -> None:
    context = make_context(_jsonl({"id": "b", "output": "zwei"}, {"id": "a", "error": "boom"}))
    _run(context, dataset=DATASET)

    rows = RowSource(None, row_file(context.output / "outputs.jsonl")).rows()

    items = [item_of(row) for row in rows if isinstance(row, Row)]
    assert [("b", "two", "zwei", "2", ""), ("a", "one", None, "1", "boom")] == [
        (item.id, item.input, item.output, item.expected, item.failure) for item in items
    ]


def test_a_data_set_of_the_control_plane_is_the_input_file(make_context: Make, tmp_path: Path) -> None:
    context = make_context(_jsonl(*DATASET))

    result = _run(context, dataset_id="ds-1", items=[{"id": "c", "output": "C"}])

    assert [("c", "C")] == _bound(context)
    assert "ds-1" == result.outcome["dataset_id"]


def test_outputs_and_data_set_may_both_lie_on_the_host(make_context: Make, tmp_path: Path) -> None:
    (tmp_path / "outputs.csv").write_text("question_id;model_answer\na;A\nc;C\n")
    (tmp_path / "rows.csv").write_text("id,question\na,one\nb,two\nc,three\n")
    context = make_context(data_roots=(tmp_path,))

    result = _run(context, path="outputs.csv", dataset_path="rows.csv")

    assert [("a", "A"), ("c", "C")] == _bound(context)
    assert [("id", "question_id", 0.9), ("output", "model_answer", 0.9)] == [
        (guess["field"], guess["column"], guess["confidence"]) for guess in result.outcome["source"]["columns"]
    ]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two places": ({"items": [{}], "path": "x"}, "outputs from one place, not from items and path"),
    "two data sets": ({"dataset": [{}], "dataset_path": "x"}, "a data set from one place"),
    "a key without its name": ({"bind": "key", "dataset": [{}]}, "go together"),
    "a binding without rows": ({"bind": "id"}, "bind 'id' needs a data set"),
    "a data set in the place of the outputs": ({"dataset_id": "d"}, "give the outputs as items or at path"),
    "an unknown word": ({"on_dupe": "first"}, "did you mean 'on_duplicate'?"),
}


@pytest.mark.parametrize(("parameters", "message"), WRONG.values(), ids=WRONG.keys())
def test_parameters_that_contradict_each_other_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        UploadedOutputsExecutor().validate(parameters)

    assert message in str(caught.value)


def test_an_unsure_column_is_asked_for(make_context: Make) -> None:
    context = make_context(b"key,text,answer\na,b,c\n")

    with pytest.raises(InvalidParameters) as caught:
        _run(context)

    assert (
        "mapping.output: which column is the output? say so; "
        "the columns are 'key', 'text', 'answer' [unsure_column]"
    ) == str(caught.value)


def _plant(count: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {"id": str(n), "input": f"q{n % 50}", "output": "да" if n % 4 == 0 else f"answer {n}" * (1 + n % 3),
               "expected_output": "x" if n % 50 else str(n % 100)}  # fmt: skip


def test_the_data_card_counts_what_was_planted(make_context: Make) -> None:
    context = make_context(_jsonl(*_plant(200), {"id": "bad"}))

    _run(context)

    card = json.loads((context.output / "data_card.json").read_text())
    assert {"total": 201, "accepted": 200, "rejected": 1, "rejected_by_code": {"missing_output": 1}} == card["rows"]
    assert {
        "distinct_outputs": 151,
        "most_frequent_output": 50,
        "repeated_inputs": 50,
        "inputs_with_two_expected_outputs": 1,
        "outputs_with_two_labels": 0,
    } == card["duplicates"]
    assert {"latin": 150, "cyrillic": 50} == card["scripts"]
    assert {"unknown": 200} == card["languages"]
    assert (2, 200) == (card["length"]["min"], sum(part["outputs"] for part in card["length_histogram"]))
    assert [200, 100, 40] == [row["rows"] for row in card["smallest_gain"]]


def test_planted_conflicts_and_leaks_are_all_found(make_context: Make) -> None:
    """300 of each kind among 300 rows that have none."""
    plain = [{"input": f"alpha {n}", "output": f"beta {n}", "expected_output": "x"} for n in range(300)]
    wanted = [
        {"input": f"wanted {n}", "output": f"o {n}-{m}", "expected_output": f"{m}"}
        for n in range(300)
        for m in (0, 1)
    ]
    judged = [
        {"input": f"judged {n}", "output": f"said {n}", "labels": {"human": word}}
        for n in range(300)
        for word in ("pass", "fail")
    ]
    leaking = [
        {"input": f"leaking {n}", "output": f"l {n} {split}", "split": split} for n in range(300) for split in "ab"
    ]

    outcome = _run(make_context(_jsonl(*plain, *wanted, *judged, *leaking))).outcome

    found = outcome["duplicates"]
    assert (300, 300) == (found["inputs_with_two_expected_outputs"], found["outputs_with_two_labels"])
    assert {"rows": {"a": 300, "b": 300}, "shared_inputs": 300, "rows_of_shared_inputs": 600} == outcome["splits"]
    assert "300 outputs for one input have more than one label" in outcome["warnings"]


def test_a_column_that_says_one_thing_is_named_and_not_its_value(make_context: Make) -> None:
    rows = [
        {"input": {"q": n, "lang": "de"}, "output": "o" * n, "model": "secret-1", "metadata": {"team": "a", "n": n}}
        for n in range(1, 9)
    ]
    rows[3]["tags"] = ["once"]

    result = _run(make_context(_jsonl(*rows)))

    assert ["input.lang", "metadata.team", "model"] == result.outcome["constant_columns"]
    assert not [text for text in result.outcome["warnings"] if "secret-1" in text]
    assert [] == _run(make_context(_jsonl(rows[0]))).outcome["constant_columns"], "one row tells nothing"


LANGUAGES = {
    "en": "The cat is on the mat, and it was there for the whole of the day.",
    "de": "Die Katze liegt auf der Matte, und sie ist auch den ganzen Tag nicht weg.",
    "fr": "Le chat est sur le tapis, et il ne part pas avec nous dans la rue.",
    "es": "El gato está en la alfombra y no se va con los otros del barrio.",
    "it": "Il gatto è sul tappeto e non si muove, come gli altri della casa.",
    "pt": "O gato está no tapete e não se mexe, como os outros da casa.",
    "nl": "De kat ligt op het kleed en is er niet van weg te slaan, maar wij ook niet.",
    "pl": "Kot jest na dywanie i nie chce się ruszyć, jak to często jest z kotem.",
    "sv": "Katten ligger på mattan och det är inte ett problem för oss som har den.",
    "unknown": "42 OK",
}


@pytest.mark.parametrize(("language", "text"), LANGUAGES.items(), ids=LANGUAGES.keys())
def test_a_language_is_known_by_its_little_words(language: str, text: str) -> None:
    assert language == language_of(text)


@pytest.mark.parametrize("name", ["output", "response"])
def test_outputs_with_their_inputs_may_stand_in_the_parameters(make_context: Make, name: str) -> None:
    result = _run(make_context(), items=[{"input": f"q{n}", name: f"a{n}", "label": "x"} for n in range(3)])

    assert (3, 0) == (result.outcome["rows_accepted"], result.outcome["rows_rejected"])


def test_rows_that_are_nearly_one_are_flagged(make_context: Make) -> None:
    text = " ".join(f"word{n}" for n in range(60))
    context = make_context(
        _jsonl(
            {"input": "a", "output": text},
            {"input": "b c d", "output": "quite another one"},
            {"input": "B  c d!", "output": f"{text} and more"},
            {"input": "a", "output": "quite another one"},
        )
    )

    result = _run(context)

    assert {"outputs": 1, "inputs": 2, "compared": {"outputs": 3, "inputs": 3}} == result.outcome["near_duplicates"]
    assert [
        {"order": 2, "line": 3, "near_output_of_line": 1, "like_input_of_line": 2},
        {"order": 3, "line": 4, "like_input_of_line": 1},
    ] == _lines(context, "flags.jsonl")


def test_personal_data_is_counted_by_kind_and_never_quoted(make_context: Make) -> None:
    secret = "jane.roe@example.com"
    context = make_context(
        _jsonl(
            {"input": f"mail {secret}", "output": "from 8.8.8.8"},
            {"input": "x", "output": {"to": secret}},
            {"input": "y", "output": "no", "expected_output": "4111 1111 1111 1111"},
            {"input": "z", "output": "no"},
        )
    )

    result = _run(context)

    assert {"rows": 3, "kinds": {"email": 2, "card": 1, "ip_address": 1}} == result.outcome["personal"]
    assert [["email", "ip_address"], ["email"], ["card"]] == [
        line["personal"] for line in _lines(context, "flags.jsonl")
    ]
    told = [(context.output / name).read_text() for name in result.files if name != "outputs.jsonl"]
    assert not [
        text
        for text in [*told, json.dumps(result.outcome)]
        if any(one in text for one in (secret, "4111", "8.8.8.8"))
    ]


def test_an_input_that_stands_in_two_splits_is_a_leak(make_context: Make) -> None:
    rows = [{"input": f"question {n}", "output": "o", "split": "train" if n % 2 else "test"} for n in range(20)]
    context = make_context(
        _jsonl(*rows, {"input": "Question 4.", "output": "o", "split": "train"}, {"output": "o"})
    )

    result = _run(context)

    expected = {"rows": {"test": 10, "train": 11}, "shared_inputs": 1, "rows_of_shared_inputs": 2}
    assert (expected, None) == (result.outcome["splits"], result.outcome["suggested_split"])
    assert [5, 21] == [
        x["line"] for x in _lines(context, "flags.jsonl") if ["test", "train"] == x.get("input_in_splits")
    ]
    assert [] == _lines(context, "split.jsonl")


def test_rows_without_splits_get_one_that_keeps_like_inputs_together(make_context: Make) -> None:
    rows = [{"input": f"question {n // 2}" + "?" * (n % 2), "output": "o"} for n in range(800)]
    context = make_context(_jsonl(*rows))

    result = _run(context)

    places = {line["order"]: line["split"] for line in _lines(context, "split.jsonl")}
    assert [places[n] for n in range(0, 800, 2)] == [places[n] for n in range(1, 800, 2)]
    suggested = result.outcome["suggested_split"]
    assert 400 == suggested.pop("groups_of_like_inputs")
    assert suggested == {part: list(places.values()).count(part) for part in ("train", "validation", "held_out")}
    assert 0.4 < suggested["held_out"] / 800 < 0.6


@pytest.mark.parametrize("rows", [30, 100, 1000])
@pytest.mark.parametrize("spread", [0.1, 0.7071])
def test_the_smallest_gain_is_that_of_the_exact_test_within_five_percent(rows: int, spread: float) -> None:
    exact = exact_gain(rows, spread)

    assert exact == pytest.approx(smallest_gain(rows, spread), rel=0.05)


def _sealed(context: Context, **parameters: Any) -> Path:
    result = _run(context, **parameters)
    result_files.seal(context.output, result.files, {"job_type": "uploaded_outputs_setup"})
    return context.output


def test_every_figure_is_made_again_from_the_rows(make_context: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _sealed(make_context(_jsonl(*_plant(100), {"id": "bad"})))

    assert 0 == recount.main([str(folder)])
    *_, last = capsys.readouterr().out.splitlines()
    assert "22 of 22 figures are those of the lines" == last


CHANGES: dict[str, tuple[str, str, str, list[str]]] = {
    "an output": ("outputs.jsonl", '"да"', '"net"', ["scripts", "length", "report.md", "report.html"]),
    "a figure": ("data_card.json", '"accepted":100', '"accepted":101', ["rows"]),
    "the report": ("report.md", "| accepted | 100 |", "| accepted | 101 |", ["report.md"]),
    "a reject": ("rejected.jsonl", "missing_output", "not_json", ["rows", "report.md", "report.html"]),
}


@pytest.mark.parametrize(("name", "old", "new", "wrong"), CHANGES.values(), ids=CHANGES.keys())
def test_a_figure_that_the_rows_do_not_bear_out_is_named(
    make_context: Make, name: str, old: str, new: str, wrong: list[str]
) -> None:
    folder = _sealed(make_context(_jsonl(*_plant(100), {"id": "bad"})))
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))

    said, again = recount.recount(folder)

    assert set(wrong) <= {figure for figure in again if said[figure] != again[figure]}


def test_a_folder_that_is_no_result_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = recount.main([str(tmp_path)]), capsys.readouterr().err
    (tmp_path / "partial-output.jsonl").touch()
    left = recount.main([str(tmp_path)]), capsys.readouterr().err

    assert (64, 64) == (nothing[0], left[0])
    assert "is not a whole result: it has no manifest.json\n" in nothing[1]
    assert "it has no manifest.json; what a job left that failed or was canceled is none" in left[1]


def test_the_same_upload_makes_the_same_bytes(make_context: Make) -> None:
    """Also what resuming is: a job that was killed begins again, and nothing was paid for."""
    content = _jsonl(*_plant(60))
    first = {p.name: p.read_bytes() for p in _sealed(make_context(content), dataset=DATASET, bind="none").iterdir()}

    again = {p.name: p.read_bytes() for p in _sealed(make_context(content), dataset=DATASET, bind="none").iterdir()}

    assert first == again
    assert {"outputs.jsonl", "rejected.jsonl", "missing.jsonl", "data_card.json", "flags.jsonl", "split.jsonl",
            "report.md", "report.html", "manifest.json"} == set(first)  # fmt: skip


@pytest.mark.parametrize("step", ["binding", "rows"])
def test_a_wish_to_stop_is_seen_at_the_next_row(make_context: Make, step: str) -> None:
    stop, reported = StopFlag(), []

    def report(done: int, _total: int, name: str) -> None:
        reported.append(done)
        if name == step:
            stop.set()

    rows = [{"id": str(n), "output": "x"} for n in range(100)]
    context = make_context(_jsonl(*rows), report=report, stop=stop)

    with pytest.raises(WorkStopped):
        _run(context, dataset=[{"id": str(n), "input": "x"} for n in range(100)])

    assert {"binding": 1, "rows": 101}[step] == len(reported)


def test_what_a_row_says_cannot_get_out_of_the_report(make_context: Make) -> None:
    evil = "<script>alert(1)</script>"
    context = make_context(_jsonl({"id": evil, "output": evil, "tags": [evil]}))

    _run(context)

    assert evil not in (context.output / "report.html").read_text()
