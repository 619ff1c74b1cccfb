// Puts the page together: the slider, the list of groups, the chosen view, the keys.

const VIEWS = { group: drawGroup, find: drawFind, across: drawAcross };
let run = { steps: [] };
let listed = { key: "", groups: [] };
let turns = 0;
let isStale = false;

const stepIndex = () => run.steps.findIndex((entry) => String(entry.step) === state.step);

// Change what is shown. `push` makes a place to go back to.
async function show(change, push = false) {
  const moves = ("step" in change && change.step !== state.step) || ("group" in change && change.group !== state.group);
  if (moves) state = { ...state, sample: "", other: "", rank: "0" };
  state = { ...state, ...change };
  await draw(push);
}

async function draw(push = false) {
  const turn = ++turns;
  if (stepIndex() < 0) state.step = String(run.steps[run.steps.length - 1]?.step ?? "");
  drawStep();
  try {
    await listGroups(turn);
    if (turn !== turns) return;
    const content = await VIEWS[state.view]();
    if (turn !== turns) return;
    history[push ? "pushState" : "replaceState"](null, "", address(state));
    document.title = `step ${state.step}, group ${state.group}: ${run.name}`;
    $("view").replaceChildren(...content);
    $("token").hidden = true;
    document.querySelector("main").className = state.view;
    for (const button of document.querySelectorAll("nav button")) button.setAttribute("aria-current", button.dataset.view === state.view);
    document.querySelector(".card.chosen")?.scrollIntoView({ block: "nearest" });
    isStale = false;
    notice(aboutRun());
  } catch (error) {
    if (turn !== turns) return;
    isStale = true;
    notice(error.message);
  }
}

function drawStep() {
  const at = stepIndex();
  const entry = run.steps[at];
  $("step").max = Math.max(0, run.steps.length - 1);
  $("step").value = at;
  $("step").setAttribute("aria-valuetext", `step ${state.step}`);
  drawSpark(at);
  if (!entry) return;
  $("figures").replaceChildren(
    el("b", {}, `step ${entry.step}`), ` of ${run.steps[run.steps.length - 1].step} \u00b7 ${percent(entry.accuracy)} correct \u00b7 ${number(entry.response_tokens, 0)} tokens`);
  $("figures").title = entry.verdict ?? "";
}

function drawSpark(at) {
  const width = Math.max(1, run.steps.length - 1);
  $("spark").setAttribute("viewBox", `0 0 ${width} 1`);
  $("spark").setAttribute("preserveAspectRatio", "none");
  const points = run.steps.map((entry, i) => [i, entry.accuracy]).filter(([, share]) => typeof share === "number");
  $("spark").replaceChildren(
    svg("path", { d: points.map(([x, share], i) => `${i ? "L" : "M"}${x} ${1 - share}`).join("") }),
    svg("line", { x1: at, x2: at, y1: 0, y2: 1 }));
}

async function listGroups(turn) {
  const key = `${state.step} ${state.order}`;
  if (listed.key !== key && state.step !== "") {
    const page = await ask("groups", { step: state.step, order: state.order });
    if (turn !== turns) return;
    listed = { key, groups: page.groups, hasMore: page.has_more };
    $("groups").replaceChildren();
    addGroups(page.groups);
  }
  const wanted = listed.groups.some((group) => String(group.position) === state.group);
  // A link may name a group that is on a later page of the list; only a number that none has is mended.
  if (!wanted && (state.group === "" || !listed.hasMore)) state.group = listed.groups.length ? String(listed.groups[0].position) : "";
  $("order").value = state.order;
  $("more-groups").hidden = !listed.hasMore;
  for (const button of $("groups").querySelectorAll("button")) {
    const isHere = button.dataset.position === state.group;
    button.setAttribute("aria-current", isHere);
    if (isHere) keepInSight(button);
  }
}

// Scrolls the list alone: scrollIntoView would move the page too.
function keepInSight(button) {
  const list = document.querySelector("aside");
  const top = button.getBoundingClientRect().top - list.getBoundingClientRect().top + list.scrollTop;
  const bottom = top + button.offsetHeight;
  if (top < list.scrollTop || bottom > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
}

function addGroups(groups) {
  $("groups").append(...groups.map((group) => el("li", {},
    el("button", { "data-position": String(group.position), onclick: () => show({ group: String(group.position), view: state.view === "find" ? "group" : state.view }, true) },
      el("span", { className: "line num" }, el("b", {}, String(group.position)), el("span", { className: "soft" }, `${group.family}/${group.level}`),
        el("span", {}, `${group.num_right}/${group.size}`)),
      el("span", { className: "asked", dir: "auto" }, group.prompt),
      el("span", { className: "line num soft" }, `reward ${number(group.reward)}`, el("span", {}, `${number(group.num_tokens, 0)} tokens`)),
      bar(group.num_right / group.size)))));
}

async function moreGroups() {
  const page = await ask("groups", { step: state.step, order: state.order, offset: listed.groups.length });
  listed.groups.push(...page.groups);
  listed.hasMore = page.has_more;
  addGroups(page.groups);
  $("more-groups").hidden = !page.has_more;
}

function goStep(by) {
  const at = Math.min(run.steps.length - 1, Math.max(0, stepIndex() + by));
  if (at >= 0) show({ step: String(run.steps[at].step) });
}

function goGroup(by) {
  const at = listed.groups.findIndex((group) => String(group.position) === state.group) + by;
  if (at >= 0 && at < listed.groups.length) show({ group: String(listed.groups[at].position) });
}

function nextOf(options, value) {
  const keys = Object.keys(options);
  return keys[(keys.indexOf(value) + 1) % keys.length];
}

function toggleHelp() {
  $("help").hidden = !$("help").hidden;
  $("keys").setAttribute("aria-expanded", !$("help").hidden);
}

async function goFind() {
  await show({ view: "find" }, true);
  $("text").focus();
}

const KEYS = {
  ArrowLeft: (event) => goStep(event.shiftKey ? -Infinity : -1), ArrowRight: (event) => goStep(event.shiftKey ? Infinity : 1),
  j: () => goGroup(1), k: () => goGroup(-1),
  s: () => show({ sort: nextOf(SORTS, state.sort), rank: "0" }), c: () => show({ colour: nextOf(COLOURS, state.colour) }),
  g: () => show({ view: "group" }, true), w: () => show({ view: "across" }, true), f: goFind, "/": goFind,
  "?": toggleHelp, Escape: () => ($("help").hidden = true),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});
$("step").addEventListener("input", (event) => show({ step: String(run.steps[event.target.value].step) }));
$("back").onclick = () => goStep(-1);
$("forth").onclick = () => goStep(1);
$("order").onchange = (event) => show({ order: event.target.value });
$("more-groups").onclick = moreGroups;
$("keys").onclick = toggleHelp;
$("link").onclick = () => navigator.clipboard.writeText(location.href).then(() => notice("The link is copied.", 2));
for (const button of document.querySelectorAll("nav button")) button.onclick = () => (button.dataset.view === "find" ? goFind() : show({ view: button.dataset.view }, true));
window.addEventListener("popstate", () => {
  state = readState();
  draw();
});

function aboutRun() {
  if (!run.steps.length) return run.is_finished ? "This run recorded no completions." : "No step has been recorded yet; the page looks again every 10 seconds.";
  return run.has_tokenizer ? "" : "No tokenizer of this run can be read, so texts are shown without tokens.";
}

// Reads what the run has by now. What could not be read or drawn before is tried again.
async function followRun() {
  const before = run.steps.length;
  try {
    run = await ask("run");
  } catch (error) {
    return notice(error.message);
  }
  $("run").textContent = `${run.name}${run.is_finished ? "" : " (not finished)"}`;
  if (!before || isStale) await draw();
  else drawStep();
}

async function start() {
  await followRun();
  // How long the first view took, for benchmarks/view_speed.py.
  document.documentElement.dataset.firstView = performance.now().toFixed(0);
  setInterval(() => (!run.is_finished || isStale) && followRun(), 10000);
}

start();
