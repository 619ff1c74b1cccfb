// Search over the texts of a step or of the whole run, in order or sorted.

function searchOf(continued) {
  const [order, direction] = state.by.split("-");
  const search = { text: state.text, outcome: state.outcome, order, is_ascending: direction === "up", ...continued };
  if (state.scope === "step") search.step = state.step;
  return search;
}

function snippet(text) {
  const line = el("code", { dir: "auto" });
  const at = state.text ? text.toLowerCase().indexOf(state.text.toLowerCase()) : -1;
  if (at < 0) line.append(text);
  else line.append(text.slice(0, at), el("mark", {}, text.slice(at, at + state.text.length)), text.slice(at + state.text.length));
  return line;
}

function hit(row) {
  const there = { view: "group", step: String(row.step), group: String(row.position), sample: String(row.sample) };
  return el("li", {}, el("button", { onclick: () => show(there, true) },
    el("span", { className: "line" },
      el("b", {}, `step ${row.step}`), el("span", { className: "soft" }, `group ${row.position} #${row.sample}`),
      el("span", { className: "soft" }, `${row.family}/${row.level}`), el("span", { className: tone(row.outcome) }, spoken(row.outcome)),
      el("span", { className: "num" }, `reward ${number(row.reward)}`), el("span", { className: "num" }, `advantage ${signed(row.advantage)}`),
      el("span", { className: "num" }, `${row.num_tokens} tokens`)),
    snippet(row.snippet)));
}

function searchForm() {
  const text = el("input", { type: "search", id: "text", value: state.text, placeholder: "text in a completion", "aria-label": "text in a completion" });
  const search = () => show({ text: text.value }, true);
  text.addEventListener("keydown", (event) => event.key === "Enter" && search());
  const outcomes = Object.fromEntries([["", "any"], ...OUTCOMES.map((outcome) => [outcome, spoken(outcome)])]);
  return el("div", { className: "controls" },
    text, el("button", { onclick: search }, "Search"),
    select("in", { run: "all steps", step: `step ${state.step}` }, state.scope, (scope) => show({ scope })),
    select("Outcome", outcomes, state.outcome, (outcome) => show({ outcome })),
    select("Sort by", FIND_SORTS, state.by, (by) => show({ by })));
}

async function drawFind() {
  const hits = el("ol", { className: "hits" });
  const after = el("div", { className: "after" });
  let count = 0;
  const load = async (continued) => {
    after.replaceChildren("searching");
    const found = await ask("find", searchOf(continued));
    hits.append(...found.rollouts.map(hit));
    count += found.rollouts.length;
    const unread = found.unread_from;
    const button = (label, where) => el("button", { onclick: () => load(where) }, label);
    after.replaceChildren(
      count ? `${count} shown` : "Nothing found", unread === null ? "" : ` in the steps before ${unread}`,
      found.next ? button("More", found.next) : "",
      unread === null ? "" : button(`Search on from step ${unread}`, { from_step: unread, offset: 0 }));
  };
  await load({});
  return [searchForm(), hits, after];
}
