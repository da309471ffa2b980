/*
 * One socket: opens it, reads and writes frames, watches that it lives. Link owns it and hears of it through `Owner`.
 * It never reconnects and knows nothing of sessions. After `drop` nothing of it is heard any more.
 */
import type { Environment, WebSocketLike } from "../environment.js";
import { Timer } from "./timer.js";
import type { Bye, Command, Encoding, Push, Sub } from "../protocol/frames.js";

/** From the start of the connection to `welcome`: a storm is admitted slowly, so longer than a network needs. */
export const WELCOME_WITHIN_MS = 20_000;
/** Beyond the heartbeat, before a silent connection is given up. */
export const HEARTBEAT_GRACE_MS = 10_000;
/** A connection silent for longer than this is asked for a sign of life when the machine wakes. */
export const PROBE_AFTER_MS = 5_000;
export const PROBE_WITHIN_MS = 2_000;

export interface Owner {
  opened(connection: Connection): void;
  frame(connection: Connection, frame: Push): void;
  /** Called once: the `bye` if one came, else `code` of the close. */
  ended(connection: Connection, code: number, bye: Bye | null): void;
}

export class Connection {
  /** Frames can be written. */
  open = false;
  /** `welcome` was read. */
  welcomed = false;
  /** Subscriptions as this connection's hello named them, by channel. */
  readonly announced = new Map<string, Sub>();
  private readonly socket: WebSocketLike;
  private encoding: Encoding;
  private dropped = false;
  private lastInbound: number;
  private silenceMax = WELCOME_WITHIN_MS;
  private readonly timer: Timer;

  constructor(
    private readonly env: Environment,
    url: string,
    encodings: readonly [Encoding, ...Encoding[]],
    private readonly owner: Owner,
  ) {
    this.encoding = encodings[0];
    this.timer = new Timer(env);
    this.lastInbound = env.now();
    const socket = (this.socket = env.openSocket(url, encodings.map(({ protocol }) => protocol)));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (this.dropped) return;
      this.encoding = encodings.find(({ protocol }) => protocol === socket.protocol) ?? (encodings.at(-1) as Encoding);
      this.open = true;
      owner.opened(this);
    };
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => this.receive(data);
    socket.onclose = ({ code }: { code: number }) => this.end(code);
    socket.onerror = () => {};
    this.watch();
  }

  send(frame: Command): void {
    if (this.open) this.socket.send(this.encoding.encode(frame));
  }

  /** `hb` in seconds, from `welcome`. */
  heartbeat(hb: number): void {
    this.welcomed = true;
    this.silenceMax = hb * 1000 + HEARTBEAT_GRACE_MS;
    this.watch();
  }

  /** The machine woke: a silent connection must answer within 2 s. `ask` sends something that is answered. */
  wake(ask: () => void): void {
    const silent = this.env.now() - this.lastInbound;
    if (!this.welcomed || silent <= PROBE_AFTER_MS) return;
    if (silent >= this.silenceMax) return this.end(1006);
    ask();
    this.watch(PROBE_WITHIN_MS);
  }

  /** Closes without a word to anybody. */
  drop(code = 1000): void {
    if (this.dropped) return;
    this.dropped = true;
    this.open = false;
    this.timer.stop();
    this.socket.close(code);
  }

  private receive(data: string | ArrayBuffer): void {
    if (this.dropped) return;
    this.lastInbound = this.env.now();
    let frames: Push[];
    try {
      frames = this.encoding.decode(data);
    } catch {
      return this.end(1002, null, 4400);
    }
    for (const frame of frames) {
      if (this.dropped) return;
      if (frame.t === "bye") return this.end(frame.code, frame);
      this.owner.frame(this, frame);
    }
  }

  private end(code: number, bye: Bye | null = null, told?: number): void {
    if (this.dropped) return;
    this.drop(told);
    this.owner.ended(this, code, bye);
  }

  /* One timer: until the limit of silence, or until a probe's deadline, which any inbound since excuses. */
  private watch(probe?: number): void {
    const asked = this.env.now();
    this.timer.start(probe ?? this.lastInbound + this.silenceMax - asked, () => {
      const alive = probe ? this.lastInbound >= asked : this.env.now() - this.lastInbound < this.silenceMax;
      if (alive) this.watch();
      else this.end(1006);
    });
  }
}
