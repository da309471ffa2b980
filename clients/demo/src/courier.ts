/**
 * The live order: the keys `status`, `courier` and `eta` of orders:demo as text, and as a courier on the map of the
 * recorded drive. app.ts feeds and draws it. It glides between the positions it was sent and never runs ahead of
 * the newest.
 */
import type { Arrival } from "./arrival.ts";
import { Chart, type RoutePoint } from "./chart.ts";
import { byId, element, palette, say, still, Surface } from "./surface.ts";

/** `courier` of orders:demo. */
interface Position {
  lat: number;
  lon: number;
  /** km/h */
  speed?: number;
  /** 0…1 of the drive */
  progress?: number;
  /** degrees, clockwise from north */
  heading?: number;
}
/** `status` of orders:demo. */
interface Status {
  status: string;
  text?: string;
}
/** A position it was sent. */
export interface Fix {
  lat: number;
  lon: number;
  heading: number;
  replayed: boolean;
}

const STEPS: readonly [string, string][] = [
  ["preparing", "Being packed"],
  ["on_the_way", "On the way"],
  ["arriving", "Nearly there"],
  ["delivered", "Handed over"],
  ["returning", "Courier returns"],
];
const DELIVERED = 3;
/** Positions kept as dots behind the courier. */
const TRAIL_MAX = 90;
/** A replayed backlog is driven through in about this time. */
const CATCH_UP_MS = 900;
/** A courier further away than this is on a new round, not on a fast one. */
const JUMP_DEGREES = 0.004;

export class Courier {
  private readonly surface = new Surface(byId<HTMLCanvasElement>("map"));
  private readonly chart: Chart;
  private readonly steps: HTMLElement[];
  private readonly trail: Fix[] = [];
  private queue: { fix: Fix; takes: number }[] = [];
  private from: Fix | undefined;
  private shown: Fix | undefined;
  private legStart = 0;
  private lastFixAt = 0;
  private interval = 1000;
  private etaAt: { seconds: number; at: number } | undefined;
  private online = false;
  private arrived = false;

  constructor(route: readonly RoutePoint[]) {
    this.chart = new Chart(route);
    this.steps = STEPS.map(([, text]) => element("li", "", text));
    byId("steps").append(...this.steps);
  }

  /** Takes one key of the order, from the log or from a snapshot. */
  take(a: Pick<Arrival, "key" | "data" | "deleted" | "replayed" | "arrived">): void {
    if (a.deleted || typeof a.data !== "object" || a.data === null) return;
    if (a.key === "courier") this.move(a.data as Position, a.replayed, a.arrived);
    else if (a.key === "status") this.status(a.data as Status);
    else if (a.key === "eta") this.etaAt = { seconds: Number((a.data as { seconds: number }).seconds), at: a.arrived };
  }

  /** Tells whether the node can be reached: a courier nobody hears of is drawn hollow. */
  reachable(online: boolean): void {
    this.online = online;
    this.surface.dirty = true;
  }

  /** What to keep over a reload. */
  save(): Fix[] {
    return this.trail;
  }

  /** Puts back what was kept. */
  restore(trail: readonly Fix[]): void {
    this.trail.push(...trail);
    this.from = this.shown = this.trail.at(-1);
  }

  /** Draws the map as of now. */
  draw(now: number): void {
    this.eta(now);
    if (!this.glide(now) && !this.surface.dirty && this.online) return;
    const pen = this.surface.open();
    if (pen === undefined) return;
    this.chart.fit(this.surface.width, this.surface.height);
    this.chart.draw(pen);
    this.drawTrail(pen);
    if (this.shown !== undefined) this.drawCourier(pen, this.shown, now);
  }

  private move(position: Position, replayed: boolean, at: number): void {
    const fix = { lat: position.lat, lon: position.lon, heading: position.heading ?? 0, replayed };
    const newest = this.trail.at(-1);
    if (newest !== undefined && Math.hypot(newest.lat - fix.lat, newest.lon - fix.lon) > JUMP_DEGREES) {
      this.trail.length = 0;
      this.queue = [];
      this.from = this.shown = undefined;
    }
    this.trail.push(fix);
    if (this.trail.length > TRAIL_MAX) this.trail.shift();
    if (!replayed) {
      const since = at - this.lastFixAt;
      if (since > 50 && since < 5_000) this.interval += (since - this.interval) * 0.3;
      this.lastFixAt = at;
    }
    this.queue.push({ fix, takes: this.interval });
    for (const leg of this.queue) leg.takes = Math.min(leg.takes, replayed || this.queue.length > 2 ? CATCH_UP_MS / this.queue.length : this.interval);
    this.surface.dirty = true;
    if (position.speed !== undefined) say(byId("speed"), `${position.speed.toFixed(0)} km/h`);
    if (position.progress !== undefined) say(byId("driven"), `${(position.progress * 100).toFixed(0)} %`);
  }

  private status(status: Status): void {
    const at = STEPS.findIndex(([name]) => name === status.status);
    this.arrived = at >= DELIVERED;
    this.steps.forEach((step, i) => {
      step.toggleAttribute("data-done", i < at);
      if (i === at) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
    say(byId("order-text"), status.text ?? status.status);
  }

  private eta(now: number): void {
    say(byId("eta-label"), this.arrived ? "Arrived" : "Arrives in");
    if (this.arrived) return say(byId("eta"), "✓");
    if (this.etaAt === undefined) return;
    const left = Math.max(0, Math.round(this.etaAt.seconds - (this.online ? (now - this.etaAt.at) / 1000 : 0)));
    say(byId("eta"), `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`);
  }

  /** Advances the shown position; false when it rests. */
  private glide(now: number): boolean {
    const leg = this.queue[0];
    if (leg === undefined) return false;
    if (this.from === undefined || still.matches) {
      this.shown = this.from = (this.queue.at(-1) ?? leg).fix;
      this.queue = [];
      return true;
    }
    if (this.legStart === 0) this.legStart = now;
    const share = Math.min(1, (now - this.legStart) / Math.max(1, leg.takes));
    const turn = ((leg.fix.heading - this.from.heading + 540) % 360) - 180;
    this.shown = {
      lat: this.from.lat + (leg.fix.lat - this.from.lat) * share,
      lon: this.from.lon + (leg.fix.lon - this.from.lon) * share,
      heading: this.from.heading + turn * Math.min(1, share * 3),
      replayed: leg.fix.replayed,
    };
    if (share === 1) {
      this.from = leg.fix;
      this.queue.shift();
      this.legStart = this.queue.length > 0 ? now : 0;
    }
    return true;
  }

  private drawTrail(pen: CanvasRenderingContext2D): void {
    const inks = palette();
    const waiting = this.queue.length;
    this.trail.slice(0, this.trail.length - waiting).forEach((fix, i, all) => {
      const [x, y] = this.chart.place(fix.lat, fix.lon);
      pen.globalAlpha = 0.25 + 0.75 * ((i + 1) / all.length);
      pen.fillStyle = fix.replayed ? inks.replay : inks.live;
      pen.beginPath();
      pen.arc(x, y, fix.replayed ? 3.4 : 2.6, 0, 7);
      pen.fill();
    });
    pen.globalAlpha = 1;
  }

  private drawCourier(pen: CanvasRenderingContext2D, fix: Fix, now: number): void {
    const inks = palette();
    const colour = !this.online || fix.replayed ? inks.replay : inks.live;
    const [x, y] = this.chart.place(fix.lat, fix.lon);
    const breath = still.matches ? 0.5 : (now % 2000) / 2000;
    pen.save();
    pen.translate(x, y);
    if (!this.online) {
      pen.strokeStyle = colour;
      pen.globalAlpha = 1 - breath;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(0, 0, 14 + breath * 18, 0, 7);
      pen.stroke();
      pen.globalAlpha = 1;
    }
    pen.rotate((fix.heading * Math.PI) / 180);
    pen.beginPath();
    pen.moveTo(0, -21);
    pen.quadraticCurveTo(4, -14, 8, -10.5);
    pen.arc(0, 0, 13, -0.9, Math.PI + 0.9);
    pen.quadraticCurveTo(-4, -14, 0, -21);
    pen.closePath();
    pen.fillStyle = this.online ? colour : inks.panel;
    pen.strokeStyle = this.online ? inks.panel : colour;
    pen.lineWidth = this.online ? 2.5 : 3;
    pen.setLineDash(this.online ? [] : [4, 3]);
    pen.fill();
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = this.online ? inks.panel : colour;
    pen.beginPath();
    pen.arc(0, 0, 4.5, 0, 7);
    pen.fill();
    pen.restore();
  }
}
