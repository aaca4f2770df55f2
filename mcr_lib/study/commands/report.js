// The report's browser of tweets. Its state is the address behind "#", so every link to tweets is a plain link:
// s = split, p = probe, a and b = settings, show, kind = of an error of a, q = text, id = tweet.
"use strict";
const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const NO_FLAW = "reasoning does not state the answer";
const SHOW = { differ: "where they differ", better: "A better", worse: "B better", all: "all" };
const LAYERS = { gold: "gold (line)", bait: "bait, not named (dots)", predicted: "predicted (dashes)", claimed: "claimed by the reasoning (tint)" };
let data, state = {}, shown = [];

// An element with properties and children; text is never read as markup.
function h(tag, given = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(given)) key === "onclick" ? node.addEventListener("click", value) : value != null && node.setAttribute(key, value);
  node.append(...children.flat().filter(child => child != null));
  return node;
}
const SVG_TAGS = new Set(["svg", "image", "rect", "text", "g", "title"]);

const settingNode = name => h("span", { class: "setting", style: `--of: var(--${data.colours[name] || "soft"})` }, name);
const set = (split, probe) => data.sets.find(one => one.split === split && one.probe === (probe || ""));
const outcome = kind => data.outcomes[kind];
const kindsOf = answer => [...answer.gold, ...answer.entities.filter(e => e[4] < 0).map(e => e[3])];

function has(answer, kind) {
  return kind === NO_FLAW ? answer.flaw != null : kindsOf(answer).includes(data.kinds.indexOf(kind));
}

// A box with its name above it; every second name stands below, so that those of one place do not hide each other.
function box(of, [x1, y1, x2, y2], name, size, isBelow) {
  const place = { x: x1, y: y1, width: Math.max(1, x2 - x1), height: Math.max(1, y2 - y1) }, font = size[0] / 24;
  const above = y1 > font * 1.3 ? y1 - 2 : y1 + font, below = Math.min(y2 + font, size[1] - 2);
  const y = of === "claimed" ? (y1 + y2) / 2 + (isBelow ? font : 0) : isBelow ? below : above;
  const x = Math.max(1, Math.min(x1 + 1, size[0] - 0.58 * font * (name || "").length));
  const label = name && h("text", { x, y, "font-size": font }, name);
  return h("g", { class: of }, h("rect", { class: "rim", ...place }), h("rect", { class: "edge", ...place }), label);
}

function picture(tweet, answer) {
  const size = tweet.size || [300, 200], names = tweet.gold.map(e => `${e[0]}: ${e[4].length ? "shown" : "not shown"}`).join(", ");
  const href = data.pictures[tweet.picture], image = href ? h("image", { href, width: size[0], height: size[1] }) : null;
  const claims = (answer.claims || []).map((c, k) => box("claimed", c[1], c[0], size, k % 2));
  const gold = tweet.gold.flatMap(e => e[4].map(b => box("gold", b, null, size)));
  const bait = tweet.bait.flatMap(e => e[2].map(b => box("bait", b, null, size)));
  const predicted = answer.entities.filter(e => e[2]).map((e, k) => box(`predicted ${outcome(e[3])}`, e[2], e[0], size, k % 2));
  const about = `${href ? "picture" : "the picture is left out"}; gold: ${names || "no entity"}`;
  return h("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, role: "img", "aria-label": about }, image, claims, gold, bait, predicted);
}

function lines(tweet, answer) {
  const line = (kind, text) => h("li", { class: outcome(kind) }, `${outcome(kind) === "right" ? "✓" : "✗"} ${text} · ${data.kinds[kind]}`);
  const given = answer.entities.map(e => line(e[3], `${e[1] || "–"} ${e[0]}, ${e[2] ? "box" : "no box"}`));
  const found = new Set(answer.entities.map(e => e[4]));
  const left = tweet.gold.flatMap((e, k) => found.has(k) ? [] : [line(answer.gold[k], `${e[1] || "–"} ${e[0]}`)]);
  return h("ul", {}, given.length + left.length ? [...given, ...left] : h("li", {}, "no entity"));
}

function reasoning(answer, isJudged) {
  if (answer.raw != null) return [h("p", { class: "small" }, "This answer could not be read:"), h("blockquote", {}, answer.raw || "no answer")];
  if (!answer.think) return answer.flaw ? [h("p", { class: "small" }, "✗ no reasoning, though it was asked for")] : [];
  const parts = answer.think.split(/([[(]\s*-?[\d.]+\s*,\s*-?[\d.]+\s*,\s*-?[\d.]+\s*,\s*-?[\d.]+\s*[\])])/);
  const verdict = answer.flaw ? h("b", { class: "wrong" }, `✗ does not state the answer: ${data.flaws[answer.flaw] || answer.flaw}`) : h("b", { class: "right" }, "✓ states the answer");
  return [h("p", { class: "small" }, "Its reasoning ", isJudged ? verdict : ""), h("blockquote", {}, parts.map((part, k) => k % 2 ? h("b", {}, part) : part))];
}

function card(tweet, name, answer) {
  const of = `--of: var(--${data.colours[name] || "line"})`;
  if (!answer) return h("div", { class: "card", style: of }, h("h4", {}, settingNode(name)), "no answer");
  const count = answer.wrong ? `${answer.wrong} mistake${answer.wrong > 1 ? "s" : ""}` : "no mistake";
  return h("div", { class: "card", style: of }, h("h4", {}, settingNode(name), count), picture(tweet, answer), lines(tweet, answer), reasoning(answer, true));
}

function rollout(tweet, one) {
  const rewards = one.rewards.map(([name, value]) => `${name} ${value.toFixed(2)}`).join(" · ");
  const head = `R ${one.reward.toFixed(2)}, advantage ${one.advantage > 0 ? "+" : ""}${one.advantage.toFixed(2)}`.replace("-", "−");
  const why = one.worthless && h("p", { class: "small" }, h("b", { class: "wrong" }, `✗ earns nothing: ${data.flaws[one.worthless] || one.worthless.replaceAll("_", " ")}`));
  return h("div", { class: "card" }, h("h4", {}, head), h("p", { class: "small" }, rewards), why || null, picture(tweet, one), lines(tweet, one), reasoning(one, false));
}

// The text with its gold entities marked: type, and whether the picture shows it.
function sentence(tweet) {
  const node = h("p", { class: "tweet" });
  for (let k = 0; k < tweet.words.length;) {
    const gold = tweet.gold.find(e => e[2] === k), text = tweet.words.slice(k, gold ? gold[3] : k + 1).join(" ");
    node.append(gold ? h("mark", {}, text, h("sup", {}, `${gold[1] || ""}${gold[4].length ? " ▣" : " ∅"}`)) : text, " ");
    k = gold ? gold[3] : k + 1;
  }
  return node;
}

function listed() {
  const one = set(state.s, state.p), text = (state.q || "").toLowerCase();
  if (!one) return [];
  return one.tweets.filter(tweet => {
    if (text && !`${tweet.id} ${tweet.words.join(" ")}`.toLowerCase().includes(text)) return false;
    if (tweet.rollouts) return true;
    const a = tweet.answers[state.a], b = tweet.answers[state.b];
    if (state.kind && !(a && has(a, state.kind))) return false;
    if (state.show === "all") return true;
    if (!a || !b) return false;
    return state.show === "better" ? a.wrong < b.wrong : state.show === "worse" ? b.wrong < a.wrong : a.wrong !== b.wrong || kindsOf(a).join() !== kindsOf(b).join();
  });
}

function status() {
  const n = `${shown.length} tweet${shown.length === 1 ? "" : "s"}`, one = set(state.s, state.p);
  if (!state.kind || !one || one.tweets[0].rollouts) return n;
  const count = shown.reduce((sum, tweet) => sum + (state.kind === NO_FLAW ? 1 : kindsOf(tweet.answers[state.a]).filter(k => data.kinds[k] === state.kind).length), 0);
  return `${count} × “${state.kind}” of ${state.a}, in ${n}`;
}

function options(id, entries, value) {
  $(id).replaceChildren(...entries.map(([key, text]) => h("option", { value: key, selected: key === value ? "" : null }, text)));
}

function link() {
  const given = Object.entries(state).filter(([, value]) => value);
  history.replaceState(null, "", "#" + new URLSearchParams(given));
}

function view() {
  const tweet = shown.find(one => one.id === state.id);
  for (const button of $("list").querySelectorAll("button")) button.setAttribute("aria-current", button.value === state.id);
  const current = $("list").querySelector("[aria-current=true]"), top = current ? current.offsetTop - $("list").offsetTop : 0;
  if (top < $("list").scrollTop || top + 60 > $("list").scrollTop + $("list").clientHeight) $("list").scrollTop = top;
  if (!tweet) return $("view").replaceChildren(h("p", {}, "No tweet is like that."));
  const names = [state.a, state.b].filter((name, k, all) => name && all.indexOf(name) === k);
  const cards = tweet.rollouts ? tweet.rollouts.map(one => rollout(tweet, one)) : names.map(name => card(tweet, name, tweet.answers[name]));
  const probes = tweet.rollouts ? [] : data.sets.filter(one => one.split === state.s && one.tweets.some(other => other.id === state.id));
  const buttons = probes.map(one => h("button", { type: "button", "aria-pressed": one.probe === (state.p || ""), onclick: () => go({ p: one.probe, kind: "", show: "all", q: "" }) }, one.title || "original"));
  const head = tweet.step ? `${tweet.id} · sampled in update ${tweet.step}` : tweet.id;
  const place = `${shown.indexOf(tweet) + 1} of ${shown.length} · ${head}`;
  const bait = tweet.bait.length ? h("p", { class: "small" }, `Shown but not named (bait): ${tweet.bait.map(b => `${b[1]} ${b[0]}`).join(", ")}`) : null;
  $("view").replaceChildren(h("p", { class: "small" }, place), sentence(tweet), bait || "", probes.length > 1 ? h("div", { class: "row" }, h("span", { class: "small" }, "this tweet:"), buttons) : "", h("div", { class: "cards" }, cards));
}

function draw() {
  const isRollout = state.s.startsWith("rollouts of ");
  const splits = [...new Set(data.sets.map(one => one.split))], probes = data.sets.filter(one => one.split === state.s);
  const names = Object.keys((set(state.s, state.p) || data.sets[0]).tweets[0].answers || {}).map(name => [name, name]);
  const isThere = name => names.some(([other]) => other === name);
  if (!isRollout) {
    if (!isThere(state.a)) state.a = names[0][0];
    if (!isThere(state.b)) state.b = "";
    if (!state.b) state.show = "all"; // nothing to compare with
  }
  options("split", splits.map(name => [name, name]), state.s);
  options("probe", probes.map(one => [one.probe, one.title || "original"]), state.p);
  options("a", names, state.a);
  options("b", [["", "none"], ...names], state.b);
  options("show", Object.entries(SHOW), state.show);
  options("kind", [["", "any"], ...data.kinds.map(kind => [kind, kind]), [NO_FLAW, NO_FLAW]], state.kind);
  for (const id of ["probe", "a", "b", "show", "kind"]) $(id).closest("label").hidden = isRollout;
  if ($("q").value !== (state.q || "")) $("q").value = state.q || "";
  shown = listed();
  if (!shown.some(tweet => tweet.id === state.id)) state.id = shown.length ? shown[0].id : "";
  $("status").textContent = status();
  const marks = tweet => tweet.rollouts ? `update ${tweet.step}` : [state.a, state.b].filter(name => tweet.answers[name]).map(name => `${name} ${tweet.answers[name].wrong ? "✗" + tweet.answers[name].wrong : "✓"}`).join(" · ");
  $("list").replaceChildren(...shown.map(tweet => h("li", {}, h("button", { type: "button", value: tweet.id, onclick: () => go({ id: tweet.id }, true) }, marks(tweet), " — ", tweet.words.join(" ")))));
  view();
}

function go(change, isSameList) {
  Object.assign(state, change);
  isSameList ? view() : draw();
  link();
}

function step(by) {
  const at = shown.findIndex(tweet => tweet.id === state.id) + by;
  if (shown[at]) go({ id: shown[at].id }, true);
}

function follow() {
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const isState = given.s && set(given.s, given.p);
  if (isState || !state.s) state = { ...data.start, ...(isState ? given : {}) };
  draw();
  if (!isState) return;
  link();
  $("browser").scrollIntoView();
}

async function start() {
  const packed = Uint8Array.from(atob($("data").textContent.trim()), c => c.charCodeAt(0));
  data = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  for (const [id, key] of Object.entries({ split: "s", probe: "p", a: "a", b: "b", show: "show", kind: "kind" }))
    $(id).addEventListener("change", () => go(key === "s" ? { s: $(id).value, p: "", kind: "" } : { [key]: $(id).value }));
  $("q").addEventListener("input", () => go({ q: $("q").value }));
  $("next").addEventListener("click", () => step(1));
  $("previous").addEventListener("click", () => step(-1));
  $("layers").append(...Object.entries(LAYERS).map(([name, text]) => h("button", { type: "button", "aria-pressed": "true", onclick: event => event.currentTarget.setAttribute("aria-pressed", !document.body.classList.toggle(`no-${name}`)) }, text)));
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  addEventListener("hashchange", follow);
  const drawn = $("drawn");
  if (drawn) {
    const tweet = set(drawn.dataset.split).tweets.find(one => one.id === drawn.dataset.id);
    drawn.append(sentence(tweet), h("div", { class: "cards" }, drawn.dataset.settings.split(" ").map(name => card(tweet, name, tweet.answers[name]))));
  }
  follow();
  document.body.dataset.ready = "yes";
}
if ($("data")) start();
