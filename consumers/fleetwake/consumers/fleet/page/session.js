// One session: what is known of it, and its timeline.

import { ask } from "./access.js";
import { act, toast } from "./act.js";
import { alertCard } from "./alerts.js";
import { h, renew, replace, unfocus } from "./dom.js";
import { blockNotes, factList } from "./facts.js";
import { milliseconds, shown, span, whole } from "./format.js";
import { linkTo } from "./place.js";
import { entriesOf, inOrder, merge } from "./timeline.js";

const MARKS = {
  "session.start": "Session begins", "session.end": "Session ends", "turn.start": "Turn begins", "turn.end": "Turn ends", "user.input": "The user says something",
  "assistant.message": "The agent answers", "context.condensed": "Context condensed", "agent.switch": "Another agent takes over", "delegation.start": "Hands work to another agent",
  "delegation.end": "The other agent is done", "loop.warning": "The source warns of a loop", "loop.block": "The source stops a loop", "gap": "Events are missing here", "error": "Error",
};

export class SessionScreen {
  constructor({ store, detail, main }) {
    this.store = store;
    this.id = detail;
    this.events = new Map();
    this.open = new Set();
    this.#build(main);
    this.#load();
  }

  leave() {
    this.drawer.remove();
  }

  #build(main) {
    this.head = h("div.facts");
    this.alerts = h("div.cards");
    this.list = h("ol.timeline", { "aria-label": "Timeline" });
    this.note = h("p.quiet");
    this.jump = h("button.quiet.jump", { type: "button", hidden: true, onclick: () => scrollTo(0, document.body.scrollHeight) }, "Newest ↓");
    this.drawer = h("aside.drawer", { hidden: true, "aria-label": "Record" });
    document.body.append(this.drawer);
    const actions = h("div.actions",
      h("button.danger", { type: "button", onclick: () => act("block", { session_id: this.id }) }, "Block"),
      h("button.quiet", { type: "button", onclick: () => act("release", { session_id: this.id }) }, "Release"),
      h("button.quiet", { type: "button", onclick: () => this.#copy() }, "Copy the export command"));
    replace(main, h("nav.crumbs", { "aria-label": "Where you are" }, h("a", { href: linkTo("fleet") }, "Fleet"), " / ", h("span", shown(this.id, 80))),
      h("div.title", h("h1", { title: shown(this.id, 1000) }, shown(this.id, 60)), actions), this.head, this.alerts, h("h2", "Timeline"), this.note, this.list, this.jump);
  }

  /** What is archived; what is in memory comes with the live stream. */
  async #load() {
    replace(this.note, "Loading …");
    try {
      const found = await ask(`/api/session?id=${encodeURIComponent(this.id)}`);
      merge(this.events, found.events);
      this.where = found.note;
    } catch (error) {
      this.where = error.message;
    }
    this.#timeline();
  }

  timeline(events) {
    const atEnd = scrollY > 0 && innerHeight + scrollY >= document.body.scrollHeight - 80;
    merge(this.events, events);
    if (!events.length) return;
    this.#timeline();
    if (atEnd && this.events.size > 20) scrollTo(0, document.body.scrollHeight);
    else this.jump.hidden = atEnd || document.body.scrollHeight <= innerHeight;
  }

  update() {
    const row = this.store.rows.get(this.id);
    const key = row ? row : "none";
    if (key === this.shownRow) return;
    this.shownRow = key;
    if (!row) replace(this.head, h("p.quiet", this.store.loaded ? "This session is not among the live ones." : "Loading …"));
    else this.#facts(row);
    const mine = [...this.store.alerts.values()].filter((one) => one.session_id === this.id).sort((a, b) => (a.state === "resolved") - (b.state === "resolved") || b.first_occurred_at - a.first_occurred_at);
    renew(this.alerts, mine.slice(0, 10).map((one) => alertCard(one, this.store.now(), { inSession: true })));
  }

  second() {
    const row = this.store.rows.get(this.id);
    if (row && !this.head.contains(document.activeElement)) this.#facts(row);
  }

  #facts(row) {
    renew(this.head, factList(row, this.store.now()), blockNotes(row));
  }

  #timeline() {
    const events = inOrder(this.events);
    const entries = entriesOf(events);
    replace(this.note, events.length ? `${whole(events.length)} events. ${this.where ?? ""}` : `No event of this session is in memory or in the archive. ${this.where ?? ""}`);
    const first = events[0]?.occurred_at ?? 0;
    renew(this.list, entries.map((entry) => this.#entry(entry, first)));
  }

  #entry(entry, first) {
    const id = `${entry.kind}-${entry.at}-${entry.tool ?? entry.event?.event_type ?? ""}`;
    const since = h("time", { title: new Date(entry.at / 1000).toISOString() }, `+${span((entry.at - first) / 1e6)}`);
    if (entry.kind === "group") return this.#group(entry, id, since);
    const [began, last] = [entry.events[0], entry.events.at(-1)];
    const [what, aside, className] = this.#words(entry);
    return h(`li.entry.${entry.kind}${className ? `.${className}` : ""}`, { "data-key": `${began.partition}-${began.offset}` }, since, h("button.line", { type: "button", onclick: () => this.#record(last) }, what), aside);
  }

  #group(entry, id, since) {
    const details = h("details", { ontoggle: () => { if (details.open) this.open.add(id); else this.open.delete(id); fillIn(); } },
      h("summary", h("b.times", `${entry.calls.length}×`), " ", h("b", shown(entry.tool ?? "a tool", 60)), ` same call, ${entry.equal ? "same result" : "other results"} `, h("code.args", shown(entry.preview ?? "", 120)), outcome(entry.last)));
    const inner = h("ol.timeline");
    const fillIn = () => { if (details.open && !inner.childNodes.length) replace(inner, entry.inside.map((one) => this.#entry(one, entry.at))); };
    details.append(inner);
    if (this.open.has(id)) { details.open = true; fillIn(); }
    return h(`li.entry.group${entry.equal ? ".equal" : ""}`, { "data-key": id }, since, details);
  }

  #words(entry) {
    const { event } = entry;
    if (entry.kind === "call") {
      const took = entry.end?.duration_ms ?? (entry.start && entry.end ? (entry.end.occurred_at - entry.start.occurred_at) / 1000 : null);
      const error = entry.end && [entry.end.error_kind, entry.end.error_type].filter(Boolean).join(": ");
      return [
        [h("b", shown(entry.tool ?? "a tool without a name", 60)), " ", h("code.args", shown(entry.preview ?? "", 160)), entry.end?.result_preview ? h("span.result", shown(entry.end.result_preview, 160)) : null, error ? h("span.result.bad", shown(`${error} ${entry.end.error_message ?? ""}`, 200)) : null],
        h("span.aside", entry.asked ? h("span.amber", "asked a person") : null, entry.end ? outcome(entry) : h("span.open", "open"), h("span.num", milliseconds(took))),
        entry.end?.event_type === "tool.failure" ? "failed" : entry.end ? "" : "unanswered",
      ];
    }
    if (entry.kind === "model") {
      return [[h("span.quiet", shown(event.model ?? "model", 60)), event.event_type === "model.error" ? h("span.bad", " error ", shown(event.error_type ?? "", 60)) : null], h("span.aside", h("span.num.quiet", `${whole(event.input_tokens ?? 0)} → ${whole(event.output_tokens ?? 0)} tokens`), h("span.num.quiet", milliseconds(event.duration_ms))), event.event_type === "model.error" ? "failed" : ""];
    }
    const said = MARKS[event.event_type] ?? shown(event.event_type === "custom" ? event.source_event_type : event.event_type, 60);
    return [[h("span", said), event.reason ? h("span.result", shown(event.reason, 200)) : null], h("span.aside", event.outcome && event.outcome !== "unknown" ? h("span.quiet", event.outcome) : null, event.user_id ? h("span.quiet", shown(event.user_id, 40)) : null), event.severity === "error" || event.severity === "critical" ? "failed" : ""];
  }

  async #record(event) {
    this.drawer.hidden = false;
    const close = h("button.icon-button", { type: "button", "aria-label": "Close", onclick: () => this.#closeDrawer() }, "✕");
    replace(this.drawer, h("div.title", h("h2", event.event_type), close), h("p.quiet", "Loading …"));
    close.focus();
    try {
      const record = await ask(`/api/records/${event.partition}/${event.offset}`);
      renew(this.drawer, h("div.title", h("h2", event.event_type), close),
        h("dl.where", [["Topic", record.topic], ["Partition", record.partition], ["Offset", record.offset], ["Appended", new Date(record.appended_ms).toISOString()], ["SHA-256 of the value", record.value_sha256 ?? "–"], ["Archive file", record.file ?? "not archived yet"], ["record_sha256", record.record_sha256 ?? "–"]].map(([name, value]) => [h("dt", name), h("dd", h("code", shown(String(value), 300)))])),
        h("h3", "Event"), h("pre.json", h("code", JSON.stringify(record.event, null, 2))));
    } catch (error) {
      renew(this.drawer, h("div.title", h("h2", event.event_type), close), h("p.error", error.message));
    }
  }

  #closeDrawer() {
    unfocus(this.drawer);
    this.drawer.hidden = true;
  }

  async #copy() {
    // In single quotes a shell takes everything but a single quote as it stands.
    const quoted = `'${this.id.replaceAll("'", "'\\''")}'`;
    try {
      await navigator.clipboard.writeText(`fleetwake archive export --session ${quoted} --format jsonl`);
      toast("Copied.");
    } catch {
      toast("The browser does not let this page copy.", "bad");
    }
  }

  key({ key }) {
    if (key === "Escape") {
      if (!this.drawer.hidden) this.#closeDrawer();
      else location.hash = linkTo("fleet");
    } else if (key === "b") act("block", { session_id: this.id });
    else if (key === "r") act("release", { session_id: this.id });
    else return false;
    return true;
  }
}

function outcome(entry) {
  const word = { "tool.complete": entry.end.outcome === "unknown" ? "done" : entry.end.outcome, "tool.failure": entry.end.outcome === "timeout" ? "timeout" : "failed", "tool.blocked": "blocked", "tool.cached": "cached", "tool.replayed": "replayed", "tool.invalidated": "invalid" }[entry.end.event_type];
  const bad = ["tool.failure", "tool.blocked", "tool.invalidated"].includes(entry.end.event_type);
  return h(`span.outcome${bad ? ".bad" : ""}`, bad ? "✕ " : "✓ ", word);
}
