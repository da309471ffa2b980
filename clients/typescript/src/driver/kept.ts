/*
 * The keyed state of one subscription, kept up to date: by the publications delivered, by the snapshots the node sends,
 * and by pages read on request where it sends none. Made by the first view of a channel; it never moves a cursor.
 */
import { KeyedState } from "../core/keyed.js";
import type { Engine } from "../engine.js";
import type { HubError } from "../errors.js";
import type { Item, Msg, Ok, Outcome, State } from "../protocol/frames.js";
import type { Keeper, Subscription } from "./subscription.js";
import { Timer } from "./timer.js";

/* A snapshot read again because the log rewound meanwhile; more often than this, the next gap or resume heals it. */
const SNAPSHOT_TRIES = 3;

export class KeptState implements Keeper {
  readonly state = new KeyedState();
  /** Why the state cannot be read. */
  failed: HubError | undefined;
  private run = 0;
  private readonly timer: Timer;

  constructor(
    private readonly subscription: Subscription,
    private readonly engine: Engine,
  ) {
    this.timer = new Timer(engine.env);
  }

  apply(msg: Msg): boolean {
    return this.state.apply(msg, this.engine.brokerNow());
  }

  opened(outcome: Outcome, follows: boolean): void {
    if (outcome !== "full") {
      this.run++;
      this.state.clear();
    }
    if (!this.state.complete && !follows) this.read();
  }

  page({ items, more }: State): void {
    this.take(items);
    if (!more) this.whole();
  }

  rewind(to: number): void {
    this.state.rewind(to);
    this.read();
  }

  /** Reads all of it by request, beside the living log; a newer reading ends an older one. */
  read(): void {
    this.timer.stop();
    this.state.complete = false;
    void this.pages(++this.run, SNAPSHOT_TRIES);
  }

  end(): void {
    this.run++;
    this.timer.stop();
  }

  private take(items: Item[]): void {
    for (const item of items) this.state.apply(item, this.engine.brokerNow());
  }

  private async pages(run: number, tries: number): Promise<void> {
    const { name: ch, log } = this.subscription;
    let from: number | undefined;
    for (;;) {
      let page: Ok;
      try {
        page = await this.engine.request({ t: "state", ch, from });
      } catch (error) {
        return run === this.run ? this.again(error as HubError) : undefined;
      }
      if (run !== this.run) return;
      if (page.e !== log.cursor?.epoch && tries > 1) return this.pages(run, tries - 1);
      const items = page.items ?? [];
      this.take(items);
      const last = items.at(-1)?.o ?? 0;
      if (!page.more || last < (from ?? 1)) break;
      from = last + 1;
    }
    this.whole();
    this.subscription.notify();
  }

  private whole(): void {
    this.state.finish();
    this.failed = undefined;
    this.timer.failures = 0;
  }

  /* A read that failed while the channel is up would leave the state incomplete for good. */
  private again(error: HubError): void {
    this.failed = error;
    this.subscription.notify();
    if (error.retryable) this.timer.again(error.retry, () => this.read());
  }
}
