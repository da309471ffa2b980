/**
 * The browser of the tests: Debian's Chromium without anything that talks to the network by itself. Both tests launch
 * theirs here.
 */
import { chromium } from "playwright-core";

/** The one time limit of every expectation. */
export const WITHIN_MS = 30_000;

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
