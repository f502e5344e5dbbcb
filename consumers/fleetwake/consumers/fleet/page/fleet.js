// The fleet: every session in one table, the worst first.

import { ask } from "./access.js";
import { act, toast } from "./act.js";
import { h, renew, replace, sparkline, unfocus } from "./dom.js";
import { blockNotes, doingWhat, factList, prose, repeatMeter, stateChip } from "./facts.js";
import { compact, dollars, shortId, shown, span, whole } from "./format.js";
import { linkTo, place, setQuery } from "./place.js";
import { STATES, callsUntil, filterOf, sorted } from "./store.js";

const OVERSCAN = 8;
const RESORT_MS = 1000;
const COLUMNS = [
  ["state", "State"], ["agent", "Agent"], ["session", "Session", null], ["activity", "Doing", null], ["repeats", "Repeats"],
  ["failures", "Errors"], ["calls", "Calls"], ["tokens", "Tokens"], ["cost", "Cost"], ["last", "Last event"], ["age", "Age"],
];

class RowView {
  constructor(open) {
    this.cells = Object.fromEntries(COLUMNS.map(([name]) => [name, h(`td.c-${name}`)]));
    this.element = h("tr", { onclick: (event) => { if (!event.target.closest("a, button")) open(this.row, event); } }, Object.values(this.cells));
    this.doing = h("div.clamp");
    this.cells.activity.append(this.doing);
    this.row = null;
  }

  show(row, index, selected, nowMs) {
    this.element.setAttribute("aria-rowindex", index + 2);
    this.element.setAttribute("aria-selected", selected);
    if (this.row !== row) this.#fill(row, nowMs);
    this.row = row;
    this.age(nowMs);
  }

  #fill(row, nowMs) {
    const { cells } = this;
    this.element.className = `row state-${row.state}`;
    replace(cells.state, stateChip(row.state));
    replace(cells.agent, h("span.name", shown(row.agent_id ?? "unknown", 60)), row.team ? h("span.sub", shown(row.team, 40)) : null);
    replace(cells.session, h("a", { href: linkTo("session", row.session_id), title: shown(row.session_id, 1000), tabindex: -1 }, shortId(shown(row.session_id, 1000))), h("span.sub", shown([row.host, row.model].filter(Boolean).join(" · "), 60)));
    replace(cells.repeats, repeatMeter(row.repeats, row.repeated_tool));
    const why = [row.last_error_kind, row.last_error_type].filter(Boolean).join(": ");
    replace(cells.failures, row.failures ? h("span.num.bad", { title: why ? `last: ${shown(why, 100)}` : null }, whole(row.failures)) : h("span.quiet", "0"), row.failures_in_a_row > 1 ? h("span.sub.bad", `${whole(row.failures_in_a_row)} in a row`) : null);
    const calls = callsUntil(row, nowMs);
    replace(cells.calls, sparkline(calls, `${whole(row.calls)} calls`, 52), h("span.num", whole(row.calls)));
    replace(cells.tokens, h("span.num", { title: `${whole(row.input_tokens)} in, ${whole(row.output_tokens)} out` }, compact(row.input_tokens + row.output_tokens)));
    replace(cells.cost, h("span.num", dollars(row.cost_usd)));
  }

  age(nowMs) {
    const { row, cells } = this;
    const text = (cell, value) => { if (cell.textContent !== value) cell.textContent = value; };
    text(cells.last, span(nowMs / 1000 - row.last_appended_at / 1e6));
    text(cells.age, span(nowMs / 1000 - row.first_occurred_at / 1e6));
    const doing = row.activity ? `${doingWhat(row)} · ${span(nowMs / 1000 - row.activity_since / 1e6)}` : "";
    const blocked = row.state === "blocked" && row.blocks.find(([scope]) => scope === "session");
    text(this.doing, blocked ? shown(blocked[1].replaceAll("`", ""), 120) : doing || "–");
  }
}

export class FleetScreen {
  constructor({ store, main }) {
    this.store = store;
    this.views = [];
    this.list = [];
    this.selected = null;
    this.sortedAt = 0;
    this.paused = false;
    this.changesAtPause = 0;
    this.#build(main);
    this.onScroll = () => this.#render();
    addEventListener("scroll", this.onScroll, { passive: true });
    addEventListener("resize", this.onScroll);
  }

  leave() {
    removeEventListener("scroll", this.onScroll);
    removeEventListener("resize", this.onScroll);
    this.peek.remove();
  }

  #build(main) {
    const { query } = place();
    this.search = h("input", { type: "search", placeholder: "Search, or agent:name team:name tool:name", "aria-label": "Search the sessions", value: query.get("q") ?? "", oninput: () => { setQuery({ q: this.search.value }); this.resort(); } });
    this.pauseButton = h("button.quiet", { type: "button", "aria-pressed": "false", onclick: () => this.pause() }, "Pause");
    this.strip = h("div.strip", { role: "group", "aria-label": "Sessions by state" });
    this.count = h("p.count");
    this.tools = h("div.tools", h("div.search", this.search, h("kbd", "/")), this.count, this.pauseButton);
    this.head = h("tr", { "aria-rowindex": 1 });
    this.above = h("tr.space", { "aria-hidden": "true" }, h("td", { colspan: COLUMNS.length }));
    this.below = h("tr.space", { "aria-hidden": "true" }, h("td", { colspan: COLUMNS.length }));
    this.body = h("tbody", this.above, this.below);
    this.table = h("table.fleet", { tabindex: 0, "aria-label": "Sessions, the worst first" }, h("thead", this.head), this.body);
    this.empty = h("section.empty", { hidden: true });
    this.peek = h("aside.drawer.peek", { hidden: true, "aria-label": "The chosen session" });
    document.body.append(this.peek);
    replace(main, h("h1.visually-hidden", "Fleet"), this.strip, this.tools, this.table, this.empty);
    this.#headings();
  }

  #headings() {
    const sort = place().query.get("sort") ?? "state";
    renew(this.head, COLUMNS.map(([name, title, sortable]) => h(`th.c-${name}`, { scope: "col", "aria-sort": sort === name ? "descending" : null },
      sortable === null ? title : h("button.sort", { type: "button", onclick: () => { setQuery({ sort: name === "state" ? "" : name }); this.#headings(); this.resort(); } }, title))));
  }

  update() {
    if (this.paused) {
      const more = this.store.changes - this.changesAtPause;
      this.pauseButton.textContent = more ? `Go on (+${compact(more)})` : "Go on";
      return;
    }
    this.#strip();
    if (performance.now() - this.sortedAt > RESORT_MS || this.store.rows.size !== this.total) this.resort();
    else this.#refresh();
  }

  second() {
    if (!this.paused && performance.now() - this.sortedAt > RESORT_MS) this.resort();
    const now = this.store.now();
    for (const view of this.views) if (view.row) view.age(now);
    this.#showPeek();
  }

  /** The chosen session beside the table, as it is now. */
  #showPeek() {
    const row = this.peek.hidden ? null : this.store.rows.get(this.selected);
    if (!row) return;
    const draw = row.session_id === this.peeked ? renew : replace;
    this.peeked = row.session_id;
    const about = { session_id: row.session_id };
    const reasons = [...this.store.alerts.values()].filter((one) => one.session_id === row.session_id && one.state !== "resolved").map((one) => h("p.reason", prose(one.reason, 300)));
    draw(this.peek, h("div.title", h("h2", h("a", { href: linkTo("session", row.session_id) }, shown(row.session_id, 80))), h("button.icon-button", { type: "button", "aria-label": "Close", onclick: () => this.#closePeek() }, "✕")),
      factList(row, this.store.now()), blockNotes(row), reasons,
      h("div.actions", h("a.button.primary", { href: linkTo("session", row.session_id) }, "Open"), h("button.danger", { type: "button", onclick: () => act("block", about) }, "Block"), h("button.quiet", { type: "button", onclick: () => act("release", about) }, "Release")));
  }

  #closePeek() {
    unfocus(this.peek);
    this.peek.hidden = true;
  }

  /** Take the latest rows without changing their order. */
  #refresh() {
    this.list = this.list.map((row) => this.store.rows.get(row.session_id)).filter(Boolean);
    this.#render();
  }

  resort() {
    const { query } = place();
    this.states = new Set((query.get("state") ?? "").split(",").filter(Boolean));
    this.list = sorted(this.store, filterOf(query.get("q") ?? "", this.states), query.get("sort"));
    this.total = this.store.rows.size;
    this.sortedAt = performance.now();
    this.#strip();
    this.#render();
  }

  #strip() {
    const counts = this.store.counts();
    const chosen = new Set((place().query.get("state") ?? "").split(",").filter(Boolean));
    const key = JSON.stringify([counts, [...chosen]]);
    if (key === this.stripKey) return;
    this.stripKey = key;
    renew(this.strip, Object.entries(STATES).map(([state, { icon, says }]) => h(`button.tile.state-${state}`, {
      type: "button", "aria-pressed": chosen.has(state), title: `${state}: ${says}`, "data-zero": counts[state] === 0,
      onclick: () => {
        if (chosen.has(state)) chosen.delete(state);
        else chosen.add(state);
        setQuery({ state: [...chosen].join(",") });
        this.resort();
      },
    }, h("span.big", whole(counts[state])), h("span.word", h("span.icon", { "aria-hidden": "true" }, icon), state))));
  }

  #render() {
    const { store, list } = this;
    this.#emptiness();
    const shownOf = list.length === store.rows.size ? `${whole(list.length)} sessions` : `${whole(list.length)} of ${whole(store.rows.size)} sessions`;
    if (this.count.textContent !== shownOf) this.count.textContent = shownOf;
    const height = this.views[0]?.element.offsetHeight || 44;
    const top = this.table.getBoundingClientRect().top + (this.head.offsetHeight || 0);
    const first = Math.max(0, Math.floor(-top / height) - OVERSCAN);
    const visible = Math.ceil(innerHeight / height) + 2 * OVERSCAN;
    const last = Math.min(list.length, first + visible);
    while (this.views.length < last - first) {
      const view = new RowView((row) => { location.hash = linkTo("session", row.session_id); });
      this.views.push(view);
      this.below.before(view.element);
    }
    while (this.views.length > last - first) this.views.pop().element.remove();
    const now = store.now();
    this.views.forEach((view, at) => view.show(list[first + at], first + at, list[first + at].session_id === this.selected, now));
    this.above.firstChild.style.height = `${first * height}px`;
    this.below.firstChild.style.height = `${(list.length - last) * height}px`;
    this.table.setAttribute("aria-rowcount", list.length + 1);
  }

  #emptiness() {
    const nothing = this.store.complete && !this.store.rows.size;
    const filtered = this.store.rows.size > 0 && !this.list.length;
    this.table.hidden = !this.list.length;
    this.empty.hidden = this.list.length > 0;
    this.strip.hidden = this.tools.hidden = nothing;
    const kind = nothing ? "teach" : filtered ? "filtered" : "loading";
    if (this.emptyKind === kind) return;
    this.emptyKind = kind;
    if (kind === "teach") replace(this.empty, teach());
    else replace(this.empty, h("p", filtered ? "No session matches. " : "Loading the fleet …", filtered ? h("button.quiet", { type: "button", onclick: () => { this.search.value = ""; setQuery({ q: "", state: "" }); this.resort(); } }, "Clear the filters") : null));
  }

  pause() {
    this.paused = !this.paused;
    this.changesAtPause = this.store.changes;
    this.pauseButton.textContent = this.paused ? "Go on" : "Pause";
    this.pauseButton.setAttribute("aria-pressed", this.paused);
    if (!this.paused) this.resort();
  }

  refused(why) {
    replace(this.empty, h("p.error", why));
    this.emptyKind = "refused";
    this.empty.hidden = false;
  }

  key({ key }) {
    const step = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 }[key];
    if (key === "/") { this.search.focus(); this.search.select(); }
    else if (step) this.#move(step);
    else if (key === "p") this.pause();
    else if (key === "Escape" && !this.peek.hidden) this.#closePeek();
    else if (key === "Escape") { this.selected = null; this.#render(); }
    else if (!this.selected) return false;
    else if (key === " ") { if (this.peek.hidden) { this.peek.hidden = false; this.#showPeek(); } else this.#closePeek(); }
    else if (key === "Enter") location.hash = linkTo("session", this.selected);
    else if (key === "b") act("block", { session_id: this.selected });
    else if (key === "r") act("release", { session_id: this.selected });
    else return false;
    return true;
  }

  #move(step) {
    if (!this.list.length) return;
    const at = this.list.findIndex((row) => row.session_id === this.selected);
    const next = Math.min(this.list.length - 1, Math.max(0, at < 0 ? 0 : at + step));
    this.selected = this.list[next].session_id;
    const height = this.views[0]?.element.offsetHeight || 44;
    const top = this.table.getBoundingClientRect().top + this.head.offsetHeight + next * height;
    if (top < 120) scrollBy(0, top - 120);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 12);
    this.#render();
    this.#showPeek();
    document.getElementById("announce").textContent = `${this.list[next].agent_id ?? "unknown"}, ${this.list[next].state}, row ${next + 1} of ${this.list.length}`;
  }
}

function teach() {
  const code = `from fleetwake.producer import AuditProducer\nfrom fleetwake.schemas import AuditEvent\n\nwith AuditProducer() as producer:\n    producer.emit(AuditEvent(event_type="session.start", session_id="my-first-session", agent_id="me"))`;
  return [
    h("h2", "No session yet"),
    h("p", "An agent is connected with four lines. This page shows it within a second."),
    h("pre", h("code", code)),
    h("p", "Or watch a fleet at work: ", h("code", "fleetwake demo"), "; or take in what an agent has recorded: ", h("code", "fleetwake ingest FILE"), "."),
    h("button.primary", { type: "button", onclick: async () => {
      try {
        const { session_id: session } = await ask("/api/test-event", { method: "POST" });
        toast(`A test event is on its way: session ${session}.`);
      } catch (error) {
        toast(error.message, "bad");
      }
    } }, "Send a test event"),
  ];
}
