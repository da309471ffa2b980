/**
 * The book kept of one channel: whether every offset came exactly once and in order. app.ts writes it from what
 * link.ts delivers; panels and the end-to-end tests read it. Pure: no clock, no DOM, and it never mends what it sees.
 */
import type { Arrival } from "./arrival.ts";

/** Plain numbers, so that the book outlives a page reload in session storage. */
export interface Ledger {
  epoch: string;
  /** First offset the book covers; 0: none yet. */
  first: number;
  /** Last offset seen: the cursor. */
  offset: number;
  received: number;
  replayed: number;
  /** Publications a newer one of their key replaced, in mode "latest". */
  conflated: number;
  /** Offsets skipped without an announced reason: always 0, or Tidewire broke its promise. */
  lost: number;
  /** Offsets that came twice: always 0. */
  repeated: number;
  /** Publications an announced gap said are gone. */
  gaps: number;
  /** Times the log began another life, or lost its end. */
  resets: number;
}

/** An empty book. */
export function ledger(): Ledger {
  return { epoch: "", first: 0, offset: 0, received: 0, replayed: 0, conflated: 0, lost: 0, repeated: 0, gaps: 0, resets: 0 };
}

/**
 * Enters where delivery starts: the position the node answered the subscription with. In mode "every" it goes on where
 * the book ends, or what lies between is lost; in mode "latest" what follows brings the newest of each key.
 */
export function begin(book: Ledger, epoch: string, offset: number, mode: "every" | "latest"): void {
  if (book.epoch === "") {
    book.epoch = epoch;
    book.offset = offset;
  } else if (book.epoch !== epoch) {
    enterReset(book, epoch, offset);
  } else if (mode === "every" && offset > book.offset) {
    book.lost += offset - book.offset;
    book.offset = offset;
  }
}

/** Enters one publication; `begin` came before the first. */
export function enter(book: Ledger, a: Arrival): void {
  if (a.offset <= book.offset) {
    book.repeated += 1;
    return;
  }
  const skipped = a.offset - book.offset - 1;
  book.conflated += a.conflated;
  if (book.first === 0) book.first = book.offset + 1;
  book.lost += Math.max(0, skipped - a.conflated);
  book.offset = a.offset;
  book.received += 1;
  if (a.replayed) book.replayed += 1;
}

/** Enters an announced gap: `from` to `to` are gone, the next publication is `to` + 1. */
export function enterGap(book: Ledger, from: number, to: number): void {
  const start = Math.max(from, book.offset + 1);
  if (to < start) return;
  book.gaps += to - start + 1;
  book.offset = to;
}

/** Enters that the log goes on elsewhere: under another epoch, after `offset`. */
export function enterReset(book: Ledger, epoch: string, offset: number): void {
  book.resets += 1;
  book.epoch = epoch;
  book.offset = offset;
}

/** Whether everything the book covers came once and in order. */
export function whole(book: Ledger): boolean {
  return book.lost === 0 && book.repeated === 0;
}
