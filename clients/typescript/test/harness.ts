/*
 * The outside world of the library under test: virtual clock, sockets held in the hand, storage, locks, lifecycle.
 * Used by every test that runs a whole hub in virtual time; never by the real-socket tests.
 */
import assert from "node:assert/strict";
import type { Environment, LifecycleEvent, StorageLike, WebSocketLike } from "../src/index.js";
import { unpack } from "../src/msgpack.js";

/* Later than any real clock, so that attempts in scripts are above what a real node has stored. */
export const EPOCH_MS = 4_102_444_800_000;

type Frame = Record<string, unknown>;

export class FakeSocket implements WebSocketLike {
  binaryType = "";
  protocol = "";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  /** Frames the library sent that no test has looked at. */
  readonly sent: Frame[] = [];
  closedWith: number | null = null;

  constructor(readonly url: string, readonly protocols: string[]) {}

  send(data: string | Uint8Array): void {
    const frames = typeof data === "string" ? data.split("\n").map((line) => JSON.parse(line) as unknown) : unpack(data);
    this.sent.push(...(frames as Frame[]));
  }

  close(code?: number): void {
    this.closedWith ??= code ?? 1005;
  }

  open(protocol = "tidewire.v1.json"): void {
    this.protocol = protocol;
    this.onopen?.({} as never);
  }

  /** The node sends these frames in one message. */
  push(...frames: Frame[]): void {
    this.onmessage?.({ data: frames.map((frame) => JSON.stringify(frame)).join("\n") } as never);
  }

  cut(code = 1006): void {
    this.onclose?.({ code } as never);
  }
}

export class MemoryStorage implements StorageLike {
  readonly items = new Map<string, string>();
  getItem = (key: string): string | null => this.items.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.items.set(key, value);
  removeItem = (key: string): void => void this.items.delete(key);
}

export class World {
  now = EPOCH_MS;
  random = 0.5;
  readonly sockets: FakeSocket[] = [];
  readonly errors: unknown[] = [];
  readonly locks = new Set<string>();
  storage: MemoryStorage | null = new MemoryStorage();
  private timers: { at: number; run: () => void }[] = [];
  private listeners = new Set<(event: LifecycleEvent) => void>();

  readonly env: Environment;

  constructor() {
    const world = this;
    this.env = {
      now: () => world.now,
      random: () => world.random,
      setTimer(run, ms) {
        const timer = { at: world.now + ms, run };
        world.timers.push(timer);
        return timer;
      },
      clearTimer: (timer) => void (world.timers = world.timers.filter((t) => t !== timer)),
      defer: (run) => queueMicrotask(run),
      openSocket(url, protocols) {
        const socket = new FakeSocket(url, protocols);
        world.sockets.push(socket);
        return socket;
      },
      get storage() {
        return world.storage;
      },
      lock: async (name) => {
        if (world.locks.has(name)) return null;
        world.locks.add(name);
        return () => void world.locks.delete(name);
      },
      lifecycle(listener) {
        world.listeners.add(listener);
        return () => void world.listeners.delete(listener);
      },
      report: (error) => void world.errors.push(error),
    };
  }

  /** The newest socket the library asked for. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket, "the library opened no connection");
    return socket;
  }

  get pendingTimers(): number {
    return this.timers.length;
  }

  /** Lets promises run until they are quiet. */
  async settle(): Promise<void> {
    for (let n = 0; n < 4; n++) await new Promise<void>((resolve) => setImmediate(resolve));
  }

  async advance(ms: number): Promise<void> {
    const until = this.now + ms;
    await this.settle();
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.timers = this.timers.filter((timer) => timer !== due);
      this.now = Math.max(this.now, due.at);
      due.run();
      await this.settle();
    }
    this.now = until;
  }

  async lifecycle(event: LifecycleEvent): Promise<void> {
    for (const listener of [...this.listeners]) listener(event);
    await this.settle();
  }

  /** Opens the newest socket and answers its hello; gives the hello. */
  async welcome(extra: Frame = {}): Promise<Frame> {
    await this.settle();
    const { socket } = this;
    socket.open();
    await this.settle();
    const hello = socket.sent.shift();
    assert.equal(hello?.t, "hello");
    socket.push({ t: "welcome", session: { id: "s1", key: "k1", ttl: 300_000 }, resumed: false, user: "ana", hb: 25, ts: this.now, max: { frame: 98_304, data: 49_152, subs: 256 }, f: [], node: "n1", ...extra });
    await this.settle();
    return hello;
  }
}
