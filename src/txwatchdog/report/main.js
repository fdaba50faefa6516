// Puts the parts together: what is chosen in one of them, all of them show.

const state = { pause: null, offender: null, scope: "all" };
const everything = () => (offenders.length ? offenders.flatMap(offenderPaths) : pauses.flatMap(pausePaths));
const isSingle = !offenders.length && pauses.length === 1;

const flame = new Flame(
  $("flame"),
  (isZoomed) => { $("flame-reset").disabled = !isZoomed; },
  (found) => {
    $("found").textContent = found ? `${plural(found.calls, "call")}, ${found.share} of the time` : "";
  },
);
const timeline = pauses.length && !isSingle
  ? new Timeline($("timeline"), (pause) => choosePause(pause), (isZoomed) => { $("timeline-reset").hidden = !isZoomed; })
  : null;
const table = offenders.length
  ? new Offenders($("offenders"), (row) => chooseOffender(row === state.offender && state.scope === "offender" ? null : row))
  : null;

function choosePause(pause) {
  state.pause = pause;
  state.scope = pause ? "pause" : state.offender ? "offender" : "all";
  if (pause && state.offender && pause.offender !== state.offender) state.offender = null;
  update();
}

function chooseOffender(row) {
  state.offender = row;
  state.scope = row ? "offender" : "all";
  update();
}

function update() {
  if (timeline) {
    timeline.chosen = state.pause;
    timeline.lit = state.offender;
    timeline.paint();
  }
  table?.choose(state.offender);
  if (showPause.shown !== state.pause) showPause(state.pause);
  showPause.shown = state.pause;
  showFlame();
}

function showFlame() {
  const { pause, offender, scope } = state;
  // Pauses that are no function's fault have no row, and no part in it.
  const blaming = offenders.reduce((sum, row) => sum + row.count, 0);
  const but = blaming < data.totals.pauses ? " but starved and suspended" : "";
  const scopes = [["all", offenders.length ? `All ${plural(blaming, "pause")}${but}` : "All"]];
  if (offender) scopes.push(["offender", `${offender.function} · ${seconds(offender.total_seconds)}`]);
  if (pause) scopes.push(["pause", `Pause ${pause.number} · ${seconds(pause.duration)}`]);
  $("scopes").replaceChildren(...(isSingle ? [] : scopes).map(([name, text]) => make("button", {
    type: "button", "aria-pressed": String(name === scope), title: text,
    onclick: () => {
      state.scope = name;
      showFlame();
      $("scopes").querySelector("[aria-pressed=true]").focus();
    },
  }, text)));
  const shown = { all: null, offender, pause }[scope];
  if (shown === showFlame.shown) return;
  showFlame.shown = shown;
  flame.show(shown === null ? everything() : scope === "pause" ? pausePaths(pause) : offenderPaths(offender));
}

showHeading();
$("timeline-card").hidden = !timeline;
$("offenders-card").hidden = !table;
$("flame-card").hidden = !pauses.length;
document.querySelector(".columns").classList.toggle("single", !table);
$("timeline-note").textContent = pauses.length < data.totals.pauses
  ? `the latest ${amount(pauses.length)} of ${plural(data.totals.pauses, "pause")}` : plural(pauses.length, "pause");
$("offenders-note").textContent = plural(offenders.length, "function");
const KINDS = { application: "application", "third-party": "packages", twisted: "Twisted", stdlib: "standard library" };
$("legend").append(...Object.entries(KINDS).map(([kind, text]) => make("span", { class: `key ${kind}` }, text)));
$("timeline-reset").addEventListener("click", () => timeline.zoom(timeline.whole));
$("flame-reset").addEventListener("click", () => flame.zoom(flame.tree.root));
$("search").addEventListener("input", (event) => flame.search(event.target.value));
$("search").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.target.value = "";
  flame.search("");
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input")) return;
  event.preventDefault();
  $("search").focus();
});
showFlame.shown = undefined;
if (isSingle) choosePause(pauses[0]);
else update();
if (!isSingle && pauses.length) {
  // Something to read at once: the longest pause, while the flame graph is of all of them.
  state.pause = pauses.reduce((worst, pause) => (pause.duration > worst.duration ? pause : worst));
  update();
} else if (!pauses.length) showPause(null);
