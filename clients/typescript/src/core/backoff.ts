/*
 * How long to wait before the next connection. Pure; proved by protocol/vectors/backoff.json.
 */
export const BACKOFF_BASE_MS = 500;
export const BACKOFF_MAX_MS = 20_000;
/* A node's advice longer than this is taken for a mistake. */
const RETRY_MAX_MS = 300_000;

/**
 * Full jitter: `random` (0 ≤ r < 1) of min(20 s, 0.5 s × 2^failures), whole ms; the first retry counts 0 failures.
 * A node's `retry` (ms) is the least, so a repeated refusal still spreads.
 */
export function backoff(failures: number, random: number, retry = 0): number {
  const jitter = Math.floor(random * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** failures));
  return Math.max(jitter, Math.min(retry, RETRY_MAX_MS));
}
