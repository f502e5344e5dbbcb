"""What people do on the page, up to the agent that obeys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect
from tests.page.serving import CLI, TOKEN

from fleetwake.consumers.runtime.kafka import KafkaTopicReader
from fleetwake.schemas.codec import PackagedSchemas, decode_record
from fleetwake.schemas.records import Command
from fleetwake.schemas.topics import COMMANDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from playwright.async_api import Page
    from tests.page.serving import Agents, Server

    from fleetwake.producer.settings import KafkaSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT = Path(__file__).parents[1] / "integration" / "brake_agent.py"


async def commands_of(kafka: KafkaSettings, session_id: str) -> list[Command]:
    found = [
        decode_record(Command, record.value or b"", PackagedSchemas())
        for partition in range(kafka.partitions)
        async for record in KafkaTopicReader(kafka).read(COMMANDS, partition)
    ]
    return [one for one in found if one.session_id == session_id]


async def ask(page: Page, action: str, *, reason: str) -> None:
    """Fill the dialog of an act and send it."""
    await page.get_by_role("button", name=action, exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Who").fill("Ada")
    await dialog.get_by_label("Why").fill(reason)
    await dialog.get_by_role("button", name=action).click()
    await expect(dialog).to_have_count(0)


async def test_an_act_needs_the_token_and_becomes_a_command_with_who_and_why(
    open_tab: Callable[..., Any], agents: Agents, server: Server
) -> None:
    """A tab without the token reads, and says how to get one; a wrong one is told."""
    session = f"{agents.team}-1"
    await agents.emit(session, "session.start")
    page = await open_tab(f"session/{session}", acts=False)
    await expect(page.locator(".factlist")).to_contain_text("coder")
    await page.get_by_role("button", name="Block").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Token").fill(TOKEN)
    await dialog.get_by_label("Who").fill("Ada")
    await dialog.get_by_label("Why").fill("it deletes  the wrong things")
    await dialog.get_by_label("How long").select_option("for 1 hour")
    await dialog.get_by_role("button", name="Block").click()
    await expect(page.locator(".toast")).to_contain_text("sent")

    (command,) = await commands_of(server.kafka, session)

    assert ("block", "Ada", "it deletes the wrong things") == (
        command.action,
        command.issued_by,
        command.reason,
    )
    assert command.until is not None
    assert 3_600_000_000 == command.until - command.issued_at
    await expect(page.locator(".timeline")).to_contain_text("command.block")


async def test_a_wrong_token_is_refused_and_asked_for_again(
    open_tab: Callable[..., Any], agents: Agents, server: Server
) -> None:
    """Nothing is published, and the reader may try another one."""
    session = f"{agents.team}-1"
    await agents.emit(session, "session.start")
    page = await open_tab(f"session/{session}", acts=False)
    await page.get_by_role("button", name="Block").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Token").fill("not-the-token")
    await dialog.get_by_label("Who").fill("Ada")
    await dialog.get_by_label("Why").fill("I want to")
    await dialog.get_by_role("button", name="Block").click()

    await expect(dialog.get_by_role("alert")).to_contain_text("needs the token")
    assert [] == await commands_of(server.kafka, session)


async def test_a_block_on_the_page_stops_the_agent_until_it_is_released(
    open_tab: Callable[..., Any], agents: Agents, server: Server
) -> None:
    """Page, loops service and the guard in the agent's own process: the whole way."""
    session = f"{agents.team}-guarded"
    lines: list[str] = []
    async with (
        process(server, *CLI[1:], "run", "loops"),
        process(server, str(AGENT), session, lines=lines),
    ):
        page = await open_tab(f"session/{session}")
        await until(lambda: "called" in lines)
        await ask(page, "Block", reason="it runs in circles")
        await expect(page.locator(".factlist")).to_contain_text("blocked")
        by_ada = page.locator(".block-note").filter(has_text="Stopped by Ada")
        await expect(by_ada).to_contain_text("it runs in circles")
        await until(lambda: any("it runs in circles" in one for one in lines))
        await ask(page, "Release", reason="it may go on")
        await expect(by_ada).to_have_count(0)
        lines.clear()
        await until(lambda: "called" in lines)


async def test_the_server_refuses_what_no_page_of_ours_asks(server: Server) -> None:
    """Other hosts, other origins, no token, nonsense: each with its status."""
    body = json.dumps({"action": "block", "session_id": "s", "by": "a", "reason": "b"})
    auth = {"Authorization": f"Bearer {TOKEN}"}

    found = [
        await status(server, "/api/me", {"Host": "evil.example"}),
        await status(server, "/api/me", {"Sec-Fetch-Site": "cross-site"}),
        await status(server, "/api/commands", {}, body),
        await status(server, "/api/commands", {"Authorization": "Bearer no"}, body),
        await status(server, "/api/commands", auth | {"Origin": "http://evil"}, body),
        await status(server, "/api/commands", auth | {"Origin": "http://["}, body),
        await status(server, "/api/commands", auth, body.replace('"b"', '" "')),
        await status(server, "/api/commands", auth, "[" * 70_000),
        await status(server, "/api/query?sql=DROP%20TABLE%20x", {}),
        await status(server, "/page/../app.py", {}),
        await status(server, "/api/commands", auth, body),
    ]

    assert [421, 421, 401, 401, 421, 421, 422, 413, 400, 404, 202] == found


@contextlib.asynccontextmanager
async def process(
    server: Server, *arguments: str, lines: list[str] | None = None
) -> AsyncIterator[None]:
    """A Python process on the page's Kafka, its lines kept; killed at the end."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, env=server.env
    )

    async def read() -> None:
        assert running.stdout
        async for line in running.stdout:
            if lines is not None:
                lines.append(line.decode().strip())

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # why it ended is in the output
            running.kill()
        await reading
        await running.wait()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # lines of another process
            await asyncio.sleep(0.05)


async def status(
    server: Server, path: str, headers: dict[str, str], body: str | None = None
) -> int:
    """The status of a request that is written by hand: no client mends it."""
    host, port = server.url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    method = "GET" if body is None else "POST"
    told = {"Host": f"{host}:{port}", "Connection": "close"} | headers
    told["Content-Length"] = str(len(body or ""))
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body or ''}".encode())
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    return int(line.split()[1])
