/*
 * The user's token: asked for once at a time, kept until it is stale. Link asks before each hello.
 * It never stores or logs a token.
 */
import type { Environment } from "../environment.js";

/** Why a token is wanted. */
export type TokenReason = "connect" | "expiring" | "unauthenticated" | "wake";
/** A token, or how to get one. Throwing `Forbidden` stops the hub; any other error is tried again. */
export type Token = string | ((why: { reason: TokenReason }) => string | Promise<string>);

/** A callback that has not answered by then counts as failed. */
const TOKEN_WITHIN_MS = 30_000;

export class TokenSource {
  private token: string | undefined;
  private stale: TokenReason | null = "connect";
  private pending: Promise<string | undefined> | null = null;

  constructor(private readonly env: Environment, private readonly source: Token | undefined) {}

  /** The next `get` asks for a fresh one. */
  expire(reason: TokenReason): void {
    this.stale ??= reason;
  }

  get(): Promise<string | undefined> {
    if (typeof this.source !== "function") return Promise.resolve(this.source);
    if (!this.stale && !this.pending) return Promise.resolve(this.token);
    this.pending ??= this.fetch(this.source).finally(() => (this.pending = null));
    return this.pending;
  }

  private async fetch(source: Exclude<Token, string>): Promise<string> {
    const reason = this.stale ?? "connect";
    let timer: unknown;
    const late = new Promise<never>((_, reject) => {
      timer = this.env.setTimer(() => reject(new Error("no token in time")), TOKEN_WITHIN_MS);
    });
    try {
      const token = await Promise.race([Promise.resolve().then(() => source({ reason })), late]);
      this.stale = null;
      return (this.token = token);
    } finally {
      this.env.clearTimer(timer);
    }
  }
}
