// What a person may do, asked in a dialog: who, why, for how long.

import { ask, headers, myName, rememberName, rememberToken } from "./access.js";
import { h, unfocus } from "./dom.js";
import { shown } from "./format.js";

const FOR = [["", "until it is released"], [900, "for 15 minutes"], [3600, "for 1 hour"], [28800, "for 8 hours"], [86400, "for a day"], [604800, "for a week"]];
const ACTS = {
  block: { title: "Block", verb: "Block", danger: true, timed: true, says: "The agent's guard refuses its next call, within about a second. Agents without a guard go on." },
  release: { title: "Release", verb: "Release", says: "All blocks of this session end. The rules go on watching it." },
  acknowledge: { title: "Acknowledge", verb: "Acknowledge", says: "Somebody looks after it: the alert stays open, and nobody is told again." },
  silence: { title: "Silence", verb: "Silence", timed: true, needsTime: true, says: "Nobody is told of this alert for a while. It stays visible here." },
};

export function toast(text, kind = "ok") {
  const one = h(`p.toast.${kind}`, text);
  document.getElementById("toasts").append(one);
  setTimeout(() => one.remove(), 8000);
}

function leave(dialog) {
  unfocus(dialog);
  dialog.remove();
}

/** Ask, and send the command. `about` has session_id, and alert_id or tool_name. */
export function act(action, about) {
  const kind = ACTS[action];
  const who = h("input", { id: "act-who", name: "by", required: true, maxlength: 200, autocomplete: "name", value: myName() });
  const why = h("textarea", { id: "act-why", name: "reason", required: true, maxlength: 1000, rows: 3 });
  const long = kind.timed && h("select", { id: "act-for", name: "for_s" }, FOR.slice(kind.needsTime ? 1 : 0).map(([value, text]) => h("option", { value }, text)));
  const token = h("input", { id: "act-token", name: "token", type: "password", autocomplete: "off", required: true });
  const needsToken = !headers().authorization;
  const error = h("p.error", { role: "alert" });
  const form = h("form", { method: "dialog" },
    h("h2", { id: "act-title" }, kind.title, " ", h("code", shown(about.tool_name ?? about.session_id ?? about.alert_id, 60))),
    h("p.quiet", kind.says),
    needsToken ? [h("label", { for: "act-token" }, "Token"), token, h("p.quiet", "This tab may only read. ", h("code", "fleetwake page"), " prints the address with the token in it.")] : null,
    h("label", { for: "act-who" }, "Who"), who,
    h("label", { for: "act-why" }, "Why"), why,
    kind.timed ? [h("label", { for: "act-for" }, "How long"), long] : null,
    error,
    h("div.actions", h("button.quiet", { type: "button", onclick: () => dialog.close() }, "Cancel"), h(`button.${kind.danger ? "danger" : "primary"}`, { type: "submit" }, kind.verb)));
  const dialog = h("dialog", { "aria-labelledby": "act-title", onclose: () => leave(dialog) }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    if (needsToken) rememberToken(token.value);
    rememberName(who.value.trim());
    const body = { action, ...about, by: who.value, reason: why.value, for_s: long && long.value ? Number(long.value) : null };
    try {
      await ask("/api/commands", { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
      toast(`${kind.title}: sent. It is on the commands topic, with your name and reason.`);
      dialog.close();
    } catch (problem) {
      error.textContent = problem.message;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  (needsToken ? token : who.value ? why : who).focus();
}

const KEYS = [["/", "search"], ["j  k", "next, previous"], ["Enter", "open"], ["Space", "look at the session beside the table"], ["b  r", "block, release"], ["p", "pause, go on"], ["g  a", "fleet, alerts"], ["Esc", "back"], ["?", "these keys"]];

export function showKeys() {
  const dialog = h("dialog", { "aria-labelledby": "keys-title", onclose: () => leave(dialog) },
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl.keys", KEYS.map(([keys, says]) => [h("dt", keys.split("  ").map((key) => h("kbd", key))), h("dd", says)])),
    h("form", { method: "dialog" }, h("div.actions", h("button.primary", "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}
