// The flame graph, outermost call on top. A cell's left and width are percents of the canvas, so
// a resize costs nothing, and zooming moves the cells that are there.

const ROW = 22; // px, as in the style
const NARROWEST = 0.0008; // of the width: cells below are left out until one zooms in

/** A tree of calls from [seconds, frames] pairs. */
function callTree(paths) {
  const root = { fn: null, seconds: 0, own: 0, children: new Map(), parent: null, depth: -1 };
  for (const [took, path] of paths) {
    let node = root;
    node.seconds += took;
    for (const { fn } of path) {
      let child = node.children.get(fn.number);
      if (!child) {
        child = { fn, seconds: 0, own: 0, children: new Map(), parent: node, depth: node.depth + 1 };
        node.children.set(fn.number, child);
      }
      child.seconds += took;
      node = child;
    }
    node.own += took;
  }
  const all = [root];
  for (const node of all) {
    node.children = [...node.children.values()].sort((a, b) => b.seconds - a.seconds);
    let at = node.at ?? 0;
    for (const child of node.children) {
      child.at = at; // seconds from the left
      at += child.seconds;
      all.push(child);
    }
  }
  root.at = 0;
  return { root, nodes: all.slice(1) };
}

class Flame {
  constructor(host, whenZoomed, whenSearched) {
    this.host = host;
    this.whenZoomed = whenZoomed;
    this.whenSearched = whenSearched;
    this.canvas = make("div", { class: "canvas" });
    host.append(this.canvas);
    this.query = "";
    this.show([]);
    host.addEventListener("pointermove", (event) => this.hover(event));
    host.addEventListener("pointerleave", hideTip);
    host.addEventListener("click", (event) => {
      const node = event.target.closest(".cell")?.node;
      if (node) this.zoom(node);
    });
    host.addEventListener("keydown", (event) => this.key(event));
    host.addEventListener("focusin", (event) => {
      const cell = event.target.closest(".cell");
      if (!cell?.matches(":focus-visible")) return;
      this.focused(cell.node);
      const box = cell.getBoundingClientRect();
      this.tipFor(cell.node, Math.max(box.left, 0), box.bottom - 10);
    });
    host.addEventListener("focusout", hideTip);
  }

  /** Show these [seconds, frames] pairs. */
  show(paths) {
    this.tree = callTree(paths);
    this.canvas.replaceChildren();
    this.cells = new Map();
    this.zoom(this.tree.root);
    this.search(this.query);
    this.host.scrollTop = 0;
  }

  zoom(node) {
    hideTip();
    this.top = node;
    this.draw();
    this.whenZoomed(node.parent !== null);
  }

  draw() {
    const { root, nodes } = this.tree;
    const { top } = this;
    const span = top.seconds || 1;
    const above = new Set();
    for (let node = top; node; node = node.parent) above.add(node);
    let deepest = 0;
    for (const node of nodes) {
      const isAbove = above.has(node) && node !== top;
      const left = isAbove ? 0 : (node.at - top.at) / span;
      const width = isAbove ? 1 : node.seconds / span;
      const shown = isAbove || (width >= NARROWEST && left > -1e-9 && left + width < 1 + 1e-9 && node.depth >= top.depth);
      let cell = this.cells.get(node);
      if (!shown) {
        cell?.remove();
        this.cells.delete(node);
        continue;
      }
      if (!cell) {
        cell = this.cell(node);
        this.cells.set(node, cell);
        this.canvas.append(cell);
      }
      deepest = Math.max(deepest, node.depth);
      cell.style.left = `${100 * left}%`;
      cell.style.width = `${100 * width}%`;
      cell.classList.toggle("above", isAbove);
      cell.classList.toggle("thin", width < 0.012);
    }
    this.canvas.style.height = `${ROW * (nodes.length ? deepest + 1 : 0)}px`;
    this.focused(top === root ? (root.children[0] ?? null) : top);
  }

  cell(node) {
    const { fn } = node;
    const where = fn.file === null ? "" : `  ${shortFile(fn.file)}:${fn.line}`;
    const cell = make("div", { class: `cell ${fn.kind}`, role: "button", tabindex: "-1" }, fn.name, make("small", {}, where));
    cell.setAttribute("aria-label", `${fn.name}${where}, ${seconds(node.seconds)}, ${percent(node.seconds, this.tree.root.seconds)}`);
    cell.style.top = `${ROW * node.depth}px`;
    // Neighbours of one kind differ a little, the same function always has the same shade.
    cell.style.setProperty("--v", [...fn.name].reduce((sum, c) => sum + c.codePointAt(0), 0) % 4);
    cell.node = node;
    if (this.query) cell.classList.toggle("match", fn.text.includes(this.query));
    return cell;
  }

  focused(node) {
    if (this.current) this.cells.get(this.current)?.setAttribute("tabindex", "-1");
    this.current = node;
    if (node) this.cells.get(node)?.setAttribute("tabindex", "0");
  }

  search(text) {
    this.query = text.trim().toLowerCase();
    this.host.classList.toggle("searching", this.query !== "");
    for (const [node, cell] of this.cells) {
      cell.classList.toggle("match", this.query !== "" && node.fn.text.includes(this.query));
    }
    if (!this.query) return this.whenSearched(null);
    let calls = 0;
    let took = 0;
    const { root, nodes } = this.tree;
    const inside = new Set(); // calls below a match: their time is in it already
    for (const node of nodes) {
      const matches = node.fn.text.includes(this.query);
      if (matches) calls += 1;
      if (matches && !inside.has(node.parent)) took += node.seconds;
      if (matches || inside.has(node.parent)) inside.add(node);
    }
    return this.whenSearched({ calls, took, share: percent(took, root.seconds) });
  }

  hover(event) {
    const node = event.target.closest(".cell")?.node;
    if (node) this.tipFor(node, event.clientX, event.clientY);
    else hideTip();
  }

  tipFor(node, x, y) {
    const { root } = this.tree;
    const own = node.own > 0 ? `, itself ${seconds(node.own)}` : "";
    const parent = node.parent === root ? "" : `, ${percent(node.seconds, node.parent.seconds)} of its caller`;
    showTip(
      x, y, node.fn.name,
      node.fn.file === null ? "" : `${node.fn.file}:${node.fn.line}`,
      `${seconds(node.seconds)}${own} · ${percent(node.seconds, root.seconds)}${parent}`,
    );
  }

  key(event) {
    const node = event.target.closest(".cell")?.node;
    if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = (list) => list.find((each) => this.cells.has(each));
    const row = () => [...this.cells.keys()].filter((n) => n.depth === node.depth).sort((a, b) => a.at - b.at);
    const moves = {
      ArrowUp: () => (node.parent.parent ? node.parent : null),
      ArrowDown: () => shown(node.children),
      ArrowLeft: () => row()[row().indexOf(node) - 1],
      ArrowRight: () => row()[row().indexOf(node) + 1],
    };
    if (event.key in moves) {
      const next = moves[event.key]();
      if (next) this.cells.get(next)?.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      this.zoom(node);
      this.cells.get(node)?.focus();
    } else if (event.key === "Escape") {
      this.zoom(this.tree.root);
      this.cells.get(node)?.focus();
    } else return;
    event.preventDefault();
  }
}
