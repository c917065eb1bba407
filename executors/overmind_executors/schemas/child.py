"""
Checks values against one JSON schema, in a process that may be lost:
`python -P -m overmind_executors.schemas.child CPU_S`.

```
stdin   the schema, then values, one JSON text a line
stdout  "ok", then for each value "1" (fits) or "0"; or, in place of "ok", "no " and why the schema cannot be used
```

A schema may take for ever (`anyOf` within `$ref` within `anyOf`…), all memory, or the stack. So each answer has its
own limit of processor time, after which the kernel ends this process, and all of them together one of memory.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any, Final

READY: Final = b"ok"
REFUSED: Final = b"no "
_MEMORY_BYTES: Final = 1 << 30
_MOST_REASON: Final = 200


def main() -> None:
    """Until standard input ends. The argument is the limit of an answer, in seconds of processor time."""
    cpu_s = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    schema = json.loads(sys.stdin.buffer.readline())
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        validator = _validator(schema)
    except Exception as error:  # the library has an exception for each of a dozen reasons
        _say(REFUSED + " ".join(str(error).split())[:_MOST_REASON].encode(errors="replace"))
        return
    _say(READY)
    for text in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        fits = validator.is_valid(json.loads(text))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(b"1" if fits else b"0")


def _validator(schema: Any) -> Any:
    import jsonschema_rs as library

    return library.validator_for(
        schema,
        retriever=_refuse,
        pattern_options=library.RegexOptions(),  # in linear time: patterns are a stranger's
    )


def _refuse(address: str) -> Any:
    raise ValueError(f"a schema refers to its own parts only (got {address[:100]!r})")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
