/*
 * The session's identity and the number of each attempt to claim it. Pure; Link drives it.
 * It never invents an id: ids and keys come from the node.
 */
import { REPLACED_MAX, REPLACED_WINDOW_MS } from "./close.js";
import type { Welcome } from "../protocol/frames.js";

export interface Identity {
  readonly id: string;
  readonly key: string;
}

export class Session {
  identity: Identity | null = null;
  /** The last attempt used. */
  attempt = 0;
  private takeovers: number[] = [];

  /** The session of the next hello, its attempt fixed: above every own one and the clock's ms. */
  claim(now: number): (Identity & { attempt: number }) | undefined {
    if (!this.identity) return undefined;
    this.attempt = Math.max(this.attempt + 1, now);
    return { ...this.identity, attempt: this.attempt };
  }

  welcomed({ session }: Welcome): void {
    if (session.id !== this.identity?.id) this.attempt = 0;
    this.identity = { id: session.id, key: session.key };
  }

  /** Another program goes on with this session; this one begins another. */
  replaced(now: number): void {
    this.takeovers = [now, ...this.takeovers].slice(0, REPLACED_MAX);
    this.forget();
  }

  takeoversBefore(now: number): number {
    return this.takeovers.filter((at) => now - at < REPLACED_WINDOW_MS).length;
  }

  forget(): void {
    this.identity = null;
    this.attempt = 0;
  }
}
