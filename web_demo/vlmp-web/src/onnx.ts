import type * as Ort from "onnxruntime-web";
import type { BundleFolder } from "./bundle.js";
import { BadBundle, oneLine, quoted, RuntimeFailure } from "./errors.js";
import { type Manifest, type MethodSpec, type Step, STEPS, type TensorSpec } from "./manifest.js";
import { type Numbers, type Runtime, Stop } from "./runtime.js";

const ERRORS_ONLY = 3; // warnings tell of buffers that cannot be used again, at each call
const NO_WEIGHTS = /\.(json|jinja|safetensors)$/;

/** onnxruntime-web's module: of `onnxruntime-web/wasm`, of `onnxruntime-web`, or of another of its builds. */
export type OrtModule = Pick<typeof Ort, "InferenceSession" | "Tensor" | "env">;

export interface OnnxOptions {
  /** Where graphs run: `["wasm"]` unless given. `["webgpu"]` gives other logits, see docs/web.md. */
  readonly executionProviders?: readonly string[];
}

/**
 * Opens the graphs of a bundle for `onnx`. How many threads there are, `ort.env.wasm.numThreads` says before the first
 * bundle is opened.
 *
 * Throws BadBundle where they cannot be loaded.
 */
export async function openOnnx(
  ort: OrtModule,
  folder: BundleFolder,
  manifest: Manifest,
  options: OnnxOptions = {},
): Promise<Runtime> {
  const methods = STEPS.map((step) => manifest.methods[step]);
  const graphFiles = [...new Set(methods.map((method) => method.file))];
  const graphs = new Map<string, Ort.InferenceSession>();
  try {
    const externalData = await readWeights(folder, manifest, graphFiles);
    for (const file of graphFiles) {
      const graph = await ort.InferenceSession.create(await readFile(folder, file), {
        executionProviders: [...(options.executionProviders ?? ["wasm"])],
        externalData,
        logSeverityLevel: ERRORS_ONLY,
      });
      graphs.set(file, graph);
      for (const method of methods.filter((other) => other.file === file)) checkGraph(graph, method);
    }
    return new OnnxRuntime(ort, manifest, graphs);
  } catch (error) {
    for (const graph of graphs.values()) await graph.release();
    if (error instanceof BadBundle) throw error;
    throw new BadBundle("runtime", `${folder.name} cannot be loaded: ${oneLine(error)}`, { cause: error });
  }
}

/** What graphs may ask for beside themselves: all files that nothing names, under the names that they have there. */
async function readWeights(
  folder: BundleFolder,
  manifest: Manifest,
  graphs: readonly string[],
): Promise<{ path: string; data: Uint8Array }[]> {
  const paths = manifest.files
    .map((file) => file.path)
    .filter((path) => !graphs.includes(path) && !NO_WEIGHTS.test(path));
  return Promise.all(paths.map(async (path) => ({ path, data: await readFile(folder, path) })));
}

async function readFile(folder: BundleFolder, path: string): Promise<Uint8Array> {
  const file = await folder.file(path);
  if (file === null)
    throw new BadBundle("missing", `${folder.name}: ${quoted(path)} is missing: copy the bundle again`);
  return new Uint8Array(await file.arrayBuffer());
}

/** The names in the graph are those of the manifest; shapes and types are compared when it runs. */
function checkGraph(graph: Ort.InferenceSession, method: MethodSpec): void {
  const missing =
    method.inputs.find(({ name }) => !graph.inputNames.includes(name)) ??
    method.outputs.find(({ name }) => !graph.outputNames.includes(name));
  if (missing === undefined) return;
  const name = quoted(missing.name);
  throw new BadBundle("runtime", `${method.file} has no tensor ${name}, which the manifest names`);
}

/**
 * Bundles on onnxruntime-web. Caches go in and come out as all tensors do. Outputs are never allocated before a call
 * (`fetches`): on wasm answers are wrong then.
 */
class OnnxRuntime implements Runtime {
  readonly name: string;

  constructor(
    private readonly ort: OrtModule,
    private readonly manifest: Manifest,
    private readonly graphs: ReadonlyMap<string, Ort.InferenceSession>,
  ) {
    this.name = `onnxruntime-web ${ort.env.versions.web ?? ort.env.versions.common}`;
  }

  async run(step: Step, inputs: ReadonlyMap<string, Numbers>, stop: Stop): Promise<ReadonlyMap<string, Numbers>> {
    const method = this.manifest.methods[step];
    const feeds = Object.fromEntries(method.inputs.map((spec) => [spec.name, this.tensor(spec, inputs)]));
    const wanted = method.outputs.map(({ name }) => name);
    let results: Ort.InferenceSession.OnnxValueMapType;
    try {
      results = await this.graphs.get(method.file)!.run(feeds, wanted);
    } catch (error) {
      throw new RuntimeFailure(`ONNX Runtime failed in ${step}: ${oneLine(error)}`, { cause: error });
    }
    await otherTasks();
    stop.check();
    const outputs = new Map<string, Numbers>();
    for (const [name, value] of Object.entries(results)) {
      const tensor = value as Ort.Tensor;
      outputs.set(name, (await tensor.getData()) as Numbers);
      tensor.dispose();
    }
    return outputs;
  }

  async close(): Promise<void> {
    for (const graph of this.graphs.values()) await graph.release();
  }

  private tensor({ name, shape, dtype }: TensorSpec, inputs: ReadonlyMap<string, Numbers>): Ort.Tensor {
    return new this.ort.Tensor(dtype, inputs.get(name)!, shape);
  }
}

/** Lets a worker hear what was said to it meanwhile, such as that it shall stop: calls on wasm block it. */
function otherTasks(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
