import Foundation
import XCTest

@testable import VlmpCore

/// The reader of manifests against the conformance files, and against damage drawn by lot.
final class ManifestTests: XCTestCase {
    private let cases = try! ConformanceFiles.json("manifest/cases.json")

    func testWhatValidOnesSay() throws {
        for item in cases.at("valid").list {
            let file = item.at("file").string
            let text = try ConformanceFiles.bytes("manifest/\(file)")
            if file.hasPrefix("schema-1") {
                XCTAssertEqual(problem { _ = try parseManifest(text) }?.bundleProblem, .version, file)
            } else {
                XCTAssertEqual(facts(try parseManifest(text)), item.at("facts"), file)
            }
        }
    }

    func testHostileOnesAreRefused() throws {
        let folder = try temporaryFolder(self)
        let kinds = ["", "_tower"].flatMap { more in
            cases.at("bases\(more)").list.map { ($0.string, "hostile\(more)") }
        }
        for (base, hostile) in kinds {
            let manifest = try ConformanceFiles.json("manifest/\(base)")
            for item in cases.at(hostile).list {
                try writeBundle(folder, manifest.changed(item.at("change")), item.at("files"))
                let error = problem { _ = try readBundle(folder) }
                XCTAssertEqual(
                    error?.bundleProblem?.rawValue, item.at("class").string, "\(base): \(item.written) \(error as Any)")
                guard let error else { continue }
                XCTAssertFalse(error.message.contains("\n"), error.message)
                if error.bundleProblem == .field {
                    XCTAssert(error.message.contains(item.at("field").string), "\(error.message): \(item.written)")
                }
            }
        }
    }

    func testThoseOfSchema1AreRefusedBeforeFilesAreLookedFor() throws {
        for base in cases.at("bases_1").list.map(\.string) {
            let manifest = try ConformanceFiles.json("manifest/\(base)")
            for item in cases.at("hostile_1").list {
                let text = Array(manifest.changed(item.at("change")).written.utf8)
                XCTAssertNotNil(problem { _ = try parseManifest(text) }?.bundleProblem, item.written)
            }
        }
    }

    func testTheBasesAreBundles() throws {
        let folder = try temporaryFolder(self)
        for base in (cases.at("bases").list + cases.at("bases_tower").list).map(\.string) {
            try writeBundle(folder, ConformanceFiles.json("manifest/\(base)"), [:])
            var told: [Int64] = []
            let manifest = try readBundle(folder) { told = [$0, $1] }
            XCTAssertEqual(told, [manifest.sizeBytes, manifest.sizeBytes])
            _ = try readTokenizer(folder, manifest)
        }
    }

    func testWhatIsNoManifestIsRefused() throws {
        let folder = try temporaryFolder(self)
        XCTAssertEqual(problem { _ = try readBundle(folder) }?.bundleProblem, .unreadable)
        for text in cases.at("texts").list {
            try Data(text.utf8).write(to: folder.appendingPathComponent(manifestName))
            let error = problem { _ = try readBundle(folder) }
            XCTAssert(error?.message.contains(manifestName) == true && !error!.message.contains("\n"), text.written)
        }
    }

    func testMemoryCountsTheCachesAndMoreThanTheFiles() throws {
        let manifest = try parseManifest(ConformanceFiles.bytes("manifest/rows.json"))
        let (slots, state): (Int64, Int64) = (51 + 50 + 49, 2 * 2)
        XCTAssertEqual(manifest.cacheBytes, 4 * (2 * 2 * slots + state))
        XCTAssertGreaterThan(manifest.memoryBytes, manifest.sizeBytes + manifest.cacheBytes)
    }

    func testDamagedManifestsAreRefusedOrRead() throws {
        let texts = try ["rows", "onnx-staged", "coreml-pruned"].map {
            try ConformanceFiles.bytes("manifest/\($0).json")
        }
        try fuzz(texts, seed: 7, rounds: 1500) {
            let manifest = try parseManifest($0)
            _ = (manifest.memoryBytes, manifest.image.cell(of: 3))
        }
    }

    func testJsonThatIsNone() {
        let texts = [
            "", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "[1 2]", "01", "-", "1.", "1e", ".5", "+1", "tru", "nulls",
            "\"\\x\"",
            "\"\\u12g4\"", "\"\\ud83d\"", "\"\\ud83d\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "\"", "1 1", "[\u{FEFF}]",
            String(repeating: "[", count: 100_000),
        ]
        for text in texts { XCTAssertThrowsError(try JSON.parse(Array(text.utf8)), String(text.prefix(20))) }
        XCTAssertThrowsError(try JSON.parse([0x22, 0xFF, 0x22]))
    }

    func testJsonThatIsSome() throws {
        let text = #" {"a": [1, -2.5e+3, true, false, null], "b": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude42é", "a": {}} "#
        let value = try JSON.parse(Array(text.utf8))
        XCTAssertEqual(value["a"], [:])
        XCTAssertEqual(value["b"]?.string, "\"\\/\u{8}\u{C}\n\r\té🙂é")
        XCTAssertEqual(try JSON.parse(Array(value.written.utf8)), value)
    }

    private func facts(_ manifest: Manifest) -> JSON {
        let (image, prompt) = (manifest.image, manifest.prompt)
        func tensors(_ tensors: [TensorSpec]) -> JSON {
            .list(tensors.map { [JSON($0.name), JSON($0.shape), JSON($0.dtype.rawValue)] })
        }
        let methods = Step.allCases.map { step -> JSON.Member in
            let method = manifest.method(step)
            let facts: JSON = [
                "file": JSON(method.file), "entry": JSON(method.entry), "data_file": JSON(method.dataFile),
                "inputs": tensors(method.inputs), "outputs": tensors(method.outputs),
            ]
            return JSON.Member(name: Array(step.rawValue.utf8), value: facts)
        }
        return [
            "model": JSON(manifest.model), "target": JSON(manifest.target),
            "precision": JSON(manifest.precision.rawValue),
            "quantization": JSON(manifest.quantization), "vocab_size": JSON(manifest.vocabSize),
            "image": [
                "height": JSON(image.height), "width": JSON(image.width), "fit": JSON(image.fit.rawValue),
                "pad_rgb": JSON(image.padRgb.map { Int($0) }), "resample": JSON(image.resample.rawValue),
                "visual_tokens": JSON(image.visualTokens),
            ],
            "segments": .list(
                image.segments.map {
                    .list([$0.rows, $0.columns, $0.first, $0.stride].map { JSON($0) } + [JSON($0.box)])
                }),
            "stages": .list(
                manifest.stages.map {
                    [
                        "place": JSON($0.place.rawValue), "index": JSON($0.index), "pruner": JSON($0.pruner),
                        "tokens": JSON($0.tokens), "num_kept": JSON($0.numKept), "form": JSON($0.form.rawValue),
                        "weighs": .bool($0.weighs),
                    ]
                }),
            "num_kept": JSON(manifest.numKept),
            "kv": [
                "update": JSON(manifest.kv.inPlace ? "in_place" : "rows"), "dtype": JSON(manifest.kv.dtype.rawValue),
                "layers": .list(manifest.kv.layers.map { JSON($0.hasKeys ? [$0.kvHeads, $0.headDim, $0.base, $0.slots] : $0.state) }),
            ],
            "prompt": [
                "first": JSON(prompt.first), "following": JSON(prompt.following), "text_len": JSON(prompt.textLen),
                "max_new_tokens": JSON(prompt.maxNewTokens), "end_ids": JSON(prompt.endIds.sorted()),
                "end_text_id": JSON(prompt.endTextId), "pad_id": JSON(prompt.padId),
                "tokenizer_file": JSON(prompt.tokenizerFile),
                "control_tokens": .list(prompt.controlTokens.map { JSON($0) }),
            ],
            "methods": .object(methods),
        ]
    }

    private func writeBundle(_ folder: URL, _ manifest: JSON, _ files: JSON) throws {
        try writeScripted(folder, manifest, cases.at("contents"), files)
    }
}
