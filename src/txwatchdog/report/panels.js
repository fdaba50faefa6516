// The heading, the offenders' table, and the chosen pause.

function showHeading() {
  const { process, totals } = data;
  const worst = Math.max(0, ...offenders.map((row) => row.worst_seconds), ...pauses.map((p) => p.duration));
  if (process) {
    document.title = `Reactor pauses · ${process.name} on ${process.host}`;
    $("process").textContent = [process.name, `pid ${process.pid} on ${process.host}`, `Python ${process.python}`, `Twisted ${process.twisted}`].join(" · ");
  }
  $("made").textContent = [data.made_at && `made ${moment(Date.parse(data.made_at))}`, data.generator].filter(Boolean).join(" by ");
  const tiles = [
    ["Pauses", amount(totals.pauses)],
    ["Paused", seconds(totals.paused_seconds)],
    ["Longest", seconds(worst)],
  ];
  if (data.threshold !== null) tiles.push(["Threshold", `${+data.threshold.toPrecision(6)}${NO_BREAK}s`]);
  if (data.since && data.made_at) {
    const watched = (Date.parse(data.made_at) - Date.parse(data.since)) / 1000;
    tiles[1][0] += ` · ${percent(totals.paused_seconds, watched)}`;
    tiles.push(["Watched for", seconds(watched)]);
  }
  $("totals").append(...tiles.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

// -- offenders ------------------------------------------------------------------------------

const COLUMNS = [
  { title: "Function", less: (a, b) => a.function.localeCompare(b.function) },
  { title: "Total", number: true, less: (a, b) => b.total_seconds - a.total_seconds },
  { title: "Pauses", number: true, less: (a, b) => b.count - a.count },
  { title: "Worst", number: true, less: (a, b) => b.worst_seconds - a.worst_seconds },
  { title: "Cause", if: (row) => row.cause, less: (a, b) => (a.cause ?? "").localeCompare(b.cause ?? "") },
  { title: "Last", less: (a, b) => b.last - a.last },
].filter((column) => !column.if || offenders.some(column.if));

class Offenders {
  constructor(table, whenChosen) {
    this.whenChosen = whenChosen;
    this.rows = new Map(offenders.map((row) => [row, this.row(row)]));
    this.heads = COLUMNS.map((column) => make("th", { scope: "col", class: column.number ? "number" : false },
      make("button", { type: "button", onclick: () => this.sort(column) }, column.title)));
    this.body = make("tbody");
    table.append(make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    this.sort(COLUMNS[1]);
  }

  sort(column) {
    this.sign = column === this.by ? -this.sign : 1;
    this.by = column;
    const order = [...offenders].sort((a, b) => this.sign * column.less(a, b) || a.rank - b.rank);
    this.body.append(...order.map((row) => this.rows.get(row)));
    const isUp = (this.sign > 0) === !(column.number || column.title === "Last");
    COLUMNS.forEach((each, n) => {
      this.heads[n].removeAttribute("aria-sort");
      this.heads[n].firstChild.textContent = each.title + (each === column ? (isUp ? " ↑" : " ↓") : "");
      if (each === column) this.heads[n].setAttribute("aria-sort", isUp ? "ascending" : "descending");
    });
  }

  row(row) {
    const via = row.via ? ` via ${row.via}` : "";
    const share = make("span", { class: "share" });
    share.style.width = `${(100 * row.total_seconds) / (offenders[0].total_seconds || 1)}%`;
    const cells = {
      Function: make("td", { class: "name" }, make("button", { type: "button", "aria-pressed": "false" }, row.function), make("span", { title: row.file ?? "" }, place(row) + via)),
      Total: make("td", { class: "number" }, seconds(row.total_seconds), share),
      Pauses: make("td", { class: "number" }, amount(row.count)),
      Worst: make("td", { class: "number" }, seconds(row.worst_seconds)),
      Cause: make("td", {}, row.cause ?? ""),
      Last: make("td", { class: "last", title: moment(row.last) }, lately(row.last)),
    };
    return make("tr", { class: row.colour, onclick: () => this.whenChosen(row) }, ...COLUMNS.map((column) => cells[column.title]));
  }

  choose(chosen) {
    for (const [row, element] of this.rows) {
      element.classList.toggle("chosen", row === chosen);
      element.querySelector("button").setAttribute("aria-pressed", row === chosen);
    }
  }
}

// -- the chosen pause -----------------------------------------------------------------------

function showPause(pause) {
  $("pause-title").textContent = pause ? `Pause ${pause.number}` : pauses.length ? "Pause" : "No pause yet";
  $("pause-note").textContent = pause ? moment(pause.start) : "";
  if (!pause) {
    $("pause").replaceChildren(make("p", { class: "empty" }, pauses.length
      ? "Choose a pause in the timeline to see its traceback." : "The reactor has kept within the threshold."));
    return;
  }
  const facts = make("div", { class: "facts" }, make("span", {}, make("b", {}, seconds(pause.duration))));
  if (pause.cause) facts.append(make("span", {}, "cause ", make("b", {}, pause.cause), sharesText(pause.shares)));
  facts.append(make("span", {}, place(pause)), make("span", {}, plural(pause.samples.length, "sample")));
  const what = make("p", { class: "what" }, blamed(pause), pause.via ? make("span", { class: "muted" }, ` via ${pause.via}`) : "");
  if (pause.origin) facts.append(make("span", { class: "origin" }, pause.origin));
  const trace = make("div", { class: "trace" });
  $("pause").replaceChildren(what, facts, ...sampleStrip(pause, trace), trace);
  toBlamed(trace);
}

function sharesText(shares) {
  const parts = Object.entries(shares ?? {}).filter(([, share]) => share >= 0.005).sort((a, b) => b[1] - a[1]);
  return parts.length ? ` (${parts.map(([name, share]) => `${Math.round(100 * share)} % ${name}`).join(", ")})` : "";
}

/** A button for each sample, as wide as its time; shows its stack in `trace`. */
function sampleStrip(pause, trace) {
  if (!pause.samples.length) {
    trace.append(make("p", { class: "empty" }, "No sample was taken of it."));
    return [];
  }
  const note = make("p", { class: "muted" });
  // By the innermost application function: the blamed one's colour is its offender's.
  const colours = new Map();
  const others = ["rest", "c5", "c3", "c2", "c4", "c6"].filter((colour) => colour !== pause.offender?.colour);
  const buttons = pause.samples.map((sample, n) => {
    const stack = stackFrames(sample[3]).slice(sample[4]);
    const { fn } = stack.findLast((frame) => frame.fn.kind === "application") ?? stack.at(-1) ?? nobody("");
    if (!colours.has(fn.number)) {
      const next = others[colours.size % others.length];
      colours.set(fn.number, isBlamed(pause, fn) ? (pause.offender?.colour ?? "c0") : next);
    }
    const button = make("button", {
      type: "button", class: colours.get(fn.number), title: `${fn.name}, ${seconds(sample[1])}`,
      "aria-label": `sample ${n + 1}: ${fn.name}, ${seconds(sample[1])}`, onclick: () => choose(n),
    });
    button.style.flexGrow = Math.max(sample[1] / (pause.duration || 1), 1e-6);
    return button;
  });
  function choose(chosen) {
    buttons.forEach((button, n) => button.setAttribute("aria-pressed", n === chosen));
    const [at, took, ring, stack, reactor] = pause.samples[chosen];
    const blame = chosen === pause.culprit ? ", the one that is blamed" : "";
    note.textContent = `Sample ${chosen + 1} of ${pause.samples.length}${blame}: ${seconds(at)} in, stands for ${seconds(took)}, by ${ring}`;
    showTrace(trace, pause, stackFrames(stack), reactor);
    toBlamed(trace);
  }
  choose(pause.culprit ?? 0);
  return [make("div", { class: "strip", role: "group", "aria-label": "Samples" }, ...buttons), note];
}

const isBlamed = (pause, fn) => fn.name === pause.function && fn.file === pause.file && fn.line === pause.line;

/** If the blamed frame is out of sight, bring it in; the frames that it called come below it. */
function toBlamed(trace) {
  const item = trace.querySelector(".blamed");
  trace.scrollTop = item ? Math.max(0, item.offsetTop + item.offsetHeight - trace.clientHeight * 0.6) : 0;
}

function showTrace(trace, pause, stack, reactor) {
  const item = (frame) => make("li", { class: isBlamed(pause, frame.fn) ? "blamed" : false },
    frame.fn.name, make("span", { class: "at" }, `  ${frame.fn.file}:${frame.line}`),
    frame.source ? make("code", {}, frame.source) : "");
  const parts = [];
  if (reactor) {
    parts.push(make("details", {}, make("summary", {}, `… ${plural(reactor, "reactor frame")}`), make("ol", {}, ...stack.slice(0, reactor).map(item))));
  }
  parts.push(make("ol", {}, ...stack.slice(reactor).map(item)));
  trace.replaceChildren(...parts);
}
