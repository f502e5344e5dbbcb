"""The events that every figure is measured with: 750 bytes, 500 sessions at a time."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING

from fleetwake.producer.content import Content
from fleetwake.schemas.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOOLS = ["bash", "grep", "read_file", "edit_file", "web_search", "run_tests"]
_TEXT = """\
def main(path: str) -> None:
    settings = load(path)
    with connect(settings.host, settings.port) as link:
        for line in link.lines():
            print(line.strip())
"""
_OPEN_SESSIONS = 500
_EVENTS_OF_A_SESSION = 200


def events(count: int, seed: int = 7) -> Iterator[AuditEvent]:
    """
    Steps of a healthy fleet: the model answers, a tool is called, the tool answers.

    One call in 20 repeats the one before it. Digests are given, as a source that
    computes its own gives them, so that the figures are of the pipeline.
    """
    steps = (event for step in _steps(seed) for event in step)
    return itertools.islice(steps, count)


def with_content(
    count: int, content_bytes: int, seed: int = 7
) -> Iterator[tuple[AuditEvent, Content]]:
    """The same fleet, but nothing is made yet of what each event is about."""
    rng = random.Random(seed)
    for nth, event in enumerate(events(count, seed)):
        bare = event._replace(
            arguments_digest=None,
            outcome_digest=None,
            text_digest=None,
            digest_basis=None,
            fingerprint_version=None,
            arguments_preview=None,
            arguments_chars=None,
            result_preview=None,
            result_chars=None,
            payload=None,
            payload_chars=None,
        )
        result = "".join(
            f"src/app/module_{rng.randrange(900)}.py:{rng.randrange(2_000)}: match\n"
            for _ in range(max(1, content_bytes // 36))
        )
        arguments = {"path": "src/app/main.py", "pattern": f"def main_{nth % 40}"}
        yield bare, Content(arguments=arguments, result=result[:content_bytes])


def _steps(seed: int) -> Iterator[tuple[AuditEvent, ...]]:
    rng = random.Random(seed)
    payload = json.dumps({"path": "src/app/main.py", "text": _TEXT})
    calls: dict[int, tuple[str, int]] = {}
    for n in itertools.count(step=3):
        slot = rng.randrange(_OPEN_SESSIONS)
        nth = n // (_OPEN_SESSIONS * _EVENTS_OF_A_SESSION)
        if slot not in calls or rng.random() > 0.05:
            calls[slot] = rng.choice(_TOOLS), rng.getrandbits(62)
        tool, arguments = calls[slot]
        common = AuditEvent(
            source="native",
            session_id=f"session-{nth:05d}-{slot:05d}",
            agent_id=f"agent-{slot % 12}",
            turn_id=f"turn-{n % 7}",
            tool_call_id=f"call-{n:08d}",
            tool_name=tool,
            arguments_digest=arguments,
            digest_basis="full",
            fingerprint_version=1,
            arguments_preview='{"path": "src/app/main.py", "pattern": "def main"}',
            arguments_chars=48,
            payload=payload,
            payload_chars=len(payload),
            team="platform",
            environment="production",
        )
        failed = rng.random() < 0.08
        yield (
            AuditEvent(
                source="native",
                source_event_type="model.response",
                event_type="model.response",
                session_id=common.session_id,
                agent_id=common.agent_id,
                turn_id=common.turn_id,
                outcome="success",
                text_digest=rng.getrandbits(62),
                fingerprint_version=1,
                duration_ms=rng.expovariate(1 / 2_000),
                provider="acme",
                model="model-x",
                input_tokens=rng.randrange(1_000, 30_000),
                output_tokens=rng.randrange(20, 800),
                team="platform",
                environment="production",
                payload=payload,
                payload_chars=len(payload),
            ),
            common._replace(
                source_event_type="tool.attempt",
                event_type="tool.attempt",
                outcome="attempted",
            ),
            common._replace(
                source_event_type="tool.complete",
                event_type="tool.failure" if failed else "tool.complete",
                outcome="failure" if failed else "success",
                error_type="OSError" if failed else None,
                outcome_digest=rng.getrandbits(62),
                result_preview="3 matches in 2 files; see the list for the lines",
                result_chars=1_900,
                duration_ms=rng.expovariate(1 / 250),
            ),
        )
