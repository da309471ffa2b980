/*
 * The hub as the application holds it, one per user and page: a thin face of Engine.
 */
import { CoreChannel } from "./channel.js";
import type { Status } from "./driver/link.js";
import type { OutboxItem } from "./driver/publisher.js";
import { Engine, type EngineOptions, type HubEvents } from "./engine.js";
import { HubError, type Position } from "./errors.js";
import { channelName } from "./names.js";
import type { Observable } from "./observable.js";
import type { ChannelSpecs, ParamsArg } from "./typed.js";

export interface HubOptions<C extends ChannelSpecs = ChannelSpecs> extends EngineOptions {
  /** From `defineChannels`; only its type is used. */
  channels?: C;
}

/** Publications on their way. */
export interface OutboxView {
  items(): OutboxItem[];
  /** Gives all of them up (`cleared`); tells how many. */
  clear(): number;
}

export class CoreHub<C extends ChannelSpecs = ChannelSpecs> {
  readonly status: Observable<Status>;
  readonly outbox: OutboxView;
  /** @internal */
  protected readonly engine: Engine;

  constructor(options: HubOptions<C>) {
    const engine = (this.engine = new Engine(options));
    this.status = engine.link.status;
    this.outbox = {
      items: () => engine.publisher.items(),
      clear: () => engine.publisher.clear(new HubError(2, "cleared")),
    };
  }

  /** Opens the connection now; tries again after `blocked`. Using a channel does the same. */
  connect(): void {
    this.engine.connect();
  }

  /** Ends the session for good. Every promise settles; the hub cannot be used again. */
  close(): void {
    this.engine.close();
  }

  /** The channel of this name; for a pattern, with its parameters. Cheap: handles of one name are the same channel. */
  channel<P extends keyof C & string>(pattern: P, ...params: ParamsArg<P>): CoreChannel<C[P]> {
    return new CoreChannel<C[P]>(channelName(pattern, params[0]), this.engine);
  }

  /** The position of the last publication of this channel the application was given. */
  position(channel: string | { readonly name: string }): Position | null {
    return this.engine.subscriptions.position(typeof channel === "string" ? channel : channel.name);
  }

  /** Listens to what happens to any channel. Returns the function that ends it. */
  on<E extends keyof HubEvents>(event: E, run: (event: HubEvents[E]) => void): () => void {
    return this.engine.events.on(event, run);
  }
}
