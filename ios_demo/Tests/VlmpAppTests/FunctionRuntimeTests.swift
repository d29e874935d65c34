import Foundation
import Testing
import VlmpCore
import VlmpCoreML

@Suite struct FunctionRuntimeTests {
    /// A session over a scripted model, which looks at every row of every cache itself.
    private func session(_ model: ScriptedModel) throws -> Session {
        struct Opener: RuntimeOpener {
            let model: ScriptedModel
            func open(_: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?) throws -> any Runtime {
                try FunctionRuntime(manifest, caches: caches, loader: model)
            }
        }
        return try Session(model.manifest, URL(fileURLWithPath: "/"), Opener(model: model))
    }

    private func refusal<Made>(_ call: () throws -> Made) -> VlmpError? {
        do {
            _ = try call()
            return nil
        } catch {
            return error as? VlmpError
        }
    }

    private func pixels(_ manifest: Manifest) -> Tensor { Tensor(manifest.method(.vision).inputs[0]) }

    @Test func rowsReachTheirSlotsOverTwoTurns() throws {
        let model = ScriptedModel(try manifest(), script: [5, 6, 7])
        let session = try session(model)
        let seen = try session.vision(pixels(model.manifest))
        let first = try session.prefill([1, 2, 3], seen)
        #expect(first.logits[5] == 1)
        #expect(first.order.count == 9)
        #expect(try session.decode(5)[6] == 1)
        #expect(try session.decode(6)[7] == 1)
        _ = try session.extend([8, 9])
        _ = try session.decode(5)
        #expect(session.past == 8)
    }

    @Test func aFunctionIsLoadedWhenItIsCalledAndAgainAfterMemoryWasShort() throws {
        let model = ScriptedModel(try manifest(), script: [5])
        let session = try session(model)
        #expect(model.loads == [])
        let seen = try session.vision(pixels(model.manifest))
        _ = try session.prefill([1], seen)
        _ = try session.decode(5)
        _ = try session.decode(5)
        #expect(model.loads == ["vision", "prefill", "decode"])
        session.runtime.trim()
        _ = try session.decode(5)  // the caches are the session's: nothing of the conversation is lost
        #expect(model.loads == ["vision", "prefill", "decode", "decode"])
    }

    @Test func whatFailsIsALineAndNeverWas() throws {
        let model = ScriptedModel(try manifest(), script: [5])
        let session = try session(model)
        let seen = try session.vision(pixels(model.manifest))
        _ = try session.prefill([1], seen)
        for failing in ["load decode", "decode"] {
            model.failing = failing
            let error = try #require(refusal { try session.decode(5) })
            #expect(error.message.contains("the model is broken"))
            #expect(error.message.contains("decode"))
            #expect(session.past == 1)
        }
        model.failing = nil
        _ = try session.decode(5)
        #expect(session.past == 2)
    }

    @Test func cachesInPlaceAreRefused() throws {
        let text = try Data(contentsOf: conformanceFiles.appendingPathComponent("manifest/in_place.json"))
        let manifest = try parseManifest([UInt8](text))
        let error = refusal {
            try FunctionRuntime(manifest, caches: [:], loader: ScriptedModel(manifest, script: []))
        }
        guard case .bundle(.runtime, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}

@Suite struct StridedArrayTests {
    @Test(arguments: [[1], [5], [2, 3], [1, 3, 4, 5], [2, 1, 7], [3, 4, 1]], [0, 1, 13])
    func gapsAreLeftOut(_ shape: [Int], _ gap: Int) throws {
        for dtype in [DType.float32, .float16] {
            let tensor = Tensor(shape: shape, dtype: dtype)
            tensor.set((0..<tensor.elements).map { Float($0) })
            let spec = TensorSpec(name: "x", shape: shape, dtype: dtype)
            #expect(try PaddedArray(tensor, gap: gap).dense(as: spec).floats == tensor.floats)
        }
    }

    @Test func columnsFirstIsReadToo() throws {
        let memory: [Int32] = [1, 4, 2, 5, 3, 6]
        let array = PaddedArray(
            shape: [2, 3], strides: [1, 2], dtype: .int32, memory: memory.withUnsafeBytes { Array($0) })
        #expect(try array.dense(as: TensorSpec(name: "x", shape: [2, 3], dtype: .int32)).ints == [1, 2, 3, 4, 5, 6])
    }

    @Test(arguments: [
        PaddedArray(shape: [2, 3], strides: [3, 1], dtype: .float16, memory: [UInt8](repeating: 0, count: 24)),
        PaddedArray(shape: [3, 2], strides: [2, 1], dtype: .float32, memory: [UInt8](repeating: 0, count: 24)),
        PaddedArray(shape: [2, 3], strides: [3, 1], dtype: nil, memory: [UInt8](repeating: 0, count: 48)),
        PaddedArray(shape: [2, 3], strides: [4, 1], dtype: .float32, memory: [UInt8](repeating: 0, count: 24)),
        PaddedArray(shape: [2, 3], strides: [3, -1], dtype: .float32, memory: [UInt8](repeating: 0, count: 24)),
        PaddedArray(shape: [2, 3], strides: [1], dtype: .float32, memory: [UInt8](repeating: 0, count: 24)),
    ])
    func anArrayThatIsNotAsTheManifestSaysIsRefused(_ array: PaddedArray) {
        #expect(throws: VlmpError.self) {
            try array.dense(as: TensorSpec(name: "x", shape: [2, 3], dtype: .float32))
        }
    }
}

@Suite struct CompiledModelsTests {
    private struct Failed: Error {}

    @Test func aPackageIsCompiledOnceAndIsThereWholeOrNotAtAll() throws {
        let folder = TemporaryFolder()
        let bundle = folder.url.appendingPathComponent("bundle")
        try writeBundle(bundle)
        let manifest = try readBundle(bundle)
        let models = CompiledModels(folder: folder.url.appendingPathComponent("compiled"))
        var calls = 0
        func compile(_ package: URL) throws -> URL {
            calls += 1
            #expect(package.lastPathComponent == "model.mlpackage")
            let made = folder.url.appendingPathComponent("made-\(calls)")
            try FileManager.default.createDirectory(at: made, withIntermediateDirectories: true)
            return made
        }
        #expect(throws: Failed.self) { try models.model(manifest, in: bundle) { _ in throw Failed() } }
        let first = try models.model(manifest, in: bundle, compile: compile)
        #expect(try models.model(manifest, in: bundle, compile: compile) == first)
        #expect(calls == 1)
        #expect(first.pathExtension == "mlmodelc")
        try models.remove(manifest)
        try models.remove(manifest)
        _ = try models.model(manifest, in: bundle, compile: compile)
        #expect(calls == 2)
    }

    @Test func anotherContentHasAPlaceOfItsOwn() throws {
        let folder = TemporaryFolder()
        let models = CompiledModels(folder: folder.url.appendingPathComponent("compiled"))
        let places = try ["a", "b"].map { name in
            let bundle = folder.url.appendingPathComponent(name)
            try writeBundle(bundle)
            return try models.model(try readBundle(bundle), in: bundle) { _ in
                let made = folder.url.appendingPathComponent("made")
                try FileManager.default.createDirectory(at: made, withIntermediateDirectories: true)
                return made
            }
        }
        #expect(places[0] != places[1])
    }
}
