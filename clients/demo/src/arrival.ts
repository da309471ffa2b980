/**
 * The words the page's parts share: one delivered publication, and one time without a connection.
 * Pure types; link.ts makes the values, every panel reads them. Never knows the client library.
 */

/** Channels of the demo, in the order in which reports list them. */
export const CHANNELS = ["orders:demo", "chat:lobby", "dash:demo", "$presence:chat:lobby"] as const;

/** One publication as it reached the page. */
export interface Arrival {
  channel: string;
  epoch: string;
  offset: number;
  key: string | undefined;
  event: string | undefined;
  id: string | undefined;
  by: string | undefined;
  /** When the broker accepted it, in ms of this page's clock (the broker's time, corrected for its clock). */
  published: number;
  /** When it reached the page, in ms of this page's clock. */
  arrived: number;
  data: unknown;
  deleted: boolean;
  /** It came while the channel was catching up after a resume. */
  replayed: boolean;
  /** A newer one of the same key took the place of this many, by the subscription's own wish. */
  conflated: number;
}

/** One time without a connection, in ms of the page's clock; `until` is unset while it lasts. */
export interface Outage {
  from: number;
  until: number | undefined;
  why: "drop" | "reload" | "network";
}
