/**
 * A real `tidewire dev` for the browser tests: starts it on a free port in a folder of its own, kills it as a crash
 * would, starts it again on the same port and folder. demo.test.mjs owns one. It never talks to the node.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import path from "node:path";

const START_WITHIN_MS = 20_000;
/** Kept for the report of a failed start; a chatty node must not fill the memory. */
const LINES_MAX = 200;
const root = fileURLToPath(new URL("../../", import.meta.url));

/** The binary under test: TIDEWIRE_BIN, else the release build, else the debug build. */
function binary() {
  const found = [process.env.TIDEWIRE_BIN, "target/release/tidewire", "target/debug/tidewire"]
    .filter(Boolean)
    .map((name) => path.resolve(root, name))
    .find((name) => existsSync(name));
  if (found === undefined) throw new Error("no tidewire binary: cargo build --release, or set TIDEWIRE_BIN");
  return found;
}

export class DevNode {
  url = "";
  #folder;
  #child;

  constructor(folder) {
    this.#folder = folder;
  }

  /** A node with a new folder on a free port. */
  static async start() {
    const node = new DevNode(await mkdtemp(path.join(tmpdir(), "tidewire-browser-")));
    await node.restart();
    return node;
  }

  /** Starts the process; after the first time on the port it had. */
  async restart() {
    const listen = this.url === "" ? "127.0.0.1:0" : new URL(this.url).host;
    const child = spawn(binary(), ["dev", "--listen", listen, "--data-dir", this.#folder], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.url = await listening(child);
  }

  /** Ends the process without a word, as a crash or a power cut would; resolves when it is gone. */
  async crash() {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  /** Ends the process and removes its folder. */
  async remove() {
    await this.crash();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** The URL the node prints once it listens. */
function listening(child) {
  return new Promise((resolve, reject) => {
    const lines = [];
    const fail = (why) => reject(new Error(`${why}\n${lines.join("\n")}`));
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      fail(`the node did not say where it listens within ${START_WITHIN_MS} ms`);
    }, START_WITHIN_MS);
    const read = (line) => {
      if (lines.length < LINES_MAX) lines.push(line);
      const url = /http:\/\/127\.0\.0\.1:[1-9]\d*/.exec(line)?.[0];
      if (url === undefined) return;
      clearTimeout(timer);
      resolve(url);
    };
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", read);
    child.once("error", (error) => fail(String(error)));
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      fail(`the node ended with ${signal ?? code}`);
    });
  });
}
