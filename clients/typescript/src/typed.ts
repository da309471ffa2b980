/*
 * Types of typed channels: what `defineChannels` takes and what it makes of handlers and views. Nothing runs here
 * but the identity function `defineChannels`.
 */

/** One kind of channel; every part is a type carried by a value, as in `{} as Order`. */
export interface ChannelSpec {
  /** Of a `live({mode: "latest"})` view: the values by key. */
  state?: unknown;
  /** Data by event name. */
  events?: Record<string, unknown>;
  /** What a member tells about itself. */
  presence?: unknown;
}
export type ChannelSpecs = Record<string, ChannelSpec>;

/** The names in braces of a pattern. */
export type Params<Pattern extends string> = Pattern extends `${string}{${infer Name}}${infer Rest}` ? Name | Params<Rest> : never;
/** The second argument of `hub.channel`: needed exactly where the pattern has braces. */
export type ParamsArg<Pattern extends string> = [Params<Pattern>] extends [never] ? [] : [params: Record<Params<Pattern>, string | number>];

export type Events<S extends ChannelSpec> = S["events"] extends Record<string, unknown> ? S["events"] : Record<string, unknown>;
export type EventName<S extends ChannelSpec> = keyof Events<S> & string;
/** Values of the keyed state: those of `state` where it is a record, else `state` itself. */
export type StateValue<S extends ChannelSpec> = S["state"] extends Record<string, infer V> ? V : S extends { state: infer V } ? V : unknown;
export type Member<S extends ChannelSpec> = S extends { presence: infer P } ? P : unknown;

/** Names the channels of an application once, by pattern. */
export function defineChannels<const C extends ChannelSpecs>(channels: C): C {
  return channels;
}
