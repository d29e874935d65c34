// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, D hidden, H KV heads, C
// head size
import Foundation

/// What vision tells of a picture. `visual`: tokens [N, D], fewer where the tower has dropped some. Of a bundle with a
/// stage there `places`, the numbers of those that went through all of it, ascending; `bias` if the language model
/// takes what each counts for.
public struct Seen {
    let visual: Tensor
    let places: Tensor?
    let bias: Tensor?
}

/// What prefill tells beside filling the caches: `logits` [V]; `stages`: kept of each stage, ascending; `order`: the
/// last one's as chosen.
public struct Prefilled: Sendable {
    public let logits: [Float]
    public let stages: [[Int]]
    public let order: [Int]
}

/// How far a conversation is: text tokens after the picture that the caches hold, and what layers without keys have
/// made of them, by the names of the inputs. No call changes either.
public struct Progress {
    public let past: Int
    let states: [String: Tensor]
}

/// A loaded bundle with the caches of one conversation, in tensors and token ids. A `Chat` puts words around it.
///
/// It is for one thread at a time. A call that fails or is stopped leaves `past` as it was.
public final class Session {
    public let manifest: Manifest
    /// What runs the graphs.
    public let runtime: any Runtime
    /// How far the conversation is.
    public private(set) var progress: Progress
    private let caches: [String: Tensor]
    private let noStates: [String: Tensor]

    /// `folder` is of a bundle that `readBundle` has checked. Throws what the opener throws.
    public init(_ manifest: Manifest, _ folder: URL, _ opener: any RuntimeOpener, threads: Int? = nil) throws {
        self.manifest = manifest
        let specs = manifest.method(.decode).inputs
        caches = Dictionary(
            uniqueKeysWithValues: specs.filter { isCache($0.name) }.map { ($0.name, Tensor($0)) })
        noStates = Dictionary(
            uniqueKeysWithValues: specs.filter { $0.name.hasPrefix("\(stateKind)_cache_") }.map { ($0.name, Tensor($0)) })
        progress = Progress(past: 0, states: noStates)
        runtime = try opener.open(folder, manifest, caches: caches, threads: threads)
    }

    /// Text tokens after the picture that the caches hold. Rows after them are never read.
    public var past: Int { progress.past }

    /// Text tokens that still fit.
    public var room: Int { manifest.prompt.textLen + manifest.prompt.maxNewTokens - past }

    /// Floats [1, 3, height, width], 0..255. Returns what `prefill` takes of the picture.
    public func vision(_ pixels: Tensor, stop: Stop = Stop()) throws -> Seen {
        // Copies: they may be views of the runtime's memory.
        let outputs = try run(.vision, ["image": pixels], stop).mapValues { $0.copy() }
        return Seen(visual: outputs["visual"]!, places: outputs["places"], bias: outputs["\(biasKind)_0"])
    }

    /// Fills the caches with prefix, picture and the first text, 1 to T ids. If it fails there is no picture.
    public func prefill(_ ids: [Int], _ seen: Seen, stop: Stop = Stop()) throws -> Prefilled {
        reset()
        if let bias = seen.bias {
            caches["\(biasKind)_cache_0"]!.bytes.copyMemory(from: UnsafeRawBufferPointer(bias.bytes))
        }
        var inputs = bucket(ids)
        inputs["visual"] = seen.visual
        inputs["places"] = seen.places
        let (outputs, logits) = try call(.prefill, inputs, tokens: ids.count, stop)
        let earlier = manifest.stages.dropLast().enumerated().map { number, stage in
            stage.place == .vision ? seen.places! : outputs["kept_\(number)"]!
        }
        let stages = (earlier + [outputs["kept"]!]).map(\.ints)
        return Prefilled(logits: logits, stages: stages, order: outputs["order"]!.ints)
    }

    /// Appends one token. Returns logits [V] of the next one. Throws `VlmpError.turn` when the caches are full.
    public func decode(_ token: Int, stop: Stop = Stop()) throws -> [Float] {
        try checkRoom(1)
        let inputs = ["ids": Tensor([token], shape: [1, 1]), "text_len": Tensor([1], shape: [1])]
        return try call(.decode, inputs, tokens: 1, stop).logits
    }

    /// Appends 1 to T ids at once. Returns logits [V] of the next one. Throws `VlmpError.turn` when the caches are
    /// full.
    public func extend(_ ids: [Int], stop: Stop = Stop()) throws -> [Float] {
        try checkRoom(ids.count)
        return try call(.extend, bucket(ids), tokens: ids.count, stop).logits
    }

    /// Throws `VlmpError.turn` unless so many text tokens can be appended.
    public func checkRoom(_ tokens: Int) throws {
        if past == 0 {
            throw VlmpError.turn(.noImage, "There is no picture yet: ask about one first.")
        }
        if tokens > room {
            throw VlmpError.turn(
                .full(needed: tokens, room: room),
                "The conversation is full: \(tokens) more tokens, room for \(room). Start a new one.")
        }
    }

    /// Forgets all that came after `before`, an earlier `progress` of this conversation.
    public func rewind(to before: Progress) {
        precondition(before.past <= past, "cannot go back to \(before.past): the caches hold \(past)")
        progress = before
    }

    /// Forgets the conversation.
    public func reset() { progress = Progress(past: 0, states: noStates) }

    /// Runs a method that puts so many text tokens into the caches, and stores its rows where the host has to.
    private func call(
        _ step: Step, _ inputs: [String: Tensor], tokens: Int, _ stop: Stop
    ) throws -> (outputs: [String: Tensor], logits: [Float]) {
        let more = progress.states.merging(["past": Tensor([past], shape: [1])]) { own, _ in own }
        let outputs = try run(step, inputs.merging(more) { own, _ in own }, stop)
        let logits = outputs["logits"]!.floats
        if !logits.allSatisfy(\.isFinite) {
            throw VlmpError.runtime(
                "The model returned numbers that are not finite: its weights or its graph are broken.")
        }
        if !manifest.kv.inPlace {
            for (number, layer) in manifest.kv.layers.enumerated() where layer.hasKeys {
                for kind in cacheKinds {
                    store(outputs["\(kind)_\(number)"]!, caches["\(kind)_cache_\(number)"]!, layer, step, tokens)
                }
            }
            if step == .prefill {
                // That of the vision tower is there already.
                for (number, stage) in manifest.stages.enumerated() where stage.told && stage.place == .layer {
                    let bias = UnsafeRawBufferPointer(outputs["\(biasKind)_\(number)"]!.bytes)
                    caches["\(biasKind)_cache_\(number)"]!.bytes.copyMemory(from: bias)
                }
            }
        }
        var states = noStates
        for name in noStates.keys {
            states[name] = outputs[stateKind + name.dropFirst("\(stateKind)_cache".count)]!.copy()
        }
        progress = Progress(past: past + tokens, states: states)
        return (outputs, logits)
    }

    private func run(_ step: Step, _ given: [String: Tensor], _ stop: Stop) throws -> [String: Tensor] {
        var inputs: [String: Tensor] = [:]
        for spec in manifest.method(step).inputs where caches[spec.name] == nil {
            inputs[spec.name] = spec.elements == 0 ? Tensor(spec) : given[spec.name]!  // the picture, in later steps
        }
        try stop.check()
        let outputs = try runtime.run(step, inputs, stop: stop)
        try stop.check()
        return outputs
    }

    /// Copies the rows of valid tokens into a cache. Padding's rows are left out.
    private func store(_ rows: Tensor, _ cache: Tensor, _ layer: KvLayerSpec, _ step: Step, _ tokens: Int) {
        let width = layer.headDim * rows.dtype.bytes
        let first = step == .prefill ? 0 : layer.base + past
        let count = step == .prefill ? layer.base + tokens : tokens
        for head in 0..<layer.kvHeads {
            let from = rows.bytes[(head * rows.shape[1] * width)...].prefix(count * width)
            let to = cache.bytes[((head * layer.slots + first) * width)...].prefix(count * width)
            UnsafeMutableRawBufferPointer(rebasing: to).copyMemory(from: UnsafeRawBufferPointer(rebasing: from))
        }
    }

    private func bucket(_ ids: [Int]) -> [String: Tensor] {
        let size = manifest.prompt.textLen
        precondition((1...size).contains(ids.count), "\(ids.count) text tokens: this bundle takes 1 to \(size) at once")
        precondition(ids.allSatisfy { (0..<manifest.vocabSize).contains($0) }, "a token is not in the vocabulary")
        let padded = ids + Array(repeating: manifest.prompt.padId, count: size - ids.count)
        return ["ids": Tensor(padded, shape: [1, size]), "text_len": Tensor([ids.count], shape: [1])]
    }
}

let cacheKinds = ["key", "value"]

let biasKind = "bias"

let stateKind = "state"

/// Whether an input is a cache by its name. A state is none: each call gets one, and makes another.
func isCache(_ name: String) -> Bool {
    (cacheKinds + [biasKind]).contains { name.hasPrefix("\($0)_cache_") }
}
