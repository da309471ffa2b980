/*
 * One deadline at a time: starting it again moves it. Used wherever a part waits for something, or tries again later.
 */
import { backoff } from "../core/backoff.js";
import type { Environment } from "../environment.js";

export class Timer {
  /** How often it was tried in vain; whoever succeeds sets it to 0. */
  failures = 0;
  private handle: unknown = null;

  constructor(private readonly env: Environment) {}

  get running(): boolean {
    return this.handle !== null;
  }

  /** Runs `run` once after `ms`; `Infinity` only stops. */
  start(ms: number, run: () => void): void {
    this.stop();
    if (ms === Infinity) return;
    this.handle = this.env.setTimer(() => {
      this.handle = null;
      run();
    }, Math.max(0, ms));
  }

  /** Runs `run` once after a failure, with full jitter, no sooner than `hint` ms. Tells the wait. */
  again(hint: number | undefined, run: () => void): number {
    const wait = backoff(this.failures++, this.env.random(), hint);
    this.start(wait, run);
    return wait;
  }

  stop(): void {
    if (this.running) this.env.clearTimer(this.handle);
    this.handle = null;
  }
}
