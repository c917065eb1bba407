"""What a job of type `uploaded_outputs_setup` may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from overmind_executors.rows.source import Columns, Format, RowPlace

Binding = Literal["auto", "id", "order", "input_hash", "key", "none"]
OnDuplicate = Literal["error", "first", "last"]


class UploadedOutputsParameters(RowPlace):
    """
    One job.

    Attributes:
        dataset: the rows that were to be answered; else they are at `dataset_path` in one of the host's data roots,
            or the job's input file where `dataset_id` names a data set: then the outputs are `items`, or at `path`.
        dataset_format, dataset_mapping: as `format` and `mapping`, for the data set.
        bind: how an output finds its row. `auto`: by `id` if every output has one, else by `order` if there are as
            many as rows, else by `input_hash`. `key`: by the field `bind_key`, which both sides have.
        on_duplicate: of several outputs for one row: `error` rejects them all, `first` and `last` keep one.
        max_rows: a file of more is refused.
        max_reject_ratio: more than this share of rejected rows fails the job.
    """

    dataset: Annotated[list[Any], Field(min_length=1)] | None = None
    dataset_path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    dataset_format: Format = "auto"
    dataset_mapping: Columns = Columns()
    bind: Binding = "auto"
    bind_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    on_duplicate: OnDuplicate = "error"
    max_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    max_reject_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _one_place(self) -> UploadedOutputsParameters:
        # Not as with other job types: the data set may be the input file, so outputs may stand beside `dataset_id`.
        outputs = [name for name in ("items", "items_file", "path") if getattr(self, name) is not None]
        if len(outputs) > 1:
            raise ValueError(f"outputs from one place, not from {' and '.join(outputs)}")
        rows = [name for name in ("dataset", "dataset_path", "dataset_id") if getattr(self, name) is not None]
        if len(rows) > 1:
            raise ValueError(f"a data set from one place, not from {' and '.join(rows)}")
        return self

    @model_validator(mode="after")
    def _holds_together(self) -> UploadedOutputsParameters:
        if self.dataset_id is not None and (self.items_file is not None or not (self.items or self.path)):
            raise ValueError("with dataset_id the input file is the data set; give the outputs as items or at path")
        if (self.bind == "key") != (self.bind_key is not None):
            raise ValueError("bind 'key' and bind_key go together")
        if self.bind not in ("auto", "none") and not self.has_dataset:
            raise ValueError(f"bind {self.bind!r} needs a data set: dataset, dataset_path or dataset_id")
        return self

    @property
    def has_dataset(self) -> bool:
        """Whether there are rows to bind to."""
        return any(given is not None for given in (self.dataset, self.dataset_path, self.dataset_id))
