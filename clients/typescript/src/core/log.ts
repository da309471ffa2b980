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
/** What a frame comes to. `hole`: what comes does not go on from the cursor; subscribe again from there. */
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
  /** What comes does not go on from the cursor: nothing is taken until the node answers from there. */
  astray = false;

  /** A `sub` was sent, or an entry of `hello.subs`, that named this epoch. */
  opening(mode: Mode, epoch: string | undefined): void {
    if (this.phase === "closed") this.astray = true;
    this.phase = "opening";
    this.askedMode = mode;
    this.askedEpoch = epoch;
    this.unanswered++;
  }

  /** The connection ended: nothing sent on it will be answered. The cursor stays. */
  lost(): void {
    this.phase = "closed";
    this.unanswered = 0;
    this.astray = false;
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
    const { cursor, askedEpoch } = this;
    const same = cursor?.epoch === frame.e;
    this.phase = "replaying";
    // An older connection gave a position, or crossed a generation, after this one had asked.
    this.astray = cursor !== null && outcome !== "reset" && (askedEpoch === undefined || (askedEpoch === frame.e && !same));
    if (this.astray) return { kind: "hole" };
    if (outcome !== "full" || !same) this.begin(frame);
    this.mode = this.askedMode;
    this.outcome = outcome;
    this.replayed = 0;
    return { kind: "outcome", outcome };
  }

  /** Delivery begins after this position. */
  begin({ e, o }: Pick<Ok, "e" | "o">): void {
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
    // The node served less than an older connection gave, and knows nothing of what goes with that.
    if (ahead + frame.lost < 0 && this.holeAt !== this.cursor?.offset) return this.again();
    this.begin({ e: frame.e, o: frame.to });
    return { kind: "rewind", epoch: frame.e, to: frame.to, lost: frame.lost };
  }

  live(frame: Live): Effect | null {
    if (this.phase !== "replaying" || this.astray) return null;
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
    if (this.holeAt === this.cursor?.offset && this.phase !== "opening") return this.skip(to, MISSING);
    return this.again();
  }

  private again(): Effect | null {
    this.astray = true;
    if (this.phase === "opening") return null;
    this.holeAt = (this.cursor as Position).offset;
    return { kind: "hole" };
  }

  private skip(to: number, reason: string): Effect & { kind: "gap" } {
    const from = (this.cursor as Position).offset + 1;
    this.advance(to);
    return { kind: "gap", from, to, reason };
  }

  /* How far an offset lies ahead of the cursor; `-Infinity` where none is followed. */
  private ahead(offset: number): number {
    return this.phase === "closed" || this.astray || !this.cursor ? -Infinity : offset - this.cursor.offset;
  }

  private advance(offset: number): void {
    this.cursor = { epoch: (this.cursor as Position).epoch, offset };
  }
}
