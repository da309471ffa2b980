/*
 * A publication as the application sees it.
 */
import type { Item } from "./protocol/frames.js";

export interface Message<Data = unknown, Event extends string = string> {
  readonly channel: string;
  readonly event: Event | undefined;
  /** A JSON value, or the bytes that were published. */
  readonly data: Data;
  readonly key: string | undefined;
  readonly id: string | undefined;
  readonly epoch: string;
  readonly offset: number;
  /** When the broker accepted it, Unix ms of its clock; `expires` likewise. */
  readonly ts: number;
  readonly expires: number | undefined;
  /** The user who published, where a client did. */
  readonly by: string | undefined;
  /** The key was removed. */
  readonly deleted: boolean;
  /** Came while catching up, not live. */
  readonly replayed: boolean;
}

/** `epoch` stands in where the item does not name its own. */
export function toMessage(channel: string, epoch: string, item: Item, replayed: boolean): Message {
  return {
    channel,
    event: item.ev,
    data: item.b ?? item.d ?? null,
    key: item.k,
    id: item.id,
    epoch: item.e ?? epoch,
    offset: item.o,
    ts: item.ts,
    expires: item.exp,
    by: item.by,
    deleted: item.del === true,
    replayed,
  };
}
