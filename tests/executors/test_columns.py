"""Which column of a stranger's table means what: forty tables, none of them understood wrongly in silence."""

from __future__ import annotations

from typing import get_args

import pytest

from overmind_executors.contract import InvalidParameters
from overmind_executors.rows.columns import FIELDS, ColumnMap, Field, Guess, map_columns, refuse_without

# The columns of a table; what each field is, in the order id, input, output, expected_output; "?" for: ask.
LAYOUTS: list[tuple[str, str]] = [
    ("id input output expected_output", "id input output expected_output"),
    ("id,prompt,response", "id prompt response -"),
    ("prompt,completion", "- prompt completion -"),
    ("question,prediction,ground_truth", "- question prediction ground_truth"),
    ("Question,Model Answer,Expected Answer", "- Question,Model_Answer,Expected_Answer"),
    ("example_id,query,generated_text,reference", "example_id query generated_text reference"),
    ("uuid,user_message,assistant_response", "uuid user_message assistant_response -"),
    ("datapoint_id,output", "datapoint_id - output -"),
    ("case_id,input,actual_output,expected_output", "case_id input actual_output expected_output"),
    ("instruction,output", "- instruction output -"),
    ("inputs,outputs,reference_outputs", "- inputs outputs -"),
    ("input,actual,expected", "- input actual expected"),
    ("PROMPT,RESPONSE,LABEL", "- PROMPT RESPONSE LABEL"),
    ("prompt,llm_output,gold", "- prompt llm_output gold"),
    ("custom_id,messages,response", "custom_id messages response -"),
    ("item_id,request,reply", "item_id request reply -"),
    ("input,hypothesis,reference", "- input hypothesis reference"),
    ("question,predicted,target", "- question predicted target"),
    ("record_id;user_query;llm_response;ideal_answer", "record_id user_query llm_response ideal_answer"),
    ("id,question,candidate,correct_answer", "id question candidate correct_answer"),
    ("row_id,user_input,generation,golden", "row_id user_input generation golden"),
    ("sample_id,prompt,model_output,label,score", "sample_id prompt model_output label"),
    ("uid,query,model_response,latency_ms", "uid query model_response -"),
    ("test_case_id,prompt,generated,expected_result", "test_case_id prompt generated expected_result"),
    ("model,prompt,response,tokens", "- prompt response -"),
    ("id,input,output,output_tokens,input_tokens", "id input output -"),
    ("prompt_id,prompt,response,timestamp", "prompt_id prompt response -"),
    ("question_id,question,output,answer", "question_id question output ?"),
    ("question,answer", "- question ? ?"),
    ("text,label", "- ? ? label"),
    ("text,summary", "- ? ? ?"),
    ("content,result", "- ? ? -"),
    ("key,value", "? - ? -"),
    ("response,completion,prompt", "- prompt ? -"),
    ("prompt,response_a,response_b", "- prompt ? -"),
    ("query,question,output", "- ? output -"),
    ("foo,bar", "- - ? -"),
    ("input,body,result", "- input ? -"),
    ("id,uuid,output", "id - output -"),
    ("document,summary,reference", "- ? ? reference"),
]


def _split(text: str) -> list[str]:
    mark = next((mark for mark in ",;" if mark in text), None)
    return text.split(mark)


@pytest.mark.parametrize(("columns", "meant"), LAYOUTS, ids=[columns for columns, _ in LAYOUTS])
def test_a_layout_is_understood_or_asked_about(columns: str, meant: str) -> None:
    names = _split(columns)
    wanted = [
        word.replace("_", " ") if word.replace("_", " ") in names else word
        for word in meant.replace(",", " ").split()
    ]

    mapped = map_columns(names, {})

    sure = {guess.field: guess.column for guess in mapped.guesses if guess.is_sure}
    expected = {field: column for field, column in zip(FIELDS, wanted, strict=False) if column not in "-?"}
    assert expected == {field: column for field, column in sure.items() if field != "order"}


def test_there_are_forty_layouts() -> None:
    assert 40 == len(LAYOUTS)


def test_what_the_job_says_wins() -> None:
    mapped = map_columns(["output", "text", "x"], {"output": "text", "input": "x"})

    assert {"output": "text and more", "text": "text and more", "x": 1, "input": 1} == mapped.renamed(
        {"output": "old", "text": "text and more", "x": 1}
    )


def test_a_column_that_no_row_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidParameters) as caught:
        map_columns(["prompt", "answer"], {"input": "promt"})

    assert "mapping.input: no row has a column 'promt'; did you mean 'prompt'? [no_such_column]" == str(
        caught.value
    )


def test_a_column_means_one_thing() -> None:
    mapped = map_columns(["answer"], {})

    assert (
        Guess("output", "answer", 0.3, "several_names"),
        Guess("expected_output", "answer", 0.3, "several_names"),
    ) == mapped.guesses


def test_a_field_that_is_needed_is_asked_for() -> None:
    mapped = map_columns(["prompt", "result"], {})

    with pytest.raises(InvalidParameters) as caught:
        refuse_without("output", mapped, ["prompt", "result"])

    assert (
        "mapping.output: which column is the output? it may be 'result'; say so; "
        "the columns are 'prompt', 'result' [unsure_column]"
    ) == str(caught.value)


def test_what_is_not_sure_is_not_used() -> None:
    mapped = map_columns(["prompt", "result"], {})

    assert {"prompt": "p", "result": "r", "input": "p"} == mapped.renamed({"prompt": "p", "result": "r"})
    assert [Guess("output", "result", 0.5, "vague_name")] == list(mapped.unsure)


def test_an_entry_that_is_no_object_stays_what_it_is() -> None:
    assert ["a"] == ColumnMap((Guess("input", "x", 1.0, "told"),)).renamed(["a"])


def test_the_fields_are_all_there() -> None:
    assert get_args(Field) == FIELDS
