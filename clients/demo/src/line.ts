/**
 * A network that can be lost on purpose: the WebSocket class the page gives to the client. hub.ts owns one. Losing it
 * is what pulling a cable is: neither side hears a goodbye, the node goes on writing to a dead socket until the
 * session comes back on another, and new connections fail until the time is over. It never looks into frames.
 */

/** The old socket is put away after this; long before, the node has moved the session to the new one. */
const DEAD_SOCKET_MS = 30_000;
/** What a browser reports for a connection that just ended. */
const ABNORMAL = 1006;

type Handler = ((event: never) => void) | null;

/** One WebSocket, as far as the client uses one. */
class Line {
  onopen: Handler = null;
  onmessage: Handler = null;
  onclose: Handler = null;
  onerror: Handler = null;
  private socket: WebSocket | undefined;

  constructor(network: Network, url: string, protocols: string[]) {
    if (network.lost) {
      queueMicrotask(() => this.end(ABNORMAL));
      return;
    }
    const socket = new WebSocket(url, protocols);
    this.socket = socket;
    socket.onopen = (event) => this.onopen?.(event as never);
    socket.onmessage = (event) => this.onmessage?.(event as never);
    socket.onclose = (event) => {
      network.lines.delete(this);
      this.onclose?.(event as never);
    };
    network.lines.add(this);
  }

  get binaryType(): string {
    return this.socket?.binaryType ?? "arraybuffer";
  }

  set binaryType(type: string) {
    if (this.socket !== undefined) this.socket.binaryType = type as BinaryType;
  }

  get protocol(): string {
    return this.socket?.protocol ?? "";
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    this.socket?.send(data);
  }

  close(code?: number): void {
    this.socket?.close(code);
  }

  /** The cable is out: this side hears an abnormal end, the other side nothing. */
  lose(): void {
    const socket = this.socket;
    this.socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    setTimeout(() => socket.close(), DEAD_SOCKET_MS);
    this.end(ABNORMAL);
  }

  private end(code: number): void {
    this.onclose?.({ code } as never);
  }
}

/** All connections of the page. */
export class Network {
  readonly lines = new Set<Line>();
  lost = false;
  /** What the client makes its sockets with. */
  readonly Socket: new (url: string, protocols: string[]) => Line;

  constructor() {
    const network = this;
    this.Socket = class extends Line {
      constructor(url: string, protocols: string[]) {
        super(network, url, protocols);
      }
    };
  }

  /** Loses the network for this long; the browser's own `online` event says when it is back. */
  lose(ms: number): void {
    if (this.lost) return;
    this.lost = true;
    const lines = [...this.lines];
    this.lines.clear();
    for (const line of lines) line.lose();
    setTimeout(() => {
      this.lost = false;
      dispatchEvent(new Event("online"));
    }, ms);
  }
}
