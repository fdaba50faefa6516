// What every part of the page uses. Text from the recording becomes text nodes, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

/** An element with attributes, and text or elements in it. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function svg(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

// -- how things are written -----------------------------------------------------------------

const NO_BREAK = "\u00a0";

/** Seconds as people read them. */
function seconds(s) {
  if (s < 10) return s.toFixed(s < 1 ? 3 : 2) + NO_BREAK + "s";
  if (s < 100) return s.toFixed(1) + NO_BREAK + "s";
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const whole = Math.round(s);
  const first = units.findIndex(([, size]) => whole >= size);
  const [unit, size] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % size) / next[1]) : 0;
  return `${Math.floor(whole / size)}${NO_BREAK}${unit}` + (rest ? ` ${rest}${NO_BREAK}${next[0]}` : "");
}

const percent = (part, whole) => (whole ? ((100 * part) / whole).toFixed(1) : "0.0") + NO_BREAK + "%";
const amount = (n) => n.toLocaleString("en");
const plural = (n, noun) => `${amount(n)} ${noun}${n === 1 ? "" : "s"}`;
const shortFile = (file) => file.split("/").slice(-2).join("/");
const place = (row) => (row.file === null ? "" : `${shortFile(row.file)}:${row.line}`);
const utc = (ms) => new Date(ms).toISOString();
const clock = (ms) => utc(ms).slice(11, 19);
const DAY = 864e5; // ms
/** A time of day; with its date where that is not plain. */
const lately = (ms) => (Date.parse(data.made_at) - ms < 0.8 * DAY ? clock(ms) : `${utc(ms).slice(5, 10)} ${clock(ms).slice(0, 5)}`);
const moment = (ms) => `${utc(ms).slice(0, 10)} ${clock(ms)} UTC`;

// -- the recording, decoded -----------------------------------------------------------------

const functions = data.functions.map(([name, file, line, kind], number) => ({
  number, name, file, line, kind, text: (name + (file === null ? "" : ` ${file}:${line}`)).toLowerCase(),
}));
const frames = data.frames.map(([number, line, source]) => ({ fn: functions[number], line, source }));

/** The frames of a stack, outermost first. */
function stackFrames(stack) {
  const found = [];
  for (; stack >= 0; stack = data.stacks[stack][0]) found.push(frames[data.stacks[stack][1]]);
  return found.reverse();
}

const keyOf = (row) => JSON.stringify([row.function, row.file, row.line]);
const offenders = data.offenders.map((row, rank) => ({
  ...row, rank, colour: rank < 8 ? `c${rank}` : "rest", last: Date.parse(row.last_at), pauses: [],
}));
const byKey = new Map(offenders.map((row) => [keyOf(row), row]));
const pauses = data.pauses.map((pause, index) => {
  const key = pause.function === null ? { function: "(not seen)", file: null, line: null } : pause;
  const offender = byKey.get(keyOf(key)) ?? byKey.get('["(other)",null,null]') ?? null;
  const start = Date.parse(pause.started_at);
  const each = { ...pause, index, offender, start, end: start + 1000 * pause.duration };
  offender?.pauses.push(each);
  return each;
});
const blamed = (pause) => pause.function ?? "no callback that was seen";

/** [seconds, frames from the callback on] of each sample. */
function pausePaths(pause) {
  let left = pause.duration;
  const paths = pause.samples.map(([, took, , stack, reactor]) => {
    left -= took;
    const path = stackFrames(stack).slice(reactor);
    return [took, path.length ? path : [nobody("(between callbacks)")]];
  });
  if (left > 1e-6) paths.push([left, [nobody("(not sampled)")]]);
  return paths;
}

function nobody(name) {
  return { fn: { number: name, name, file: null, line: null, kind: "none", text: name }, line: null, source: "" };
}

const offenderPaths = (row) => row.profile.map(([took, stack]) => [took, stackFrames(stack)]);

// -- the tip beside the pointer -------------------------------------------------------------

const tip = $("tip");

function showTip(x, y, title, ...lines) {
  tip.replaceChildren(make("b", {}, title), ...lines.filter(Boolean).map((line) => make("span", {}, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(x + 14, innerWidth - width - 8));
  const top = y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18;
  tip.style.transform = `translate(${left}px, ${top}px)`;
}

function hideTip() {
  tip.hidden = true;
}
addEventListener("scroll", hideTip, { passive: true, capture: true });
