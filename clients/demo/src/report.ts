/**
 * "What resume replayed": records one time without a connection, channel by channel, and shows it as strips. app.ts
 * tells it when the connection went and came back and feeds it every arrival. Never judges offsets: the books do.
 */
import { CHANNELS, type Arrival, type Outage } from "./arrival.ts";
import { drawFan, type Stroke } from "./fan.ts";
import type { Ledger } from "./ledger.ts";
import { byId, element, say, still, Surface } from "./surface.ts";

/** What a strip shows around the outage itself. */
const LEAD_MS = 3_000;
const TAIL_MS = 2_500;
/** Lines kept per channel and outage; more cannot be told apart. */
const STROKES_MAX = 800;

interface Share {
  before: number;
  after: number;
  replayed: number;
  conflated: number;
  gaps: number;
  repeated: number;
  lost: number;
  /** When this channel had caught up; undefined until then. */
  whole: number | undefined;
  strokes: Stroke[];
}

/** Everything about one outage; plain, so that it outlives a reload. */
export interface Report {
  outage: Outage;
  resumed: boolean | undefined;
  shares: Record<string, Share>;
}

const count = new Intl.NumberFormat("en");
const COLUMNS = ["missed", "replayed", "conflated", "repeated", "lost"] as const;
const WHY = { drop: "Network dropped", reload: "Page reloaded", network: "Connection lost" };

interface Row {
  surface: Surface;
  note: HTMLElement;
  cells: Record<(typeof COLUMNS)[number], HTMLElement>;
}

export class Reporter {
  report: Report | undefined;
  private readonly recent = new Map<string, Stroke[]>();
  private readonly rows = new Map<string, Row>();
  private readonly verdict = byId("verdict");
  private painted = false;

  constructor(private readonly books: Record<string, Ledger>) {
    const host = byId("strips");
    const head = element("div", "strip head");
    for (const text of ["channel", "", ...COLUMNS]) head.append(element("span", "", text));
    host.append(head);
    for (const channel of CHANNELS) host.append(this.row(channel));
  }

  /** The connection went at `from`; a report that is still open goes on instead. */
  away(from: number, why: Outage["why"]): void {
    if (this.report !== undefined && this.report.outage.until === undefined) return;
    const shares: Record<string, Share> = {};
    for (const [channel, book] of Object.entries(this.books)) {
      const strokes = (this.recent.get(channel) ?? []).filter((stroke) => stroke.arrived > from - LEAD_MS);
      const { offset, repeated, lost, gaps } = book;
      shares[channel] = { before: offset, after: offset, replayed: 0, conflated: 0, gaps: -gaps, repeated: -repeated, lost: -lost, whole: undefined, strokes };
    }
    this.report = { outage: { from, until: undefined, why }, resumed: undefined, shares };
    this.show();
  }

  /** The connection is back. */
  back(at: number, resumed: boolean): void {
    if (this.report === undefined || this.report.outage.until !== undefined) return;
    this.report.outage.until = at;
    this.report.resumed = resumed;
    this.show();
  }

  /** This channel has caught up. */
  live(channel: string, at: number): void {
    const share = this.report?.shares[channel];
    if (share === undefined || share.whole !== undefined || this.report?.outage.until === undefined) return;
    const book = this.books[channel] as Ledger;
    share.whole = at;
    share.after = book.offset;
    share.gaps += book.gaps;
    share.repeated += book.repeated;
    share.lost += book.lost;
    this.show();
  }

  /** One publication came. */
  take(arrival: Arrival): void {
    const { published, arrived, replayed, conflated } = arrival;
    const stroke = { published, arrived, replayed, conflated };
    const recent = this.recent.get(arrival.channel) ?? [];
    this.recent.set(arrival.channel, recent);
    recent.push(stroke);
    while (recent.length > STROKES_MAX || (recent[0] as Stroke).arrived < arrived - LEAD_MS) recent.shift();
    const until = this.report?.outage.until;
    const share = this.report?.shares[arrival.channel];
    if (until === undefined || share === undefined || arrived > until + TAIL_MS) return;
    if (share.whole === undefined && replayed) {
      share.replayed += 1;
      share.conflated += conflated;
    }
    if (share.strokes.length < STROKES_MAX) share.strokes.push(stroke);
  }

  /** Puts back what was there before a page reload. */
  restore(report: Report | undefined, recent: Readonly<Record<string, readonly Stroke[]>>): void {
    for (const [channel, strokes] of Object.entries(recent)) this.recent.set(channel, [...strokes]);
    this.report = report;
    this.show();
  }

  /** Draws the strips while they can still change. */
  draw(now: number): void {
    const report = this.report;
    const dirty = [...this.rows.values()].some((row) => row.surface.dirty);
    const settled = report?.outage.until === undefined ? report === undefined : now > report.outage.until + TAIL_MS;
    if (!dirty && this.painted && (settled || still.matches)) return;
    this.painted = settled;
    for (const [channel, row] of this.rows) {
      if (report === undefined) {
        drawFan(row.surface, [], [], 0, 1);
        continue;
      }
      const { from, until } = report.outage;
      const end = until === undefined ? Math.max(now, from + 1) : until + TAIL_MS;
      drawFan(row.surface, report.shares[channel]?.strokes ?? [], [report.outage], from - LEAD_MS, end);
    }
  }

  private row(channel: string): HTMLElement {
    const host = element("div", "strip");
    const name = element("div");
    const note = element("small", "", " ");
    name.append(element("code", "", channel), note);
    const fan = element("div", "fan");
    const canvas = element("canvas");
    canvas.setAttribute("aria-hidden", "true");
    fan.append(canvas);
    host.append(name, fan);
    const cells = {} as Row["cells"];
    for (const column of COLUMNS) {
      const cell = element("div", "num", "–");
      cell.dataset["label"] = column;
      cell.id = `resume-${channel}-${column}`;
      cells[column] = cell;
      host.append(cell);
    }
    this.rows.set(channel, { surface: new Surface(canvas), note, cells });
    return host;
  }

  private show(): void {
    this.painted = false;
    const report = this.report;
    if (report === undefined) return;
    for (const [channel, row] of this.rows) this.showRow(row, report.shares[channel], report.outage);
    const { outage, shares } = report;
    const all = Object.values(shares);
    if (outage.until === undefined) {
      this.verdict.replaceChildren(bold(WHY[outage.why]), ". The session waits; the channels go on without this page.");
    } else if (all.some((share) => share.whole === undefined)) {
      this.verdict.replaceChildren(bold(report.resumed ? "Resumed" : "Back in a new session"), ", catching up…");
    } else {
      this.sum(report, outage.until, all);
    }
  }

  private sum(report: Report, until: number, all: Share[]): void {
    const total = (of: (share: Share) => number) => all.reduce((sum, share) => sum + of(share), 0);
    const missed = total((share) => share.after - share.before);
    const conflated = total((share) => share.conflated);
    const bad = total((share) => share.lost + share.repeated);
    const took = Math.max(0, ...all.map((share) => (share.whole ?? until) - until));
    const parts = `${count.format(total((share) => share.replayed))} replayed in order${conflated > 0 ? `, ${count.format(conflated)} conflated` : ""}`;
    const gone = total((share) => share.gaps);
    const verdict = element("span", bad === 0 ? "good" : "bad", bad === 0 ? "0 lost, 0 repeated" : `${bad} lost or repeated`);
    this.verdict.replaceChildren(
      bold(`${WHY[report.outage.why]} for ${((until - report.outage.from) / 1000).toFixed(1)} s`),
      `: ${count.format(missed)} publications missed, ${parts}${gone > 0 ? `, ${count.format(gone)} announced gone` : ""}, `,
      verdict,
      `. ${report.resumed ? "Session resumed" : "New session"}, whole again after ${Math.round(took)} ms.`,
    );
  }

  private showRow(row: Row, share: Share | undefined, outage: Outage): void {
    const done = share?.whole !== undefined && outage.until !== undefined;
    const values = {
      missed: share === undefined ? 0 : share.after - share.before,
      replayed: share?.replayed ?? 0,
      conflated: share?.conflated ?? 0,
      repeated: share?.repeated ?? 0,
      lost: share?.lost ?? 0,
    };
    for (const column of COLUMNS) {
      const cell = row.cells[column];
      say(cell, done ? count.format(values[column]) : "–");
      const checked = column === "repeated" || column === "lost";
      cell.dataset["kind"] = !done ? "" : checked ? (values[column] === 0 ? "clean" : "bad") : column === "replayed" && values.replayed > 0 ? "replayed" : "";
    }
    say(row.note, done ? `whole after ${Math.max(0, Math.round((share.whole ?? 0) - (outage.until ?? 0)))} ms` : outage.until === undefined ? "away" : "catching up");
  }
}

function bold(text: string): HTMLElement {
  return element("b", "", text);
}
