import Foundation
import XCTest

@testable import VlmpCore

private let places = [1, 2, 3]
private let bias0: [Float] = [0.5, 1.5, 2.5]

extension Tensor {
    fileprivate func set(_ kept: [Int]) {
        bytes.copyBytes(from: kept.flatMap { withUnsafeBytes(of: Int32($0)) { Array($0) } })
    }
}

/// A runtime that says a script, as tests/conformance/README.md describes it. The bookkeeping around it is the real
/// one.
final class Scripted: Runtime {
    let manifest: Manifest
    let name = "scripted 1"
    var script: [Int] = []
    /// Numbers of calls, from 0.
    var failsAt: Int?
    var notFiniteAt: Int?
    var stopIn: Int?
    /// Called inside each call.
    var onCall: () -> Void = {}
    private(set) var calls: [JSON] = []
    private let caches: [String: Tensor]

    init(_ manifest: Manifest, _ caches: [String: Tensor]) {
        self.manifest = manifest
        self.caches = caches
    }

    func begin(_ script: [Int], failsAt: Int? = nil, notFiniteAt: Int? = nil, stopIn: Int? = nil) {
        (self.script, self.failsAt, self.notFiniteAt, self.stopIn) = (script, failsAt, notFiniteAt, stopIn)
        calls = []
    }

    func run(_ step: Step, _ inputs: [String: Tensor], stop: Stop) throws -> [String: Tensor] {
        onCall()
        let number = calls.count
        if number == failsAt { throw VlmpError.runtime("The runtime failed.") }
        if number == stopIn { stop.ask() }
        let counts = number != stopIn && number != notFiniteAt
        let method = manifest.method(step)
        let outputs = Dictionary(uniqueKeysWithValues: method.outputs.map { ($0.name, Tensor($0)) })
        for spec in method.inputs where caches[spec.name] == nil {
            XCTAssertEqual(inputs[spec.name]?.shape, spec.shape, spec.name)
            XCTAssertEqual(inputs[spec.name]?.dtype, spec.dtype, spec.name)
        }
        if step == .vision {
            if counts { calls.append(["vision", .null, []]) }
            outputs["places"]?.set(places)
            outputs["bias_0"]?.set(bias0)
            return outputs
        }
        if let given = inputs["places"] { XCTAssertEqual(given.ints, step == .prefill ? places : []) }
        if manifest.tower?.form == .dropped { XCTAssertEqual(bias(0), bias0) }
        let ids = inputs["ids"]!.ints
        let length = inputs["text_len"]?.ints[0] ?? 1
        let past = inputs["past"]?.ints[0] ?? 0
        XCTAssertEqual(Set(ids[length...]).subtracting([manifest.prompt.padId]), [])
        let told: JSON = step == .prefill ? .null : JSON(past)
        if counts { calls.append([JSON(step.rawValue), told, JSON(Array(ids[..<length]))]) }
        for (layer, kv) in manifest.kv.layers.enumerated() {
            if !kv.hasKeys {
                let given = inputs["state_cache_\(layer)"]?.floats ?? [0, 0, 0, 0]
                if step == .prefill { XCTAssertEqual(given, [0, 0, 0, 0]) }
                let fed = (0..<length).flatMap { [Float(ids[$0]), Float(past + $0)] }
                outputs["state_\(layer)"]!.set(Array((given + fed).suffix(4)))
                continue
            }
            var rows = step == .prefill ? (0..<kv.base).map { [7000 + $0, $0] } : []
            rows += (0..<length).map { [ids[$0], past + $0] }
            if !manifest.kv.inPlace { rows += ids[length...].map { _ in [9999, 9999] } }
            for (kind, sign) in [("key", 1), ("value", -1)] {
                let values = rows.flatMap { $0 }.map { Float($0 * sign) }
                if manifest.kv.inPlace {
                    let cache = caches["\(kind)_cache_\(layer)"]!
                    var held = cache.floats
                    let first = 2 * (step == .prefill ? 0 : kv.base + past)
                    held.replaceSubrange(first..<first + values.count, with: values)
                    cache.set(held)
                } else {
                    outputs["\(kind)_\(layer)"]!.set(values)
                }
            }
        }
        for (stage, spec) in manifest.stages.enumerated()
        where step == .prefill && spec.weighs && spec.place == .layer {
            let bias = manifest.kv.inPlace ? caches["bias_cache_\(stage)"] : outputs["bias_\(stage)"]
            bias!.set((0..<spec.numKept).map { Float(length + stage + $0) })
        }
        var logits = [Float](repeating: 0, count: manifest.vocabSize)
        if number == notFiniteAt {
            logits[7] = .nan
        } else {
            logits[script.isEmpty ? 0 : script.removeFirst()] = 1
        }
        outputs["logits"]!.set(logits)
        if step == .prefill {
            for (name, kept) in [("kept_0", places), ("kept", [1, 3]), ("order", [3, 1])] { outputs[name]?.set(kept) }
        }
        return outputs
    }

    /// What is added to attention to the kept tokens of a stage, nil where it does not weigh.
    func bias(_ stage: Int) -> [Float]? { caches["bias_cache_\(stage)"]?.floats }

    /// Text ids whose rows are in the caches, the same in each layer's, each at its place.
    func held(_ past: Int) -> [Int] {
        let halves = manifest.kv.dtype == .float16
        let found = manifest.kv.layers.enumerated().filter(\.element.hasKeys).map { layer, kv -> [Int] in
            let keys = caches["key_cache_\(layer)"]!.floats.map { Int($0) }
            XCTAssertEqual(keys, caches["value_cache_\(layer)"]!.floats.map { -Int($0) })
            let rows = (0..<kv.slots).map { [keys[2 * $0], keys[2 * $0 + 1]] }
            // A half does not tell 7001 from 7000.
            if past > 0 && !halves { XCTAssertEqual(Array(rows[..<kv.base]), (0..<kv.base).map { [7000 + $0, $0] }) }
            let text = rows[kv.base..<kv.base + past]
            XCTAssertEqual(text.map { $0[1] }, Array(0..<past))
            return text.map { $0[0] }
        }
        XCTAssertEqual(Set(found).count, 1)
        return found[0]
    }
}

/// Opens scripted runtimes, and lets a test have the last one.
final class ScriptedOpener: RuntimeOpener, @unchecked Sendable {
    private(set) var opened: Scripted?
    var begin: (Scripted) -> Void = { _ in }

    func open(_ folder: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?) throws -> any Runtime {
        let runtime = Scripted(manifest, caches)
        begin(runtime)
        opened = runtime
        return runtime
    }
}
