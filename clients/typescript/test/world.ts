/* Frames and beginnings the hub tests share. */
import { createHub, type Hub, type HubOptions } from "../src/index.js";
import type { World } from "./harness.js";

export type Frame = Record<string, unknown>;

export const hubIn = (world: World, options: Partial<HubOptions> = {}): Hub =>
  createHub({ url: "wss://rt.example.com", token: "t", environment: world.env, ...options });

export const msg = (ch: string, o: number, d: unknown, extra: Frame = {}): Frame => ({ t: "msg", ch, o, d, ts: 1, ...extra });
export const ok = (ch: string, o: number, rec = "fresh", e = "e1"): Frame => ({ t: "ok", ch, e, o, rec });
export const live = (ch: string, o: number, n = 0): Frame => ({ t: "live", ch, o, n });
