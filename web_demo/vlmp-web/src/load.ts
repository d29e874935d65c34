import { type BundleFolder, checkMemory, readManifest, readTokenizer } from "./bundle.js";
import { Chat } from "./chat.js";
import { type OnnxOptions, openOnnx, type OrtModule } from "./onnx.js";
import { Session } from "./session.js";

export interface LoadOptions extends OnnxOptions {
  /** Bytes of memory that the bundle may take; null where nobody knows. */
  readonly mostBytes?: number | null | undefined;
}

/**
 * Loads a bundle whose files were checked, by `readBundle` or when they were stored.
 *
 * Throws BadBundle, TooLittleMemory.
 */
export async function loadChat(ort: OrtModule, folder: BundleFolder, options: LoadOptions = {}): Promise<Chat> {
  const manifest = await readManifest(folder);
  checkMemory(folder.name, manifest, options.mostBytes ?? null);
  const tokenizer = await readTokenizer(folder, manifest);
  return new Chat(new Session(manifest, await openOnnx(ort, folder, manifest, options)), tokenizer);
}
