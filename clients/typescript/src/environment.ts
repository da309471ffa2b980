/*
 * Everything the library takes from the outside: clock, randomness, timers, sockets, storage, locks, page lifecycle.
 * Tests inject their own; `systemEnvironment()` finds what the runtime has, when a hub is created.
 * Nothing here runs at import.
 */

/** The part of a WebSocket the library uses: the browser's, Node's and the package `ws`'s fit. */
export interface WebSocketLike {
  binaryType: string;
  readonly protocol: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string | Uint8Array): void;
  close(code?: number, reason?: string): void;
}
/** A constructor of them; structurally loose, since every runtime types its events differently. */
export type WebSocketClass = new (url: string, protocols: string[]) => unknown;

/** `sessionStorage`, `localStorage` or anything alike; may throw (quota, privacy settings). */
export interface StorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** What a page tells: it came back, or it is about to be suspended or left (`freeze`, `pagehide`). */
export type LifecycleEvent = "visible" | "online" | "pageshow" | "resume" | "freeze" | "pagehide";

export interface Environment {
  /** Unix ms. */
  now(): number;
  /** 0 ≤ r < 1. */
  random(): number;
  setTimer(run: () => void, ms: number): unknown;
  clearTimer(timer: unknown): void;
  /** Runs after the present task, before the next. */
  defer(run: () => void): void;
  openSocket(url: string, protocols: string[]): WebSocketLike;
  /** The tab's own storage; null where there is none. */
  readonly storage: StorageLike | null;
  /** Takes the named lock within `waitMs`; resolves to its release, or null where another holds it. Absent: no locks here. */
  lock?(name: string, waitMs: number): Promise<(() => void) | null>;
  /** Calls back for each event until the returned function is called. */
  lifecycle(listener: (event: LifecycleEvent) => void): () => void;
  /** An error thrown by the application's own handler: it has to surface as an uncaught one. */
  report(error: unknown): void;
}

type Listen = (type: string, listener: (event: { type: string }) => void, capture: boolean) => void;
interface Globals {
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  WebSocket?: WebSocketClass;
  sessionStorage?: StorageLike;
  document?: { visibilityState?: string };
  addEventListener?: Listen;
  removeEventListener?: Listen;
  AbortSignal?: { timeout?(ms: number): unknown };
  navigator?: { locks?: { request(name: string, options: { signal: unknown }, held: () => Promise<void>): Promise<void> } };
}

/* Reading `sessionStorage` alone throws where a browser blocks storage. */
function tabStorage(globals: Globals): StorageLike | null {
  try {
    return globals.sessionStorage ?? null;
  } catch {
    return null;
  }
}

/* The document's own events are met at the window too, on their way down. */
function lifecycle(globals: Globals, listener: (event: LifecycleEvent) => void): () => void {
  const run = ({ type }: { type: string }): void => {
    if (type !== "visibilitychange") listener(type as LifecycleEvent);
    else if (globals.document?.visibilityState === "visible") listener("visible");
  };
  const all = (call: Listen | undefined): void =>
    ["online", "pageshow", "pagehide", "freeze", "resume", "visibilitychange"].forEach((type) => call?.call(globals, type, run, true));
  all(globals.addEventListener);
  return () => all(globals.removeEventListener);
}

function locker({ navigator, AbortSignal }: Globals): Pick<Environment, "lock"> {
  const locks = navigator?.locks;
  if (!locks || !AbortSignal?.timeout) return {};
  return {
    lock: (name, waitMs) =>
      new Promise((resolve) => {
        const held = (): Promise<void> => new Promise((release) => resolve(release));
        locks.request(name, { signal: AbortSignal.timeout?.(waitMs) }, held).catch(() => resolve(null));
      }),
  };
}

/** The runtime's own means; `webSocket` stands in where there is no global one (Node 20). */
export function systemEnvironment(webSocket?: WebSocketClass): Environment {
  const globals = globalThis as unknown as Globals;
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimer: (run, ms) => globals.setTimeout(run, Math.min(ms, 2 ** 31 - 1)),
    clearTimer: (timer) => globals.clearTimeout(timer),
    defer: (run) => void Promise.resolve().then(run),
    openSocket(url, protocols) {
      const Socket = webSocket ?? globals.WebSocket;
      if (!Socket) throw new TypeError("no WebSocket: pass `webSocket`");
      return new Socket(url, protocols) as WebSocketLike;
    },
    storage: tabStorage(globals),
    ...locker(globals),
    lifecycle: (listener) => lifecycle(globals, listener),
    report(error) {
      globals.setTimeout(() => {
        throw error;
      }, 0);
    },
  };
}
