// The completions of a group side by side, their tokens coloured.

const BY = { reward: "reward", length: "num_tokens", advantage: "advantage" };

function sorted(rollouts, sort) {
  const [key, direction] = sort.split("-");
  if (key === "sample") return rollouts;
  const sign = direction === "up" ? 1 : -1;
  return [...rollouts].sort((a, b) => sign * (a[BY[key]] - b[BY[key]]) || a.sample - b.sample);
}

// Strength of a token's colour, from -1 to 1; null leaves it plain.
const STRENGTHS = {
  logprob: (logprob) => Math.min(1, -logprob / 5),
  advantage: (logprob, advantage, most) => (most ? advantage / most : 0),
  push: (logprob, advantage, most) => (most ? (advantage * (1 - Math.exp(logprob))) / most : 0),
  none: () => 0,
};

function colourOf(name, strength) {
  if (Math.abs(strength) < 0.02) return "";
  const [hue, most] = name === "logprob" ? ["--orange", 75] : [strength > 0 ? "--teal" : "--red", 60];
  return `color-mix(in srgb, var(${hue}) ${(most * Math.abs(strength)).toFixed(0)}%, transparent)`;
}

const TAG = /^\s*<[^<>]+>\s*$/;

// A group has thousands of tokens, most of them below the window: their text is there at once, to be
// found and measured, and each completion is coloured when it comes near.
const awaited = new WeakMap();
const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) awaited.get(entry.target)();
}, { rootMargin: "300px 0px" });

function writeWhenNear(pre, rollout, most) {
  pre.textContent = rollout.pieces.join("");
  awaited.set(pre, () => writeTokens(pre, rollout, most));
  nearby.observe(pre);
}

function writeTokens(pre, rollout, most) {
  nearby.unobserve(pre);
  pre.replaceChildren(
    ...rollout.pieces.map((piece, i) => {
      const token = el("span", { className: TAG.test(piece) ? "tag" : "" }, piece);
      token.style.backgroundColor = colourOf(state.colour, STRENGTHS[state.colour](rollout.logprobs[i], rollout.advantage, most));
      token.dataset.at = i;
      return token;
    }),
  );
  if (rollout.sizes.reduce((a, b) => a + b, 0) < rollout.num_tokens) pre.append("\u2026");
}

function tell(rollout, at) {
  const logprob = rollout.logprobs[at];
  const push = rollout.advantage * (1 - Math.exp(logprob));
  $("token").hidden = false;
  $("token").replaceChildren(
    el("code", {}, JSON.stringify(rollout.pieces[at])),
    el("span", {}, `sample ${rollout.sample}, token ${at + 1} of ${rollout.pieces.length}`),
    el("span", {}, `log-probability ${number(logprob)} (${percent(Math.exp(logprob))})`),
    el("span", {}, `advantage ${signed(rollout.advantage)}`),
    el("span", {}, `push ${signed(push)}`),
  );
}

function card(group, rollout, most, isChosen = false) {
  const pre = el("pre", { className: "text", dir: "auto", lang: group.language, tabIndex: 0 });
  writeWhenNear(pre, rollout, most);
  const point = (event) => event.target.dataset.at && tell(rollout, Number(event.target.dataset.at));
  pre.addEventListener("mouseover", point);
  pre.addEventListener("click", point);
  pre.addEventListener("mouseleave", () => ($("token").hidden = true));
  const parts = Object.entries(rollout.parts).map(([name, value]) => `${name} ${number(value)}`).join(", ");
  const link = { ...state, view: "group", step: String(group.step), group: String(group.position), sample: String(rollout.sample) };
  const whole = rollout.sizes.reduce((a, b) => a + b, 0) < rollout.num_tokens
    ? el("button", { onclick: (event) => readWhole(event.target, group, rollout, pre, most) }, `All ${rollout.num_tokens} tokens`) : null;
  return el("article", { className: `card${isChosen ? " chosen" : ""}`, id: `sample-${group.step}-${group.position}-${rollout.sample}` },
    el("div", { className: "line" },
      el("a", { href: address(link), title: "link to this completion" }, `#${rollout.sample}`),
      el("b", { className: tone(rollout.outcome) }, spoken(rollout.outcome)),
      el("span", {}, rollout.answer === null ? "no answer" : `answer ${rollout.answer}`),
      el("b", { className: `num ${rollout.advantage > 0 ? "correct" : rollout.advantage < 0 ? "wrong" : "soft"}`, title: "advantage" }, signed(rollout.advantage))),
    el("div", { className: "small" },
      el("span", {}, `reward ${number(rollout.reward)} (${parts})`),
      el("span", {}, `${rollout.num_tokens} tokens${rollout.finish === "length" ? ", cut off" : ""}`),
      el("span", {}, `${rollout.reflection_words} reflection word${rollout.reflection_words === 1 ? "" : "s"}`)),
    pre, whole);
}

async function readWhole(button, group, rollout, pre, most) {
  Object.assign(rollout, await ask("rollout", { step: group.step, position: group.position, sample: rollout.sample }));
  writeTokens(pre, rollout, most);
  button.remove();
}

const mostOf = (rollouts) => Math.max(...rollouts.map((rollout) => Math.abs(rollout.advantage)), 0);

function legend() {
  if (state.colour === "none") return null;
  const [left, kind, right] = state.colour === "logprob" ? ["p = 1", "logprob", "p < 0.01"] : ["less likely", "both", "more likely"];
  return el("span", { className: "legend" }, left, el("span", { className: `scale ${kind}` }), right);
}

function controls() {
  return el("div", { className: "controls" },
    select("Sort by", SORTS, state.sort, (sort) => show({ sort, rank: "0" })),
    select("Colour by", COLOURS, state.colour, (colour) => show({ colour })),
    legend());
}

function headline(group) {
  return [
    el("h1", { dir: "auto", lang: group.language }, group.prompt),
    el("p", { className: "about" }, `${group.family}/${group.level}, ${group.language} \u00b7 problem ${group.problem_id} \u00b7 ground truth `, el("code", {}, group.spec)),
  ];
}

async function drawGroup() {
  if (state.group === "") return [el("p", { className: "soft" }, "This step has no groups.")];
  const group = await ask("group", { step: state.step, position: state.group });
  const most = mostOf(group.rollouts);
  const cards = sorted(group.rollouts, state.sort).map((rollout) => card(group, rollout, most, String(rollout.sample) === state.sample));
  return [...headline(group), controls(), el("div", { className: "cards" }, ...cards)];
}
