/*
 * What `live()` returns: a value kept up to date. LoadedView joins a snapshot of the application's own with the
 * events after it; KeyedView shows the channel's keyed state. Both read a channel only while somebody watches.
 */
import type { Notice } from "./core/log.js";
import type { Keeper, Subscription } from "./driver/subscription.js";
import { KeptState } from "./driver/kept.js";
import { Timer } from "./driver/timer.js";
import type { Engine } from "./engine.js";
import type { HubError, Position } from "./errors.js";
import { toMessage, type Message } from "./message.js";
import { Value, type Observable } from "./observable.js";
import type { Item, Msg } from "./protocol/frames.js";

/** `stale`: what is shown may be old, since that instant (Unix ms, broker's clock). */
export type Freshness = { readonly freshness: "live" | "catching-up" } | { readonly freshness: "stale"; readonly since: number };

/* Events that wait for `load`; a slower load starts over. */
const HELD_MAX = 1_024;

abstract class View<T> implements Observable<T> {
  /** @internal */
  seen = 0;
  protected subscription: Subscription | null = null;
  /** The view's own next step: a load tried again, a key that expires. */
  protected readonly timer: Timer;
  private readonly value: Value<T>;
  private watchers = 0;
  private scheduled = false;
  private lastTold = 0;

  constructor(
    protected readonly engine: Engine,
    protected readonly channel: string,
    initial: T,
    private readonly pauseMs: number,
  ) {
    this.value = new Value(initial, engine.env.report);
    this.timer = new Timer(engine.env);
  }

  /** The value as last told. */
  get(): T {
    return this.value.get();
  }

  subscribe(listener: (value: T) => void): () => void {
    const end = this.value.subscribe(listener);
    this.watchers++;
    const joined = this.subscription;
    this.subscription = this.engine.subscriptions.acquire(this.channel, this);
    if (!joined) this.joined(this.subscription);
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      end();
      if (--this.watchers === 0) this.engine.subscriptions.release(this.channel, this);
    };
  }

  /** Tells soon: once for all that one message brings, and not more often than asked. @internal */
  changed(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    const { env } = this.engine;
    const wait = this.pauseMs && this.lastTold + this.pauseMs - env.now();
    const tell = (): void => {
      this.scheduled = false;
      this.lastTold = env.now();
      if (this.subscription) this.value.set(this.build(this.subscription));
    };
    if (wait > 0) env.setTimer(tell, wait);
    else env.defer(tell);
  }

  /** The last watcher is gone and the linger over. @internal */
  detached(): void {
    this.subscription = null;
    this.seen = 0;
    this.timer.stop();
  }

  protected freshness({ staleSince, refused, log }: Subscription, whole: boolean): Freshness {
    const since = this.engine.subscriptions.staleSince || staleSince;
    if (since || refused) return { freshness: "stale", since: since || this.engine.brokerNow() };
    return { freshness: whole && log.phase === "live" ? "live" : "catching-up" };
  }

  /** The first watcher came. */
  protected joined(_subscription: Subscription): void {}

  protected abstract build(subscription: Subscription): T;
}

export type Loaded<T> = Freshness & {
  /** `undefined` until the first `load` has answered. */
  readonly data: T | undefined;
  /** Why `load` failed last (it is tried again), or why the channel is refused. */
  readonly error: unknown;
};
export interface LoadOptions<T, M = Message> {
  /** The state now; `cursor` the position it contains, where the backend knows it. Called first, and again whenever events were lost. */
  load(): Promise<{ data: T; cursor?: Position }> | { data: T; cursor?: Position };
  /** The state after an event. Without a `cursor` an event may be in the loaded state already. */
  apply(state: T, event: M): T;
}

export class LoadedView<T, M = Message> extends View<Loaded<T>> {
  /** @internal */
  readonly mode = "every";
  private data: T | undefined;
  private error: unknown;
  private run = 0;
  private from = 0;
  private held: Msg[] | null = null;

  constructor(engine: Engine, channel: string, private readonly options: LoadOptions<T, M>) {
    super(engine, channel, { data: undefined, error: undefined, freshness: "catching-up" }, 0);
  }

  /** @internal */
  effect(effect: Notice): void {
    const { kind } = effect;
    const whole = kind === "recovered" || (kind === "outcome" && effect.outcome === "full" && this.run > 0) || (kind === "rewind" && effect.lost === 0);
    if (!whole) this.reload();
  }

  protected override joined({ log }: Subscription): void {
    if (log.open) this.reload();
  }

  /** @internal */
  message(msg: Msg, replayed: boolean): void {
    if (!this.held) return this.take(msg, replayed);
    this.held.push(msg);
    if (this.held.length > HELD_MAX) this.reload();
  }

  /** @internal */
  override detached(): void {
    super.detached();
    this.run++;
    this.data = this.error = undefined;
    this.held = null;
    this.run = 0;
  }

  protected build(subscription: Subscription): Loaded<T> {
    return { data: this.data, error: subscription.refused ?? this.error, ...this.freshness(subscription, !this.held) };
  }

  private reload(): void {
    const run = ++loads;
    this.run = run;
    this.timer.stop();
    this.held = [];
    this.from = this.subscription?.log.cursor?.offset ?? 0;
    Promise.resolve()
      .then(() => this.options.load())
      .then(
        (loaded) => run === this.run && this.loaded(loaded),
        (error: unknown) => run === this.run && this.failed(error),
      );
  }

  private loaded({ data, cursor }: { data: T; cursor?: Position }): void {
    const { subscription } = this;
    const held = this.held ?? [];
    this.held = null;
    this.timer.failures = 0;
    this.error = undefined;
    this.data = data;
    const here = subscription?.log.cursor;
    if (cursor && here && cursor.epoch === here.epoch) {
      this.seen = cursor.offset;
      if (cursor.offset < this.from) {
        subscription?.moveTo(cursor);
        return this.changed();
      }
    }
    for (const msg of held)
      if (msg.o > this.seen || !cursor || cursor.epoch !== here?.epoch) this.take(msg, true);
    if (here && cursor?.epoch === here.epoch) this.seen = Math.max(this.seen, held.at(-1)?.o ?? 0);
    this.changed();
  }

  private failed(error: unknown): void {
    this.error = error;
    this.changed();
    this.timer.again(0, () => this.reload());
  }

  private take(msg: Msg, replayed: boolean): void {
    const epoch = this.subscription?.log.cursor?.epoch ?? "";
    try {
      this.data = this.options.apply(this.data as T, toMessage(this.channel, epoch, msg, replayed) as M);
    } catch (error) {
      this.engine.env.report(error);
    }
    this.changed();
  }
}

/* Numbers every load of the program, so that a late answer never meets a newer question. */
let loads = 0;

export type Keyed<V> = Freshness & {
  /** The newest value of each key that is neither removed nor expired; as it last was whole, while a snapshot is coming. */
  readonly data: ReadonlyMap<string, V>;
  /** Publications skipped because a newer one of the same key was there, since the view began. */
  readonly conflated: number;
  readonly error: HubError | undefined;
};
export interface KeyedOptions {
  mode: "latest";
  /** At most so many updates a second, kept by the node and by the view. */
  maxHz?: number;
}

export class KeyedView<V> extends View<Keyed<V>> {
  /** @internal */
  readonly mode = "latest";
  /** @internal */
  readonly hz?: number;
  private items: ReadonlyMap<string, Item> = new Map();
  private conflated = 0;

  constructor(engine: Engine, channel: string, { maxHz }: { maxHz?: number }) {
    super(engine, channel, { data: new Map(), conflated: 0, error: undefined, freshness: "catching-up" }, maxHz ? 1000 / maxHz : 0);
    if (maxHz) this.hz = Math.min(1000, Math.ceil(maxHz));
  }

  /** The publication behind a key. */
  item(key: string): Message<V> | undefined {
    const item = this.items.get(key);
    const epoch = this.subscription?.log.cursor?.epoch ?? "";
    return item && (toMessage(this.channel, epoch, item, false) as Message<V>);
  }

  /** @internal */
  keep(subscription: Subscription): Keeper {
    return new KeptState(subscription, this.engine);
  }

  /** @internal */
  message(_msg: Msg, _replayed: boolean, skipped: number): void {
    this.conflated += skipped;
    if (skipped) this.changed();
  }

  /** @internal */
  override detached(): void {
    super.detached();
    this.items = new Map();
    this.conflated = 0;
  }

  protected build(subscription: Subscription): Keyed<V> {
    const { refused, kept } = subscription;
    const { values, complete } = kept?.state ?? {};
    if (values && complete) this.items = new Map(values);
    const now = this.engine.brokerNow();
    const data = new Map<string, V>();
    let next = Infinity;
    for (const [key, { b, d, exp = Infinity }] of this.items) {
      if (exp <= now) {
        if (complete) values?.delete(key);
        continue;
      }
      data.set(key, (b ?? d) as V);
      next = Math.min(next, exp);
    }
    this.timer.start(next - now, () => this.changed());
    return { data, conflated: this.conflated, error: refused ?? kept?.failed, ...this.freshness(subscription, complete === true) };
  }
}
