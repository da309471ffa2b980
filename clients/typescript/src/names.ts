/*
 * Channel names: the protocol's rule, and patterns like "orders:{id}" filled in.
 */
import { HubError } from "./errors.js";
import { utf8Length } from "./driver/publisher.js";

/** Throws `bad_request` for a name no node would take: 1–200 bytes, no control characters, no outer spaces. */
export function channelName(pattern: string, params?: Record<string, string | number>): string {
  const name = params ? pattern.replace(/\{(\w+)\}/g, (_, key: string) => String(params[key] ?? "\n")) : pattern;
  if (!name || name !== name.trim() || /[\p{Cc}\p{Surrogate}]/u.test(name) || utf8Length(name) > 200)
    throw new HubError(400, "bad_request", "channel name");
  return name;
}
