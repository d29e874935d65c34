// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, D hidden, H KV heads, C
// head size

/// What a bundle is: its manifest of schema version 2 with the first picture size. docs/bundle.md explains each field.
public struct Manifest: Sendable, Equatable {
    public let model: String
    public let checkpoint: String
    /// `onnx`, `executorch` or `coreml`.
    public let target: String
    /// Of all tensors but integers, caches and KV.
    public let precision: DType
    public let quantization: String
    /// V
    public let vocabSize: Int
    public let prompt: PromptSpec
    public let image: ImageSpec
    /// Where tokens are pruned; an unpruned bundle has one whose pruner is `none`, or none at all.
    public let stages: [StageSpec]
    public let kv: KvSpec
    /// What each step runs.
    public let methods: [Step: MethodSpec]
    public let files: [FileSpec]

    /// S: visual tokens that are left after the last stage.
    public var numKept: Int { stages.last?.numKept ?? image.visualTokens }

    /// The stage in the vision tower, which is the first.
    public var tower: StageSpec? { stages.first.flatMap { $0.place == .vision ? $0 : nil } }

    /// K: the decoder layer that the first stage in the language model stands before, 0 without one.
    public var pruneLayer: Int { stages.first { $0.place == .layer }?.index ?? 0 }

    /// Whether any visual token is left out somewhere.
    public var pruned: Bool { stages.contains { $0.numKept < $0.tokens } }

    /// Whether the last stage tells in which order it chose; `none` chooses nothing.
    public var ordered: Bool { stages.last.map { $0.numKept < $0.tokens } ?? false }

    /// Bytes of all files of the bundle; some number that no disk holds where a hostile one says so.
    public var sizeBytes: Int64 { files.reduce(0) { min($0 + $1.sizeBytes, 1 << 60) } }

    /// Bytes of all KV caches.
    public var cacheBytes: Int64 {
        kv.layers.reduce(0) { $0 + $1.elements * Int64(kv.dtype.bytes) }
    }

    /// Bytes that running the bundle takes, about: a runtime packs the weights anew, and works in memory of its own.
    public var memoryBytes: Int64 { sizeBytes * 3 / 2 + cacheBytes + (96 << 20) }

    /// What a step runs.
    public func method(_ step: Step) -> MethodSpec { methods[step]! }
}

/// The four methods of a bundle.
public enum Step: String, Sendable, CaseIterable {
    case vision, prefill, decode, extend
}

/// The type of a tensor's numbers.
public enum DType: String, Sendable, CaseIterable {
    case float32, float16, int32

    /// Of one number.
    public var bytes: Int { self == .float16 ? 2 : 4 }
}

/// How words become tokens. No `controlTokens`: all special tokens of the tokenizer.
public struct PromptSpec: Sendable, Equatable {
    public let first: String
    public let following: String
    /// T
    public let textLen: Int
    /// G
    public let maxNewTokens: Int
    public let endIds: Set<Int>
    public let endTextId: Int
    public let padId: Int
    public let controlTokens: [String]
    public let tokenizerFile: String
}

/// The picture that the model sees, in pixels.
public struct ImageSpec: Sendable, Equatable {
    public let height: Int
    public let width: Int
    public let fit: Fit
    /// Colour of the bars where `fit` is `pad`, three values 0..255.
    public let padRgb: [UInt8]
    public let resample: Resample
    /// N
    public let visualTokens: Int
    public let segments: [SegmentSpec]

    /// Where a visual token is in the fitted picture, nil where it has no place in it.
    public func cell(of token: Int) -> Cell? {
        for segment in segments {
            if let cell = segment.cell(of: token) { return cell }
        }
        return nil
    }
}

/// How a photo of another aspect ratio is put on the picture.
public enum Fit: String, Sendable, CaseIterable {
    case pad, stretch
}

/// The filter by which a photo is resized.
public enum Resample: String, Sendable, CaseIterable {
    case bilinear, bicubic, lanczos
}

/// A rectangle in pixels.
public struct Cell: Sendable, Equatable {
    public let left: Double
    public let top: Double
    public let width: Double
    public let height: Double

    public init(left: Double, top: Double, width: Double, height: Double) {
        self.left = left
        self.top = top
        self.width = width
        self.height = height
    }
}

/// Tokens on a grid over `box`: left, top, right, bottom, in pixels of the fitted picture.
public struct SegmentSpec: Sendable, Equatable {
    public let rows: Int
    public let columns: Int
    public let first: Int
    public let stride: Int
    public let box: [Int]

    /// Where a visual token is in the fitted picture, nil where it is not on this grid.
    public func cell(of token: Int) -> Cell? {
        guard token >= first else { return nil }
        let (row, column) = (token - first).quotientAndRemainder(dividingBy: stride)
        guard row < rows, column < columns else { return nil }
        let width = Double(box[2] - box[0]) / Double(columns)
        let height = Double(box[3] - box[1]) / Double(rows)
        return Cell(
            left: Double(box[0]) + Double(column) * width, top: Double(box[1]) + Double(row) * height,
            width: width, height: height)
    }
}

/// Before decoder layer `index`, or block `index` of the vision tower, `tokens` visual tokens become `numKept`.
/// `weighs`: attention counts each of them as those that it stands for.
public struct StageSpec: Sendable, Equatable {
    public let place: Place
    public let form: Form
    public let index: Int
    public let pruner: String
    public let tokens: Int
    public let numKept: Int
    public let weighs: Bool

    /// Visual tokens that go on.
    public var left: Int { form == .rebuilt ? tokens : numKept }

    /// Where it stands, and what it keeps, for people.
    public var line: String {
        "\(place == .vision ? "vision tower, block" : "layer") \(index): \(numKept) of \(tokens)"
    }

    /// Whether the language model takes its weights.
    var told: Bool { weighs && form == .dropped }
}

/// The part of the model that a stage stands in.
public enum Place: String, Sendable, CaseIterable {
    case vision, layer
}

/// What becomes of the tokens that a stage does not keep: after the vision tower they may come back.
public enum Form: String, Sendable, CaseIterable {
    case dropped, rebuilt
}

/// `inPlace`: graphs write into the caches; otherwise they return rows, which the host stores.
public struct KvSpec: Sendable, Equatable {
    public let inPlace: Bool
    public let dtype: DType
    public let layers: [KvLayerSpec]
}

/// H, C, the slot of the first text token after the picture, and all slots; all 0 of a layer without keys, which has
/// the shape of its `state`: each call replaces it.
public struct KvLayerSpec: Sendable, Equatable {
    public var kvHeads = 0
    public var headDim = 0
    public var base = 0
    public var slots = 0
    public var state: [Int] = []

    public var hasKeys: Bool { state.isEmpty }

    /// Of all its caches.
    var elements: Int64 {
        hasKeys ? 2 * Int64(kvHeads * headDim) * Int64(slots) : state.reduce(1) { $0 * Int64($1) }
    }
}

/// A graph: `file` and `dataFile` (empty: none) inside the bundle, `entry` its name there. Tensors in the graph's
/// order.
public struct MethodSpec: Sendable, Equatable {
    public let file: String
    public let entry: String
    public let dataFile: String
    public let inputs: [TensorSpec]
    public let outputs: [TensorSpec]
}

public struct TensorSpec: Sendable, Equatable, CustomStringConvertible {
    public let name: String
    public let shape: [Int]
    public let dtype: DType

    package init(name: String, shape: [Int], dtype: DType) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
    }

    /// How many numbers it has.
    public var elements: Int { shape.reduce(1, *) }

    public var description: String { "\(name) \(dtype.rawValue) \(shape)" }
}

/// A file of the bundle: `path` inside it, `sha256` in 64 hexadecimal digits.
public struct FileSpec: Sendable, Equatable {
    public let path: String
    public let sha256: String
    public let sizeBytes: Int64
}
