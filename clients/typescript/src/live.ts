/*
 * What the package `tidewire` adds to `tidewire/core`: channels with views and presence, and the hub that gives them out.
 */
import { CoreChannel, type MessageOf } from "./channel.js";
import { utf8Length } from "./driver/publisher.js";
import type { Consumer } from "./driver/subscription.js";
import type { Engine } from "./engine.js";
import { HubError } from "./errors.js";
import { CoreHub, type HubOptions } from "./hub.js";
import { channelName } from "./names.js";
import type { ChannelSpec, ChannelSpecs, Member, ParamsArg, StateValue } from "./typed.js";
import { KeyedView, LoadedView, type KeyedOptions, type LoadOptions } from "./views.js";

/* What a member may tell about itself. */
const ME_MAX = 1024;

export class Channel<S extends ChannelSpec = ChannelSpec> extends CoreChannel<S> {
  readonly presence: Presence<Member<S>>;

  constructor(name: string, engine: Engine) {
    super(name, engine);
    this.presence = new Presence(name, engine);
  }

  /** A snapshot of your own kept up to date by events, or the channel's keyed state. Reads only while subscribed to. */
  live<V = StateValue<S>>(options: KeyedOptions): KeyedView<V>;
  live<T>(options: LoadOptions<T, MessageOf<S>>): LoadedView<T, MessageOf<S>>;
  live<T>(options: LoadOptions<T, MessageOf<S>> | KeyedOptions): KeyedView<StateValue<S>> | LoadedView<T, MessageOf<S>> {
    const { engine, name } = this;
    return "load" in options ? new LoadedView(engine, name, options) : new KeyedView(engine, name, options);
  }
}

/** Who is in a channel. */
export class Presence<Me = unknown> {
  /** Members by `<user>/<n>`. Reading it needs the right `presence` on the channel. */
  readonly members: KeyedView<Me>;

  constructor(
    private readonly name: string,
    private readonly engine: Engine,
  ) {
    this.members = new KeyedView(engine, "$presence:" + name, {});
  }

  /** Makes this session a member, with `me` (up to 1 KiB of JSON) for all to see, until `leave`. */
  enter(me: Me): void {
    if (utf8Length(JSON.stringify(me ?? null)) > ME_MAX) throw new HubError(413, "too_large");
    const { subscriptions } = this.engine;
    const self: Consumer = { me: me ?? null, seen: 0 };
    const subscription = subscriptions.acquire(this.name, self);
    if (subscription.self) subscriptions.release(this.name, subscription.self);
    subscription.self = self;
  }

  leave(): void {
    const { subscriptions } = this.engine;
    const subscription = subscriptions.get(this.name);
    if (!subscription?.self) return;
    subscriptions.release(this.name, subscription.self);
    subscription.self = null;
  }
}

export class Hub<C extends ChannelSpecs = ChannelSpecs> extends CoreHub<C> {
  override channel<P extends keyof C & string>(pattern: P, ...params: ParamsArg<P>): Channel<C[P]> {
    return new Channel<C[P]>(channelName(pattern, params[0]), this.engine);
  }
}

/** A hub; nothing happens on the network until it is used. */
export function createHub<const C extends ChannelSpecs = ChannelSpecs>(options: HubOptions<C>): Hub<C> {
  return new Hub(options);
}
