"""What must be so for the chat models of this host to answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from overmind_agent.command_line.findings import Check, Failed
from overmind_agent.errors import AuthError, OvermindAgentError, RejectedError
from overmind_agent.over_http.calls import HttpCalls
from overmind_agent.over_http.planes import network_of_model
from overmind_agent.over_http.refusals import Verb
from overmind_config.settings import Settings
from overmind_executors import strict_json

LOOK: Final = Verb("check", 5)


class ModelChecks:
    """Of the models of *settings*."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def checks(self) -> Iterator[tuple[str, Check]]:
        """Each by its code."""
        if not self._settings.models:
            yield "models", self._no_models
        for name in self._settings.models:
            yield f"model.{name}", partial(self._model, name)

    def _no_models(self) -> str:
        raise Failed("none", "jobs that ask a chat model will fail; name one in [models.<name>]", grade="warning")

    def _model(self, name: str) -> str:
        model = self._settings.models[name]
        key = model.api_key.get_secret_value() if model.api_key else ""
        calls = HttpCalls(model.base_url, lambda: key, network=network_of_model(self._settings, name))
        try:
            offered = _model_ids(calls.call(LOOK, "GET", "/models").body)
        except AuthError as error:
            raise Failed(f"the key is not accepted ({error})", f"look at models.{name}.api_key_file") from error
        except RejectedError:
            return f"{model.base_url} answers, but does not list its models"
        except OvermindAgentError as error:
            raise Failed(
                f"{model.base_url}: {error}", f"is its server running, and is models.{name}.base_url right?"
            ) from error
        finally:
            calls.close()
        if offered and model.model not in offered:
            raise Failed(
                f"{model.base_url} has no model {model.model!r}; it has {', '.join(sorted(offered)[:5])}",
                f"correct models.{name}.model",
                grade="warning",
            )
        return f"{model.base_url} answers"


def _model_ids(body: bytes) -> frozenset[str]:
    """The ids of an OpenAI-compatible list of models; empty for a list in another form."""
    try:
        return frozenset(str(line["id"]) for line in strict_json.loads(body)["data"])
    except (strict_json.NotJson, KeyError, TypeError):
        return frozenset()
