/**
 * Getting in: an API key becomes a token that lives minutes, which the connection and the HTTP API are shown. The key
 * is kept in this tab's session storage, so that a reload does not ask again, and goes nowhere but into the header of
 * the exchange: never into an address. app.ts owns one.
 */
const KEPT = "tidewire-admin-key";
/** A token that ends sooner than this is exchanged again before it is used. */
const FRESH_MS = 20_000;

interface Entered {
  token: string;
  expires: number;
  node: string;
  development: boolean;
}

/** Why nobody is let in, in the node's words. */
export class NotLetIn extends Error {
  constructor(
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

export class Door {
  private key = sessionStorage.getItem(KEPT) ?? "";
  private entered: Entered | undefined;
  private entering: Promise<Entered> | undefined;

  /** Whether a key was given; a development node needs none. */
  get hasKey(): boolean {
    return this.key !== "";
  }

  /** Tries a key; it is kept once it has opened. */
  async open(key: string): Promise<void> {
    this.key = key;
    this.entered = undefined;
    await this.enter();
    if (key !== "") sessionStorage.setItem(KEPT, key);
  }

  /** Forgets the key. */
  shut(): void {
    this.key = "";
    this.entered = undefined;
    sessionStorage.removeItem(KEPT);
  }

  /** A token that is good for a while; another one where the last was `refused`. */
  async token(refused = false): Promise<string> {
    if (refused || this.entered === undefined || this.entered.expires - Date.now() < FRESH_MS) await this.enter();
    return this.entered?.token ?? "";
  }

  private async enter(): Promise<void> {
    this.entering ??= this.ask().finally(() => (this.entering = undefined));
    this.entered = await this.entering;
  }

  private async ask(): Promise<Entered> {
    const headers: HeadersInit = this.key === "" ? {} : { authorization: `Bearer ${this.key}` };
    const answer = await fetch("/admin/enter", { method: "POST", headers });
    if (answer.ok) return (await answer.json()) as Entered;
    const { code = "error", detail = `the node answered ${answer.status}` } = await answer.json().catch(() => ({}));
    throw new NotLetIn(code, detail);
  }
}
