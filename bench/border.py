"""
What the border costs: stages in microseconds, and how long one call holds the GIL.

    python bench/border.py

The GIL is held for as long as one call into C takes; "longest" is the longest of them,
in CPU time, but for hashes, which let go of it.
"""

from __future__ import annotations

import json
import sys
import time
import timeit

from fleetwake.producer.border import Border
from fleetwake.producer.content import Content, snapshot
from fleetwake.producer.encoder import Encoder
from fleetwake.producer.enrich import enriched
from fleetwake.producer.entry import Entry
from fleetwake.producer.settings import ContentSettings
from fleetwake.schemas.event import AuditEvent

CALL = AuditEvent(
    event_type="tool.complete",
    session_id="session-1234567890abcdef",
    agent_id="planner",
    tool_name="read_file",
    tool_call_id="call_AbCdEf1234567890GhIj",
    outcome="success",
)
ARGUMENTS = {"path": "/src/app/main.py", "limit": 200}
LINE = "def f(x):\n    return x + 1  # compute things here\n"


def content(chars, *, secret=False):
    """A call with a result of so many characters."""
    result = (LINE * (chars // len(LINE) + 1))[:chars]
    if secret:
        result = "ghp_" + "a1B2" * 9 + " " + result
    record = {
        "type": "tool_call_complete",
        "arguments": ARGUMENTS,
        "usage": {"input_tokens": 123, "output_tokens": 5},
        "result": result,
    }
    return Content(arguments=ARGUMENTS, result=result, record=record)


def report(name, call, count=500):
    """Print the best of five."""
    best_us = min(timeit.repeat(call, number=count, repeat=5)) / count * 1e6
    print(f"{name:34} {best_us:9.1f} us  {1e6 / best_us:9.0f}/s")


def longest_ms(call):
    """The longest call into C while `call` runs, and its name."""
    begun, longest = [], (0.0, "")

    def profile(_, kind, function):
        nonlocal longest
        if kind == "c_call":
            begun.append(time.thread_time())
        elif kind in {"c_return", "c_exception"} and begun:
            took = time.thread_time() - begun.pop()
            if function.__name__ not in {"openssl_sha256", "blake2b", "setprofile"}:
                longest = max(longest, (took * 1e3, function.__name__))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return longest


def stages(border, encoder):
    """Print the cost of each."""
    small = {"path": "/src/app/main.py", "q": "what is it " * 40, "n": [1, 2, 3] * 60}
    given = CALL._replace(arguments_digest=1, outcome_digest=2, digest_basis="full")

    def entry(event, read):
        return Entry(event, {}, 600, "p-1", 1, 1_700_000_000_000_000, read)

    report(f"snapshot, {len(json.dumps(small))} B", lambda: snapshot(Content(small)))
    for name, event, read in (
        ("no content", CALL, None),
        ("digests given", given, None),
        ("short content", CALL, snapshot(content(20))),
        ("2 KB", CALL, snapshot(content(2_000))),
        ("2 KB with a credential", CALL, snapshot(content(2_000, secret=True))),
    ):
        if read is not None:
            report(f"enriched, {name}", lambda e=event, r=read: enriched(e, r))
            text = read.record
            report(f"redactor.text, {name}", lambda t=text: border.text(t))
        report(f"border, {name}", lambda e=event, r=read: border(e, r))
        report(f"encoder, {name}", lambda e=event, r=read: encoder(entry(e, r)))


def holds(border):
    """Print what large content takes, and how long the GIL is held for it."""
    line = "line of text that is quite plain, é\n"
    dense = [{"number": number, "name": "x"} for number in range(150_000)]
    for name, read in (
        ("5 MB result", Content(result=LINE * 100_000)),
        ("5 MB result, not ASCII", Content(result=line * 140_000)),
        ("5 MB record of one text", Content(record={"out": line * 140_000})),
        ("5 MB of arguments, JSON text", Content(arguments=json.dumps(dense))),
        ("5 MB record, JSON text", Content(record=json.dumps(dense))),
        ("5 MB error", Content(error=line * 140_000)),
        ("5 MB base64", Content(record={"r": "aB3+" * 1_250_000})),
        ("900 KB record, dense", Content(record=json.dumps(dense[:25_000]))),
    ):
        ready = snapshot(read)
        took_ms = min(timeit.repeat(lambda r=ready: border(CALL, r), number=1)) * 1e3
        first = min(longest_ms(lambda r=read: snapshot(r)) for _ in range(5))
        second = min(longest_ms(lambda r=ready: border(CALL, r)) for _ in range(5))
        print(
            f"{name:30} {took_ms:6.1f} ms; longest: snapshot {first[0]:4.1f} ms "
            f"({first[1]}), border {second[0]:4.1f} ms ({second[1]})"
        )


if __name__ == "__main__":
    settings = ContentSettings()
    stages(
        Border(settings),
        Encoder(source="native", host="h", environment=None, content=settings),
    )
    holds(Border(settings))
