/*
 * One deadline at a time: starting it again moves it. Used wherever a part waits for something.
 */
import type { Environment } from "../environment.js";

export class Timer {
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

  stop(): void {
    if (this.running) this.env.clearTimer(this.handle);
    this.handle = null;
  }
}
