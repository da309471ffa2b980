/*
 * One channel as this client holds it: the cursor and what each frame does to it. Pure: a frame goes in, at most one
 * effect comes out, and the cursor has moved before the effect is seen. Subscription drives it.
 * It never lets a publication through twice, nor skips one in mode `every` without saying so.
 */
import type { Position } from "../errors.js";
import type { GapPush, Live, Mode, Msg, Ok, Outcome, RewindPush } from "../protocol/frames.js";

/** What the application is to be told; the kinds are the names of the hub's events. */
export type Notice =
  | { kind: "outcome"; outcome: Outcome }
  | { kind: "recovered"; outcome: Outcome; n: number }
  | { kind: "gap"; from: number; to: number; reason: string }
  | { kind: "rewind"; epoch: string; to: number; lost: number };
/** What a frame comes to. `hole`: subscribe again from the cursor. */
export type Effect = Notice | { kind: "deliver"; msg: Msg; skipped: number; replayed: boolean } | { kind: "hole" };

/** The reason of a gap the node did not tell: the frame that showed it is to be fed once more. */
export const MISSING = "missing";

/** `closed`: no subscription; `opening`: asked for; `replaying`: answered; `live`: caught up. */
export type Phase = "closed" | "opening" | "replaying" | "live";

export class ChannelLog {
  phase: Phase = "closed";
  /** Epoch and offset of the last publication handled, or where delivery began. */
  cursor: Position | null = null;
  private outcome: Outcome = "fresh";
  private mode: Mode = "every";
  private askedMode: Mode = "every";
  private askedEpoch: string | undefined;
  private unanswered = 0;
  private replayed = 0;
  private holeAt = -1;
  /** A hole was found and is not asked about yet: what follows it shows the same one. */
  private holed = false;

  /** A `sub` was sent, or an entry of `hello.subs`, that named this epoch. */
  opening(mode: Mode, epoch: string | undefined): void {
    this.phase = "opening";
    this.holed = false;
    this.askedMode = mode;
    this.askedEpoch = epoch;
    this.unanswered++;
  }

  /** The connection ended: nothing sent on it will be answered. The cursor stays. */
  lost(): void {
    this.phase = "closed";
    this.unanswered = 0;
  }

  /** An `unsub` is being sent; answers to earlier requests may still come. */
  closed(): void {
    this.phase = "closed";
    this.cursor = null;
  }

  /** `unsub` from the node, or an `error` to a `sub`: the cursor stays; false where it answers a request given up since. */
  refused(): boolean {
    if (this.unanswered > 0) this.unanswered--;
    if (this.phase === "closed" || this.unanswered > 0) return false;
    this.phase = "closed";
    return true;
  }

  /** Goes to another position; the caller subscribes from there, and nothing is taken until that is answered. */
  moveTo(cursor: Position): void {
    this.phase = "closed";
    this.cursor = cursor;
  }

  /** True where the node answered and delivers. */
  get open(): boolean {
    return this.phase === "replaying" || this.phase === "live";
  }

  /** True where no `ok` or `unsub` of this channel is owed by the node. */
  get settled(): boolean {
    return this.unanswered === 0;
  }

  /** `ok` of a subscription, asked for or (`reset` under a living reader) not. */
  ok(frame: Ok): Effect | null {
    if (this.unanswered > 0) this.unanswered--;
    if (this.phase === "closed" || this.unanswered > 0) return null;
    const outcome = frame.rec ?? "fresh";
    const { cursor } = this;
    const kept = outcome === "full" && cursor !== null && (cursor.epoch === frame.e || frame.e === this.askedEpoch);
    if (!kept) this.begin(frame);
    this.phase = "replaying";
    this.mode = this.askedMode;
    this.outcome = outcome;
    this.replayed = 0;
    return { kind: "outcome", outcome };
  }

  /** Delivery begins after this position. */
  begin({ e, o }: Ok): void {
    this.cursor = { epoch: e ?? "", offset: o ?? 0 };
    this.holeAt = -1;
  }

  msg(msg: Msg): Effect | null {
    const skipped = this.ahead(msg.o) - 1;
    if (skipped < 0) return null;
    if (skipped > 0 && this.mode === "every") return this.hole(msg.o - 1);
    this.advance(msg.o);
    const replayed = this.phase !== "live";
    if (replayed) this.replayed++;
    return { kind: "deliver", msg, skipped, replayed };
  }

  gap(frame: GapPush): Effect | null {
    if (this.ahead(frame.to) <= 0) return null;
    if (this.ahead(frame.from) > 1 && this.mode === "every") return this.hole(frame.from - 1);
    return this.skip(frame.to, frame.reason);
  }

  rewind(frame: RewindPush): Effect | null {
    const ahead = this.ahead(frame.to);
    if (ahead === -Infinity || this.cursor?.epoch === frame.e) return null;
    if (ahead > 0 && this.mode === "every") return this.hole(frame.to);
    this.cursor = { epoch: frame.e, offset: frame.to };
    return { kind: "rewind", epoch: frame.e, to: frame.to, lost: frame.lost };
  }

  live(frame: Live): Effect | null {
    if (this.phase !== "replaying") return null;
    if (this.ahead(frame.o) > 0) {
      if (this.mode === "every") return this.hole(frame.o);
      this.advance(frame.o);
    }
    this.phase = "live";
    return { kind: "recovered", outcome: this.outcome, n: this.replayed };
  }

  /*
   * Publications up to `to` did not come. Answers still under way, or due, explain it; otherwise the log is read again from
   * the cursor, once: the same hole a second time is told as a gap, so that a faulty node cannot make us loop.
   */
  private hole(to: number): Effect | null {
    if (this.phase === "opening" || this.holed || !this.cursor) return null;
    if (this.holeAt === this.cursor.offset) return this.skip(to, MISSING);
    this.holeAt = this.cursor.offset;
    this.holed = true;
    return { kind: "hole" };
  }

  private skip(to: number, reason: string): Effect & { kind: "gap" } {
    const from = (this.cursor as Position).offset + 1;
    this.advance(to);
    return { kind: "gap", from, to, reason };
  }

  /* How far an offset lies ahead of the cursor; `-Infinity` where none is followed. */
  private ahead(offset: number): number {
    return this.phase === "closed" || !this.cursor ? -Infinity : offset - this.cursor.offset;
  }

  private advance(offset: number): void {
    this.cursor = { epoch: (this.cursor as Position).epoch, offset };
  }
}
