/*
 * The public interface of the package `tidewire`.
 */
export { createHub, type Channel, type Hub, type Presence } from "./live.js";
export type { CoreHub, HubOptions, OutboxView } from "./hub.js";
export type { HubEvents } from "./engine.js";
export type { CoreChannel, MessageOf, OnOptions } from "./channel.js";
export { defineChannels, type ChannelSpec, type ChannelSpecs } from "./typed.js";
export { Forbidden, HubError, type Position } from "./errors.js";
export type { KeyedView, LoadedView, Freshness, Keyed, KeyedOptions, Loaded, LoadOptions } from "./views.js";
export { systemEnvironment, type Environment, type LifecycleEvent, type StorageLike, type WebSocketClass, type WebSocketLike } from "./environment.js";
export type { Duration } from "./duration.js";
export type { HistoryOptions, Page } from "./history.js";
export type { Message } from "./message.js";
export type { Observable } from "./observable.js";
export type { Acknowledged, OutboxItem, Publication, PublishOptions } from "./driver/publisher.js";
export type { Status } from "./driver/link.js";
export type { Token, TokenReason } from "./driver/token.js";
export type { Encoding, Outcome } from "./protocol/frames.js";
