/*
 * The public interface of `tidewire/core`: everything but views and presence, for pages that count every byte.
 */
import { CoreHub, type HubOptions } from "./hub.js";
import type { ChannelSpecs } from "./typed.js";

/** A hub; nothing happens on the network until it is used. */
export function createHub<const C extends ChannelSpecs = ChannelSpecs>(options: HubOptions<C>): CoreHub<C> {
  return new CoreHub(options);
}

export { Forbidden, HubError } from "./errors.js";
export { defineChannels } from "./typed.js";
export type { CoreHub, HubOptions } from "./hub.js";
export type { CoreChannel } from "./channel.js";
