/*
 * Publishing: drives the outbox over whatever connection there is. Owned by the hub; channels call `publish`.
 * It never sends an entry before an older one that is still to be sent.
 */
import { Outbox, QUEUE_FOR_MS, type Entry, type Settled } from "../core/outbox.js";
import type { Environment } from "../environment.js";
import { toMs, type Duration } from "../duration.js";
import { HubError, type Position } from "../errors.js";
import { fromBase64 } from "../protocol/base64.js";
import { asJson } from "../protocol/json.js";
import type { Pub } from "../protocol/frames.js";
import type { Saved } from "./persistence.js";
import { Timer } from "./timer.js";
import type { Requests } from "./requests.js";

export interface PublishOptions {
  /** Which entry of the channel's state this is; up to 128 bytes. */
  key?: string;
  /** For applying it once however often it is sent; the library makes one. */
  id?: string;
  /** How long it is valid. */
  ttl?: Duration;
  /** Only if that very publication is still the last of the key; `"absent"`: only if there is none. */
  guard?: Position | "absent";
  /** How long it may wait for its acknowledgement; 60 s unless said. */
  queueFor?: Duration;
  /** Removes the key. */
  delete?: boolean;
}
/**
 * Where the node put it; `duplicate`: it had been applied before; `acknowledged`: what it had reached by then, `log` or
 * `replicated`.
 */
export interface Acknowledged extends Position {
  readonly duplicate: boolean;
  readonly acknowledged: string;
}
export interface Publication {
  readonly id: string;
  /** Settles always: the position, or a `HubError`. Leaving it alone is fine. */
  readonly acked: Promise<Acknowledged>;
}
/** One publication not acknowledged yet. */
export interface OutboxItem {
  readonly id: string;
  readonly channel: string;
  readonly event: string | undefined;
  readonly data: unknown;
  /** Sent on the present connection. */
  readonly sent: boolean;
}

/* The node's default for one publication, until `welcome` tells its own. */
const DATA_MAX = 48 * 1024;

export class Publisher {
  /** Largest data of a publication, in bytes of its JSON text, or of the bytes themselves. */
  dataMax = DATA_MAX;
  private readonly outbox = new Outbox();
  private readonly prefix: string;
  private count = 0;
  private readonly pause: Timer;
  private readonly timer: Timer;

  constructor(
    private readonly env: Environment,
    private readonly requests: Requests,
    private readonly writable: () => boolean,
    private readonly changed: () => void,
  ) {
    this.timer = new Timer(env);
    this.pause = new Timer(env);
    const word = (): string => Math.floor(env.random() * 2 ** 32).toString(36);
    this.prefix = word() + word() + ":";
  }

  publish(ch: string, ev: string | undefined, data: unknown, options: PublishOptions): Publication {
    const id = options.id ?? this.prefix + ++this.count;
    const acked = new Promise<Acknowledged>((resolve, reject) => {
      const settle = (result: Settled): void => (result instanceof HubError ? reject(result) : resolve(result));
      const frame: Entry["frame"] = { t: "pub", ch, id, ...contents(ev, data, options) };
      const bytes = sizeOf(frame);
      if (bytes > this.dataMax) throw new HubError(413, "too_large");
      const expires = this.env.now() + (options.queueFor === undefined ? QUEUE_FOR_MS : toMs(options.queueFor));
      this.outbox.add({ frame, bytes, expires, tried: false, sent: false, settle });
    });
    acked.catch(() => {});
    this.flush();
    this.changed();
    return { id, acked };
  }

  items(): OutboxItem[] {
    return this.outbox.entries.map(({ frame, sent }) => ({ id: frame.id, channel: frame.ch, event: frame.ev, data: frame.b ?? frame.d, sent }));
  }

  clear(error: HubError): number {
    const count = this.outbox.clear(error);
    this.timer.stop();
    this.pause.stop();
    this.changed();
    return count;
  }

  /** The connection ended: all goes again on the next one. */
  lost(): void {
    this.outbox.unsend();
    this.pause.stop();
  }

  flush(): void {
    const now = this.env.now();
    this.outbox.expire(now);
    if (this.writable() && !this.pause.running)
      for (let entry = this.outbox.next(now); entry; entry = this.outbox.next(now)) this.send(entry);
    this.timer.start(this.outbox.nextExpiry() - now, () => this.flush());
  }

  saved(): NonNullable<Saved["outbox"]> {
    return this.outbox.entries.map(({ frame, expires, tried }) => ({ frame: { ...asJson(frame) }, expires, tried }));
  }

  restore(saved: NonNullable<Saved["outbox"]>): void {
    for (const { frame, expires, tried } of saved) {
      const pub = (typeof frame.b === "string" ? { ...frame, b: fromBase64(frame.b) } : frame) as unknown as Entry["frame"];
      this.outbox.add({ frame: pub, bytes: sizeOf(pub), expires, tried, sent: false, settle: null });
    }
  }

  private send(entry: Entry): void {
    const done = (result: Settled): void => {
      this.pause.failures = 0;
      this.outbox.settle(entry, result);
      this.changed();
    };
    const failed = (error: HubError): void => {
      if (!error.retryable) return done(error);
      entry.sent = false;
      if (!this.pause.running) this.pause.again(error.retry, () => this.flush());
    };
    try {
      this.requests.once(entry.frame, ({ e, o, dup, ack }) => done({ epoch: e ?? "", offset: o ?? 0, duplicate: dup === true, acknowledged: ack ?? "log" }), failed);
    } catch (error) {
      done(new HubError(400, "bad_request", String(error)));
    }
  }
}

/* What is said later about `data` by its owner does not change what was published. */
function contents(ev: string | undefined, data: unknown, options: PublishOptions): Partial<Pub> {
  const { key, ttl, guard } = options;
  return {
    ...(data instanceof Uint8Array ? { b: data.slice() } : !options.delete && { d: JSON.parse(JSON.stringify(data ?? null)) as unknown }),
    ev,
    k: key,
    del: options.delete ? true : undefined,
    ttl: ttl === undefined ? undefined : toMs(ttl),
    if: guard && (guard === "absent" ? { o: 0 } : { e: guard.epoch, o: guard.offset }),
  };
}

const sizeOf = ({ b, d }: Pub): number => (b ? b.length : utf8Length(JSON.stringify(d ?? null)));

/** Bytes of a text in UTF-8. */
export const utf8Length = (text: string): number => encodeURI(text.replace(/\p{Surrogate}/gu, "?")).replace(/%../g, "%").length;
