/**
 * The foot of a panel: the last 40 seconds of its channel drawn as a fan, the book's verdict, the cursor, and what
 * the node announced (gaps, rewinds). app.ts feeds and draws it. Never decides what counts as lost: ledger.ts does.
 */
import type { Arrival, Outage } from "./arrival.ts";
import { drawFan, type Stroke } from "./fan.ts";
import { whole, type Ledger } from "./ledger.ts";
import { element, say, still, Surface } from "./surface.ts";

/** Width of the ruler in time. */
const WINDOW_MS = 40_000;
/** More lines than this cannot be told apart on any screen. */
const STROKES_MAX = 1500;
/** Lines kept over a reload. */
const KEPT_MAX = 400;
/** It moves by about a pixel in this time; more frames would show nothing more. */
const STEP_MS = 32;
/** With reduced motion the ruler steps instead of gliding. */
const STILL_STEP_MS = 2_000;

const count = new Intl.NumberFormat("en");

export class Tide {
  private strokes: Stroke[] = [];
  private readonly surface: Surface;
  private readonly sum = element("span", "sum");
  private readonly events = element("span", "events");
  private readonly cursor = element("span", "cursor");
  private drawnAt = 0;

  constructor(host: HTMLElement, private readonly book: Ledger) {
    const axis = element("div", "axis");
    axis.append(element("span", "", `published ↓ arrived, ${WINDOW_MS / 1000} s`), element("span", "", "now"));
    const fan = element("div", "fan");
    const canvas = element("canvas");
    canvas.setAttribute("aria-hidden", "true");
    fan.append(canvas);
    const line = element("p", "book");
    line.append(this.sum, this.events, this.cursor);
    host.append(axis, fan, line);
    this.surface = new Surface(canvas);
    this.refresh();
  }

  /** Adds one publication to the ruler. */
  add(arrival: Arrival): void {
    this.strokes.push(arrival);
    if (this.strokes.length > STROKES_MAX) this.strokes.splice(0, STROKES_MAX / 3);
  }

  /** What to keep over a reload. */
  save(): Stroke[] {
    return this.strokes.slice(-KEPT_MAX).map(({ published, arrived, replayed, conflated }) => ({ published, arrived, replayed, conflated }));
  }

  /** Puts back what was kept. */
  restore(strokes: readonly Stroke[]): void {
    this.strokes = [...strokes];
  }

  /** Writes the book's line anew. */
  refresh(): void {
    const { received, lost, repeated, first, offset, epoch, gaps, resets } = this.book;
    const good = whole(this.book);
    this.sum.toggleAttribute("data-bad", !good);
    const since = first > 0 ? ` since ${count.format(first)}` : "";
    say(this.sum, `${good ? "✓" : "✗"} ${count.format(received)} received${since}, ${count.format(lost)} lost, ${count.format(repeated)} repeated`);
    const told = [gaps > 0 ? `${count.format(gaps)} announced gone` : "", resets > 0 ? `${count.format(resets)} rewound` : ""];
    say(this.events, told.filter(Boolean).join(", "));
    say(this.cursor, epoch === "" ? "no cursor yet" : `${epoch.slice(0, 7)} @ ${offset}`);
  }

  /** Draws the ruler as of now. */
  draw(now: number, outages: readonly Outage[]): void {
    if (now - this.drawnAt < (still.matches ? STILL_STEP_MS : STEP_MS) && !this.surface.dirty) return;
    this.drawnAt = now;
    const from = now - WINDOW_MS;
    while (this.strokes.length > 0 && (this.strokes[0] as Stroke).arrived < from) this.strokes.shift();
    drawFan(this.surface, this.strokes, outages, from, now);
  }
}
