/*
 * The frames of protocol v1 as types, in both directions. Pure; used by the codecs and every module above.
 * It never checks anything: see check.ts.
 */

export type Mode = "every" | "latest";
export type Outcome = "full" | "reset" | "fresh";
/* A key that holds `undefined` is absent: both codecs leave it out. */

/** Data of a publication: JSON in `d`, or bytes in `b`. */
export interface Body {
  d?: unknown;
  b?: Uint8Array;
}

/** One wanted subscription: the keys of `sub`, and an entry of `hello.subs`. */
export interface Sub {
  ch: string;
  e?: string | undefined;
  o?: number | undefined;
  state?: true | undefined;
  last?: number | undefined;
  mode?: Mode | undefined;
  hz?: number | undefined;
  me?: unknown;
}

/** Positions by channel, `[epoch, offset]`, as `ack` and `pong` carry them. */
export type Positions = Record<string, [string, number]>;

export interface Hello {
  t: "hello";
  token?: string | undefined;
  session?: { id: string; key: string; attempt: number } | undefined;
  subs: Sub[];
  sdk: string;
}
export interface Pub extends Body {
  t: "pub";
  i?: number;
  ch: string;
  k?: string | undefined;
  ev?: string | undefined;
  id?: string;
  del?: true | undefined;
  ttl?: number | undefined;
  if?: { e?: string; o: number } | undefined;
}
export type Request =
  | ({ t: "sub"; i?: number } & Sub)
  | { t: "unsub"; i?: number; ch: string }
  | Pub
  | { t: "history"; i?: number; ch: string; e?: string | undefined; before?: number; after?: number; n: number }
  | { t: "state"; i?: number; ch: string; from?: number | undefined }
  | { t: "auth"; i?: number; token: string }
  /* No such command exists: the node answers 404, and any answer proves the connection. */
  | { t: "ping"; i?: number };
export type Command = Hello | Request | { t: "ack"; c: Positions } | { t: "pong"; c?: Positions | undefined } | { t: "leave" };

export interface Item extends Body {
  o: number;
  e?: string;
  k?: string;
  ev?: string;
  id?: string;
  ts: number;
  by?: string;
  del?: boolean;
  exp?: number;
}
export interface Welcome {
  t: "welcome";
  session: { id: string; key: string; ttl: number };
  resumed: boolean;
  user?: string;
  hb: number;
  ts: number;
  max?: { frame?: number; data?: number; subs?: number };
  exp?: number;
  node?: string;
}
export interface Ok {
  t: "ok";
  i?: number;
  ch?: string;
  e?: string;
  o?: number;
  rec?: Outcome;
  dup?: boolean;
  ack?: string;
  items?: Item[];
  more?: boolean;
  exp?: number;
}
export interface Failure {
  t: "error";
  i?: number;
  code: number;
  name: string;
  text?: string;
  retry?: number;
  e?: string;
  o?: number;
}
export interface Msg extends Item {
  t: "msg";
  ch: string;
}
export interface State {
  t: "state";
  ch: string;
  items: Item[];
  more: boolean;
}
export interface Live {
  t: "live";
  ch: string;
  o: number;
  n: number;
}
export interface GapPush {
  t: "gap";
  ch: string;
  from: number;
  to: number;
  reason: string;
}
export interface RewindPush {
  t: "rewind";
  ch: string;
  e: string;
  to: number;
  lost: number;
}
export interface Unsub {
  t: "unsub";
  ch: string;
  code: number;
  name: string;
}
export interface Bye {
  t: "bye";
  code: number;
  name: string;
  retry?: number;
  attempt?: number;
}
/** A frame from the node, checked. */
export type Push =
  | Welcome
  | Ok
  | Failure
  | Msg
  | State
  | Live
  | GapPush
  | RewindPush
  | Unsub
  | Bye
  | { t: "stale"; ch?: string; since: number }
  | { t: "auth"; exp: number }
  | { t: "move"; in: number; by: number }
  | { t: "ping" };

/** How frames become WebSocket messages. Two exist: `json` (built in) and `msgpack` (`tidewire/msgpack`). */
export interface Encoding {
  /** The WebSocket subprotocol that stands for it. */
  readonly protocol: string;
  encode(frame: Command): string | Uint8Array;
  /** The frames of one message, checked, those of unknown type left out. Throws where any is malformed. */
  decode(message: string | ArrayBuffer | Uint8Array): Push[];
}
