// What esbuild is told, in one place: the build and the size check make the same bundle, and the tests run it.
import { build } from "esbuild";
import { internalNames } from "./mangle.mjs";

export const ENTRIES = ["src/index.ts", "src/core.ts", "src/msgpack.ts"];

const COMMON = { bundle: true, format: "esm", platform: "neutral", target: "es2022", legalComments: "none", logLevel: "warning" };

/** The package as it ships, with internal property names shortened. */
export function bundle(options) {
  return build({ ...COMMON, mangleProps: new RegExp(`^(${internalNames(ENTRIES).join("|")})$`), ...options });
}

/** Sources as they are. */
export function plain(options) {
  return build({ ...COMMON, ...options });
}
