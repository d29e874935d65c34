/** Runs bundles of vlmp in a browser or in Node: docs/bundle.md says what a bundle is, README.md how to begin. */
export { benchmark, type BenchmarkSettings, type BenchmarkTools, type Machine, quartiles } from "./benchmark.js";
export {
  type BundleFolder,
  checkFile,
  checkMemory,
  eachBlock,
  FileDigest,
  MANIFEST_NAME,
  type OnProgress,
  readBundle,
  readManifest,
  readTokenizer,
} from "./bundle.js";
export { type Answer, Chat, type End, firstTokenMs, type Timings, type TurnOptions } from "./chat.js";
export { decodePicture, type Draw, drawPicture } from "./decode.js";
export * from "./errors.js";
export { loadChat, type LoadOptions } from "./load.js";
export * from "./manifest.js";
export { parseManifest } from "./manifest-reader.js";
export { type OnnxOptions, openOnnx, type OrtModule } from "./onnx.js";
export { checkSize, fit, type Picture, placement, type Placement, toPixels } from "./picture.js";
export { checkWords, encodePrompt, encodeTurn } from "./prompt.js";
export { type Numbers, type Runtime, Stop, Stopped } from "./runtime.js";
export { GREEDY, Mt19937, Nucleus, type Sampler } from "./sampler.js";
export { type Prefilled, type Seen, Session } from "./session.js";
export { TextStream, type Tokenizer } from "./tokenizer.js";
export { parseTokenizer } from "./tokenizer-file.js";
