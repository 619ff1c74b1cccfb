// What changed: the same problem (or one of its kind) in other steps, and two of them side by side.

function chart(entries, other) {
  const bars = entries.map((entry) => {
    const share = entry.num_right / entry.size;
    const fill = el("i");
    fill.style.height = `${100 * share}%`;
    const place = String(entry.step) === state.step ? "here" : entry === other ? "there" : "";
    const title = `step ${entry.step}: ${percent(share)} of ${entry.size} correct, reward ${number(entry.reward)}, ${number(entry.num_tokens, 0)} tokens`;
    const pick = () => show({ other: `${entry.step}.${entry.position}` });
    return el("button", { className: place, title, "aria-label": title, onclick: pick }, fill);
  });
  const first = entries[0].step, last = entries[entries.length - 1].step;
  const box = el("div", { className: "chart" },
    el("div", { className: "bars", role: "group", "aria-label": "share of correct completions by step" }, ...bars),
    el("div", { className: "ends" }, el("span", {}, `step ${first}`), el("span", {}, `step ${last}`)));
  box.style.maxWidth = `${Math.max(160, 36 * entries.length)}px`;
  return [box, el("p", { className: "about" }, "The share of correct completions in each step. Choose another step to compare with.")];
}

const mean = (rollouts, of) => rollouts.reduce((sum, rollout) => sum + of(rollout), 0) / rollouts.length;
const MEASURES = {
  "correct completions": [(r) => r.outcome === "correct", percent],
  reward: [(r) => r.reward, number],
  tokens: [(r) => r.num_tokens, (value) => number(value, 1)],
  "reflection words": [(r) => r.reflection_words, number],
  "mean log-probability": [(r) => r.logprobs.reduce((a, b) => a + b, 0) / Math.max(1, r.sizes.reduce((a, b) => a + b, 0)), (value) => number(value, 3)],
};

function comparison(early, late) {
  const head = ([group, place]) => el("th", {}, el("span", { className: `dot ${place}` }), `step ${group.step}`);
  const rows = Object.entries(MEASURES).map(([name, [of, write]]) => {
    const [a, b] = [mean(early[0].rollouts, of), mean(late[0].rollouts, of)];
    return el("tr", {}, el("th", {}, name), el("td", {}, write(a)), el("td", {}, write(b)), el("td", {}, (b > a ? "+" : b < a ? MINUS : "") + write(Math.abs(b - a))));
  });
  return el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "means of the group"), head(early), head(late), el("th", {}, "change"))),
    el("tbody", {}, ...rows));
}

function side(group, place, rank) {
  const rollouts = sorted(group.rollouts, state.sort);
  const rollout = rollouts[Math.min(rank, rollouts.length - 1)];
  return el("section", {},
    el("h2", {}, el("span", { className: `dot ${place}` }), `step ${group.step}, group ${group.position}`),
    el("span", { className: "asked", dir: "auto", lang: group.language }, group.prompt),
    card(group, rollout, mostOf(group.rollouts)));
}

async function drawAcross() {
  if (state.group === "") return [el("p", { className: "soft" }, "This step has no groups.")];
  const found = await ask("across", { step: state.step, position: state.group });
  const [step, position] = state.other.split(".");
  const others = found.steps.filter((entry) => String(entry.step) !== state.step);
  // The far end of the run shows most of what changed.
  const far = Number(state.step) > (found.steps[0].step + found.steps[found.steps.length - 1].step) / 2 ? others[0] : others[others.length - 1];
  const other = others.find((entry) => String(entry.step) === step) ?? far;
  const what = found.is_same_problem
    ? `The same problem (${found.name}) was drawn in ${found.steps.length} steps.`
    : `No other step drew this problem; compared are groups of its kind (${found.name}), which ${found.steps.length} step${found.steps.length === 1 ? "" : "s"} drew.`;
  const top = [el("h1", {}, "What changed"), el("p", { className: "about" }, what), ...chart(found.steps, other)];
  if (!other) return [...top, el("p", { className: "soft" }, "There is no other step to compare with.")];
  const otherPosition = String(other.step) === step && position ? position : other.position;
  const [here, there] = await Promise.all([
    ask("group", { step: state.step, position: state.group }), ask("group", { step: other.step, position: otherPosition }),
  ]);
  const places = [[here, "here"], [there, "there"]].sort(([a], [b]) => a.step - b.step);
  const size = Math.max(here.rollouts.length, there.rollouts.length);
  const rank = Math.min(Number(state.rank) || 0, size - 1);
  const turn = (by) => show({ rank: String((rank + by + size) % size) });
  const bar = controls();
  bar.append(el("span", {}, el("button", { onclick: () => turn(-1), "aria-label": "completion before" }, "\u2190"), ` ${rank + 1} of ${size} `, el("button", { onclick: () => turn(1), "aria-label": "next completion" }, "\u2192")));
  return [...top, comparison(...places), bar, el("div", { className: "pair" }, ...places.map(([group, place]) => side(group, place, rank)))];
}
