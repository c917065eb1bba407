"""What every deterministic evaluator shares: a name, a gate, a threshold, what it does where nothing is there."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from overmind_executors.parameters import Parameters
from overmind_executors.scoring.items import Item
from overmind_executors.scoring.scores import Score, abstained, failed, skipped
from overmind_executors.scoring.texts import NoJson, find_json

INSTALL_SCORING: Final = "install overmind-agent[scoring] on this host"


class NotInstalled(Exception):
    """An evaluator needs a package that this host does not have. The message names it and what to do."""


class NoField(Exception):
    """The output has no such field; the message is a code."""


class Evaluator(Parameters):
    """
    One check on one output. Its parameters are its fields; it keeps nothing between items.

    Attributes:
        name: under which its scores are shown; None for its kind.
        gate: an item that fails it is not shown to a judge, and the judge's value for it is 0.
        pass_threshold: an item passes at that value; None for 1 with a check that says yes or no, and for no
            statement about passing with one that has degrees.
    """

    needs_output: ClassVar[bool] = True
    is_graded: ClassVar[bool] = False

    kind: str
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.:/ -]+$")] | None = None
    gate: bool = False
    pass_threshold: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def title(self) -> str:
        """Under which its scores are shown."""
        return self.name or self.kind

    @property
    def passes_at(self) -> float | None:
        """The value from which on an item passes; None where nobody has said."""
        if self.pass_threshold is not None or (self.is_graded and not self.gate):
            return self.pass_threshold
        return 1.0

    def evaluate(self, item: Item) -> Score:
        """What it says of *item*. An output that is not there is not a bad output."""
        if self.needs_output and item.absence:
            return skipped(item.absence, item.failure)
        try:
            return self.score(item)
        except NoField as missing:
            return abstained(str(missing))
        except RecursionError:
            return failed("too_deep")

    @abstractmethod
    def score(self, item: Item) -> Score:
        """The same, for an item that has what is needed."""

    def prepare(self) -> None:
        """
        Load what is needed, before the first item.

        Raises:
            NotInstalled: a package is missing.
            ValueError: what it was told cannot be used, such as a pattern that is none.
        """


def field_of(item: Item, name: str | None) -> Any:
    """
    The output itself, or its field *name*: of an object, or of the JSON in a text.

    Raises:
        NoField: there is none.
    """
    if name is None:
        return item.output
    found = object_of(item.output)
    if name not in found:
        raise NoField("no_such_field")
    return found[name]


def expected_of(item: Item, name: str | None) -> Any:
    """
    What is expected, or its field *name*.

    Raises:
        NoField: nothing is expected.
    """
    if item.expected is None:
        raise NoField("no_reference")
    if name is None or not isinstance(item.expected, dict):
        return item.expected
    if name not in item.expected:
        raise NoField("no_reference")
    return item.expected[name]


def object_of(output: Any) -> dict[str, Any]:
    """
    *output* as an object; of a text the first object in it.

    Raises:
        NoField: it holds none.
    """
    if isinstance(output, dict):
        return output
    if not isinstance(output, str):
        raise NoField("not_an_object")
    try:
        found: dict[str, Any] = find_json(output, dict)
    except NoJson:
        raise NoField("no_json") from None
    return found
