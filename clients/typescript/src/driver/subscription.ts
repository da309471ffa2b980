/*
 * One channel of the session: its log, its keyed state where somebody looks at it, and the consumers inside the
 * application. Decides what is asked of the node; Subscriptions owns them all. It never touches a socket.
 */
import { KeyedState } from "../core/keyed.js";
import { ChannelLog, MISSING, type Effect, type Notice } from "../core/log.js";
import type { Environment } from "../environment.js";
import type { HubError } from "../errors.js";
import { Timer } from "./timer.js";
import type { Item, Msg, Ok, Push, State, Sub } from "../protocol/frames.js";

/** Something inside the application that reads a channel: handlers, a view, a member of its presence. */
export interface Consumer {
  /** How it wants delivery; absent: it does not care. */
  readonly mode?: "every" | "latest";
  readonly hz?: number;
  readonly last?: number | undefined;
  readonly state?: true;
  readonly me?: unknown;
  /** The highest offset it saw: what is at or below is not given to it. */
  seen: number;
  message?(msg: Msg, replayed: boolean, skipped: number): void;
  effect?(effect: Notice): void;
  /** Keyed state, freshness or refusal changed. */
  changed?(): void;
  /** Released, and the linger is over. */
  detached?(): void;
}

/** What a subscription needs of its surroundings. */
export interface Surroundings {
  readonly env: Environment;
  brokerNow(): number;
  /** Sends a `sub` if one is due, soon. */
  due(subscription: Subscription): void;
  /** Reads one page of keyed state. */
  page(channel: string, from: number | undefined): Promise<Ok>;
  effect(subscription: Subscription, effect: Effect): void;
}

/* A snapshot read again because the log rewound meanwhile; more often than this, the next gap or resume heals it. */
const SNAPSHOT_TRIES = 3;

export class Subscription {
  readonly log = new ChannelLog();
  keyed: KeyedState | null = null;
  readonly consumers = new Set<Consumer>();
  refused: HubError | null = null;
  /** This session as a member of the channel's presence. */
  self: Consumer | null = null;
  /** Since when the node cannot vouch for this channel (`stale`); 0: it can. */
  staleSince = 0;
  /** What the node was last asked for. */
  asked: Sub | null = null;
  /** A `sub` refused for the moment is asked again when this timer fires. */
  readonly retryTimer: Timer;
  failures = 0;
  private fetching = 0;
  /** The highest offset any consumer was given: below it, a channel that was moved back has nothing new to tell. */
  private high = 0;

  constructor(
    readonly name: string,
    private readonly around: Surroundings,
  ) {
    this.retryTimer = new Timer(around.env);
  }

  /** The subscription as it should be: from the cursor where there is one. */
  want(): Sub {
    const all = [...this.consumers];
    const modes = all.filter(({ mode }) => mode);
    const latest = modes.length > 0 && modes.every(({ mode }) => mode === "latest");
    const rate = Math.max(...modes.map(({ hz }) => hz ?? Infinity));
    const last = Math.max(0, ...all.map((consumer) => consumer.last ?? 0));
    const { cursor } = this.log;
    return {
      ch: this.name,
      e: cursor?.epoch,
      o: cursor?.offset,
      state: this.keyed ? true : undefined,
      last: this.keyed ? undefined : last || undefined,
      mode: latest ? "latest" : "every",
      hz: latest && rate < Infinity ? rate : undefined,
      me: this.self?.me,
    };
  }

  /** True where the node was asked for another way of delivery than is wanted. */
  get outdated(): boolean {
    return this.asked !== null && manner(this.asked) !== manner(this.want());
  }

  opening(asked: Sub): void {
    this.asked = asked;
    this.log.opening(asked.mode ?? "every", asked.e);
  }

  attach(consumer: Consumer): void {
    if (!this.consumers.has(consumer)) consumer.seen = this.log.cursor?.offset ?? 0;
    this.consumers.add(consumer);
    if (consumer.state && !this.keyed) {
      this.keyed = new KeyedState();
      if (this.log.open) this.snapshot();
    }
  }

  /** Nobody is left: what is known of the channel goes with the last reader. */
  closed(): void {
    this.log.closed();
    this.keyed = null;
    this.asked = null;
    this.fetching++;
  }

  push(frame: Push): void {
    const before = this.log.phase;
    switch (frame.t) {
      case "ok":
        return this.effect(this.log.ok(frame), before !== "opening");
      case "state":
        return this.merge(frame);
      case "live":
        return this.feed(() => this.log.live(frame));
      case "gap":
        return this.feed(() => this.log.gap(frame));
      case "rewind":
        return this.feed(() => this.log.rewind(frame));
      case "msg":
        return this.feed(() => this.log.msg(frame));
    }
  }

  notify(): void {
    for (const consumer of this.consumers) consumer.changed?.();
  }

  /** Delivers again from an older position of this epoch; consumers drop what they saw. */
  moveBack(offset: number): void {
    this.log.moveBack(offset);
    this.asked = null;
    this.around.due(this);
  }

  private feed(read: () => Effect | null): void {
    const effect = read();
    this.effect(effect);
    if (effect?.kind === "gap" && effect.reason === MISSING) this.effect(read());
  }

  private effect(effect: Effect | null, unasked = false): void {
    if (!effect) return;
    switch (effect.kind) {
      case "hole":
        this.asked = null;
        return this.around.due(this);
      case "deliver":
        return this.deliver(effect);
      case "outcome":
        this.opened(effect.outcome, unasked);
        break;
      case "gap":
        if (this.log.phase === "live" || !this.asked?.state) this.snapshot();
        for (const consumer of this.consumers) if (consumer.seen < effect.to) consumer.effect?.(effect);
        if (effect.to <= this.high) return;
        break;
      case "rewind":
        this.high = effect.to;
        for (const consumer of this.consumers) consumer.seen = Math.min(consumer.seen, effect.to);
        if (effect.lost > 0 && this.keyed) {
          this.keyed.rewind(effect.to);
          this.snapshot();
        }
        break;
    }
    if (effect.kind !== "gap") for (const consumer of [...this.consumers]) consumer.effect?.(effect);
    this.notify();
    this.around.effect(this, effect);
  }

  private deliver(effect: Effect & { kind: "deliver" }): void {
    const { msg, replayed, skipped } = effect;
    const changed = this.keyed?.apply(msg, this.around.brokerNow());
    for (const consumer of [...this.consumers]) {
      if (msg.o > consumer.seen) {
        consumer.seen = msg.o;
        consumer.message?.(msg, replayed, skipped);
      }
      if (changed) consumer.changed?.();
    }
    this.high = Math.max(this.high, msg.o);
    this.around.effect(this, effect);
  }

  private opened(outcome: string, unasked: boolean): void {
    this.failures = 0;
    if (outcome !== "full") {
      this.fetching++;
      this.keyed?.clear();
      this.high = this.log.cursor?.offset ?? 0;
      for (const consumer of this.consumers) consumer.seen = this.high;
    }
    const follows = this.asked?.state && outcome !== "full" && !unasked;
    if (this.keyed && !this.keyed.complete && !follows) this.snapshot();
    if (!this.asked || this.outdated) this.around.due(this);
  }

  private merge({ items, more }: State): void {
    if (!this.keyed || this.log.phase === "closed") return;
    this.take(items);
    if (!more) this.keyed.finish();
    this.notify();
  }

  private take(items: Item[]): void {
    const now = this.around.brokerNow();
    for (const item of items) this.keyed?.apply(item, now);
  }

  /* Reads the keyed state by request, beside the living log; a rewind or another reading ends it. */
  private snapshot(): void {
    if (!this.keyed) return;
    this.keyed.complete = false;
    void this.pages(++this.fetching, SNAPSHOT_TRIES);
  }

  private async pages(run: number, tries: number): Promise<void> {
    let from: number | undefined;
    for (;;) {
      let page: Ok;
      try {
        page = await this.around.page(this.name, from);
      } catch {
        return;
      }
      if (run !== this.fetching || !this.keyed) return;
      if (page.e !== this.log.cursor?.epoch && tries > 1) return this.pages(run, tries - 1);
      const items = page.items ?? [];
      this.take(items);
      const last = items.at(-1)?.o ?? 0;
      if (!page.more || last < (from ?? 1)) break;
      from = last + 1;
    }
    this.keyed.finish();
    this.notify();
  }
}

/* The part of a `sub` that says how, not from where. */
const manner = ({ mode, hz, me }: Sub): string => JSON.stringify([mode, hz, me]);
