/*
 * The one error class of the library. Every rejected promise and every "error" event carries a HubError.
 * It never holds frames or tokens, so it may be logged.
 */

/** A position in a channel's log. `offset` means nothing without its `epoch`. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/**
 * What went wrong, as a value. `code` and `name` are the wire's (protocol section 7); codes below 100 are the
 * library's own: 1 closed, 2 cleared, 3 outbox_full, 4 expired, 5 outcome_unknown, 6 timeout, 7 busy.
 */
export class HubError extends Error {
  readonly code: number;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** How long the node asks to wait, in ms. */
  readonly retry: number | undefined;
  /** With 412: where the key (or the channel) is at present. */
  readonly position: Position | undefined;

  constructor(code: number, name: string, text?: string, retry?: number, position?: Position) {
    super(text || name);
    this.code = code;
    this.name = name;
    this.retry = retry;
    this.retryable = retry !== undefined;
    this.position = position;
  }
}

/** Thrown by a token callback to say that this user may not connect: the hub stops, `blocked`. */
export class Forbidden extends Error {
  override readonly name = "Forbidden";
}
