/*
 * Standard base64 with padding. Used by the JSON codec and by storage. It looks for the runtime's own means when it
 * is called, never at import.
 */
interface Globals {
  atob(text: string): string;
  btoa(bytes: string): string;
}
const globals = globalThis as unknown as Globals;

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return globals.btoa(text);
}

/** Throws where the text is not base64. */
export function fromBase64(text: string): Uint8Array {
  if (!/^([\w+/]{4})*([\w+/]{3}=|[\w+/]{2}==)?$/.test(text)) throw new TypeError("not base64");
  return Uint8Array.from(globals.atob(text), (letter) => letter.charCodeAt(0));
}
