"use strict";
// What is shown, and nothing else: the address holds all of it, so that every view has a link.

const DEFAULTS = {
  view: "group", step: "", group: "", sample: "", order: "position", sort: "sample", colour: "logprob",
  text: "", scope: "run", outcome: "", by: "run", other: "", rank: "0",
};
const SORTS = {
  sample: "as sampled", "reward-down": "reward, highest first", "reward-up": "reward, lowest first",
  "length-down": "length, longest first", "length-up": "length, shortest first",
  "advantage-down": "advantage, highest first", "advantage-up": "advantage, lowest first",
};
const COLOURS = { logprob: "log-probability", advantage: "advantage", push: "push", none: "nothing" };
const { sample: _, ...OF_ROLLOUTS } = SORTS;
const FIND_SORTS = { run: "step", ...OF_ROLLOUTS };
const ORDERS = [...document.getElementById("order").options].map((option) => option.value);
const OUTCOMES = ["correct", "wrong", "unparsable", "timeout", "infrastructure_error"];

let state = readState();

function readState() {
  const query = new URLSearchParams(location.search);
  const read = {};
  for (const key in DEFAULTS) read[key] = query.get(key) ?? DEFAULTS[key];
  if (!(read.sort in SORTS)) read.sort = DEFAULTS.sort;
  if (!(read.colour in COLOURS)) read.colour = DEFAULTS.colour;
  if (!["group", "find", "across"].includes(read.view)) read.view = DEFAULTS.view;
  if (!ORDERS.includes(read.order)) read.order = DEFAULTS.order;
  if (!(read.by in FIND_SORTS)) read.by = DEFAULTS.by;
  if (!OUTCOMES.includes(read.outcome)) read.outcome = DEFAULTS.outcome;
  return read;
}

function address(of) {
  const query = new URLSearchParams();
  for (const key in DEFAULTS) if (of[key] !== DEFAULTS[key]) query.set(key, of[key]);
  return `${location.pathname}?${query}`;
}

// What came with the page is asked for once; later it may have changed.
const known = JSON.parse(document.getElementById("known").textContent);

async function ask(path, parameters = {}) {
  const asked = `${path}?${new URLSearchParams(parameters)}`;
  if (asked in known) {
    const answer = known[asked];
    delete known[asked];
    return answer;
  }
  const response = await fetch(`/api/${asked}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(typeof answer.detail === "string" ? answer.detail : `the server answers ${response.status}`);
  return answer;
}
