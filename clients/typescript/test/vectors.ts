/* Where the language-neutral vectors lie, seen from the package's folder. */
import { resolve } from "node:path";

export const VECTORS = resolve("../../protocol/vectors") + "/";
