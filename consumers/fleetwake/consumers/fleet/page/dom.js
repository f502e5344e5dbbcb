// Elements are made here and nowhere else. Whatever an event holds becomes text, never
// HTML: there is no innerHTML in this page.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("td.num", {title: "..."}, "text", child). */
export function h(spec, ...rest) {
  const [tag, ...classes] = spec.split(".");
  return fill(document.createElement(tag || "div"), classes, rest);
}

/** The same in SVG. */
export function s(spec, ...rest) {
  const [tag, ...classes] = spec.split(".");
  return fill(document.createElementNS(SVG, tag), classes, rest);
}

function fill(element, classes, rest) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const one of rest.flat(3)) {
    if (one === null || one === undefined || one === false) continue;
    if (one instanceof Node) element.append(one);
    else if (typeof one === "object") attributes(element, one);
    else element.append(document.createTextNode(String(one)));
  }
  return element;
}

function attributes(element, given) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("aria-") || name.startsWith("data-")) element.setAttribute(name, String(value));
    else if (value === false) continue;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
}

const FOCUSABLE = "a[href], button, summary";

/** Replace what is drawn anew: who is on a link or a button of it by keys, stays there. */
export function renew(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.closest("[data-key]")?.dataset.key;
  // Entries come and go: of one that has a key, the key tells which it is.
  const part = () => [...element.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key) ?? (key ? null : element);
  const at = focused ? [...(part()?.querySelectorAll(FOCUSABLE) ?? [])].indexOf(focused) : -1;
  replace(element, ...children);
  if (at >= 0) part()?.querySelectorAll(FOCUSABLE)[at]?.focus({ preventScroll: true });
}

/** Take away a drawer or a dialog that holds the focus: the next keys are the page's. */
export function unfocus(element) {
  if (element.contains(document.activeElement)) document.activeElement.blur();
}

/** A line of the last values, drawn as text-free SVG. `label` says it in words. */
export function sparkline(values, label, width = 72, height = 18) {
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((one, at) => `${(at * step).toFixed(1)},${(height - 1 - (one / most) * (height - 2)).toFixed(1)}`);
  return s("svg.spark", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    s("polyline", { points: points.join(" ") }));
}
