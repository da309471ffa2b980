/*
 * Publications the node has not acknowledged, in the order they were made. Pure; Publisher drives it.
 * It never reorders, and never holds more than its limits of count and bytes.
 */
import { HubError } from "../errors.js";
import type { Pub } from "../protocol/frames.js";

/** What a page can make while a connection is down for a minute without anybody noticing. */
export const OUTBOX_COUNT_MAX = 256;
export const OUTBOX_BYTES_MAX = 1_048_576;
/** How long one waits for its acknowledgement unless `queueFor` says otherwise. */
export const QUEUE_FOR_MS = 60_000;
/** The node recognises an `id` again for at least this long; later, sending it again could apply it twice. */
export const DEDUP_WINDOW_MS = 120_000;

export interface Entry {
  readonly frame: Pub & { id: string };
  readonly bytes: number;
  /** When it is given up, ms of this machine's clock; once it was sent, before the node could forget its id. */
  expires: number;
  /** Sent at least once: it may have been applied. */
  tried: boolean;
  /** Sent on the present connection. */
  sent: boolean;
  settle: ((result: Settled) => void) | null;
}
export type Settled = { epoch: string; offset: number; duplicate: boolean; acknowledged: string } | HubError;

export class Outbox {
  readonly entries: Entry[] = [];
  private bytes = 0;

  /** Throws `outbox_full`. */
  add(entry: Entry): void {
    if (this.entries.length >= OUTBOX_COUNT_MAX || this.bytes + entry.bytes > OUTBOX_BYTES_MAX)
      throw new HubError(3, "outbox_full");
    this.entries.push(entry);
    this.bytes += entry.bytes;
  }

  /** The next to be sent, in order, marked as sent at `now`. */
  next(now: number): Entry | undefined {
    const entry = this.entries.find(({ sent }) => !sent);
    if (!entry) return undefined;
    if (!entry.tried) entry.expires = Math.min(entry.expires, now + DEDUP_WINDOW_MS);
    entry.sent = entry.tried = true;
    return entry;
  }

  /** Nothing that was sent has certainly arrived: all of it goes again, oldest first. */
  unsend(): void {
    for (const entry of this.entries) entry.sent = false;
  }

  settle(entry: Entry, result: Settled): void {
    const at = this.entries.indexOf(entry);
    if (at < 0) return;
    this.entries.splice(at, 1);
    this.bytes -= entry.bytes;
    entry.settle?.(result);
  }

  /** Gives up what is too old; `expired` was never sent, `outcome_unknown` may have been applied. */
  expire(now: number): void {
    for (const entry of this.entries.filter(({ expires }) => expires <= now))
      this.settle(entry, entry.tried ? new HubError(5, "outcome_unknown") : new HubError(4, "expired"));
  }

  /** When the next one is too old, or `Infinity`. */
  nextExpiry(): number {
    return Math.min(Infinity, ...this.entries.map(({ expires }) => expires));
  }

  clear(error: HubError): number {
    const all = [...this.entries];
    for (const entry of all) this.settle(entry, error);
    return all.length;
  }
}
