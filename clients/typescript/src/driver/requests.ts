/*
 * Commands that are answered: numbers them, matches the answers, sends the lasting ones again on the next connection.
 * Bounded in number and time; every callback is called at most once.
 */
import { HubError } from "../errors.js";
import type { Environment } from "../environment.js";
import type { Failure, Ok, Request } from "../protocol/frames.js";

/** Past so many requests waiting, a read is refused: a full outbox and all subscriptions fit. */
const PENDING_MAX = 1_024;
const ANSWER_WITHIN_MS = 30_000;

interface Pending {
  frame: Request;
  lasting: boolean;
  timer: unknown;
  done(ok: Ok): void;
  failed(error: HubError): void;
}

export class Requests {
  private readonly pending = new Map<number, Pending>();
  private last = 0;

  constructor(private readonly env: Environment, private readonly write: (frame: Request) => void) {}

  /** For this connection only: where it ends first, nothing is called. */
  once(frame: Request, done: Pending["done"] = () => {}, failed: Pending["failed"] = () => {}): void {
    this.start({ frame, lasting: false, timer: null, done, failed });
  }

  /** Sent again on each connection until it is answered; fails with `timeout` or `busy`. */
  lasting(frame: Request): Promise<Ok> {
    return new Promise((done, failed) => {
      const request: Pending = { frame, lasting: true, timer: null, done, failed };
      if (this.pending.size >= PENDING_MAX) return failed(new HubError(7, "busy", "", 0));
      request.timer = this.env.setTimer(() => this.drop(request, new HubError(6, "timeout", "", 0)), ANSWER_WITHIN_MS);
      this.start(request);
    });
  }

  answer(frame: Ok | Failure): void {
    const request = this.pending.get(frame.i as number);
    if (!request) return;
    this.pending.delete(frame.i as number);
    this.env.clearTimer(request.timer);
    if (frame.t === "ok") return request.done(frame);
    const position = frame.o === undefined ? undefined : { epoch: frame.e ?? "", offset: frame.o };
    request.failed(new HubError(frame.code, frame.name, frame.text, frame.retry, position));
  }

  /** The connection ended: what belonged to it is forgotten. */
  lost(): void {
    for (const [i, { lasting }] of this.pending) if (!lasting) this.pending.delete(i);
  }

  /** A connection can be written to: all that waits goes (again). */
  resend(): void {
    for (const { frame } of this.pending.values()) this.write(frame);
  }

  fail(error: HubError): void {
    for (const request of [...this.pending.values()]) this.drop(request, error);
  }

  private start(request: Pending): void {
    const i = ++this.last;
    request.frame = { ...request.frame, i };
    this.write(request.frame);
    this.pending.set(i, request);
  }

  private drop(request: Pending, error: HubError): void {
    this.pending.delete(request.frame.i as number);
    this.env.clearTimer(request.timer);
    request.failed(error);
  }
}
