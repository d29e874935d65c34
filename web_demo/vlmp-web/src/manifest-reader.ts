import { BadBundle, quoted } from "./errors.js";
import { Field, MOST } from "./json.js";
import {
  BIAS,
  CACHE_KINDS,
  elements,
  type FileSpec,
  FILTERS,
  type ImageSpec,
  type KvLayerSpec,
  type KvSpec,
  type Manifest,
  type MethodSpec,
  numKept,
  type PromptSpec,
  type SegmentSpec,
  type StageSpec,
  STATE,
  type Step,
  STEPS,
  type TensorSpec,
  towerStage,
  weighedStages,
} from "./manifest.js";
import { MARK } from "./prompt.js";

const SCHEMA_VERSION = 2;
const MOST_ID = 2 ** 31 - 1;
const MOST_LAYERS = 1024;
const MOST_ELEMENTS = 2 ** 29; // of a tensor: its bytes fit into one buffer of a tab
const MOST_FILE_BYTES = 2 ** 50;

/**
 * Reads a manifest and checks all that can be checked without the files: fields, stages, names, and that every tensor is
 * the one that follows from the sizes, since copies between buffers rest on that.
 *
 * `file` is named in messages, `targets` are those that the caller runs. Throws BadBundle.
 */
export function parseManifest(text: string, file: string, targets: readonly string[] = ["onnx"]): Manifest {
  const root = Field.parse(text, file, "field");
  checkVersion(root, file);
  const target = root.at("target").text();
  if (!targets.includes(target)) {
    throw new BadBundle("target", `${file}: target is ${quoted(target)}: ${targets.join(" and ")} runs here`);
  }
  const shape = root.at("shapes").items()[0] ?? root.at("shapes").refuse("is empty");
  const vocabSize = root.at("vocab_size").count();
  const image = readImage(shape.at("image"));
  const kv = readKv(shape.at("kv"));
  const readStep = (step: Step): MethodSpec => readMethod(root.at("methods").at(shape.at("methods").at(step).text()));
  const manifest: Manifest = {
    model: root.at("model").text(),
    checkpoint: root.at("checkpoint").text(),
    target,
    precision: readFloats(root.at("precision")),
    quantization: root.at("quantization").text(),
    vocabSize,
    prompt: readPrompt(root.at("prompt"), vocabSize),
    image,
    stages: readStages(shape.at("stages").raising("stages"), image.visualTokens, kv.layers.length),
    kv,
    methods: {
      vision: readStep("vision"),
      prefill: readStep("prefill"),
      decode: readStep("decode"),
      extend: readStep("extend"),
    },
    files: root.at("files").items().map(readFile),
  };
  checkSlots(shape.at("kv").at("layers"), manifest);
  checkTensors(manifest, file);
  checkNames(manifest, file);
  return manifest;
}

function checkVersion(root: Field, file: string): void {
  const version = root.raising("version").at("schema_version").raising("version").integer(1, MOST_ID);
  if (version === SCHEMA_VERSION) return;
  const mend =
    version > SCHEMA_VERSION
      ? "update this app"
      : "export the model again, with vlmp-export --model MODEL --target onnx --output FOLDER";
  throw new BadBundle("version", `${file}: schema_version is ${version}, this app reads ${SCHEMA_VERSION}: ${mend}`);
}

function readPrompt(field: Field, vocabSize: number): PromptSpec {
  const listed = field.has("control_tokens") ? field.at("control_tokens").items() : [];
  return {
    first: readTemplate(field.at("first")),
    following: readTemplate(field.at("following")),
    textLen: field.at("text_len").count(),
    maxNewTokens: field.at("max_new_tokens").count(),
    endIds: field.at("end_ids").integers(0, MOST_ID),
    endTextId: field.at("end_text_id").integer(0, vocabSize - 1),
    padId: field.at("pad_id").integer(0, vocabSize - 1),
    controlTokens: listed.map((item) => item.text() || item.refuse("is empty")),
    tokenizerFile: field.at("tokenizer_file").text(),
  };
}

function readTemplate(field: Field): string {
  const text = field.text();
  if (!text.includes(MARK)) field.refuse(`must have ${MARK}, where the user's words go`);
  return text;
}

/** Only float32 runs here. */
function readFloats(field: Field): "float32" {
  if (field.choice("float32", "float16") !== "float32")
    field.raising("tensors").refuse("is float16: float32 runs here");
  return "float32";
}

function readImage(field: Field): ImageSpec {
  if (field.has("frames")) field.at("frames").integer(1, 1);
  const padRgb = field.at("pad_rgb").integers(0, 255);
  if (padRgb.length !== 3) field.at("pad_rgb").refuse("must have three values");
  const segments = field.at("segments").items().map(readSegment);
  if (segments.length === 0) field.at("segments").refuse("is empty");
  return {
    height: field.at("height").count(),
    width: field.at("width").count(),
    fit: field.at("fit").choice("pad", "stretch"),
    padRgb,
    resample: field.at("resample").choice(...FILTERS),
    visualTokens: field.at("visual_tokens").count(),
    segments,
  };
}

function readSegment(field: Field): SegmentSpec {
  const box = field.at("box").integers(-MOST, MOST);
  if (box.length !== 4) field.at("box").refuse("must have four values");
  return {
    rows: field.at("rows").count(),
    columns: field.at("columns").count(),
    first: field.at("first").integer(0),
    stride: field.at("stride").count(),
    box,
  };
}

function readStages(field: Field, visualTokens: number, layers: number): StageSpec[] {
  const stages: StageSpec[] = [];
  let left = visualTokens;
  for (const item of field.items()) {
    const place = item.at("place").choice("vision", "layer");
    if (place === "vision" && stages.length > 0)
      item.at("place").refuse("is vision, which only the first stage's may be");
    const form = item.has("form") ? item.at("form").choice("dropped", "rebuilt") : "dropped";
    if (place === "layer" && form === "rebuilt") item.at("form").refuse("is rebuilt, which is of the vision tower");
    const index = item.at("index").integer(0, place === "layer" ? layers - 1 : MOST);
    const tokens = item.at("tokens").count();
    const numKept = item.at("num_kept").count();
    const weighs = item.has("weighs") && item.at("weighs").boolean();
    const before = stages.at(-1);
    if (before?.place === "layer" && index <= before.index) {
      item.at("index").refuse(`is not after the stage before, ${before.index}`);
    }
    if (tokens !== left) item.at("tokens").refuse(`is not what comes in, ${left}`);
    if (numKept > left) item.at("num_kept").refuse(`is more than comes in, ${left}`);
    left = form === "rebuilt" ? tokens : numKept;
    stages.push({ place, form, index, pruner: item.at("pruner").text(), tokens, numKept, weighs });
  }
  if (stages.length === 1 && stages[0].place === "vision") {
    field.refuse("must have one in the language model after that in the vision tower");
  }
  return stages;
}

function readKv(field: Field): KvSpec {
  readFloats(field.at("dtype"));
  const layers = field.at("layers").items().map(readLayer);
  if (layers.length < 1 || layers.length > MOST_LAYERS) {
    field.at("layers").refuse(`must have 1 to ${MOST_LAYERS} entries`);
  }
  return { update: field.at("update").choice("rows", "in_place"), layers };
}

function readLayer(field: Field): KvLayerSpec {
  if (field.has("state")) {
    const state = field.at("state").integers(1, MOST);
    if (state.length !== 2) field.at("state").refuse("must have two sizes");
    return { kvHeads: 0, headDim: 0, base: 0, slots: 0, state };
  }
  return {
    kvHeads: field.at("kv_heads").count(),
    headDim: field.at("head_dim").count(),
    base: field.at("base").count(),
    slots: field.at("slots").count(),
    state: null,
  };
}

function readMethod(field: Field): MethodSpec {
  return {
    file: field.at("file").text(),
    entry: field.at("entry").text(),
    dataFile: field.has("data_file") ? field.at("data_file").text() : "",
    inputs: field.at("inputs").items().map(readTensor),
    outputs: field.at("outputs").items().map(readTensor),
  };
}

function readTensor(field: Field): TensorSpec {
  const shape = field.at("shape").integers(0, MOST);
  if (elements(shape) > MOST_ELEMENTS) field.at("shape").raising("tensors").refuse("is too large");
  return { name: field.at("name").text(), shape, dtype: field.at("dtype").choice("float32", "float16", "int32") };
}

function readFile(field: Field): FileSpec {
  const sha256 = field.at("sha256").text();
  if (!/^[0-9a-f]{64}$/.test(sha256)) field.at("sha256").refuse("must be 64 hexadecimal digits");
  return {
    path: field.at("path").text(),
    sha256,
    sizeBytes: field.at("size_bytes").integer(0, MOST_FILE_BYTES),
  };
}

function checkSlots(layers: Field, manifest: Manifest): void {
  const room = manifest.prompt.textLen + manifest.prompt.maxNewTokens;
  layers.items().forEach((field, number) => {
    const { base, slots, state } = manifest.kv.layers[number];
    if (state === null && slots !== base + room) {
      field.at("slots").refuse(`is ${slots}, must be base, text_len and max_new_tokens together, ${base + room}`);
    }
  });
}

/** Throws BadBundle unless each method has exactly the tensors of docs/bundle.md, "Methods". */
function checkTensors(manifest: Manifest, file: string): void {
  const { image, kv, methods, prompt, stages } = manifest;
  const inPlace = kv.update === "in_place";
  const hidden = methods.vision.outputs.find((tensor) => tensor.name === "visual")?.shape[1] ?? 1;
  const ids = int32("ids", [1, prompt.textLen]);
  const oneId = int32("ids", [1, 1]);
  const textLen = int32("text_len", [1]);
  const past = int32("past", [1]);
  const tower = towerStage(manifest);
  const drops = tower?.form === "dropped";
  const visual = float32("visual", [drops ? tower.numKept : image.visualTokens, hidden]);
  const places = tower === undefined ? [] : [int32("places", [tower.numKept])];
  /** What the steps of the language model take of the picture, and what later ones do, in place. */
  const picture = [visual, ...(drops ? places : [])];
  const noPicture = [float32("visual", [0, hidden]), ...(drops ? [int32("places", [0])] : [])];
  const logits = float32("logits", [manifest.vocabSize]);
  const kept = [
    ...stages
      .slice(0, -1)
      .flatMap(({ place, numKept }, number) => (place === "layer" ? [int32(`kept_${number}`, [numKept])] : [])),
    int32("kept", [numKept(manifest)]),
    int32("order", [numKept(manifest)]),
    int32("filled", [1]),
  ];
  const fromTower = biasTensors(manifest, "_cache", "vision");
  const caches = [
    ...cacheTensors(kv, "_cache", (layer) => layer.slots),
    ...fromTower,
    ...biasTensors(manifest, "_cache", "layer"),
  ];
  const biases = biasTensors(manifest, "", "layer");
  /** What a step returns for the caches of keys and values: all of them, or so many rows of each. */
  const returned = (rows: (layer: KvLayerSpec) => number): TensorSpec[] =>
    cacheTensors(kv, "", inPlace ? (layer) => layer.slots : rows);
  const check = (step: Step, inputs: TensorSpec[], outputs: TensorSpec[]): void => {
    compare(file, `${step}: input`, methods[step].inputs, inputs);
    compare(file, `${step}: output`, methods[step].outputs, outputs);
  };

  check(
    "vision",
    [float32("image", [1, 3, image.height, image.width])],
    [visual, ...places, ...biasTensors(manifest, "", "vision")],
  );
  const prefilled = [...kept, logits, ...returned((layer) => layer.base + prompt.textLen), ...biases];
  const later = inPlace ? [logits, ...biases] : [logits];
  const decoded = [...later, ...returned(() => 1)];
  const extended = [...later, ...returned(() => prompt.textLen)];
  if (inPlace) {
    check("prefill", [ids, textLen, past, ...picture, ...caches], prefilled);
    check("decode", [oneId, textLen, past, ...noPicture, ...caches], decoded);
    check("extend", [ids, textLen, past, ...noPicture, ...caches], extended);
  } else {
    check("prefill", [ids, textLen, ...picture, ...fromTower], prefilled);
    check("decode", [oneId, past, ...caches], decoded);
    check("extend", [ids, textLen, past, ...caches], extended);
  }
}

function int32(name: string, shape: readonly number[]): TensorSpec {
  return { name, shape, dtype: "int32" };
}

function float32(name: string, shape: readonly number[]): TensorSpec {
  return { name, shape, dtype: "float32" };
}

/**
 * A tensor for keys and one for values of each layer, or one for its state, `infix` in their names: `rows` by heads and
 * head size.
 */
function cacheTensors(kv: KvSpec, infix: string, rows: (layer: KvLayerSpec) => number): TensorSpec[] {
  return kv.layers.flatMap((layer, number) => {
    if (layer.state !== null) return [float32(`${STATE}${infix}_${number}`, layer.state)];
    const shape = [layer.kvHeads, rows(layer), layer.headDim];
    return CACHE_KINDS.map((kind) =>
      float32(`${kind}${infix}_${number}`, kv.update === "in_place" ? [1, ...shape] : shape),
    );
  });
}

/** A tensor for each stage of a place whose weights the language model takes. */
function biasTensors(manifest: Manifest, infix: string, place: StageSpec["place"]): TensorSpec[] {
  return weighedStages(manifest)
    .filter((number) => manifest.stages[number].place === place)
    .map((number) => float32(`${BIAS}${infix}_${number}`, [manifest.stages[number].numKept]));
}

function compare(file: string, place: string, found: readonly TensorSpec[], wanted: readonly TensorSpec[]): void {
  const missing = new Map(wanted.map((tensor) => [tensor.name, tensor]));
  for (const tensor of found) {
    const same = missing.get(tensor.name);
    if (!missing.delete(tensor.name)) {
      throw new BadBundle("tensors", `${file}: ${place} ${quoted(tensor.name)} is unknown or there twice`);
    }
    if (written(tensor) !== written(same!)) {
      throw new BadBundle("tensors", `${file}: ${place} is ${written(tensor)}, must be ${written(same!)}`);
    }
    if (elements(tensor.shape) > MOST_ELEMENTS) {
      throw new BadBundle("tensors", `${file}: ${place} ${tensor.name} is too large`);
    }
  }
  for (const name of missing.keys()) throw new BadBundle("tensors", `${file}: ${place} ${name} is missing`);
}

function written(tensor: TensorSpec): string {
  return `${tensor.name} ${tensor.dtype} [${tensor.shape.join(", ")}]`;
}

function checkNames(manifest: Manifest, file: string): void {
  const methods = STEPS.map((step) => manifest.methods[step]);
  const dataFiles = methods.map((method) => method.dataFile).filter((path) => path !== "");
  const used = [...methods.map((method) => method.file), ...dataFiles, manifest.prompt.tokenizerFile];
  const listed = manifest.files.map((spec) => spec.path);
  for (const path of [...used, ...listed]) {
    if (leaves(path)) throw new BadBundle("name", `${file} names ${quoted(path)}, which leaves the bundle's folder`);
  }
  for (const path of used) {
    if (!listed.some((name) => name === path || name.startsWith(`${path}/`))) {
      throw new BadBundle("unlisted", `${file} uses ${quoted(path)} but does not list it among its files`);
    }
  }
}

function leaves(path: string): boolean {
  const parts = path.split("/");
  return (
    path.startsWith("/") ||
    /[\\\0]/.test(path) ||
    parts.includes("..") ||
    parts.every((part) => part === "" || part === ".")
  );
}
