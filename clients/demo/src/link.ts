/**
 * What the page needs from its one WebSocket, in the page's own words. hub.ts answers it with Tidewire's client;
 * app.ts is the only caller. Types only.
 */
import type { Arrival } from "./arrival.ts";

/** The connection as the client tells it. */
export type State = "connecting" | "online" | "offline" | "blocked";

/** Who answers at the other end. */
export interface Facts {
  node: string;
  session: string;
  /** ms; undefined until measured */
  roundTrip: number | undefined;
  /** Whether the newest connection resumed the session. */
  resumed: boolean;
}

/** One entry of a channel's past or state. */
export interface Entry {
  offset: number;
  epoch: string;
  key: string | undefined;
  event: string | undefined;
  id: string | undefined;
  by: string | undefined;
  published: number;
  data: unknown;
  deleted: boolean;
}

/** What the link tells the page. */
export interface Listener {
  tell(state: State, why: string): void;
  welcome(facts: Facts): void;
  facts(facts: Facts): void;
  /** Delivery of a channel (re)starts after this position. */
  begin(channel: string, epoch: string, offset: number): void;
  arrival(arrival: Arrival): void;
  snapshot(channel: string, items: readonly Entry[]): void;
  gap(channel: string, from: number, to: number): void;
  /** The log lost its end: it goes on under another epoch, after this offset. */
  reset(channel: string, epoch: string, offset: number): void;
  /** The log goes on as it was, under another epoch. */
  renamed(channel: string, epoch: string): void;
  /** Of a channel read in mode "latest": the newest publication of each key, in log order, complete up to `to`. */
  newest(channel: string, epoch: string, items: readonly Entry[], to: number, replayed: boolean): void;
  /** It caught up at this time. */
  live(channel: string, at: number): void;
  refused(channel: string, name: string): void;
  stale(channel: string | undefined, since: number): void;
  members(users: readonly string[]): void;
}

/** Channels whose past the page reads. */
export type PastChannel = "chat:lobby" | "dash:demo";

/** What the page asks of the link. */
export interface Link {
  /** The client itself, for a developer's console. */
  readonly hub: unknown;
  /** Sends a chat message; queued without network. `acked` rejects with an error that has a `name`. */
  say(text: string): { id: string; acked: Promise<{ epoch: string; offset: number }> };
  /** A page of a channel's past before an offset (undefined: the newest), oldest first. */
  older(channel: PastChannel, before: number | undefined, n: number): Promise<{ items: Entry[]; more: boolean }>;
  /** Updates a second of the dashboard; 0: as they come. */
  rate(hz: number): void;
  /** Loses the connection at once, without a goodbye, and lets none through for this long. */
  drop(ms: number): void;
  /** Ends the session: this tab goes on as someone else. */
  leave(): void;
}
