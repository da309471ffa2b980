/*
 * One channel of the session: its log, its keyed state where somebody looks at it, and the consumers inside the
 * application. Decides what is asked of the node; Subscriptions owns them all. It never touches a socket.
 */
import type { KeyedState } from "../core/keyed.js";
import { ChannelLog, MISSING, type Effect, type Notice } from "../core/log.js";
import type { Environment } from "../environment.js";
import type { HubError, Position } from "../errors.js";
import { Timer } from "./timer.js";
import type { Msg, Outcome, Push, State, Sub } from "../protocol/frames.js";

/** Something inside the application that reads a channel: handlers, a view, a member of its presence. */
export interface Consumer {
  /** A handler without a beginning of its own: it goes on where the page before a reload stopped. */
  readonly plain?: boolean;
  /** How it wants delivery; absent: it does not care. */
  readonly mode?: "every" | "latest";
  readonly hz?: number;
  readonly last?: number | undefined;
  /** Makes what keeps the channel's keyed state, where this consumer looks at it and nobody did before. */
  keep?(subscription: Subscription): Keeper;
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

/** What keeps the keyed state of a subscription (`KeptState`). */
export interface Keeper {
  readonly state: KeyedState;
  readonly failed: HubError | undefined;
  /** A publication was delivered; true where it changed what is to be seen. */
  apply(msg: Msg): boolean;
  /** A delivery begins; `follows`: a snapshot comes with it. */
  opened(outcome: Outcome, follows: boolean): void;
  page(frame: State): void;
  rewind(to: number): void;
  /** The state has to be asked for. */
  read(): void;
  end(): void;
}

/** What a subscription needs of its surroundings. */
export interface Surroundings {
  readonly env: Environment;
  /** Sends a `sub` if one is due, soon. */
  due(subscription: Subscription): void;
  effect(subscription: Subscription, effect: Effect): void;
}

export class Subscription {
  readonly log = new ChannelLog();
  kept: Keeper | null = null;
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
      state: this.kept ? true : undefined,
      last: this.kept ? undefined : last || undefined,
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
    if (consumer.keep && !this.kept) {
      this.kept = consumer.keep(this);
      if (this.log.open) this.kept.read();
    }
  }

  detach(consumer: Consumer): void {
    this.consumers.delete(consumer);
    consumer.detached?.();
    if ([...this.consumers].some(({ keep }) => keep)) return;
    this.kept?.end();
    this.kept = null;
  }

  /** Nobody is left: what is known of the channel goes with the last reader. */
  closed(): void {
    this.log.closed();
    this.asked = null;
  }

  push(frame: Push): void {
    const before = this.log.phase;
    switch (frame.t) {
      case "ok":
        return this.effect(this.log.ok(frame), before !== "opening");
      case "state":
        if (!this.log.astray) this.kept?.page(frame);
        return this.notify();
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

  /** Delivers again from an older position; consumers drop what they saw. */
  moveTo(cursor: Position): void {
    this.log.moveTo(cursor);
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
        if (this.log.phase === "live" || !this.asked?.state) this.kept?.read();
        for (const consumer of this.consumers) if (consumer.seen < effect.to) consumer.effect?.(effect);
        if (effect.to <= this.high) return;
        break;
      case "rewind":
        this.high = effect.to;
        for (const consumer of this.consumers) consumer.seen = Math.min(consumer.seen, effect.to);
        if (effect.lost > 0) this.kept?.rewind(effect.to);
        break;
    }
    if (effect.kind !== "gap") for (const consumer of [...this.consumers]) consumer.effect?.(effect);
    this.notify();
    this.around.effect(this, effect);
  }

  private deliver(effect: Effect & { kind: "deliver" }): void {
    const { msg, replayed, skipped } = effect;
    const changed = this.kept?.apply(msg);
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

  private opened(outcome: Outcome, unasked: boolean): void {
    this.retryTimer.failures = 0;
    if (outcome !== "full") {
      this.high = this.log.cursor?.offset ?? 0;
      for (const consumer of this.consumers) consumer.seen = this.high;
    }
    this.kept?.opened(outcome, this.asked?.state === true && outcome !== "full" && !unasked);
    if (!this.asked || this.outdated) this.around.due(this);
  }
}

/* The part of a `sub` that says how, not from where. */
const manner = ({ mode, hz, me }: Sub): string => JSON.stringify([mode, hz, me]);
