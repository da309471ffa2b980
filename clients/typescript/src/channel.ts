/*
 * The handle of one channel, given out by `hub.channel`: reading by handlers, publishing, history. It holds no state of its own: two handles of one name are
 * the same channel. Reading begins with the first handler or watched view and ends 2 s after the last is gone.
 */
import type { Subscription, Consumer } from "./driver/subscription.js";
import type { Publication, PublishOptions } from "./driver/publisher.js";
import type { Engine, HubEvents } from "./engine.js";
import { readHistory, type HistoryOptions, type Page } from "./history.js";
import { toMessage, type Message } from "./message.js";
import { guarded } from "./observable.js";
import type { Msg } from "./protocol/frames.js";
import type { ChannelSpec, EventName, Events, StateValue } from "./typed.js";

export interface OnOptions {
  /** Begin with the newest `last` publications instead of from now (or from the cursor of the page before). */
  last?: number;
}
export type MessageOf<S extends ChannelSpec, E extends EventName<S> = EventName<S>> = { [N in E]: Message<Events<S>[N], N> }[E];

export class CoreChannel<S extends ChannelSpec = ChannelSpec> {
  constructor(
    readonly name: string,
    /** @internal */
    protected readonly engine: Engine,
  ) {}

  /** Calls back for each publication with this event name, or for all (`"*"`). Returns the function that ends it. */
  on<E extends EventName<S> | "*">(event: E, handler: (message: E extends "*" ? MessageOf<S> : MessageOf<S, E & EventName<S>>) => void, options: OnOptions = {}): () => void {
    const reader = new Reader(this.engine, this.name, event, handler as (message: Message) => void, options.last);
    return () => reader.end();
  }

  /** Publishes through the outbox. Never throws: what is wrong rejects `acked`. */
  publish<E extends EventName<S>>(event: E, data: Events<S>[E], options: PublishOptions = {}): Publication {
    return this.engine.publish(this.name, event, data, options);
  }

  /** Sets (or, with `delete`, removes) one key of the channel's state, without an event name. */
  set(key: string, data: StateValue<S>, options: Omit<PublishOptions, "key"> = {}): Publication {
    return this.engine.publish(this.name, undefined, data, { ...options, key });
  }

  /** One page of what the channel kept, in rising order; newest first page unless told where. */
  history(options: HistoryOptions = {}): Promise<Page<MessageOf<S>>> {
    return readHistory(this.name, options, (frame) => this.engine.request(frame)) as Promise<Page<MessageOf<S>>>;
  }

  /** Publications that are gone for good, none of which this page saw. */
  onGap(run: (event: HubEvents["gap"]) => void): () => void {
    return this.listen("gap", run);
  }
  /** The log lost its end: `lost` publications that were shown are not in it. */
  onRewind(run: (event: HubEvents["rewind"]) => void): () => void {
    return this.listen("rewind", run);
  }
  /** The log began another life: what was shown has to be thrown away. */
  onReset(run: (event: HubEvents["reset"]) => void): () => void {
    return this.listen("reset", run);
  }
  /** Caught up, with the number of publications replayed. */
  onRecovered(run: (event: HubEvents["recovered"]) => void): () => void {
    return this.listen("recovered", run);
  }

  private listen<E extends "gap" | "rewind" | "reset" | "recovered">(name: E, run: (event: HubEvents[E]) => void): () => void {
    return this.engine.events.on(name, (event) => event.channel === this.name && run(event));
  }
}

/* One handler of a channel. */
class Reader implements Consumer {
  readonly mode = "every";
  readonly plain: boolean;
  seen = 0;
  private over = false;
  private readonly subscription: Subscription;

  constructor(
    private readonly engine: Engine,
    private readonly channel: string,
    private readonly event: string,
    private readonly handler: (message: Message) => void,
    readonly last: number | undefined,
  ) {
    this.plain = !last;
    const subscription = (this.subscription = engine.subscriptions.acquire(channel, this));
    const { cursor, open } = subscription.log;
    if (!last || !cursor || !open) return;
    this.seen = Math.max(0, this.seen - last);
    subscription.moveTo({ epoch: cursor.epoch, offset: this.seen });
  }

  message(msg: Msg, replayed: boolean): void {
    if (this.over || (this.event !== "*" && this.event !== msg.ev)) return;
    const epoch = this.subscription.log.cursor?.epoch ?? "";
    guarded(this.engine.env.report, this.handler, toMessage(this.channel, epoch, msg, replayed));
  }

  end(): void {
    this.over = true;
    this.engine.subscriptions.release(this.channel, this);
  }
}
