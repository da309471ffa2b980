/**
 * The dashboard: one cell per key of dash:demo with its newest value and the course of it as far as it was delivered.
 * app.ts feeds and draws it. A line's steps follow the index of the reading, so what was conflated shows as a longer
 * step; it never fills one in.
 */
import type { Arrival } from "./arrival.ts";
import { element, palette, say, Surface } from "./surface.ts";

/** A series of /demo/config.json. */
export interface SeriesInfo {
  key: string;
  name: string;
  unit: string;
  min: number;
  max: number;
}
interface Point {
  i: number;
  v: number;
  replayed: boolean;
}
/** Readings a cell shows, by their index. */
const SPAN = 72;
/** The one unit whose values are whole numbers. */
const COUNTED = "per hour";

/** What a cell keeps over a reload. */
export type Course = [i: number, v: number, replayed: 0 | 1][];

class Cell {
  points: Point[] = [];
  readonly host = element("div", "cell");
  private readonly surface: Surface;
  private readonly number = document.createTextNode("–");
  private touched = false;

  constructor(private readonly info: SeriesInfo) {
    const value = element("span", "value");
    value.append(this.number, element("small", "", info.unit));
    const label = element("span", "label");
    const [place, ...what] = info.name.split(" · ");
    label.append(element("span", "", place), what.join(" · "));
    label.title = info.name;
    const spark = element("div", "spark");
    const canvas = element("canvas");
    canvas.setAttribute("aria-hidden", "true");
    spark.append(canvas);
    this.host.append(label, value, spark);
    this.surface = new Surface(canvas);
  }

  take(point: Point): void {
    const last = this.points.at(-1);
    if (last?.i === point.i) return;
    if (last !== undefined && point.i < last.i) this.points.length = 0;
    this.points.push(point);
    while ((this.points[0] as Point).i < point.i - SPAN) this.points.shift();
    this.number.data = point.v.toFixed(this.info.unit === COUNTED ? 0 : 1).replace("-", "−");
    this.touched = true;
  }

  /** Puts readings before the ones it has; one that is not older than those is dropped. */
  prepend(earlier: readonly Point[]): void {
    const first = this.points[0]?.i ?? Infinity;
    const last = this.points.at(-1)?.i ?? Infinity;
    this.points.unshift(...earlier.filter(({ i }) => i < first && i >= last - SPAN));
    this.touched = true;
  }

  draw(): void {
    if (!this.touched && !this.surface.dirty) return;
    const pen = this.surface.open();
    const last = this.points.at(-1);
    if (pen === undefined || last === undefined) return;
    this.touched = false;
    const { width, height } = this.surface;
    const inks = palette();
    const low = Math.min(this.info.min, this.info.max - 1e-9);
    const x = (point: Point) => 4 + ((point.i - last.i + SPAN) / SPAN) * (width - 9);
    const y = (point: Point) => 4 + (1 - (point.v - low) / (this.info.max - low)) * (height - 9);
    if (low < 0 && this.info.max > 0) {
      pen.fillStyle = inks.line;
      pen.fillRect(4, y({ i: 0, v: 0, replayed: false }), width - 8, 1);
    }
    this.line(pen, x, y, inks.live, inks.replay);
    pen.fillStyle = last.replayed ? inks.replay : inks.live;
    pen.beginPath();
    pen.arc(x(last), y(last), 2.6, 0, 7);
    pen.fill();
  }

  private line(pen: CanvasRenderingContext2D, x: (p: Point) => number, y: (p: Point) => number, live: string, replay: string): void {
    pen.lineWidth = 1.4;
    pen.lineJoin = "round";
    for (let i = 1; i < this.points.length; i += 1) {
      const [from, to] = [this.points[i - 1] as Point, this.points[i] as Point];
      pen.strokeStyle = to.replayed ? replay : live;
      pen.globalAlpha = to.i - from.i > 1 ? 0.55 : 1;
      pen.beginPath();
      pen.moveTo(x(from), y(from));
      pen.lineTo(x(to), y(to));
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }
}

export class Board {
  private readonly cells = new Map<string, Cell>();
  private readonly host = document.getElementById("series") as HTMLElement;
  private readonly conflated = document.getElementById("conflated") as HTMLElement;

  constructor(series: readonly SeriesInfo[]) {
    for (const info of series) {
      const cell = new Cell(info);
      this.cells.set(info.key, cell);
      this.host.append(cell.host);
    }
  }

  /** Takes one key, from the log or from a snapshot. */
  take(a: Pick<Arrival, "key" | "data" | "deleted" | "replayed">): void {
    const { i, v } = (a.data ?? {}) as { i?: number; v?: number };
    if (a.deleted || a.key === undefined || typeof i !== "number" || typeof v !== "number") return;
    this.cells.get(a.key)?.take({ i, v, replayed: a.replayed });
  }

  /** Takes a page of the channel's past, oldest first. */
  prepend(entries: readonly Pick<Arrival, "key" | "data">[]): void {
    const earlier = new Map<string, Point[]>();
    for (const { key = "", data } of entries) {
      const { i, v } = (data ?? {}) as { i?: number; v?: number };
      if (typeof i !== "number" || typeof v !== "number") continue;
      const points = earlier.get(key) ?? [];
      earlier.set(key, points);
      points.push({ i, v, replayed: false });
    }
    for (const [key, points] of earlier) this.cells.get(key)?.prepend(points);
  }

  /** Shows how many publications a newer one replaced. */
  count(conflated: number): void {
    say(this.conflated, conflated.toLocaleString("en"));
  }

  /** What to keep over a reload. */
  save(): Record<string, Course> {
    const kept = [...this.cells].map(([key, cell]) => [key, cell.points.map((p) => [p.i, p.v, p.replayed ? 1 : 0])] as const);
    return Object.fromEntries(kept) as Record<string, Course>;
  }

  /** Puts back what was kept. */
  restore(saved: Record<string, Course>): void {
    for (const [key, course] of Object.entries(saved)) {
      for (const [i, v, replayed] of course) this.cells.get(key)?.take({ i, v, replayed: replayed === 1 });
    }
  }

  /** Draws the cells that changed. */
  draw(): void {
    for (const cell of this.cells.values()) cell.draw();
  }
}
