/*
 * What survives a page reload, where the application asked for it: session, cursors, outbox. Owns the storage record
 * and the lock that keeps a duplicated tab from taking the session over. It never stores a token.
 */
import type { Environment, StorageLike } from "../environment.js";
import type { Positions } from "../protocol/frames.js";

export interface Saved {
  session?: { id: string; key: string; attempt: number } | undefined;
  cursors: Positions;
  outbox?: { frame: Record<string, unknown>; expires: number; tried: boolean }[];
}

/* A reloading page gives its lock up within a moment, but a busy one hears of it late; a living twin keeps it. */
const LOCK_WITHIN_MS = 2_000;

export class Persistence {
  private release: (() => void) | null = null;
  private locked = "";

  constructor(
    private readonly env: Environment,
    private readonly storage: StorageLike | null,
    private readonly name: string,
  ) {}

  /** What the last page left; only the cursors of it where another tab holds the session. */
  async restore(): Promise<Saved | null> {
    const saved = this.read();
    if (!saved?.session) return saved;
    return (await this.hold(saved.session.id)) ? saved : { cursors: saved.cursors };
  }

  /** Makes the session's lock ours; false where another tab has it. */
  async hold(id: string): Promise<boolean> {
    if (!this.storage || !this.env.lock || id === this.locked) return true;
    this.unlock();
    this.locked = id;
    const release = await this.env.lock("tidewire:" + id, LOCK_WITHIN_MS);
    if (this.locked === id) this.release = release;
    else release?.();
    return release !== null;
  }

  save(record: () => Saved): void {
    try {
      this.storage?.setItem(this.name, JSON.stringify(record()));
    } catch {
      /* A full or forbidden storage loses the reload, not the page. */
    }
  }

  forget(): void {
    this.unlock();
    try {
      this.storage?.removeItem(this.name);
    } catch {
      /* As above. */
    }
  }

  unlock(): void {
    this.release?.();
    this.release = null;
    this.locked = "";
  }

  private read(): Saved | null {
    try {
      return JSON.parse(this.storage?.getItem(this.name) ?? "null") as Saved | null;
    } catch {
      return null;
    }
  }
}
