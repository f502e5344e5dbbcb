// The page's frame: screens, the live stream, keys.

import { takeToken, ask } from "./access.js";
import { h, renew, replace, sparkline } from "./dom.js";
import { whole } from "./format.js";
import { Live } from "./live.js";
import { linkTo, place } from "./place.js";
import { Store } from "./store.js";
import { AlertsScreen } from "./alerts.js";
import { ExploreScreen } from "./explore.js";
import { FleetScreen } from "./fleet.js";
import { PipelineScreen } from "./pipeline.js";
import { SessionScreen } from "./session.js";
import { showKeys } from "./act.js";

const SCREENS = {
  fleet: { title: "Fleet", make: FleetScreen },
  session: { title: "Session", make: SessionScreen, hidden: true },
  alerts: { title: "Alerts", make: AlertsScreen },
  explore: { title: "Explore", make: ExploreScreen },
  pipeline: { title: "Pipeline", make: PipelineScreen },
};
const LINKS = {
  live: ["Live", "Changes arrive as they happen"],
  silent: ["Kafka is silent", "Kafka does not answer; what you see is the last known state"],
  away: ["Reconnecting", "The server does not answer; what you see is the last known state"],
  refused: ["Refused", ""],
};

const element = (id) => document.getElementById(id);
const store = new Store();
let screen = null;
let shownPlace = "";

const live = new Live({
  hello: (message) => { store.hello(message); changed(); },
  patch: (message) => { store.patch(message); changed(); },
  timeline: (events) => { const looking = screen; unheld(() => looking?.timeline?.(events)); },
  link: (state, why) => {
    const [word, title] = LINKS[state];
    const link = element("link");
    link.dataset.state = state;
    link.title = why || title;
    link.textContent = word;
    tellSource();
    if (state === "refused") screen?.refused?.(why);
  },
});

// Of the connection that stands: whether the server itself knows what is going on.
function tellSource() {
  const link = element("link");
  if (!["live", "silent"].includes(link.dataset.state)) return;
  const state = store.heard ? "live" : "silent";
  const behind = state === "live" && store.loaded && !store.complete;
  const [word, title] = behind ? ["Catching up", "The server has just started and is still reading the log"] : LINKS[state];
  link.dataset.state = state;
  link.title = title;
  if (link.textContent !== word) link.textContent = word;
}

// What is drawn anew between press and release of the mouse would not get the click. The
// release may go to another window: a second is a long click.
const HELD_MS = 1000;
let pressedAt = -Infinity;
addEventListener("pointerdown", () => { pressedAt = performance.now(); }, true);
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => { pressedAt = -Infinity; }, true);

function unheld(draw) {
  if (performance.now() - pressedAt < HELD_MS) requestAnimationFrame(() => unheld(draw));
  else draw();
}

let wanted = false;
function changed() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => unheld(() => {
    wanted = false;
    screen?.update?.();
    frame();
  }));
}

function frame() {
  tellSource();
  const now = place().screen;
  const firing = store.firing();
  renew(element("nav"), ...Object.entries(SCREENS).filter(([, one]) => !one.hidden).map(([name, one]) =>
    h("a", { href: linkTo(name), "aria-current": name === now || (now === "session" && name === "fleet") ? "page" : null }, one.title,
      name === "alerts" && firing ? h("span.badge", { "aria-label": `${firing} firing` }, whole(firing)) : null)));
  const last = store.rates.slice(-5);
  const rate = Math.round(last.reduce((sum, one) => sum + one, 0) / Math.max(1, last.length));
  replace(element("rate"), sparkline(store.rates, `${rate} events a second now`, 60, 16), h("span.num", `${whole(rate)}/s`));
}

function go() {
  const { screen: name, name: detail, query } = place();
  const known = SCREENS[name] ? name : "fleet";
  const here = `${known}/${detail ?? ""}`;
  if (here !== shownPlace) {
    shownPlace = here;
    screen?.leave?.();
    live.look(known === "session" ? detail : null);
    document.title = `${detail ?? SCREENS[known].title} · fleetwake`;
    screen = new SCREENS[known].make({ store, detail, query, main: element("main") });
    scrollTo(0, 0);
    if (document.activeElement === document.body) element("main").focus({ preventScroll: true });
  }
  screen.update?.();
  frame();
}

function theme() {
  const chosen = localStorage.getItem("fleetwake.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  element("theme").textContent = dark ? "☀" : "☾";
  return dark;
}

element("theme").addEventListener("click", () => {
  localStorage.setItem("fleetwake.theme", theme() ? "light" : "dark");
  theme();
});

// A dialog that Esc has closed keeps the focus until the next frame: a second Esc is the
// page's by then.
function isTyping(target) {
  const dialog = target.closest?.("dialog");
  return dialog ? dialog.open : target.matches?.("input, textarea, select");
}

addEventListener("keydown", (event) => {
  // Esc would empty the search: it leaves it.
  if (event.key === "Escape" && event.target.matches?.("main input, main textarea")) { event.target.blur(); event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if ((event.key === " " || event.key === "Enter") && event.target.closest?.("button, a, summary")) return;
  if (event.key === "?") showKeys();
  else if (event.key === "g") location.hash = linkTo("fleet");
  else if (event.key === "a") location.hash = linkTo("alerts");
  else if (!screen?.key?.(event)) return;
  event.preventDefault();
});

addEventListener("hashchange", () => { takeToken(); go(); });
setInterval(() => unheld(() => screen?.second?.()), 1000);
takeToken();
theme();
go();
live.run();
ask("/api/me").then((me) => { document.documentElement.dataset.acts = me.may_act; }).catch(() => {});
