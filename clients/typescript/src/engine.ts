/*
 * The inside of a hub: builds the parts, routes frames between them, acknowledges and writes down. Hub is its face,
 * channels and views work through it. It opens no socket until it is used.
 */
import type { Effect } from "./core/log.js";
import { Link, type LinkHost } from "./driver/link.js";
import type { Connection } from "./driver/connection.js";
import { Persistence, type Saved } from "./driver/persistence.js";
import { Publisher, type Publication, type PublishOptions } from "./driver/publisher.js";
import { Requests } from "./driver/requests.js";
import type { Subscription } from "./driver/subscription.js";
import { Subscriptions } from "./driver/subscriptions.js";
import { Timer } from "./driver/timer.js";
import { TokenSource, type Token } from "./driver/token.js";
import { systemEnvironment, type Environment, type StorageLike, type WebSocketClass } from "./environment.js";
import type { HubError, Position } from "./errors.js";
import { Emitter } from "./observable.js";
import type { Encoding, Ok, Outcome, Push, Request, Welcome } from "./protocol/frames.js";
import { json } from "./protocol/json.js";

export interface EngineOptions {
  /** `wss://host` (the path `/v1/connect` is added where none is given); `https://` is taken as `wss://`. */
  url: string;
  token?: Token;
  /** JSON unless said; `msgpack` from `tidewire/msgpack`. */
  encoding?: Encoding;
  /** Session, cursors and outbox survive a reload: in the tab's own storage, or in what is given. */
  persist?: "tab" | StorageLike;
  /** A WebSocket class where there is no global one. */
  webSocket?: WebSocketClass;
  /** All outside means at once, for tests and foreign runtimes. */
  environment?: Environment;
}

export interface HubEvents {
  /** How a subscription began: nothing missed, start over, or new here. */
  outcome: { channel: string; outcome: Outcome };
  /** Caught up; `n` publications were replayed. */
  recovered: { channel: string; outcome: Outcome; n: number };
  /** Publications `from` to `to` are gone for good, and this page saw none of them. */
  gap: { channel: string; from: number; to: number; reason: string };
  /** The log lost its end: it goes on after `to` in a new epoch, `lost` publications that were seen are not in it. */
  rewind: { channel: string; epoch: string; to: number; lost: number };
  /** The log began another life: what was shown has to be thrown away. */
  reset: { channel: string; position: Position };
  /** In mode `latest`: so many publications were skipped for newer ones. */
  conflated: { channel: string; n: number };
  /** A channel was refused or withdrawn. */
  refused: { channel: string; error: HubError };
}

/** Positions are acknowledged, and written down, at most so often. */
const ACK_MS = 1_000;

export class Engine implements LinkHost {
  readonly env: Environment;
  readonly link: Link;
  readonly subscriptions: Subscriptions;
  readonly publisher: Publisher;
  readonly events: Emitter<HubEvents>;
  readonly requests: Requests;
  private readonly persistence: Persistence;
  private readonly unlisten: () => void;
  private readonly beatTimer: Timer;
  private wasOnline = false;
  private final: HubError | null = null;

  constructor({ url: address, token, encoding = json, persist, webSocket, environment }: EngineOptions) {
    const env = (this.env = environment ?? systemEnvironment(webSocket));
    const url = endpoint(address);
    this.beatTimer = new Timer(env);
    this.events = new Emitter(env.report);
    this.requests = new Requests(env, (frame) => this.link.send(frame));
    this.subscriptions = new Subscriptions(this, this.requests);
    this.publisher = new Publisher(env, this.requests, () => this.link.writable, () => this.beat());
    this.persistence = new Persistence(env, persist === "tab" ? env.storage : (persist ?? null), "tidewire:1:" + url);
    this.link = new Link(
      env,
      url,
      encoding === json ? [json] : [encoding, json],
      new TokenSource(env, token),
      this.persistence,
      this,
    );
    this.unlisten = env.lifecycle((event) => {
      if (event !== "freeze" && event !== "pagehide") return this.link.wake();
      this.acknowledge();
      this.save();
      this.link.sleep();
    });
  }

  connect(): void {
    if (this.link.status.get().state === "blocked") this.final = null;
    this.link.connect();
  }

  close(): void {
    this.acknowledge();
    this.unlisten();
    this.subscriptions.end();
    this.link.close();
  }

  publish(channel: string, event: string | undefined, data: unknown, options: PublishOptions): Publication {
    const publication = this.publisher.publish(channel, event, data, options);
    if (this.final) this.publisher.clear(this.final);
    else this.link.need();
    return publication;
  }

  request(frame: Request): Promise<Ok> {
    const answer = this.requests.lasting(frame);
    if (this.final) this.requests.fail(this.final);
    else this.link.need();
    return answer;
  }

  /** Unix ms of the broker's clock. */
  brokerNow(): number {
    return this.env.now() + this.link.clockOffset;
  }

  restored({ cursors, outbox }: Saved): void {
    this.subscriptions.restored = Object.fromEntries(Object.entries(cursors).filter(([, position]) => Array.isArray(position)));
    try {
      this.publisher.restore(outbox ?? []);
    } catch (error) {
      this.env.report(error);
    }
  }

  pipeline(): void {
    this.requests.resend();
    this.publisher.flush();
  }

  up(welcome: Welcome, connection: Connection, pipelined: boolean): void {
    this.wasOnline = true;
    this.publisher.dataMax = welcome.max?.data ?? this.publisher.dataMax;
    this.beat();
    this.subscriptions.up(connection, pipelined);
    if (!pipelined) this.pipeline();
  }

  down(): void {
    const { subscriptions } = this;
    this.requests.lost();
    this.publisher.lost();
    subscriptions.down(subscriptions.staleSince || (this.wasOnline ? this.brokerNow() : 0));
  }

  frame(frame: Push): void {
    if (frame.t === "stale") return this.subscriptions.stale(frame.ch, frame.since);
    if ((frame.t !== "ok" || frame.rec) && "ch" in frame) this.subscriptions.push(frame as Push & { ch: string });
    if (frame.t === "ok" || frame.t === "error") this.requests.answer(frame);
  }

  save(): void {
    const { identity, attempt } = this.link.session;
    if (this.final) return;
    this.persistence.save(() => ({
      session: identity ? { ...identity, attempt } : undefined,
      cursors: this.subscriptions.positions(),
      outbox: this.publisher.saved(),
    }));
  }

  ended(error: HubError): void {
    this.final = error;
    this.beatTimer.stop();
    this.requests.fail(error);
    this.publisher.clear(error);
  }

  /** Tells the application what happened to a channel. */
  effect({ name: channel, log }: Subscription, effect: Effect): void {
    const { events } = this;
    this.beat();
    if (effect.kind === "deliver") {
      if (effect.skipped) events.emit("conflated", { channel, n: effect.skipped });
    } else if (effect.kind !== "hole") {
      const { kind, ...notice } = effect;
      events.emit(kind, { channel, ...notice } as HubEvents[typeof kind]);
      if (kind === "outcome" && effect.outcome === "reset" && log.cursor) events.emit("reset", { channel, position: log.cursor });
    }
  }

  /* Once a second while something moves: acknowledge, and write down what must survive. */
  private beat(): void {
    if (this.beatTimer.running || this.final) return;
    this.beatTimer.start(ACK_MS, () => {
      this.acknowledge();
      this.save();
    });
  }

  private acknowledge(): void {
    const c = this.link.online ? this.subscriptions.acks() : undefined;
    if (c) this.link.send({ t: "ack", c });
  }
}

function endpoint(url: string): string {
  const [, secure, host, path] = /^(?:ws|http)(s?):\/\/([^/?#]+)(.*)$/.exec(url) ?? [];
  if (!host) throw new TypeError("url: " + url);
  return `ws${secure}://${host}${!path || path === "/" ? "/v1/connect" : path}`;
}
