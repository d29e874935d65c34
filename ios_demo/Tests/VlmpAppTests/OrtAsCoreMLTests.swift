#if canImport(VlmpOrt)
import Foundation
import Testing
import VlmpCore
import VlmpCoreML
import VlmpOrt

private let environment = ProcessInfo.processInfo.environment

/// A real bundle of vlmp-tiny behind Core ML's interface: what a Core ML bundle would be asked, ONNX Runtime answers.
///
/// The graph updates caches in place, and Core ML's functions return rows; so they are cut out of the caches. Caches go
/// in as the host holds them: a row that the host stored in a wrong place, or not at all, changes the answer.
private final class OrtModel: ModelLoader {
    let name = "ONNX Runtime in the place of Core ML"
    /// As a Core ML bundle would have it.
    let manifest: Manifest
    fileprivate let original: Manifest
    fileprivate let runtime: any Runtime
    fileprivate let caches: [String: Tensor]

    init(_ manifest: Manifest, _ folder: URL) throws {
        self.manifest = manifest
        original = try readBundle(folder)
        let specs = original.method(.decode).inputs.filter { $0.name.contains("_cache_") }
        caches = Dictionary(uniqueKeysWithValues: specs.map { ($0.name, Tensor($0)) })
        runtime = try OrtOpener().open(folder, original, caches: caches, threads: 1)
    }

    func load(function: String) throws -> any ModelFunction { OrtFunction(self, Step(rawValue: function)!) }
}

private final class OrtFunction: ModelFunction {
    private let model: OrtModel
    private let step: Step

    init(_ model: OrtModel, _ step: Step) {
        self.model = model
        self.step = step
    }

    func predict(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: any StridedArray] {
        var given: [String: Tensor] = [:]
        for spec in model.original.method(step).inputs {
            if let cache = model.caches[spec.name] {
                if let held = inputs[spec.name] { cache.bytes.copyMemory(from: UnsafeRawBufferPointer(held.bytes)) }
            } else {
                // What Core ML's function needs no telling: nothing is past in prefill, one token is fed in decode.
                let number = spec.name == "text_len" ? 1 : 0
                let untold = spec.dtype == .int32 ? Tensor([number], shape: [1]) : Tensor(spec)
                given[spec.name] = inputs[spec.name] ?? untold
            }
        }
        let returned = try model.runtime.run(step, given, stop: Stop())
        let past = inputs["past"]?.ints[0] ?? 0
        var made: [String: any StridedArray] = [:]
        for spec in model.manifest.method(step).outputs {
            made[spec.name] = PaddedArray(try returned[spec.name] ?? updated(spec, past: past), gap: 5)
        }
        return made
    }

    /// What a call has put into a cache: rows of each head, or all weights of kept tokens.
    private func updated(_ spec: TensorSpec, past: Int) throws -> Tensor {
        let parts = spec.name.split(separator: "_")
        let cache = try #require(model.caches["\(parts[0])_cache_\(parts[1])"])
        if parts[0] == "bias" { return cache.copy() }
        let layer = model.manifest.kv.layers[Int(parts[1])!]
        let first = step == .prefill ? 0 : layer.base + past
        let width = layer.headDim * spec.dtype.bytes
        let tensor = Tensor(spec)
        for head in 0..<layer.kvHeads {
            for row in 0..<spec.shape[1] where first + row < layer.slots {
                let from = (head * layer.slots + first + row) * width
                let to = (head * spec.shape[1] + row) * width
                for byte in 0..<width { tensor.bytes[to + byte] = cache.bytes[from + byte] }
            }
        }
        return tensor
    }
}

@Suite struct OrtAsCoreMLTests {
    @Test(
        .enabled(if: environment["VLMP_ROWS"] != nil, "tests/ios/test_swift_app.py makes the folder VLMP_ROWS"),
        arguments: ["onnx-pruned", "onnx-unpruned", "onnx-staged"])
    func aConversationIsTheSameToTheBit(_ name: String) throws {
        let folder = URL(fileURLWithPath: environment["VLMP_BUNDLES"]!).appendingPathComponent(name)
        let rows = URL(fileURLWithPath: environment["VLMP_ROWS"]!)
        let text = try Data(contentsOf: rows.appendingPathComponent("\(name).json"))
        let model = try OrtModel(try parseManifest([UInt8](text)), folder)
        #expect(model.manifest.stages.allSatisfy { $0.weighs == (name == "onnx-staged") })
        struct Opener: RuntimeOpener, @unchecked Sendable {
            let model: OrtModel
            func open(_: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?) throws -> any Runtime {
                try FunctionRuntime(manifest, caches: caches, loader: model)
            }
        }
        let likeCoreML = try Session(model.manifest, folder, Opener(model: model))
        let inPlace = try Session(try readBundle(folder), folder, OrtOpener(), threads: 1)
        let tokenizer = try readTokenizer(folder, model.manifest)
        let photo = try Picture(
            photo: Data(contentsOf: conformanceFiles.appendingPathComponent("steps/photo-1.png")))
        let answers = try [likeCoreML, inPlace].map { session in
            let chat = Chat(session, tokenizer)
            let first = try chat.ask(photo, "What is in this picture?")
            session.runtime.trim()
            return [first, try chat.reply("What colour is it?"), try chat.reply("Where?", limit: 3)]
        }
        #expect(answers[0].map(\.tokens) == answers[1].map(\.tokens))
        #expect(answers[0].map(\.stages) == answers[1].map(\.stages))
        #expect(answers[0].map(\.order) == answers[1].map(\.order))
        #expect(answers[0].allSatisfy { !$0.tokens.isEmpty })
        // And the numbers behind the words.
        for token in 200..<210 { #expect(try likeCoreML.decode(token) == inPlace.decode(token)) }
    }
}
#endif
