/*
 * Pages of a channel's history, both ways.
 */
import type { Position } from "./errors.js";
import { toMessage, type Message } from "./message.js";
import type { Ok, Request } from "./protocol/frames.js";

export interface HistoryOptions {
  /** Older than this offset (of the epoch it is in), or the newest where neither is given. */
  before?: Position | number;
  /** Newer than this offset. */
  after?: Position | number;
  /** Publications a page; 50 unless said, the node's own limit is 256. */
  limit?: number;
}
export interface Page<M = Message> {
  /** In rising offset order. */
  readonly items: M[];
  readonly epoch: string;
  /** Whether there is another page the same way. */
  readonly more: boolean;
  /** The next page: older ones for `before`, newer ones for `after`. */
  next(): Promise<Page<M>>;
}

const LIMIT = 50;

export async function readHistory(ch: string, options: HistoryOptions, request: (frame: Request) => Promise<Ok>): Promise<Page> {
  const { before, after, limit = LIMIT } = options;
  const from = after ?? before;
  const [epoch, offset] = typeof from === "object" ? [from.epoch, from.offset] : [undefined, from];
  const way = after === undefined ? "before" : "after";
  const ok = await request({ t: "history", ch, e: epoch, [way]: offset, n: limit });
  const e = ok.e ?? epoch ?? "";
  const items = (ok.items ?? []).map((item) => toMessage(ch, e, item, true));
  const edge = (way === "after" ? items.at(-1) : items[0])?.offset ?? offset ?? 0;
  return {
    items,
    epoch: e,
    more: ok.more ?? false,
    next: () => readHistory(ch, { [way]: { epoch: e, offset: edge }, limit }, request),
  };
}
