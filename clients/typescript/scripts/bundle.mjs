// What esbuild is told, in one place: the build, the size check and the tests use the same bundle.
import { build } from "esbuild";

export const ENTRIES = ["src/index.ts", "src/msgpack.ts"];

export function bundle(options) {
  return build({
    bundle: true,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    legalComments: "none",
    logLevel: "warning",
    mangleProps: /^_/,
    ...options,
  });
}
