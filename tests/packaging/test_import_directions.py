"""Who may know whom: the walls of the house, read off the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCE_ROOTS: Final = ("agent", "executors", "config", "controlplane")
OURS: Final = ("overmind_agent", "overmind_executors", "overmind_config", "overmind_controlplane")


def _modules() -> dict[str, Path]:
    """Every module of ours, by its dotted name."""
    found = {}
    for root in SOURCE_ROOTS:
        for path in sorted((ROOT / root).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES: Final = _modules()


def _imports(module: str) -> Iterator[str]:
    """The modules that *module* names, wherever in it: ours by their full name, others by their first part."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (_short(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{module} has a relative import; write the full name"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield _short(full if full in MODULES else str(node.module))


def _short(name: str) -> str:
    return name if name.startswith(OURS) else name.partition(".")[0]


def _of(package: str) -> list[str]:
    return [module for module in MODULES if module == package or module.startswith(f"{package}.")]


def _names(*names: str, package: str = "overmind_agent") -> frozenset[str]:
    return frozenset(f"{package}.{name}" for name in names)


PACKAGE: Final = frozenset({"overmind_agent"})  # the version stands there
VALUES: Final = _names("ports", "jobs", "lifecycle", "errors")
JSON: Final = frozenset({"overmind_executors.strict_json"})
FAULTS: Final = frozenset({"overmind_executors.process.host_faults"})
TRACE: Final = frozenset({"overmind_executors.trace_context"})
CONTRACT: Final = frozenset({"overmind_executors.contract"})
LEVELS: Final = frozenset({"overmind_executors.sandbox.levels"})
OWN_ENVIRONMENT: Final = frozenset({"overmind_executors.process.own_environment"})
SETTINGS: Final = frozenset(_of("overmind_config"))
STOPPING: Final = frozenset({"overmind_executors.stopping"})
TESTING: Final = VALUES | JSON | CONTRACT | STOPPING | frozenset(_of("overmind_agent.testing"))
REDACTION: Final = frozenset({"overmind_config.redaction"})
ARMED: Final = _names("testing.armed.sitecustomize")
WIRE: Final = _names("jobs", "lifecycle", "errors") | JSON | frozenset(_of("overmind_agent.wire"))
HTTP: Final = _names("over_http.calls", "over_http.refusals")
BETWEEN_THREADS: Final = _names("host.admission", "held_jobs", "backoff", "host.capacity")

# What each module of the daemon may import of ours. A new module needs a line here: where does it stand?
ROOMS: Final = (
    "journal",
    "lab",
    "over_http",
    "children",
    "logs",
    "host",
    "files",
    "configuration",
    "command_line",
    "signing",
)
MAY_IMPORT: Final[dict[str, frozenset[str]]] = {
    "": frozenset(),
    **dict.fromkeys(ROOMS, frozenset()),
    # plain values
    "errors": _names("jobs"),
    "lifecycle": _names("errors"),
    "jobs": _names("lifecycle"),
    "ports": VALUES,
    **dict.fromkeys((name.removeprefix("overmind_agent.") for name in _of("overmind_agent.wire")), WIRE),
    "backoff": _names("errors"),
    "held_jobs": VALUES | JSON,
    "loops": VALUES,
    "over_http.network": frozenset(),
    "over_http.certificate": _names("over_http.network"),
    "host.capacity": VALUES | _names("host.turns"),
    "host.turns": VALUES,
    "contact": VALUES,
    "host.admission": frozenset(),
    "host.intake": VALUES,
    "host.time_limits": VALUES,
    "host.size_limits": VALUES,
    "signing.claims": VALUES,
    "signing.keys": frozenset(),
    "signing.jws": JSON | _names("signing.keys"),
    "signing.policy": VALUES | _names("signing.claims", "signing.jws", "signing.keys"),
    "files.together": VALUES,
    "files.partial": VALUES | _names("files.plain"),
    "host.wall_clock": VALUES,
    "host.token_expiry": frozenset(),
    "host.room": _names("host.disk", "journal.journal") | frozenset({"overmind_config.settings"}),
    "host.state_folder": VALUES,
    "host.last_life": VALUES,
    "host.deadly_jobs": VALUES | _names("host.last_life"),
    "children.memory_kills": frozenset(),
    # the rooms
    "worker": VALUES | BETWEEN_THREADS | _names("interrupted"),
    "interrupted": VALUES,
    "uploading": VALUES | _names("files.lanes", "files.together", "host.time_limits"),
    "job_run": VALUES
    | BETWEEN_THREADS
    | CONTRACT
    | FAULTS
    | REDACTION
    | _names(
        "files.lanes",
        "files.partial",
        "files.result",
        "host.size_limits",
        "host.time_limits",
        "signing.policy",
        "uploading",
    ),
    "logs.pieces": REDACTION,
    # the threads around them
    "slot": VALUES | BETWEEN_THREADS | _names("patience", "worker"),
    "patience": VALUES | BETWEEN_THREADS,
    "heartbeat": VALUES | BETWEEN_THREADS,
    "delivery": VALUES | BETWEEN_THREADS,
    "logs.shipping": VALUES | BETWEEN_THREADS | _names("logs.shipper", "logs.job_log"),
    "logs.shipper": VALUES | _names("logs.job_log"),
    "logs.job_log": REDACTION | _names("logs.pieces", "files.plain"),
    "supervisor": VALUES | BETWEEN_THREADS | _names("loops", "notify", "signals"),
    # what fills the ports
    "over_http.client": VALUES
    | HTTP
    | _names("wire", "over_http.answers", "over_http.downloads", "over_http.extensions", "over_http.given_files")
    | _names("over_http.plain", "over_http.presence", "over_http.uploads"),
    "over_http.extensions": VALUES | HTTP | _names("wire"),
    "over_http.answers": VALUES | HTTP | _names("wire"),
    "over_http.presence": VALUES | PACKAGE | HTTP | _names("wire", "over_http.answers", "over_http.extensions"),
    "over_http.plain": VALUES | HTTP | _names("wire", "over_http.looking"),
    "over_http.downloads": VALUES
    | JSON
    | HTTP
    | _names("wire", "over_http.blob_store", "over_http.given_files", "over_http.uploads"),
    "over_http.given_files": VALUES | _names("wire"),
    "over_http.uploads": VALUES | HTTP | _names("wire", "over_http.blob_store", "files.result"),
    "over_http.blob_store": VALUES | HTTP | _names("wire"),
    "lab.client": VALUES
    | HTTP
    | _names(
        "wire", "over_http.looking", "lab.wire", "lab.listing", "lab.result", "lab.datasets", "lab.host_results"
    ),
    "lab.datasets": VALUES | JSON | HTTP | _names("lab.listing"),
    "lab.listing": VALUES | HTTP | _names("wire", "lab.wire"),
    "lab.result": VALUES | JSON | _names("wire", "lab.wire"),
    "lab.wire": VALUES | JSON | _names("wire"),
    "over_http.looking": VALUES,
    "lab.host_results": VALUES | _names("files.result"),
    "files.result": VALUES | _names("files.plain"),
    "files.plain": frozenset(),
    "over_http.calls": VALUES
    | PACKAGE
    | TRACE
    | _names("over_http.network", "over_http.deadline", "over_http.pause", "over_http.refusals", "tracing"),
    "tracing": VALUES | TRACE,
    "over_http.pause": VALUES,
    "over_http.name_lookup": frozenset(),
    "files.lanes": VALUES,
    "over_http.refusals": VALUES | JSON,
    "over_http.alarms": frozenset(),
    "over_http.deadline": _names("over_http.alarms", "over_http.name_lookup"),
    "journal.journal": _names("lifecycle", "journal.claims", "journal.ledgers"),
    "journal.claims": VALUES | _names("journal.file", "journal.outbox"),
    "journal.outbox": VALUES | _names("journal.file"),
    "journal.ledgers": VALUES | _names("journal.file"),
    "journal.file": VALUES,
    "children.launcher": VALUES
    | FAULTS
    | frozenset({"overmind_executors.process.given", "overmind_executors.removal"})
    | _names(
        "children.processes",
        "children.order",
        "children.result",
        "children.watch",
        "logs.job_log",
        "children.memory_kills",
        "children.nursery",
        "files.plain",
    ),
    "children.hooks": VALUES
    | _names("children.processes", "children.order", "children.result", "files.plain", "logs", "logs.job_log"),
    "children.order": VALUES | CONTRACT | LEVELS | TRACE | _names("children.processes", "tracing"),
    "children.watch": VALUES | JSON | _names("children.processes"),
    "children.nursery": VALUES | OWN_ENVIRONMENT | _names("children.processes"),
    "children.result": VALUES | JSON | _names("files.plain"),
    "children.processes": VALUES,
    "files.workspace": VALUES | _names("files.plain") | frozenset({"overmind_executors.removal"}),
    "clock": VALUES,
    "host.disk": frozenset(),
    "host.control_group": frozenset(),
    "command_line.findings": frozenset(),
    # what a test is given; nothing of the daemon knows it
    **dict.fromkeys((name.removeprefix("overmind_agent.") for name in _of("overmind_agent.testing")), TESTING),
    "duties": VALUES,
    "notify": frozenset(),
    "signals": frozenset(),
    # what the person who runs the host asks
    "control": frozenset(),
    "control.view": frozenset(),
    "control.peers": frozenset(),
    "control.line": frozenset(),
    "control.client": _names("control.line"),
    "control.server": VALUES | _names("control.line", "control.peers"),
    "control.verbs": VALUES
    | BETWEEN_THREADS
    | _names("control.line", "control.server", "control.view", "host.intake", "logs.job_log"),
    "control.grammar": frozenset(),
    "control.plain_text": frozenset(),
    "control.journal_reader": frozenset(),
    "control.showing": _names("control.plain_text"),
    "control.commands": PACKAGE
    | _names("command_line.exit_codes", "control")
    | _names("control.client", "control.journal_reader", "control.line", "control.plain_text", "control.showing")
    | _names("control.config_commands", "control.log_command")
    | frozenset({"overmind_config.state_place", "overmind_config.toml_file"}),
    "control.log_command": PACKAGE
    | SETTINGS
    | _names("command_line.exit_codes", "clock", "logs.job_log")
    | _names("control.client", "control.commands", "control.line", "control.plain_text"),
    "control.config_commands": PACKAGE
    | SETTINGS
    | _names("command_line.exit_codes", "configuration.checked", "control", "control.commands", "control.showing")
    | frozenset({"overmind_executors.registry"}),
    "command_line.completion": frozenset(),
    "configuration.reload": frozenset(
        {"overmind_config.changes", "overmind_config.problems", "overmind_config.settings"}
    )
    | _names("control.line"),
    "configuration.keys": frozenset({"overmind_config.secret_files", "overmind_config.settings"})
    | _names("signing.keys"),
    "control.snapshot": VALUES
    | BETWEEN_THREADS
    | PACKAGE
    | _names("control.view", "contact", "journal.journal", "loops")
    | frozenset({"overmind_config.settings"}),
    # what can be seen from outside
    "telemetry": frozenset(),
    "telemetry.health": VALUES | PACKAGE | _names("contact", "loops"),
    "telemetry.health_file": _names("telemetry.health"),
    "telemetry.health_command": _names("command_line.exit_codes", "telemetry.health_file")
    | {"overmind_config.state_place"},
    "telemetry.from_children": _names("telemetry.labels", "telemetry.meters"),
    "telemetry.spans": TRACE | _names("tracing", "telemetry.labels", "telemetry.traces"),
    "telemetry.otlp": _names("telemetry.spans"),
    "telemetry.traces": VALUES | TRACE | _names("tracing"),
    "telemetry.watched_plane": VALUES | _names("tracing", "telemetry.traces"),
    "telemetry.catalogue": frozenset(),
    "telemetry.labels": frozenset(),
    "telemetry.listener": frozenset(),
    "telemetry.meters": _names("telemetry.catalogue", "telemetry.labels"),
    "telemetry.from_events": _names("telemetry.meters"),
    "telemetry.looking": VALUES
    | PACKAGE
    | SETTINGS
    | _names("control.view", "host.disk", "loops", "telemetry.health", "telemetry.meters"),
    # the outside
    "command_line.display": VALUES | _names("held_jobs"),
    "configuration.checked": SETTINGS
    | _names("signing.keys")
    | frozenset({"overmind_executors.registry", "overmind_executors.functions.manifest"}),
    "children.program_sandbox": SETTINGS | LEVELS | frozenset({"overmind_executors.sandbox.deciding"}),
    "command_line.run": VALUES
    | PACKAGE
    | SETTINGS
    | _names(
        "tracing",
        "held_jobs",
        "configuration.keys",
        "command_line.display",
        "service",
        "standing",
        "command_line.exit_codes",
        "configuration.checked",
        "patience",
    ),
    "command_line.exit_codes": frozenset(),
    "command_line.grammar": PACKAGE | _names("command_line.exit_codes", "control.grammar"),
    "cli": PACKAGE
    | _names("command_line.completion", "command_line.exit_codes", "command_line.grammar", "control.commands")
    | _names(
        "command_line.run",
        "command_line.check",
        "command_line.doctor",
        "command_line.support_bundle",
        "patience",
        "telemetry.health_command",
    ),
    "__main__": _names("cli"),
}

COMMANDS: Final = _names("cli", "__main__", "command_line.run", "command_line.check", "command_line.doctor")
# These put things together, so they may name everything but what stands above them.
EVERYTHING_BUT: Final[dict[str, frozenset[str]]] = {
    "over_http.planes": COMMANDS | _names("service", "crew"),
    "telemetry.telemetry": COMMANDS | _names("service", "crew"),
    "configuration.in_force": COMMANDS | _names("service", "crew"),
    "service": COMMANDS,
    "crew": COMMANDS | _names("service"),
    "membership": COMMANDS | _names("service", "crew", "state"),
    "state": COMMANDS | _names("service", "crew", "membership"),
    "standing": COMMANDS | _names("service", "crew", "membership", "state"),
    "command_line.check": _names("__main__", "command_line.run"),
    "command_line.support_bundle": _names("__main__", "command_line.run"),
    "command_line.surroundings": _names("__main__", "cli", "command_line.run", "command_line.doctor"),
    **dict.fromkeys(
        (f"command_line.{name}" for name in ("doctor", "host_checks", "plane_checks", "model_checks")),
        _names("__main__", "command_line.run", "command_line.check", "cli"),
    ),
}

# What each package may import of the others.
PACKAGES: Final[dict[str, frozenset[str]]] = {
    "overmind_executors": frozenset(),
    "overmind_config": frozenset(),
    "overmind_controlplane": PACKAGE
    | JSON
    | TRACE
    | frozenset({"overmind_config.host", "overmind_config.logs", "overmind_config.repeats"})
    | _names("wire", "jobs", "lifecycle", "errors", "signing.claims", "signing.jws", "signing.keys"),
}

# The control plane from the ground up: a place knows those that stand before it, and none of its strangers.
FLOORS: Final = (
    *("refusals", "dialects", "named_models", "caller"),
    *("record", "access", "callers", "storage", "shown", "jobs", "plane"),
    *("answering", "pull", "lab", "optimisation", "command_line", "page"),
    *("serving", "administration", "cli"),
)
STRANGERS: Final[dict[str, frozenset[str]]] = {
    "lab": frozenset({"pull"}),
    "optimisation": frozenset({"pull"}),
    "page": frozenset({"pull", "optimisation"}),
    "command_line": frozenset(FLOORS) - {"command_line", "dialects", "named_models"},  # a client like any other
}

# The libraries that change how a program behaves, and the only modules that may bring them in.
EXCLUSIVE: Final[dict[str, frozenset[str]]] = {
    "requests": _names("over_http.calls", "over_http.deadline", "over_http.certificate")
    | {"overmind_executors.calls.timed_http", "overmind_controlplane.command_line.client"},
    "urllib3": _names("over_http.calls", "over_http.deadline") | {"overmind_executors.calls.timed_http"},
    "apscheduler": _names("duties"),
    "prometheus_client": _names("telemetry.meters") | {"overmind_controlplane.serving.metrics"},
    "opentelemetry": _names("telemetry.otlp"),
    "joserfc": _names("signing.jws"),
    "subprocess": _names(
        "children.hooks", "children.launcher", "children.nursery", "children.processes", "command_line.host_checks"
    )
    | {"overmind_executors.sandbox.started", "overmind_executors.schemas.check", "overmind_executors.removal"},
}


def test_every_module_of_the_daemon_has_its_place() -> None:
    known = {f"overmind_agent.{name}".rstrip(".") for name in (*MAY_IMPORT, *EVERYTHING_BUT)}

    assert [] == [module for module in _of("overmind_agent") if module not in known]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_module_of_the_daemon_imports_what_its_place_allows(name: str) -> None:
    module = f"overmind_agent.{name}".rstrip(".")

    ours = {imported for imported in _imports(module) if imported.startswith(OURS)}

    assert set() == ours - MAY_IMPORT[name]


@pytest.mark.parametrize("name", [name for name in EVERYTHING_BUT if f"overmind_agent.{name}" in MODULES])
def test_what_puts_things_together_stays_below_the_command_line(name: str) -> None:
    assert set() == set(_imports(f"overmind_agent.{name}")) & EVERYTHING_BUT[name]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_its_neighbours(package: str) -> None:
    foreign = {
        (module, imported)
        for module in _of(package)
        for imported in _imports(module)
        if imported.startswith(OURS) and imported not in _of(package)
    }

    assert set() == {(module, imported) for module, imported in foreign if imported not in PACKAGES[package]}


def _floor(module: str) -> str:
    return module.split(".")[1]


def test_every_module_of_the_control_plane_has_its_place() -> None:
    modules = set(_of("overmind_controlplane")) - {"overmind_controlplane"}

    assert set(FLOORS) == {_floor(module) for module in modules}


@pytest.mark.parametrize("place", FLOORS)
def test_a_place_of_the_control_plane_knows_only_what_lies_below(place: str) -> None:
    known = set(FLOORS[: FLOORS.index(place) + 1]) - STRANGERS.get(place, frozenset())

    above = {
        (module, imported)
        for module in _of(f"overmind_controlplane.{place}")
        for imported in _imports(module)
        if imported.startswith("overmind_controlplane.") and _floor(imported) not in known
    }

    assert set() == above


@pytest.mark.parametrize("library", EXCLUSIVE)
def test_a_library_has_one_door(library: str) -> None:
    users = {module for module in MODULES if library in _imports(module)}

    assert users, "nobody uses it: the rule has lost its subject"
    assert set() == users - EXCLUSIVE[library]


# What they read may make any object and run any code.
NEVER: Final = frozenset(
    {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "yaml", "xmlrpc", "telnetlib"}
)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_read_by_what_could_run_it(module: str) -> None:
    assert set() == NEVER & set(_imports(module))


def _uses(module: str, owner: str, name: str) -> bool:
    """Whether *module* says `owner.name`, or `from owner import name`."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == name:
            if isinstance(node.value, ast.Name) and node.value.id == owner:
                return True
        elif isinstance(node, ast.ImportFrom) and node.module == owner and name in {a.name for a in node.names}:
            return True
    return False


@pytest.mark.parametrize("name", ["environ", "environb", "getenv", "putenv"])
def test_only_the_settings_read_the_environment(name: str) -> None:
    # The control plane stands alone, and its command line is its settings. A job's process replaces its own,
    # and a process that is armed for a test does not know of it.
    doors = SETTINGS | OWN_ENVIRONMENT | ARMED | {"overmind_controlplane.cli"}

    assert [] == [m for m in MODULES if _uses(m, "os", name) and m not in doors]


def test_the_rule_about_the_environment_has_a_subject() -> None:
    assert [m for m in SETTINGS if _uses(m, "os", "environ")]


def test_only_the_clock_sleeps() -> None:
    assert [] == [m for m in MODULES if _uses(m, "time", "sleep") and m not in _names("clock")]


def test_no_module_is_a_drawer_for_everything() -> None:
    """A module is named for its idea."""
    drawers = {"utils", "util", "common", "misc", "helpers", "models", "types"}

    assert [] == [module for module in MODULES if module.rpartition(".")[2] in drawers]
