/* Elements and icons, built node by node: text only ever becomes text. */

const SVG = "http://www.w3.org/2000/svg";

/** An element. Functions among the properties are listeners (`onclick`), null leaves one out, the rest are attributes. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

const ICONS = {
  plus: ["M12 5v14", "M5 12h14"],
  up: ["M12 19V5.500", "m6 11.500 6-6 6 6"],
  down: ["M12 5v13.500", "m6 12.500 6 6 6-6"],
  stop: [],
  copy: ["M9.500 9.500h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-9a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1Z", "M15.500 6.500v-2a1 1 0 0 0-1-1h-9a1 1 0 0 0-1 1v9a1 1 0 0 0 1 1h1"],
  check: ["m5 12.500 4.500 4.500L19 7.500"],
  again: ["M19.500 12a7.500 7.500 0 1 1-2.200-5.300L19.500 9", "M19.500 4.500V9H15"],
  pencil: ["M4.500 19.500h3.800L19 8.800a1.800 1.800 0 0 0 0-2.500l-1.300-1.300a1.800 1.800 0 0 0-2.500 0L4.500 15.700Z", "m13.500 6.800 3.700 3.700"],
  chevron: ["m9.500 6.500 5.500 5.500-5.500 5.500"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8Z", "M12 2.500v2", "M12 19.500v2", "M2.500 12h2", "M19.500 12h2", "m5.300 5.300 1.400 1.400", "m17.300 17.300 1.400 1.400", "m5.300 18.700 1.400-1.400", "m17.300 6.700 1.400-1.400"],
  moon: ["M19.500 14.200A8 8 0 0 1 9.800 4.500a8 8 0 1 0 9.700 9.700Z"],
  auto: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z"],
  alert: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M12 8.500v4.200", "M12 15.600v.1"],
  table: ["M4.500 6h15v12h-15Z", "M4.500 10h15", "M4.500 14h15", "M10 6v12"],
  help: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M9.800 9.800a2.200 2.200 0 1 1 3.200 2c-.7.4-1 .8-1 1.600", "M12 16v.1"],
  key: ["M8.500 11a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9Z", "m11.700 12.300 7.800-7.800", "m16 8 2.500 2.500"],
};

/** An icon of 24 units; decoration only, the control around it carries the name. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("class", `icon icon-${name}`);
  picture.setAttribute("aria-hidden", "true");
  for (const d of ICONS[name]) picture.append(path(d));
  if (name === "auto") picture.append(path("M12 4a8 8 0 0 1 0 16Z", "filled"));
  if (name === "stop") picture.append(path("M8 7h8a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H8a1 1 0 0 1-1-1V8a1 1 0 0 1 1-1Z", "filled"));
  return picture;
}

function path(d, kind) {
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", d);
  if (kind) line.setAttribute("class", kind);
  return line;
}

/** A button that holds an icon; `label` is its name and its tooltip. */
export function iconButton(kind, label, onclick, { className = "tool" } = {}) {
  return el("button", { type: "button", class: className, "aria-label": label, title: label, onclick }, icon(kind));
}

/** Put `text` on the clipboard; pages on plain http have no clipboard API and take the old way. */
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // refused (no permission, no focus): the old way may still work
    }
  }
  const field = el("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  const before = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus?.();
  return copied;
}

/** A button that copies what `read()` returns and says so for a moment. */
export function copyButton(label, read, { className = "tool" } = {}) {
  let timer = 0;
  const button = iconButton("copy", label, async () => {
    const copied = await copyText(read());
    clearTimeout(timer);
    face(copied ? "check" : "alert", copied ? "Copied" : "Copying was refused");
    timer = setTimeout(face, 1600, "copy", label);
  }, { className });
  function face(kind, text) {
    button.replaceChildren(icon(kind));
    button.setAttribute("aria-label", text);
    button.title = text;
    button.classList.toggle("done", kind === "check");
  }
  return button;
}

/** Say something to screen readers. */
export function say(text) {
  document.getElementById("spoken").textContent = text;
}

/** What is to be typed, between backticks in the text, as code; the rest as it is. */
export function coded(text) {
  return text.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
}
