/*
 * The MessagePack encoding (`tidewire.v1.msgpack`), imported as `tidewire/msgpack`: the subset of the protocol.
 * Maps with text keys, no ext types, whole numbers within 2^53, depth up to 40; concatenated maps in one message.
 * It never accepts what the JSON encoding could not say, apart from `bin` as the value of `b`.
 */
import { checked } from "./protocol/check.js";
import type { Command, Encoding, Push } from "./protocol/frames.js";

/* The node refuses data deeper than 32; the frame and its items add a few levels. */
const DEPTH_MAX = 40;

interface TextCodecs {
  TextEncoder: new () => { encode(text: string): Uint8Array };
  TextDecoder: new (label: string, options: { fatal: boolean; ignoreBOM: boolean }) => { decode(bytes: Uint8Array): string };
}
const codecs = globalThis as unknown as TextCodecs;

class Writer {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private at = 0;

  done(): Uint8Array {
    return this.bytes.slice(0, this.at);
  }

  private room(size: number): number {
    const at = this.at;
    this.at += size;
    if (this.at > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.at, this.bytes.length * 2));
      grown.set(this.bytes);
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return at;
  }

  private byte(value: number): void {
    const at = this.room(1);
    this.view.setUint8(at, value);
  }

  /* A head byte with its length: small in the head itself where `fix` allows, else 8 (if any), 16 or 32 bits. */
  private head(size: number, fix: number, fixMax: number, tags: readonly [number, number, number]): void {
    if (size <= fixMax) return this.byte(fix | size);
    const at = this.room(size < 256 && tags[0] ? 2 : size < 65536 ? 3 : 5);
    if (size < 256 && tags[0]) {
      this.view.setUint8(at, tags[0]);
      this.view.setUint8(at + 1, size);
    } else if (size < 65536) {
      this.view.setUint8(at, tags[1]);
      this.view.setUint16(at + 1, size);
    } else {
      this.view.setUint8(at, tags[2]);
      this.view.setUint32(at + 1, size);
    }
  }

  private number(value: number): void {
    if (!Number.isFinite(value)) throw new TypeError("not a JSON number");
    if (!Number.isSafeInteger(value)) {
      const at = this.room(9);
      this.view.setUint8(at, 0xcb);
      this.view.setFloat64(at + 1, value);
    } else if (value >= 0) {
      if (value < 2 ** 32) this.head(value, 0, 127, [0xcc, 0xcd, 0xce]);
      else this.wide(0xcf, value);
    } else if (value >= -32) this.byte(value & 0xff);
    else if (value >= -(2 ** 31)) this.negative(value);
    else this.wide(0xd3, value);
  }

  private negative(value: number): void {
    const size = value >= -128 ? 1 : value >= -32768 ? 2 : 4;
    const at = this.room(1 + size);
    this.view.setUint8(at, size === 1 ? 0xd0 : size === 2 ? 0xd1 : 0xd2);
    if (size === 1) this.view.setInt8(at + 1, value);
    else if (size === 2) this.view.setInt16(at + 1, value);
    else this.view.setInt32(at + 1, value);
  }

  private wide(tag: number, value: number): void {
    const at = this.room(9);
    this.view.setUint8(at, tag);
    this.view.setBigInt64(at + 1, BigInt(value));
  }

  private raw(bytes: Uint8Array): void {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  private text(value: string): void {
    if (/\p{Surrogate}/u.test(value)) throw new TypeError("lone surrogate");
    const bytes = new codecs.TextEncoder().encode(value);
    this.head(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb]);
    this.raw(bytes);
  }

  value(value: unknown, depth: number, key?: string): void {
    if (depth > DEPTH_MAX) throw new TypeError("too deep");
    if (value instanceof Uint8Array) {
      if (key !== "b" || depth !== 1) throw new TypeError("bytes inside data");
      this.head(value.length, 0, -1, [0xc4, 0xc5, 0xc6]);
      return this.raw(value);
    }
    const plain = typeof (value as { toJSON?: unknown } | null)?.toJSON === "function" ? (value as { toJSON(): unknown }).toJSON() : value;
    if (plain === null || plain === undefined || typeof plain === "function") this.byte(0xc0);
    else if (typeof plain === "boolean") this.byte(plain ? 0xc3 : 0xc2);
    else if (typeof plain === "number") this.number(plain);
    else if (typeof plain === "string") this.text(plain);
    else if (Array.isArray(plain)) {
      this.head(plain.length, 0x90, 15, [0, 0xdc, 0xdd]);
      for (const item of plain) this.value(item, depth + 1);
    } else if (typeof plain === "object") {
      const entries = Object.entries(plain).filter(([, v]) => v !== undefined && typeof v !== "function");
      this.head(entries.length, 0x80, 15, [0, 0xde, 0xdf]);
      for (const [name, item] of entries) {
        this.text(name);
        this.value(item, depth + 1, name);
      }
    } else throw new TypeError("not a JSON value");
  }
}

class Reader {
  private readonly view: DataView;
  private readonly utf8 = new codecs.TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  private at = 0;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get more(): boolean {
    return this.at < this.bytes.length;
  }

  private take(size: number): number {
    const at = this.at;
    this.at += size;
    if (this.at > this.bytes.length) throw new TypeError("cut short");
    return at;
  }

  private uint(size: 1 | 2 | 4): number {
    const at = this.take(size);
    return size === 1 ? this.view.getUint8(at) : size === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  private raw(size: number): Uint8Array {
    const at = this.take(size);
    return this.bytes.subarray(at, at + size);
  }

  private text(size: number): string {
    return this.utf8.decode(this.raw(size));
  }

  private list(size: number, depth: number): unknown[] {
    if (size > this.bytes.length - this.at) throw new TypeError("cut short");
    return Array.from({ length: size }, () => this.value(depth + 1));
  }

  private map(size: number, depth: number): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    for (let n = 0; n < size; n++) {
      const key = this.value(depth + 1);
      if (typeof key !== "string") throw new TypeError("key is not text");
      if (Object.hasOwn(map, key)) throw new TypeError("duplicate key");
      const value = this.value(depth + 1, key);
      Object.defineProperty(map, key, { value, enumerable: true, writable: true, configurable: true });
    }
    return map;
  }

  private int64(signed: boolean): number {
    const at = this.take(8);
    const value = Number(signed ? this.view.getBigInt64(at) : this.view.getBigUint64(at));
    if (!Number.isSafeInteger(value)) throw new TypeError("beyond 2^53");
    return value;
  }

  private float(size: 4 | 8): number {
    const at = this.take(size);
    const value = size === 4 ? this.view.getFloat32(at) : this.view.getFloat64(at);
    if (!Number.isFinite(value)) throw new TypeError("not a JSON number");
    return value;
  }

  value(depth: number, key?: string): unknown {
    if (depth > DEPTH_MAX) throw new TypeError("too deep");
    const tag = this.uint(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 15, depth);
    if (tag < 0xa0) return this.list(tag & 15, depth);
    if (tag < 0xc0) return this.text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    return this.tagged(tag, depth, key);
  }

  private tagged(tag: number, depth: number, key?: string): unknown {
    const size = (first: number): 1 | 2 | 4 => (1 << (tag - first)) as 1 | 2 | 4;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6:
        if (key !== "b") throw new TypeError("bytes inside data");
        return this.raw(this.uint(size(0xc4))).slice();
      case 0xca: return this.float(4);
      case 0xcb: return this.float(8);
      case 0xcc: case 0xcd: case 0xce: return this.uint(size(0xcc));
      case 0xcf: return this.int64(false);
      case 0xd0: return this.view.getInt8(this.take(1));
      case 0xd1: return this.view.getInt16(this.take(2));
      case 0xd2: return this.view.getInt32(this.take(4));
      case 0xd3: return this.int64(true);
      case 0xd9: case 0xda: case 0xdb: return this.text(this.uint(size(0xd9)));
      case 0xdc: case 0xdd: return this.list(this.uint(tag === 0xdc ? 2 : 4), depth);
      case 0xde: case 0xdf: return this.map(this.uint(tag === 0xde ? 2 : 4), depth);
      default: throw new TypeError("type outside the protocol");
    }
  }
}

/** Every map of a message, unchecked. Throws where the bytes are not MessagePack of the protocol's subset. */
export function unpack(bytes: Uint8Array): unknown[] {
  const reader = new Reader(bytes);
  const values: unknown[] = [];
  while (reader.more) values.push(reader.value(0));
  return values;
}

/** One value as MessagePack. Throws for what JSON could not say. */
export function pack(value: unknown): Uint8Array {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.done();
}

/** Hand it to `createHub({ encoding: msgpack })`. */
export const msgpack: Encoding = {
  protocol: "tidewire.v1.msgpack",
  encode: (frame: Command) => pack(frame),
  decode(message) {
    if (typeof message === "string") throw new TypeError("MessagePack comes as bytes");
    const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
    return unpack(bytes).map(checked).filter((frame): frame is Push => frame !== null);
  },
};
