// The timeline: time on x, duration as height. Drawn anew whenever something changes, which for a
// thousand pauses takes a few milliseconds.

const PAD = { left: 48, right: 8, top: 12, bottom: 26 };
const STEPS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5,
  6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5, 25920e5];

const heightLabel = (value) => (value < 100 ? `${+value.toPrecision(3)} s` : seconds(value));

class Timeline {
  constructor(host, whenChosen, whenZoomed) {
    this.host = host;
    this.whenChosen = whenChosen;
    this.whenZoomed = whenZoomed;
    this.chosen = null; // a pause
    this.lit = null; // an offender: others' pauses are dimmed
    const first = Math.min(...pauses.map((p) => p.start));
    const last = Math.max(...pauses.map((p) => p.end));
    const margin = Math.max((last - first) * 0.015, 500);
    this.whole = this.range = [first - margin, last + margin];
    this.longest = Math.max(...pauses.map((p) => p.duration));
    this.shortest = Math.min(...pauses.map((p) => p.duration), data.threshold ?? Infinity);
    this.isLog = this.longest / this.shortest > 12;
    new ResizeObserver(() => this.draw()).observe(host);
    host.addEventListener("pointermove", (event) => this.move(event));
    host.addEventListener("pointerdown", (event) => this.press(event));
    host.addEventListener("pointerup", (event) => this.release(event));
    host.addEventListener("pointercancel", () => this.cancel());
    host.addEventListener("pointerleave", () => {
      this.heat(null);
      hideTip();
    });
    host.addEventListener("dblclick", () => this.zoom(this.whole));
    host.addEventListener("keydown", (event) => this.key(event));
    host.addEventListener("blur", hideTip);
  }

  zoom(range) {
    const [first, last] = this.whole;
    const span = Math.min(Math.max(range[1] - range[0], 20), last - first);
    const from = Math.min(Math.max(range[0], first), last - span);
    this.range = [from, from + span];
    this.draw();
    this.whenZoomed(span < last - first);
  }

  // -- drawing ------------------------------------------------------------------------------

  x(ms) {
    const [from, to] = this.range;
    return PAD.left + ((ms - from) / (to - from)) * (this.width - PAD.left - PAD.right);
  }

  time(x) {
    const [from, to] = this.range;
    return from + ((x - PAD.left) / (this.width - PAD.left - PAD.right)) * (to - from);
  }

  y(duration) {
    const room = this.height - PAD.top - PAD.bottom;
    const low = this.shortest / 2;
    const share = this.isLog
      ? Math.log(Math.max(duration, low) / low) / Math.log(this.longest / low)
      : duration / this.longest;
    return this.height - PAD.bottom - share * room;
  }

  draw() {
    this.width = this.host.clientWidth;
    this.height = this.host.clientHeight;
    if (!this.width) return;
    const drawing = svg("svg", { "aria-hidden": "true" });
    const base = this.height - PAD.bottom;
    drawing.append(...this.heightGrid(), ...this.timeGrid(base));
    this.bars = [];
    const cut = svg("g", {});
    for (const pause of pauses) {
      if (pause.end < this.range[0] || pause.start > this.range[1]) continue;
      const left = Math.max(this.x(pause.start), PAD.left);
      const right = Math.min(Math.max(this.x(pause.end), left + 3), this.width);
      const top = this.y(pause.duration);
      const rect = svg("rect", { x: left, y: top, width: right - left, height: Math.max(base - top, 3), rx: Math.min(2, (right - left) / 3) });
      this.bars.push({ pause, left, right, top, rect });
      cut.append(rect);
    }
    drawing.append(cut);
    this.marker = svg("path", { class: "marker", d: "M-5 0 L5 0 L0 -6 Z", visibility: "hidden" });
    this.band = svg("rect", { class: "range", y: PAD.top, height: base - PAD.top, width: 0 });
    drawing.append(this.marker, this.band);
    this.host.replaceChildren(drawing);
    this.paint();
  }

  heightGrid() {
    const marks = [];
    const values = this.isLog
      ? [-3, -2, -1, 0, 1, 2, 3, 4, 5].flatMap((e) => [1, 2, 5].map((m) => m * 10 ** e))
      : [0, 1, 2, 3, 4, 5].map((n) => n * this.linearStep());
    const { threshold } = data;
    const isMarked = threshold !== null && threshold <= this.longest;
    let lastY = Infinity;
    for (const value of values.filter((v) => v <= this.longest * 1.001 && (!this.isLog || v > this.shortest / 2))) {
      const y = this.y(value);
      if (lastY - y < 24 || (isMarked && Math.abs(this.y(threshold) - y) < 16)) continue;
      lastY = y;
      marks.push(svg("line", { class: "grid", x1: PAD.left, x2: this.width - PAD.right, y1: y, y2: y }));
      marks.push(svg("text", { x: PAD.left - 8, y: y + 4, "text-anchor": "end" }, heightLabel(value)));
    }
    if (isMarked) {
      const y = this.y(threshold);
      marks.push(svg("line", { class: "threshold", x1: PAD.left, x2: this.width - PAD.right, y1: y, y2: y }));
      marks.push(svg("text", { class: "threshold-label", x: PAD.left - 8, y: y + 4, "text-anchor": "end" }, heightLabel(threshold)));
    }
    return marks;
  }

  linearStep() {
    const rough = this.longest / 4;
    const size = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((m) => m * size).find((step) => step >= rough);
  }

  timeGrid(base) {
    const [from, to] = this.range;
    const step = STEPS_MS.find((ms) => (to - from) / ms <= this.width / 110) ?? STEPS_MS.at(-1);
    const marks = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const x = this.x(at);
      const text = step < 1000 ? utc(at).slice(11, step < 100 ? 23 : 21) : step < 60e3 ? clock(at) : step < DAY && at % DAY ? clock(at).slice(0, 5) : utc(at).slice(5, 10);
      if (x > this.width - 24 || x < PAD.left + 12) continue;
      marks.push(svg("line", { class: "grid", x1: x, x2: x, y1: base, y2: base + 5 }));
      marks.push(svg("text", { x, y: base + 19, "text-anchor": "middle" }, text));
    }
    marks.push(svg("line", { class: "grid", x1: PAD.left, x2: this.width - PAD.right, y1: base, y2: base }));
    return marks;
  }

  /** Colours and states of the bars that are there. */
  paint() {
    this.marker?.setAttribute("visibility", "hidden");
    for (const { pause, rect, left, right, top } of this.bars ?? []) {
      const isChosen = pause === this.chosen;
      const isDim = this.lit !== null && pause.offender !== this.lit && !isChosen;
      rect.setAttribute("class", `pause ${pause.offender?.colour ?? "c0"}${isDim ? " dim" : ""}${isChosen ? " chosen" : ""}${right - left > 24 ? " wide" : ""}`);
      if (isChosen) {
        rect.parentNode.append(rect); // above its neighbours
        this.marker.setAttribute("transform", `translate(${(left + right) / 2} ${top - 3}) rotate(180) translate(0 6)`);
        this.marker.setAttribute("visibility", "visible");
      }
    }
  }

  // -- pointer and keys ---------------------------------------------------------------------

  /** The bar at a point: the nearest sideways; of several there the one that ends nearest to it. */
  at(event) {
    const box = this.host.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = Infinity;
    for (const bar of this.bars ?? []) {
      const aside = Math.max(bar.left - x, x - bar.right, 0);
      if (aside > 8 || (this.lit && bar.pause.offender !== this.lit && bar.pause !== this.chosen)) continue;
      const distance = aside * 12 + Math.abs(bar.top - y);
      if (distance < least) [best, least] = [bar, distance];
    }
    return best;
  }

  heat(bar) {
    this.hot?.rect.classList.remove("hot");
    this.hot = bar;
    bar?.rect.classList.add("hot");
  }

  move(event) {
    if (this.from !== undefined) {
      const x = event.clientX - this.host.getBoundingClientRect().left;
      if (Math.abs(x - this.from) < 4) return;
      hideTip();
      this.band.setAttribute("x", Math.min(x, this.from));
      this.band.setAttribute("width", Math.abs(x - this.from));
      return;
    }
    const bar = this.at(event);
    this.heat(bar);
    if (bar) this.tipFor(bar.pause, event.clientX, event.clientY);
    else hideTip();
  }

  press(event) {
    if (event.button !== 0 || event.pointerType === "touch") return;
    this.from = event.clientX - this.host.getBoundingClientRect().left;
    this.host.setPointerCapture(event.pointerId);
  }

  release(event) {
    const { from } = this;
    this.cancel();
    const x = event.clientX - this.host.getBoundingClientRect().left;
    if (from !== undefined && Math.abs(x - from) >= 4) {
      this.zoom([this.time(Math.min(x, from)), this.time(Math.max(x, from))]);
      return;
    }
    const bar = this.at(event);
    if (bar) this.whenChosen(bar.pause);
  }

  cancel() {
    this.from = undefined;
    this.band?.setAttribute("width", 0);
  }

  tipFor(pause, x, y) {
    showTip(
      x, y, `${seconds(pause.duration)} in ${blamed(pause)}`,
      place(pause) + (pause.via ? ` via ${pause.via}` : ""),
      pause.cause ? `cause: ${pause.cause}` : "",
      `pause ${pause.number} · ${moment(pause.start)}`,
    );
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const list = this.lit ? this.lit.pauses : pauses;
    const now = list.indexOf(this.chosen);
    const steps = { ArrowLeft: now < 0 ? list.length - 1 : now - 1, ArrowRight: now + 1, Home: 0, End: list.length - 1 };
    const zooms = { "+": 0.5, "=": 0.5, "-": 2 };
    if (event.key in steps) {
      const pause = list[steps[event.key]];
      if (pause) {
        this.whenChosen(pause);
        this.follow(pause);
      }
    } else if (event.key in zooms) {
      const half = ((this.range[1] - this.range[0]) / 2) * zooms[event.key];
      const middle = this.chosen ? (this.chosen.start + this.chosen.end) / 2 : (this.range[0] + this.range[1]) / 2;
      this.zoom([middle - half, middle + half]);
    } else if (event.key === "Escape") this.zoom(this.whole);
    else return;
    event.preventDefault();
  }

  /** Bring a pause into sight. */
  follow(pause) {
    const [from, to] = this.range;
    if (pause.start >= from && pause.end <= to) return;
    const half = (to - from) / 2;
    this.zoom([pause.start - half, pause.start + half]);
  }
}
