/*
 * All channels of the session: who reads them, what the node is asked for, what hello carries, where the session
 * stands. Owned by the hub. It never opens a connection.
 */
import type { Effect } from "../core/log.js";
import type { Environment } from "../environment.js";
import { HubError, type Position } from "../errors.js";
import type { Positions, Push, Sub } from "../protocol/frames.js";
import type { Connection } from "./connection.js";
import type { HubEvents } from "../engine.js";
import type { Emitter } from "../observable.js";
import type { Link } from "./link.js";
import type { Requests } from "./requests.js";
import { Subscription, type Consumer, type Surroundings } from "./subscription.js";

/** After its last reader left, a channel is kept: a page that re-renders or changes its route comes back at once. */
export const LINGER_MS = 2_000;
/** As many as a session can have: channels a token subscribes us to that nobody reads, and cursors written down. */
const CHANNELS_MAX = 256;

/** What the channels need of the engine around them. */
export interface Around {
  readonly env: Environment;
  readonly link: Link;
  readonly events: Emitter<HubEvents>;
  effect(subscription: Subscription, effect: Effect): void;
}

export class Subscriptions implements Surroundings {
  private readonly byName = new Map<string, Subscription>();
  private readonly leaving = new Map<Consumer, unknown>();
  private readonly dueNow = new Set<Subscription>();
  /** Cursors of the page before, of channels nobody asked for yet. */
  restored: Positions = {};
  /** Positions moved since the last acknowledgement. */
  private readonly moved = new Set<Subscription>();
  /** Since when no node vouches for any channel, ms of the broker's clock; 0: one does. */
  staleSince = 0;

  readonly env: Environment;

  constructor(private readonly around: Around, private readonly requests: Requests) {
    this.env = around.env;
  }

  get(name: string): Subscription | undefined {
    return this.byName.get(name);
  }

  /** Where the application stands: the last publication it was given. */
  position(name: string): Position | null {
    return this.byName.get(name)?.log.cursor ?? null;
  }

  acquire(name: string, consumer: Consumer): Subscription {
    this.env.clearTimer(this.leaving.get(consumer));
    this.leaving.delete(consumer);
    const subscription = this.byName.get(name) ?? this.add(name);
    if (subscription.consumers.size === 0) subscription.refused = null;
    subscription.attach(consumer);
    if (subscription.log.open) this.goOn(subscription);
    this.due(subscription);
    this.around.link.need();
    return subscription;
  }

  /** The consumer goes after a linger, unless acquired again before. */
  release(name: string, consumer: Consumer): void {
    const subscription = this.byName.get(name);
    if (!subscription?.consumers.has(consumer) || this.leaving.has(consumer)) return;
    const timer = this.env.setTimer(() => {
      this.leaving.delete(consumer);
      subscription.detach(consumer);
      if (subscription.consumers.size === 0) this.leave(subscription);
      else this.due(subscription);
    }, LINGER_MS);
    this.leaving.set(consumer, timer);
  }

  due(subscription: Subscription): void {
    if (this.dueNow.size === 0) this.env.defer(() => this.sendDue());
    this.dueNow.add(subscription);
  }

  hello(connection: Connection, pipelined: boolean): Sub[] {
    const subs = [...this.byName.values()].filter((s) => s.consumers.size > 0 && !s.refused).map((s) => this.wanted(s));
    for (const sub of subs) {
      connection.announced.set(sub.ch, sub);
      if (pipelined) this.byName.get(sub.ch)?.opening(sub);
    }
    return subs;
  }

  /** A connection took over that could not be written to before: what changed since its hello is told. */
  up(connection: Connection, pipelined: boolean): void {
    this.staleSince = 0;
    for (const subscription of this.byName.values()) {
      subscription.staleSince = 0;
      const asked = connection.announced.get(subscription.name);
      if (!pipelined && asked && subscription.consumers.size > 0) subscription.opening(asked);
      this.due(subscription);
    }
    if (!pipelined)
      for (const ch of connection.announced.keys())
        if (!this.byName.get(ch)?.consumers.size) this.around.link.send({ t: "unsub", ch });
    this.notify();
  }

  down(staleSince: number): void {
    this.staleSince = staleSince;
    for (const subscription of [...this.byName.values()]) {
      subscription.log.lost();
      subscription.asked = null;
      if (subscription.consumers.size === 0 && !subscription.log.cursor) this.byName.delete(subscription.name);
    }
    this.notify();
  }

  /** A frame of a channel. One the token subscribed us to and nobody reads yet keeps its start for the first reader. */
  push(frame: Push & { ch: string }): void {
    const subscription = this.byName.get(frame.ch);
    if (frame.t === "unsub") return this.refused(subscription, new HubError(frame.code, frame.name, "", frame.code === 429 || frame.code >= 500 ? 0 : undefined));
    if (subscription && (subscription.consumers.size > 0 || !subscription.log.settled)) {
      subscription.push(frame);
      if (frame.t === "ok") this.goOn(subscription);
    } else if (frame.t === "ok" && !subscription && this.byName.size < CHANNELS_MAX) this.add(frame.ch).log.begin(frame);
  }

  stale(channel: string | undefined, since: number): void {
    if (channel === undefined) this.staleSince = since;
    const subscription = this.byName.get(channel ?? "");
    if (subscription) subscription.staleSince = since;
    this.notify();
  }

  /** A token with other rights: what was refused is asked again. */
  renewed(): void {
    for (const subscription of this.byName.values()) {
      if (!subscription.refused) continue;
      subscription.refused = null;
      this.due(subscription);
    }
  }

  effect(subscription: Subscription, effect: Effect): void {
    if (effect.kind !== "outcome" && effect.kind !== "recovered") this.moved.add(subscription);
    this.around.effect(subscription, effect);
  }

  /** Positions that moved since the last call. */
  acks(): Positions | undefined {
    const positions = collect([...this.moved].filter((s) => s.consumers.size > 0));
    this.moved.clear();
    return Object.keys(positions).length ? positions : undefined;
  }

  /** What the next page goes on from; a cursor still waiting for its handler is older than what others saw since. */
  positions(): Positions {
    return Object.fromEntries(Object.entries({ ...collect([...this.byName.values()]), ...this.restored }).slice(0, CHANNELS_MAX));
  }

  end(): void {
    for (const timer of this.leaving.values()) this.env.clearTimer(timer);
    for (const { retryTimer } of this.byName.values()) retryTimer.stop();
  }

  private wanted(subscription: Subscription): Sub {
    this.goOn(subscription);
    return subscription.want();
  }

  /*
   * A cursor of the page before waits for the channel's first handler. One that wants a beginning of its own gets that;
   * for a plain one the channel goes back to the cursor. Views and members of presence see nothing of it.
   */
  private goOn(subscription: Subscription): void {
    const { name, consumers } = subscription;
    const cursor = this.restored[name];
    const handlers = [...consumers].filter(({ plain }) => plain !== undefined);
    if (!cursor || handlers.length === 0) return;
    delete this.restored[name];
    if (handlers.some(({ plain }) => !plain)) return;
    const [epoch, offset] = cursor;
    for (const handler of handlers) handler.seen = offset;
    subscription.moveTo({ epoch, offset });
  }

  private add(name: string): Subscription {
    const subscription = new Subscription(name, this);
    this.byName.set(name, subscription);
    return subscription;
  }

  private leave(subscription: Subscription): void {
    const held = subscription.asked !== null;
    subscription.closed();
    this.moved.delete(subscription);
    subscription.retryTimer.stop();
    const { name } = subscription;
    const gone = (): void => {
      if (subscription.consumers.size === 0) this.byName.delete(name);
    };
    if (held && this.around.link.writable) this.requests.once({ t: "unsub", ch: name }, gone, gone);
    else gone();
  }

  private sendDue(): void {
    const all = [...this.dueNow];
    this.dueNow.clear();
    for (const subscription of all) {
      const { log, consumers, refused } = subscription;
      const wanted = consumers.size > 0 && !refused && log.phase !== "opening";
      if (!wanted || !this.around.link.writable || (subscription.asked && !subscription.outdated)) continue;
      const sub = this.wanted(subscription);
      subscription.opening(sub);
      this.requests.once({ t: "sub", ...sub }, undefined, (error) => this.refused(subscription, error));
      subscription.notify();
    }
  }

  private refused(subscription: Subscription | undefined, error: HubError): void {
    if (!subscription?.log.refused()) return;
    subscription.asked = null;
    if (error.retryable) {
      subscription.retryTimer.again(error.retry, () => this.due(subscription));
    } else {
      subscription.refused = error;
      this.around.events.emit("refused", { channel: subscription.name, error });
    }
    subscription.notify();
  }

  private notify(): void {
    for (const subscription of this.byName.values()) subscription.notify();
  }
}

function collect(subscriptions: Subscription[]): Positions {
  const positions: Positions = {};
  for (const { name, log } of subscriptions) if (log.cursor) positions[name] = [log.cursor.epoch, log.cursor.offset];
  return positions;
}
