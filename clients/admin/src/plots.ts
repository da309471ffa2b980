/**
 * The last quarter of an hour as small plots: one line for each node, the same time under all of them. Draws what
 * cluster.ts holds; app.ts owns one. Pointing at one plot, or the arrow keys on it, read every plot at that time.
 */
import { COLOURS, isGone, PAST_MS, type Cluster, type Node, type Point } from "./cluster.ts";
import { at, fill, h, svg } from "./dom.ts";
import * as show from "./format.ts";
import { Happened } from "./happened.ts";

export const WIDTH = 300;
export const HEIGHT = 100;
/** Columns of a line: several points in one are drawn as their largest. */
const COLUMNS = 150;
/** Points further apart than this are not joined: the node said nothing in between. */
const BREAK_MS = 25_000;
/** One press of an arrow key. */
const STEP_MS = 15_000;

interface Metric {
  id: string;
  title: string;
  /** What a node's point says of it. */
  of(point: Point): number | null;
  show(value: number | null): string;
  /** How several nodes are one figure. */
  all: "sum" | "worst";
  /** The axis ends here at least, and at a round number of units. */
  least: number;
  unit?: number;
}

const METRICS: readonly Metric[] = [
  { id: "connections", title: "Connections", of: (p) => p.connections, show: show.count, all: "sum", least: 4 },
  { id: "deliveries", title: "Deliveries/s", of: (p) => p.deliveries, show: show.rate, all: "sum", least: 4 },
  { id: "publications", title: "Publications/s", of: (p) => p.publications, show: show.rate, all: "sum", least: 4 },
  { id: "p99", title: "Delivery, 99 %", of: (p) => p.delivery_p99, show: show.bound, all: "worst", least: 0.01 },
  { id: "lag", title: "Lag, 99 %", of: (p) => p.lag_p99, show: show.lag, all: "worst", least: 4 },
  { id: "cpu", title: "CPU, cores", of: (p) => p.cpu, show: show.cores, all: "sum", least: 0.2 },
  { id: "memory", title: "Memory", of: (p) => p.memory, show: show.bytes, all: "sum", least: 64 << 20, unit: 1 << 20 },
];

export class Plots {
  private readonly plots: { element: HTMLElement; draw(nodes: readonly Node[], now: number, time: number | undefined): void }[];
  private readonly when = at("plots-when");
  /** The time that is read; undefined: now. */
  private time: number | undefined;

  constructor(private readonly cluster: Cluster) {
    const make = (metric: Metric): Plot => new Plot(metric, (time) => this.point(time), () => cluster.now());
    this.plots = [...METRICS.slice(0, 3).map(make), new Happened(), ...METRICS.slice(3).map(make)];
    fill(at("plots"), ...this.plots.map((plot) => plot.element));
  }

  draw(): void {
    const [nodes, now] = [this.cluster.nodes(), this.cluster.now()];
    if (this.time !== undefined && this.time < now - PAST_MS) this.time = undefined;
    this.when.textContent = this.time === undefined ? "last 15 minutes" : `at ${show.clock(this.time)}, ${show.span(now - this.time)} ago`;
    for (const plot of this.plots) plot.draw(nodes, now, this.time);
  }

  private point(time: number | undefined): void {
    this.time = time;
    this.draw();
  }
}

class Plot {
  readonly element: HTMLElement;
  private readonly figure = h("b", { class: "figure" });
  private readonly picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: "0" });
  private readonly top = h("span", { class: "top" });
  private readonly values = h("ul", { class: "values" });
  private pointed: number | undefined;

  constructor(
    private readonly metric: Metric,
    private readonly point: (time: number | undefined) => void,
    private readonly now: () => number,
  ) {
    this.element = h(
      "figure",
      { class: "plot", id: `plot-${metric.id}` },
      h("figcaption", {}, h("span", {}, metric.title), this.figure),
      h("div", { class: "area" }, this.picture, this.top, axis()),
      this.values,
    );
    this.picture.addEventListener("pointermove", (event) => this.pointAt(event));
    this.picture.addEventListener("pointerleave", () => point(undefined));
    this.picture.addEventListener("blur", () => point(undefined));
    this.picture.addEventListener("keydown", (event) => this.key(event));
  }

  draw(nodes: readonly Node[], now: number, time: number | undefined): void {
    const { metric } = this;
    const begin = now - PAST_MS;
    const lines = nodes.map((node) => ({ node, points: node.points.filter((point) => point.at >= begin) }));
    const drawn = lines.filter(({ points }) => points.length > 0);
    const values = drawn.flatMap(({ points }) => points.map((point) => metric.of(point) ?? 0));
    const unit = metric.unit ?? 1;
    const high = unit * nice(values.reduce((most, value) => Math.max(most, value), metric.least) / unit);
    const x = (at: number): number => ((at - begin) / PAST_MS) * WIDTH;
    const y = (value: number): number => HEIGHT - 1 - (Math.min(value, high) / high) * (HEIGHT - 10);
    this.picture.replaceChildren(svg("line", { class: "rule", x1: 0, x2: WIDTH, y1: y(high), y2: y(high) }), svg("line", { class: "rule", x1: 0, x2: WIDTH, y1: y(high / 2), y2: y(high / 2) }));
    for (const { node, points } of drawn) this.picture.append(...line(node, points, metric, x, y, drawn.length === 1));
    if (time !== undefined) this.picture.append(svg("line", { class: "hair", x1: x(time), x2: x(time), y1: 0, y2: HEIGHT }));
    this.top.textContent = metric.show(high).replace("≤ ", "");
    this.read(drawn, time, now);
  }

  /** The figures at a time, of each node and of all. */
  private read(drawn: readonly { node: Node; points: readonly Point[] }[], time: number | undefined, now: number): void {
    const { metric } = this;
    const read = drawn.map(({ node, points }) => ({ node, value: time === undefined && isGone(node) ? null : near(points, time ?? now, metric) }));
    const known = read.map(({ value }) => value).filter((value) => value !== null);
    const all = known.length === 0 ? null : metric.all === "sum" ? known.reduce((sum, value) => sum + value, 0) : Math.max(...known);
    this.figure.textContent = metric.show(all);
    const label = time === undefined ? "now" : `at ${show.clock(time)}`;
    this.picture.setAttribute("aria-label", `${metric.title} ${label}: ${metric.show(all)}; ${read.map(({ node, value }) => `${node.name} ${metric.show(value)}`).join(", ")}`);
    const items = time === undefined ? [] : read.slice(0, COLOURS).map(({ node, value }) => h("li", { class: colour(node) }, h("i"), metric.show(value)));
    fill(this.values, ...items);
  }

  private pointAt(event: PointerEvent): void {
    const { left, width } = this.picture.getBoundingClientRect();
    this.pointed = this.now() - PAST_MS * (1 - Math.min(1, Math.max(0, (event.clientX - left) / width)));
    this.point(this.pointed);
  }

  private key(event: KeyboardEvent): void {
    const step = event.key === "ArrowLeft" ? -STEP_MS : event.key === "ArrowRight" ? STEP_MS : 0;
    if (step === 0 && event.key !== "Escape") return;
    event.preventDefault();
    const now = this.now();
    const time = event.key === "Escape" ? undefined : Math.min(now, Math.max(now - PAST_MS, (this.pointed ?? now) + step));
    this.pointed = time;
    this.point(time);
  }
}

export function axis(): HTMLElement {
  return h("span", { class: "axis" }, h("span", {}, "−15 min"), h("span", {}, "now"));
}

export function colour({ colour }: Node): string {
  return `node-${colour < COLOURS ? colour : "other"}`;
}

type Scale = (value: number) => number;

function line(node: Node, points: readonly Point[], metric: Metric, x: Scale, y: Scale, alone: boolean): SVGElement[] {
  const drawn: SVGElement[] = [];
  for (const run of runs(thin(points, metric, x))) {
    const path = run.map(({ at, value }, index) => `${index === 0 ? "M" : "L"}${at.toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const [first, last] = [run[0]?.at ?? 0, run.at(-1)?.at ?? 0];
    if (alone) drawn.push(svg("path", { class: `under ${colour(node)}`, d: `${path}L${last.toFixed(1)} ${HEIGHT}L${first.toFixed(1)} ${HEIGHT}Z` }));
    drawn.push(svg("path", { class: `line ${colour(node)}${isGone(node) ? " gone" : ""}`, d: run.length === 1 ? `${path}h1` : path }));
  }
  return drawn;
}

/** One value a column, in the picture's measure; breaks stay breaks. */
function thin(points: readonly Point[], metric: Metric, x: Scale): { at: number; value: number; time: number }[] {
  const thinned: { at: number; value: number; time: number }[] = [];
  let column = -1;
  for (const point of points) {
    const value = metric.of(point);
    if (value === null) continue;
    const at = x(point.at);
    const own = Math.floor((at / WIDTH) * COLUMNS);
    const last = thinned.at(-1);
    if (own === column && last !== undefined) last.value = Math.max(last.value, value);
    else thinned.push({ at, value, time: point.at });
    column = own;
  }
  return thinned;
}

function runs<T extends { time: number }>(points: readonly T[]): T[][] {
  const all: T[][] = [];
  let before = -Infinity;
  for (const point of points) {
    if (point.time - before > BREAK_MS) all.push([]);
    all.at(-1)?.push(point);
    before = point.time;
  }
  return all;
}

/** The value nearest to a time, if there is one that is near. */
function near(points: readonly Point[], time: number, metric: Metric): number | null {
  let best: Point | undefined;
  for (const point of points) if (best === undefined || Math.abs(point.at - time) < Math.abs(best.at - time)) best = point;
  return best === undefined || Math.abs(best.at - time) > BREAK_MS ? null : metric.of(best);
}

/** The next round number: 1, 2 or 5 and noughts. */
export function nice(value: number): number {
  const ten = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((step) => step * ten >= value) ?? 10) * ten;
}
