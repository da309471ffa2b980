/**
 * Real nodes for the browser tests: `tidewire dev` or `tidewire serve` on a free port in a folder of its own, killed as
 * a crash would, started again on the same port and folder. The tests own them. It never talks to a node.
 */
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
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

class Running {
  url = "";
  folder;
  #child;

  constructor(folder) {
    this.folder = folder;
  }

  /** Starts the process; after the first time on the port it had. */
  async restart() {
    const listen = this.url === "" ? "127.0.0.1:0" : new URL(this.url).host;
    const child = spawn(binary(), this.command(listen), { stdio: ["ignore", "pipe", "pipe"] });
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
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Resolves with the exit code when the process has ended by itself. */
  async ended() {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
    return child.exitCode;
  }

  /** Stops the process where it stands, or lets it go on: a Redis that hangs, a node that is frozen. */
  signal(name) {
    this.#child.kill(name);
  }
}

/** A development node. */
export class DevNode extends Running {
  static async start() {
    const node = new DevNode(await mkdtemp(path.join(tmpdir(), "tidewire-browser-")));
    await node.restart();
    return node;
  }

  command(listen) {
    return ["dev", "--listen", listen, "--data-dir", this.folder];
  }
}

/** A node of a hub, with a configuration of its own. */
export class ServeNode extends Running {
  static async start(config) {
    const node = new ServeNode(await mkdtemp(path.join(tmpdir(), "tidewire-browser-")));
    await writeFile(path.join(node.folder, "tidewire.toml"), config);
    await node.restart();
    return node;
  }

  command(listen) {
    return ["serve", "--listen", listen, "--data-dir", this.folder, "--config", path.join(this.folder, "tidewire.toml")];
  }
}

/** A real Redis on a free port, with nothing kept on disk. */
export class Redis {
  #child;

  static async start() {
    const redis = new Redis();
    redis.port = await freePort();
    const child = spawn("redis-server", ["--port", String(redis.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], { stdio: "ignore" });
    redis.#child = child;
    await once(() => reaches(redis.port), child);
    return redis;
  }

  /** Stops it where it stands (SIGSTOP), or lets it go on (SIGCONT). */
  signal(name) {
    this.#child.kill(name);
  }

  stop() {
    this.#child.kill("SIGKILL");
  }
}

/** `tidewire tail`: a client that resumes by itself, until it is told to stay away. */
export function tail(url, channel, options) {
  const child = spawn(binary(), ["tail", channel, "--url", url, ...options], { stdio: "ignore" });
  return { gone: new Promise((resolve) => child.once("exit", resolve)), stop: () => child.kill("SIGKILL") };
}

/** A token of a user who may do everything with client channels. */
export function token(secret, user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const said = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp, can: { "*": ["sub", "pub", "history", "presence"] } })}`;
  return `${said}.${createHmac("sha256", secret).update(said).digest("base64url")}`;
}

/** A door in front of nodes: connections go to whatever `to` was last. Those that are open stay. */
export class Balancer {
  static async start(to) {
    const balancer = new Balancer();
    balancer.to = to;
    balancer.server = net.createServer((client) => {
      const node = net.connect(Number(new URL(balancer.to).port), "127.0.0.1");
      for (const [one, other] of [[client, node], [node, client]]) {
        one.on("error", () => other.destroy());
        one.on("close", () => other.destroy());
        one.pipe(other);
      }
    });
    await new Promise((resolve) => balancer.server.listen(0, "127.0.0.1", resolve));
    balancer.url = `http://127.0.0.1:${balancer.server.address().port}`;
    return balancer;
  }

  stop() {
    this.server.close();
  }
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function reaches(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => resolve(socket.end() !== undefined));
    socket.on("error", () => resolve(false));
  });
}

/** Asks again, without a wait of its own beyond the system's, until it is so. */
async function once(is, child) {
  const begun = Date.now();
  while (!(await is())) {
    if (child.exitCode !== null || Date.now() - begun > START_WITHIN_MS) throw new Error("redis-server did not start");
    await new Promise((resolve) => setImmediate(resolve));
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
      const host = /http:\/\/(127\.0\.0\.1:[1-9]\d*)/.exec(line)?.[1] ?? /"listening".*"address":"(127\.0\.0\.1:\d+)"/.exec(line)?.[1];
      if (host === undefined) return;
      clearTimeout(timer);
      resolve(`http://${host}`);
    };
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", read);
    child.once("error", (error) => fail(String(error)));
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      fail(`the node ended with ${signal ?? code}`);
    });
  });
}
