// Alerts: what fires, why, and who looks after it.

import { act } from "./act.js";
import { h, renew, replace } from "./dom.js";
import { prose } from "./facts.js";
import { clock, shown, span, whole } from "./format.js";
import { linkTo, place, setQuery } from "./place.js";
import { LEVELS } from "./store.js";

const ICONS = { block: "■", critical: "▲", warning: "△" };
const HIDDEN = new Set(["acknowledged_by", "acknowledged_at", "acknowledged_reason", "silenced_by", "silenced_until", "silenced_reason", "part_of"]);

export function alertCard(alert, nowMs, { inSession = false, row = null } = {}) {
  const over = alert.state === "resolved";
  const told = alert.attributes ?? {};
  const evidence = Object.entries(told).filter(([name]) => !HIDDEN.has(name));
  const silenced = told.silenced_until && Number(told.silenced_until) / 1000 > nowMs;
  const stopped = row?.state === "blocked" && !over;
  const about = { session_id: alert.session_id, alert_id: alert.alert_id };
  return h(`article.alert.level-${alert.level}${over ? ".over" : ""}`, { "data-key": alert.alert_id },
    h("div.alert-head", h("span.level", h("span.icon", { "aria-hidden": "true" }, ICONS[alert.level] ?? "△"), over ? "resolved" : alert.level), h("h2", shown(alert.rule.replaceAll("_", " "), 60)),
      alert.kind === "loop" ? null : h("span.tag", alert.kind), told.part_of ? h("span.tag", "part of a fleet alert") : null, silenced ? h("span.tag", "silenced") : null, stopped ? h("span.tag.stopped", "session blocked") : null,
      told.acknowledged_by ? h("span.tag", `${shown(told.acknowledged_by, 40)} looks after it`) : null),
    h("p.reason", prose(alert.reason, 500)),
    h("p.meta", alert.agent_id ? [shown(alert.agent_id, 60), " · "] : null, !inSession && alert.session_id ? [h("a", { href: linkTo("session", alert.session_id) }, shown(alert.session_id, 40)), " · "] : null,
      `${whole(alert.count)}× since ${clock(alert.first_occurred_at)}`, over ? "" : ` (${span(nowMs / 1000 - alert.first_occurred_at / 1e6)})`),
    h("details", h("summary", "Evidence"), h("dl.where",
      [["Rule", `${alert.rule}, version ${alert.rule_version}`], ["First event", alert.first_event_id], ["Last event", alert.last_event_id], ["Record", `partition ${alert.source_partition}, offset ${alert.source_offset}`], ["Alert", alert.alert_id], ...evidence].map(([name, value]) => [h("dt", shown(name, 60)), h("dd", h("code", shown(String(value), 300)))]))),
    over ? null : h("div.actions",
      h("button.quiet", { type: "button", onclick: () => act("acknowledge", about) }, "Acknowledge"),
      h("button.quiet", { type: "button", onclick: () => act("silence", about) }, "Silence"),
      !alert.session_id || inSession ? null
        : row?.state === "blocked" ? h("button.quiet", { type: "button", onclick: () => act("release", { session_id: alert.session_id }) }, "Release")
          : h("button.danger", { type: "button", onclick: () => act("block", { session_id: alert.session_id }) }, "Block")));
}

export class AlertsScreen {
  constructor({ store, main }) {
    this.store = store;
    this.tabs = h("div.tabs", { role: "group", "aria-label": "Which alerts" });
    this.cards = h("div.cards");
    replace(main, h("h1", "Alerts"), this.tabs, this.cards);
  }

  update() {
    const which = place().query.get("show") ?? "firing";
    const all = [...this.store.alerts.values()];
    const key = `${which} ${all.length} ${this.store.firing()} ${all.reduce((sum, one) => sum + one.count + Object.keys(one.attributes).length + (this.store.rows.get(one.session_id)?.state === "blocked" ? 1e-3 : 0), 0)} ${this.store.loaded}`;
    if (key === this.key0) return;
    this.key0 = key;
    const groups = { firing: all.filter((one) => one.state !== "resolved"), resolved: all.filter((one) => one.state === "resolved") };
    renew(this.tabs, Object.entries(groups).map(([name, list]) => h("button.tab", { type: "button", "aria-pressed": name === which, onclick: () => { setQuery({ show: name === "firing" ? "" : name }); this.update(); } }, `${name} `, h("span.num", whole(list.length)))));
    const list = groups[which].sort((a, b) => (which === "firing" ? (LEVELS[a.level] ?? 3) - (LEVELS[b.level] ?? 3) : 0) || b.last_occurred_at - a.last_occurred_at).slice(0, 300);
    const open = new Set([...this.cards.querySelectorAll("details[open]")].map((one) => one.closest("[data-key]")?.dataset.key));
    renew(this.cards, list.length ? list.map((one) => {
      const card = alertCard(one, this.store.now(), { row: this.store.rows.get(one.session_id) });
      if (open.has(one.alert_id)) card.querySelector("details").open = true;
      return card;
    }) : h("section.empty", h("h2", which === "firing" ? "Nothing fires" : "Nothing has been resolved lately"), h("p", "The loops service watches every session: repeated calls, cycles, errors in a row, stalls, budgets. What it finds is here within a second, and goes to the sinks of ", h("code", "notify"), ".")));
  }

  key({ key }) {
    if (key !== "Escape") return false;
    location.hash = linkTo("fleet");
    return true;
  }
}
