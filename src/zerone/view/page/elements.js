// Elements and numbers. What a model wrote enters the page here, as text nodes and never as markup.

const $ = (id) => document.getElementById(id);

function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function select(label, options, value, onChange) {
  const list = el("select", { onchange: (event) => onChange(event.target.value) });
  for (const [key, name] of Object.entries(options)) list.append(el("option", { value: key, selected: key === value }, name));
  return el("label", {}, `${label} `, list);
}

const MINUS = "\u2212", DASH = "\u2013";

function number(value, digits = 2) {
  if (value === null || value === undefined) return DASH;
  const text = Math.abs(value).toFixed(Number.isInteger(value) ? 0 : digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}
const signed = (value, digits = 2) => (value > 0 ? "+" : "") + number(value, digits);
const percent = (share) => (share === null || share === undefined ? DASH : `${(100 * share).toFixed(1)}%`);

function bar(share) {
  const fill = el("i");
  fill.style.width = `${100 * share}%`;
  return el("span", { className: "share" }, fill);
}

const tone = (outcome) => (outcome === "correct" ? "correct" : outcome === "wrong" ? "wrong" : "odd");
const spoken = (outcome) => outcome.replaceAll("_", " ");

let noticeTimer;
function notice(text, seconds = 0) {
  clearTimeout(noticeTimer);
  $("notice").textContent = text;
  $("notice").hidden = !text;
  if (seconds) noticeTimer = setTimeout(() => notice(""), 1000 * seconds);
}
