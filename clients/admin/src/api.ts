/**
 * The HTTP API as the page uses it, with the door's token. Called by the views; every refusal is an error with a
 * sentence that can be shown.
 */
import type { Door } from "./door.ts";

/** A node that takes longer is not waited for. */
const WITHIN_MS = 12_000;

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

export class Api {
  constructor(private readonly door: Door) {}

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.call<T>("GET", path, signal);
  }

  /** For what changes something. */
  async post<T>(path: string): Promise<T> {
    return this.call<T>("POST", path);
  }

  async delete(path: string): Promise<void> {
    await this.call("DELETE", path);
  }

  private async call<T>(method: string, path: string, signal?: AbortSignal): Promise<T> {
    const late = AbortSignal.timeout(WITHIN_MS);
    const ends = signal === undefined ? late : AbortSignal.any([signal, late]);
    let answer = await this.send(method, path, ends, false);
    if (answer.status === 401) answer = await this.send(method, path, ends, true);
    const body: unknown = await answer.json().catch(() => undefined);
    if (answer.ok) return body as T;
    const { code = "error", detail = `the node answered ${answer.status}` } = (body ?? {}) as { code?: string; detail?: string };
    throw new Refused(answer.status, code, detail);
  }

  private async send(method: string, path: string, signal: AbortSignal, again: boolean): Promise<Response> {
    const headers = { authorization: `Bearer ${await this.door.token(again)}` };
    try {
      return await fetch(path, { method, headers, signal });
    } catch (error) {
      if (signal.aborted && !(error instanceof DOMException && error.name === "TimeoutError")) throw error;
      throw new Refused(0, "unreachable", "the node does not answer");
    }
  }
}
