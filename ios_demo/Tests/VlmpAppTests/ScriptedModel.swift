import Foundation
import VlmpCore
import VlmpCoreML

/// Numbers with gaps between rows, as Core ML may hand them out.
struct PaddedArray: StridedArray {
    let shape: [Int]
    let strides: [Int]
    let dtype: DType?
    let memory: [UInt8]

    /// The numbers of `tensor`, with `gap` numbers of garbage after each row and after each matrix.
    init(_ tensor: Tensor, gap: Int) {
        var strides = [Int](repeating: 1, count: tensor.shape.count)
        for dimension in tensor.shape.indices.dropLast().reversed() {
            strides[dimension] = strides[dimension + 1] * tensor.shape[dimension + 1] + gap
        }
        let width = tensor.dtype.bytes
        let last = zip(tensor.shape, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 }
        var memory = [UInt8](repeating: 0xAB, count: (last + 1) * width)
        for number in 0..<tensor.elements {
            var (rest, place) = (number, 0)
            for dimension in tensor.shape.indices.reversed() {
                place += rest % tensor.shape[dimension] * strides[dimension]
                rest /= tensor.shape[dimension]
            }
            for byte in 0..<width { memory[place * width + byte] = tensor.bytes[number * width + byte] }
        }
        self.init(shape: tensor.shape, strides: strides, dtype: tensor.dtype, memory: memory)
    }

    init(shape: [Int], strides: [Int], dtype: DType?, memory: [UInt8]) {
        self.shape = shape
        self.strides = strides
        self.dtype = dtype
        self.memory = memory
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try memory.withUnsafeBytes(body)
    }
}

/// A model that says the same script in each turn. The tokens that it keeps are equally far from each other, chosen
/// from the last to the first. Row `slot` of every cache holds the slot's number, and each call looks whether the
/// session has put the rows of earlier calls where they belong.
final class ScriptedModel: ModelLoader, @unchecked Sendable {
    struct Broken: LocalizedError {
        var errorDescription: String? { "the model\nis broken" }
    }

    let name = "Script 1"
    let manifest: Manifest
    /// Ids of the answer; what comes after them is an end token.
    let script: [Int]
    /// Functions in the order in which they were loaded.
    private(set) var loads: [String] = []
    /// Which function fails.
    var failing: String?
    /// Called in each decode, on the engine's thread, with the number of tokens said in this turn.
    var onDecode: (Int) -> Void = { _ in }
    fileprivate var said = 0

    init(_ manifest: Manifest, script: [Int]) {
        self.manifest = manifest
        self.script = script
    }

    func load(function: String) throws -> any ModelFunction {
        loads.append(function)
        if failing == "load \(function)" { throw Broken() }
        return ScriptedFunction(self, Step(rawValue: function)!)
    }
}

private final class ScriptedFunction: ModelFunction {
    private let model: ScriptedModel
    private let step: Step

    init(_ model: ScriptedModel, _ step: Step) {
        self.model = model
        self.step = step
    }

    func predict(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: any StridedArray] {
        if model.failing == step.rawValue { throw ScriptedModel.Broken() }
        let method = model.manifest.method(step)
        precondition(Set(inputs.keys) == Set(method.inputs.map(\.name)), "\(step): \(inputs.keys)")
        let past = inputs["past"]?.ints[0] ?? 0
        for (name, cache) in inputs where name.contains("_cache_") { checkRows(name, cache, past) }
        model.said = step == .decode ? model.said + 1 : 0
        if step == .decode { model.onDecode(model.said) }
        var made: [String: any StridedArray] = [:]
        for spec in method.outputs {
            let tensor = Tensor(spec)
            switch spec.name {
            case "logits":
                var logits = [Float](repeating: 0, count: spec.elements)
                let end = model.manifest.prompt.endTextId
                logits[model.said < model.script.count ? model.script[model.said] : end] = 1
                tensor.set(logits)
            case "kept", "order":
                let step = model.manifest.image.visualTokens / spec.elements
                let ids = (0..<spec.elements).map { $0 * step }
                let chosen = spec.name == "kept" ? ids : ids.reversed()
                made[spec.name] = PaddedArray(Tensor(chosen, shape: spec.shape), gap: 3)
                continue
            case let name where name.hasPrefix("key_") || name.hasPrefix("value_"):
                let layer = model.manifest.kv.layers[Int(name.split(separator: "_")[1])!]
                let first = step == .prefill ? 0 : layer.base + past
                tensor.set((0..<spec.elements).map { Float(first + $0 / layer.headDim % spec.shape[1]) })
            default: break
            }
            made[spec.name] = PaddedArray(tensor, gap: 3)
        }
        return made
    }

    /// All rows up to the last text token are there, for each head.
    private func checkRows(_ name: String, _ cache: Tensor, _ past: Int) {
        let layer = model.manifest.kv.layers[Int(name.split(separator: "_")[2])!]
        let values = cache.floats
        for head in 0..<layer.kvHeads {
            for slot in 0..<layer.base + past {
                let row = values[((head * layer.slots + slot) * layer.headDim)...].prefix(layer.headDim)
                precondition(row.allSatisfy { $0 == Float(slot) }, "\(name), head \(head), slot \(slot): \(row.first!)")
            }
        }
    }
}

/// Opens bundles with a script in the place of Core ML.
struct ScriptedOpener: RuntimeOpener {
    /// The models that were opened.
    let opened: Box<[ScriptedModel]> = Box([])
    let script: [Int]
    var prepare: @Sendable (ScriptedModel) -> Void = { _ in }

    func open(_ folder: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?) throws -> any Runtime {
        let model = ScriptedModel(manifest, script: script)
        prepare(model)
        opened.value.append(model)
        return try FunctionRuntime(manifest, caches: caches, loader: model)
    }
}

final class Box<Value>: @unchecked Sendable {
    var value: Value

    init(_ value: Value) {
        self.value = value
    }
}
