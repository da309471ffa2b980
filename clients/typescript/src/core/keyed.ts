/*
 * The keyed state of one channel as this client knows it: the newest publication per key. Pure: times are arguments,
 * in ms of the broker's clock. Fed by Subscription, read by views. Its size is bounded by the node's `state_keys`.
 */
import type { Item } from "../protocol/frames.js";

export class KeyedState {
  /** What is neither removed nor was expired when it came. */
  readonly values = new Map<string, Item>();
  /** True once a snapshot was applied whole; until then a deletion is remembered against an older page. */
  complete = false;
  private readonly removed = new Map<string, number>();

  /** Takes a publication or an item of a snapshot; false where it is not newer than what is held. */
  apply(item: Item, now: number): boolean {
    const key = item.k ?? "";
    const held = this.values.get(key)?.o ?? this.removed.get(key) ?? 0;
    if (item.o <= held) return false;
    const gone = item.del === true || (item.exp !== undefined && item.exp <= now);
    if (!gone) {
      this.values.set(key, item);
      this.removed.delete(key);
      return true;
    }
    if (!this.complete) this.removed.set(key, item.o);
    return this.values.delete(key);
  }

  finish(): void {
    this.complete = true;
    this.removed.clear();
  }

  clear(): void {
    this.values.clear();
    this.removed.clear();
    this.complete = false;
  }

  /** The log lost everything above `to`: so does the state, which is incomplete until it was read again. */
  rewind(to: number): void {
    for (const [key, item] of this.values) if (item.o > to) this.values.delete(key);
    this.removed.clear();
    this.complete = false;
  }
}
