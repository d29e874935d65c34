// Exported bundles of the conformance files' `steps`, in the folder that VLMP_BUNDLES names.
import { existsSync, openAsBlob } from "node:fs";
import { join } from "node:path";
import * as ort from "onnxruntime-web";
import { type BundleFolder, decodePicture, type Picture } from "vlmp-web";
import { blob } from "./conformance-files.js";

ort.env.wasm.numThreads = 1;
export { ort };

const FOLDER = process.env["VLMP_BUNDLES"];

/** For `test`: why it is skipped, false where it is not. */
export const withoutBundles = FOLDER === undefined && "no bundles: VLMP_BUNDLES=FOLDER, see README.md";

export function bundle(name: string, folder = FOLDER!): BundleFolder {
  return {
    name,
    async file(path) {
      const whole = join(folder, name, path);
      return existsSync(whole) ? openAsBlob(whole) : null;
    },
  };
}

export function photo(name: string): Promise<Picture> {
  return decodePicture(blob(`steps/${name}`));
}
