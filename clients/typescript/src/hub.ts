/*
 * The hub: composition root of the client. Builds the parts, routes frames between them, and is what the application
 * holds. One per user and page. It opens no socket until a channel is used or `connect` is called.
 */
import { Channel, type Desk } from "./channel.js";
import type { Effect } from "./core/log.js";
import { Link, type Status } from "./driver/link.js";
import { Persistence } from "./driver/persistence.js";
import { Publisher, type OutboxItem } from "./driver/publisher.js";
import { Requests } from "./driver/requests.js";
import type { Subscription } from "./driver/subscription.js";
import { Subscriptions } from "./driver/subscriptions.js";
import { TokenSource, type Token } from "./driver/token.js";
import { systemEnvironment, type Environment, type StorageLike, type WebSocketClass } from "./environment.js";
import { HubError, closedError, type Position } from "./errors.js";
import { channelName } from "./names.js";
import { Emitter, type Observable } from "./observable.js";
import type { Encoding, Outcome, Push, Welcome } from "./protocol/frames.js";
import { json } from "./protocol/json.js";
import type { ChannelSpecs, ParamsArg } from "./typed.js";

export interface HubOptions<C extends ChannelSpecs = ChannelSpecs> {
  /** `wss://host` (the path `/v1/connect` is added where none is given); `https://` is taken as `wss://`. */
  url: string;
  token?: Token;
  /** From `defineChannels`; only its type is used. */
  channels?: C;
  /** JSON unless said; `msgpack` from `tidewire/msgpack`. */
  encoding?: Encoding;
  /** Session, cursors and outbox survive a reload: in the tab's own storage, or in what is given. */
  persist?: "tab" | StorageLike;
  /** A WebSocket class where there is no global one. */
  webSocket?: WebSocketClass;
  /** Heartbeat asked of the node, in seconds. */
  heartbeat?: number;
  /** All outside means at once, for tests and foreign runtimes. */
  environment?: Environment;
}

export interface HubEvents {
  /** How a subscription began: nothing missed, start over, or new here. */
  outcome: { channel: string; outcome: Outcome };
  /** Caught up; `n` publications were replayed. */
  recovered: { channel: string; outcome: Outcome; n: number };
  gap: { channel: string; from: number; to: number; reason: string };
  rewind: { channel: string; epoch: string; to: number; lost: number };
  reset: { channel: string; position: Position };
  /** In mode `latest`: so many publications were skipped for newer ones. */
  conflated: { channel: string; n: number };
  /** A channel was refused or withdrawn. */
  refused: { channel: string; error: HubError };
}

/** Publications on their way. */
export interface OutboxView {
  items(): OutboxItem[];
  /** Gives all of them up (`cleared`); tells how many. */
  clear(): number;
}

/** Positions are acknowledged, and written down, at most so often. */
const ACK_MS = 1_000;
const SDK = "tidewire-js/0.1.0";

export class Hub<C extends ChannelSpecs = ChannelSpecs> {
  readonly status: Observable<Status>;
  readonly outbox: OutboxView;
  private readonly env: Environment;
  private readonly link: Link;
  private readonly requests: Requests;
  private readonly subscriptions: Subscriptions;
  private readonly publisher: Publisher;
  private readonly persistence: Persistence;
  private readonly events: Emitter<HubEvents>;
  private readonly persistent: boolean;
  private readonly desk: Desk;
  private readonly unlisten: () => void;
  private beatTimer: unknown = null;
  private wasOnline = false;
  private ended: HubError | null = null;

  constructor(options: HubOptions<C>) {
    const env = (this.env = options.environment ?? systemEnvironment(options.webSocket));
    const url = endpoint(options.url);
    const { persist } = options;
    const storage = persist === "tab" ? env.storage : (persist ?? null);
    this.persistent = storage !== null;
    this.events = new Emitter(env.report);
    this.requests = new Requests(env, (frame) => this.link.send(frame));
    this.subscriptions = new Subscriptions(env, () => this.link, this.requests, {
      effect: (subscription, effect) => this.effect(subscription, effect),
      refused: (channel, error) => this.events.emit("refused", { channel, error }),
    });
    this.publisher = new Publisher(env, this.requests, () => this.link.writable, () => this.beat());
    this.persistence = new Persistence(env, storage, "tidewire:" + url);
    const encodings: [Encoding, ...Encoding[]] = !options.encoding || options.encoding.protocol === json.protocol ? [json] : [options.encoding, json];
    const tokens = new TokenSource(env, options.token);
    this.link = new Link(env, { url, encodings, sdk: SDK, hb: options.heartbeat }, tokens, this.persistence, this.host());
    this.status = this.link.status;
    this.outbox = {
      items: () => this.publisher.items(),
      clear: () => this.publisher.clear(new HubError(2, "cleared")),
    };
    this.desk = this.makeDesk();
    this.unlisten = env.lifecycle((event) => {
      if (event === "freeze" || event === "pagehide") this.sleep();
      else this.link.wake();
    });
  }

  /** Opens the connection now; tries again after `blocked`. Using a channel does the same. */
  connect(): void {
    if (this.link.status.get().state === "blocked") this.ended = null;
    this.link.connect();
  }

  /** Ends the session for good. Every promise settles; the hub cannot be used again. */
  close(): void {
    if (this.link.status.get().state === "closed") return;
    this.acknowledge();
    this.unlisten();
    this.subscriptions.end();
    this.link.close();
  }

  /** The channel of this name; for a pattern, with its parameters. Cheap: handles of one name are the same channel. */
  channel<P extends keyof C & string>(pattern: P, ...params: ParamsArg<P>): Channel<C[P]> {
    return new Channel<C[P]>(channelName(pattern, params[0] as Record<string, string> | undefined), this.desk);
  }

  /** The position of the last publication of this channel the application was given. */
  position(channel: string | { readonly name: string }): Position | null {
    return this.subscriptions.position(typeof channel === "string" ? channel : channel.name);
  }

  /** Listens to what happens to any channel. Returns the function that ends it. */
  on<E extends keyof HubEvents>(event: E, run: (event: HubEvents[E]) => void): () => void {
    return this.events.on(event, run);
  }

  private makeDesk(): Desk {
    const { subscriptions } = this;
    return {
      source: (channel) => ({
        env: this.env,
        channel,
        acquire: (consumer) => subscriptions.acquire(channel, consumer),
        release: (consumer) => subscriptions.release(channel, consumer),
        freshness: (subscription) => subscriptions.freshness(subscription),
        brokerNow: subscriptions.brokerNow,
      }),
      publish: (channel, event, data, options) => {
        if (this.ended) return refusedPublication(options.id, this.ended);
        const publication = this.publisher.publish(channel, event, data, options);
        this.link.connect();
        return publication;
      },
      request: (frame) => {
        if (this.ended) return Promise.reject(this.ended);
        const answer = this.requests.lasting(frame);
        this.link.connect();
        return answer;
      },
      listen: (event, run) => this.events.on(event, run),
    };
  }

  private host(): ConstructorParameters<typeof Link>[4] {
    const { subscriptions, requests, publisher } = this;
    return {
      restored: ({ cursors, outbox }) => {
        subscriptions.restore(cursors);
        publisher.restore(outbox ?? []);
      },
      hello: (connection, pipelined) => subscriptions.hello(connection, pipelined),
      pipeline: () => this.resend(),
      up: (welcome, connection, pipelined) => {
        this.welcomed(welcome);
        subscriptions.up(connection, pipelined);
        if (!pipelined) this.resend();
      },
      down: () => {
        requests.lost();
        publisher.lost();
        subscriptions.down(subscriptions.staleSince || (this.wasOnline ? subscriptions.brokerNow() : 0));
      },
      frame: (frame) => this.route(frame),
      acks: () => subscriptions.acks(),
      probe: () => requests.once({ t: "ping" }, () => {}, () => {}),
      authorize: (token, done, failed) => requests.once({ t: "auth", token }, ({ exp }) => done(exp), failed),
      renewed: () => subscriptions.renewed(),
      save: () => this.save(),
      ended: (error) => {
        this.ended = error;
        this.env.clearTimer(this.beatTimer);
        requests.fail(error);
        publisher.clear(error);
      },
    };
  }

  private resend(): void {
    this.requests.resend();
    this.publisher.flush();
  }

  private welcomed(welcome: Welcome): void {
    this.wasOnline = true;
    if (welcome.max?.data) this.publisher.dataMax = welcome.max.data;
    this.beat();
  }

  private route(frame: Push): void {
    switch (frame.t) {
      case "ok":
      case "error":
        if (frame.t === "ok" && frame.rec && frame.ch !== undefined) this.subscriptions.push(frame as typeof frame & { ch: string });
        if (frame.i !== undefined) this.requests.answer(frame);
        return;
      case "stale":
        return this.subscriptions.stale(frame.ch, frame.since);
      case "msg":
      case "state":
      case "live":
      case "gap":
      case "rewind":
      case "unsub":
        return this.subscriptions.push(frame);
    }
  }

  private effect({ name: channel, log }: Subscription, effect: Effect): void {
    const { events } = this;
    this.beat();
    switch (effect.kind) {
      case "deliver":
        if (effect.skipped) events.emit("conflated", { channel, n: effect.skipped });
        return;
      case "opened":
        events.emit("outcome", { channel, outcome: effect.outcome });
        if (effect.outcome === "reset" && log.cursor) events.emit("reset", { channel, position: log.cursor });
        return;
      case "live":
        return events.emit("recovered", { channel, outcome: effect.outcome, n: effect.n });
      case "gap":
        return events.emit("gap", { channel, from: effect.from, to: effect.to, reason: effect.reason });
      case "rewind":
        return events.emit("rewind", { channel, epoch: effect.epoch, to: effect.to, lost: effect.lost });
    }
  }

  /* Once a second while something moves: acknowledge, and write down what must survive. */
  private beat(): void {
    if (this.beatTimer !== null || this.ended) return;
    this.beatTimer = this.env.setTimer(() => {
      this.beatTimer = null;
      this.acknowledge();
      this.save();
    }, ACK_MS);
  }

  private acknowledge(): void {
    if (!this.link.online) return;
    const c = this.subscriptions.acks();
    if (c) this.link.send({ t: "ack", c });
  }

  private sleep(): void {
    this.acknowledge();
    this.save();
    this.link.sleep();
  }

  private save(): void {
    if (!this.persistent || this.ended) return;
    const { identity, attempt } = this.link.session;
    this.persistence.save({
      ...(identity && { session: { ...identity, attempt } }),
      cursors: this.subscriptions.positions(),
      outbox: this.publisher.saved(),
    });
  }
}

function refusedPublication(id: string | undefined, error: HubError): { id: string; acked: Promise<never> } {
  const acked = Promise.reject(error);
  acked.catch(() => {});
  return { id: id ?? "", acked };
}

function endpoint(url: string): string {
  const [, scheme, rest] = /^(ws|http)(s?:\/\/[^/?#]+.*)$/.exec(url) ?? [];
  if (!scheme || !rest) throw new TypeError("not a hub's address: " + url);
  return "ws" + (/^s?:\/\/[^/]+\/?$/.test(rest) ? rest.replace(/\/$/, "") + "/v1/connect" : rest);
}

/** A hub; nothing happens on the network until it is used. */
export function createHub<const C extends ChannelSpecs = ChannelSpecs>(options: HubOptions<C>): Hub<C> {
  return new Hub(options);
}

export { closedError };
