"""The page's screens in a real browser, on the real Kafka."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from fleetwake.schemas.records import Block, Verdict
from fleetwake.schemas.topics import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.page.serving import Agents

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The next key, before the browser has drawn the closed dialog and told us of it.
ESCAPE_WHEN_CLOSED = """() => new MutationObserver(() => {
    const key = { key: "Escape", bubbles: true, cancelable: true };
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", key));
}).observe(document.querySelector("dialog"), { attributeFilter: ["open"] })"""
HOSTILE = "<script>alert(1)</script>\u202eevil\x1b[31m" + "x" * 10_000


async def test_an_event_comes_to_the_screen_by_itself(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """A new session, and what it does then, without a reload (bench-page times it)."""
    session = f"{agents.team}-live"
    page = await open_tab()
    await expect(page.locator("#link")).to_have_text("Live")
    await agents.emit(session, "session.start")
    row = page.locator("tr.row")
    await expect(row).to_have_count(1)
    await agents.emit(
        session, "tool.attempt", tool_name="grep", tool_call_id="1", outcome="attempted"
    )

    await expect(row).to_contain_text("grep")


async def test_an_empty_fleet_teaches_and_sends_a_test_event(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Who has no session yet reads how to connect an agent, and can try at once."""
    page = await open_tab("alerts")
    hello = {"fields": [], "rows": [], "gone": [], "alerts": [], "rates": []}
    hello |= {"complete": True, "now_ms": time.time_ns() // 1_000_000}
    await page.route(
        "**/api/live*",
        lambda route: route.fulfill(
            body=f"id: x-1\nevent: hello\ndata: {json.dumps(hello)}\n\n",
            content_type="text/event-stream",
        ),
    )
    await page.reload()
    await page.get_by_role("link", name="Fleet", exact=True).click()
    await expect(page.get_by_role("heading", name="No session yet")).to_be_visible()
    await expect(page.locator(".empty code").first).to_contain_text("AuditProducer()")
    await page.get_by_role("button", name="Send a test event").click()
    await expect(page.locator(".toast")).to_contain_text("session test-")
    await page.unroute("**/api/live*")

    await expect(page.locator("tr.row").filter(has_text="test-")).to_have_count(1)


async def test_the_worst_comes_first_and_filters_are_in_the_address(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """A looping session stands on top; a filter survives a reload."""
    names = [f"{agents.team}-{n}" for n in range(3)]
    for name in names:
        await agents.call(name, "read", agent_id=f"agent-{name}")
    await agents.alert(names[2])
    page = await open_tab()
    rows = page.locator("tr.row")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("looping")

    await page.get_by_label("Search the sessions").fill(f"agent:agent-{names[1]}")
    await expect(rows).to_have_count(1)
    await page.reload()
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text(names[1])
    await page.get_by_role("button", name="looping").click()
    await expect(page.get_by_text("No session matches.")).to_be_visible()
    await page.get_by_role("button", name="Clear the filters").click()

    await expect(page.locator(".count")).not_to_contain_text("of")


async def test_the_keyboard_is_enough(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Choose, peek, open, look at a record, ask for a block, go back: by keys alone."""
    names = [f"{agents.team}-{n}" for n in range(2)]
    for name in names:
        await agents.call(name, "read")
    page = await open_tab()
    press = page.keyboard.press
    ends = [name[-6:] for name in names]
    await expect(page.locator("tr.row .c-session")).to_contain_text(ends)

    await press("j")
    await press("j")
    await press(" ")
    await expect(page.locator(".peek")).to_contain_text(names[1])
    await press("k")
    await expect(page.locator(".peek")).to_contain_text(names[0])
    await press("Escape")
    await expect(page.locator(".peek")).to_be_hidden()
    await press("Enter")
    await expect(page.get_by_role("heading", level=1, name=names[0])).to_be_visible()
    await page.locator(".entry .line").first.focus()
    await press("Enter")
    await expect(page.locator(".drawer pre")).to_contain_text(names[0])
    await press("Escape")
    await press("b")
    await expect(page.get_by_role("dialog")).to_contain_text("Block")
    await press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await press("Escape")
    await expect(page).to_have_title("Fleet · fleetwake")
    await press("/")
    await page.keyboard.type(f"session:{names[1]}")
    await expect(page.locator("tr.row")).to_have_count(1)
    await press("Escape")
    await press("?")

    await expect(page.get_by_role("dialog")).to_contain_text("Keys")


async def test_a_second_escape_at_once_leaves_the_session(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """The first one closes the dialog, which has the focus for a moment longer."""
    session = f"{agents.team}-1"
    await agents.emit(session, "session.start")
    page = await open_tab(f"session/{session}")
    press = page.keyboard.press
    await page.locator(".entry .line").click()
    await expect(page.locator(".drawer pre")).to_contain_text(session)
    await press("Escape")
    await press("b")
    await expect(page.get_by_label("Who")).to_be_focused()
    await page.evaluate(ESCAPE_WHEN_CLOSED)
    await press("Escape")

    await expect(page).to_have_title("Fleet · fleetwake")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_keys_stay_on_what_is_drawn_anew(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """A line of the timeline and a link keep the focus while events arrive."""
    session = f"{agents.team}-1"
    await agents.call(session, "read")
    page = await open_tab(f"session/{session}")
    lines = page.locator(".entry .line")
    await expect(lines).to_have_count(1)
    await lines.first.focus()
    await agents.call(session, "grep")
    await expect(lines).to_have_count(2)
    await expect(lines.first).to_be_focused()
    link = page.get_by_role("link", name="Alerts")
    await link.focus()
    await agents.call(session, "read")
    await expect(lines).to_have_count(3)

    await expect(link).to_be_focused()


async def test_a_click_counts_while_the_page_changes(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Between press and release events arrive: what was pressed is not replaced."""
    other, page = await open_tab(), await open_tab()
    await expect(page.locator("#link")).to_have_text("Live")
    # However long the event takes here, the press is a short one.
    await page.evaluate("() => { performance.now = () => 0; }")
    await page.get_by_role("link", name="Alerts").hover()
    await page.mouse.down()
    await agents.emit(f"{agents.team}-1", "session.start")
    await expect(other.locator("tr.row")).to_have_count(1)
    await page.mouse.up()

    await expect(page).to_have_title("Alerts · fleetwake")


async def test_paused_nothing_moves_and_then_everything_is_there(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """The button tells how much waits."""
    await agents.call(f"{agents.team}-1", "read")
    page = await open_tab()
    rows = page.locator("tr.row")
    await expect(rows).to_have_count(1)
    await page.keyboard.press("p")
    await agents.call(f"{agents.team}-2", "read")
    await expect(page.get_by_role("button", name="Go on (+")).to_be_visible()
    before = await rows.count()
    await page.keyboard.press("p")
    await expect(rows).to_have_count(2)

    assert 1 == before


async def test_a_timeline_folds_what_repeats_and_grows(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Five equal calls are one line; a new one arrives while we look."""
    session = f"{agents.team}-loop"
    equal = {"arguments_digest": 1, "arguments_preview": "x"}
    for _ in range(5):
        await agents.call(session, "grep", **equal)
    page = await open_tab(f"session/{session}")
    group = page.locator(".entry.group")
    await expect(group).to_contain_text("5\u00d7")
    await expect(group).to_contain_text("same call, same result")

    await agents.call(session, "grep", **equal)

    await expect(group).to_contain_text("6\u00d7")


async def test_a_verdict_shows_the_session_blocked_and_why(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """As soon as the loops service has said so, whoever asked for it."""
    session = f"{agents.team}-1"
    await agents.emit(session, "session.start")
    page = await open_tab()
    row = page.locator("tr.row")
    await expect(row).to_have_count(1)
    now = time.time_ns() // 1000
    block = Block(reason="Ada said stop", issuer="Ada", since=now)
    verdict = Verdict(session_id=session, issued_at=now, blocks=(block,))
    await agents.publish(VERDICTS, session, verdict)

    await expect(row).to_contain_text("blocked")
    await expect(row).to_contain_text("Ada said stop")
    await agents.publish(VERDICTS, session, Verdict(session_id=session, issued_at=now))

    await expect(row).to_contain_text("working")


async def test_an_alert_fires_and_is_resolved(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Its card moves to the resolved ones, evidence and all."""
    session = f"{agents.team}-1"
    await agents.emit(session, "session.start")
    page = await open_tab("alerts")
    card = page.locator("article.alert").filter(has_text=session)
    await agents.alert(session, attributes={"period": "3"})
    await expect(card).to_contain_text("5 times in a row")
    await card.get_by_text("Evidence").click()
    await expect(card).to_contain_text("period")
    await agents.alert(session, state="resolved")
    await expect(card).to_have_count(0)
    await page.get_by_role("button", name="resolved").click()

    await expect(card).to_contain_text("resolved")


async def test_hostile_names_stay_text(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Scripts, right-to-left marks, escapes and long names: shown, never run."""
    session = f"{agents.team}-<img src=x onerror=alert(1)>\u202e"
    await agents.call(
        session,
        HOSTILE,
        agent_id=HOSTILE,
        user_id=HOSTILE,
        arguments_preview=HOSTILE,
        error_message=HOSTILE,
        reason=HOSTILE,
    )
    await agents.emit(session, "mark", agent_id=HOSTILE, reason=HOSTILE)
    await agents.alert(session, agent_id=HOSTILE, tool_name=HOSTILE, reason=HOSTILE)
    now = time.time_ns() // 1000
    block = Block(reason=HOSTILE, issuer=HOSTILE, since=now, scope=f"tool:{HOSTILE}")
    verdict = Verdict(session_id=session, issued_at=now, blocks=(block,))
    await agents.publish(VERDICTS, session, verdict)
    page = await open_tab()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    row = page.locator("tr.row")
    await expect(row).to_contain_text("<script>")
    widths = [await page.evaluate("document.documentElement.scrollWidth")]
    await row.get_by_role("link").click()
    for place in (None, "#/alerts"):
        if place:
            await page.goto(page.url.split("#")[0] + place)
        await expect(page.locator("main")).to_contain_text("\u2039202e\u203a")
        widths.append(await page.evaluate("document.documentElement.scrollWidth"))

    assert [1280, 1280, 1280] == widths
    assert [] == dialogs
    assert 0 == await page.locator("main script, main img").count()


async def test_sql_answers_stay_text_and_a_refusal_is_said(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """What an answer holds is shown as it is; without an archive the page says so."""
    page = await open_tab("explore")
    answer = {"columns": ["<b>a</b>"], "rows": [[HOSTILE], [None], [7]]}
    await page.route(
        "**/api/query*",
        lambda route: route.fulfill(json=answer | {"truncated": True}),
    )
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.locator(".grid th")).to_have_text("<b>a</b>")
    await expect(page.locator(".grid td").first).to_contain_text("<script>")
    await expect(page.locator(".result-box")).to_contain_text("cut here")
    await page.unroute("**/api/query*")
    async with page.expect_response("**/api/query*"):
        await page.get_by_role("button", name="Which tools are slow?").click()

    await expect(page.locator(".result-box")).to_contain_text("nothing is archived yet")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_screen_has_an_accessibility_violation(
    open_tab: Callable[..., Any], agents: Agents, scheme: str
) -> None:
    """axe-core finds none, wide and narrow, on any screen."""
    session = f"{agents.team}-1"
    for n in range(4):
        await agents.call(f"{agents.team}-{n}", "grep", arguments_digest=1)
    for _ in range(3):
        await agents.call(session, "grep", arguments_digest=2)
    await agents.alert(session)
    ready = {
        "": "tr.row >> nth=3",
        f"session/{session}": ".entry.group",
        "alerts": "article.alert",
        "explore": ".question >> nth=5",
        "pipeline": ".service",
    }
    found: list[str] = []
    page = await open_tab(color_scheme=scheme)
    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 800})
        for place, element in ready.items():
            query = f"?q=team:{agents.team}"
            await page.goto(page.url.split("#")[0] + f"#/{place}{query}")
            await expect(page.locator(element).first).to_be_visible()
            result = await Axe().run(page)
            found += [
                f"{width} {place} {one['id']}: {one['nodes'][0]['html'][:200]}"
                for one in result.response["violations"]
            ]
        assert width >= await page.evaluate("document.documentElement.scrollWidth")

    assert [] == found


async def test_five_thousand_sessions_have_few_elements(
    open_tab: Callable[..., Any], agents: Agents
) -> None:
    """Rows that are not on the screen are not in the document; scrolling finds them."""
    for n in range(5_000):
        agents.emit_soon(f"{agents.team}-{n:05}", "session.start")
    page = await open_tab()
    await expect(page.locator(".count")).to_contain_text("5,000 of")

    assert 100 > await page.locator("tr.row").count()
    last = page.locator("tr.row[aria-rowindex='5001']")
    async with asyncio.timeout(20):
        # The document may still grow while it is scrolled.
        while not await last.is_visible():
            await page.evaluate("scrollTo(0, document.body.scrollHeight)")
            await asyncio.sleep(0.1)
