import Foundation
import VlmpCore

/// Runs a bundle whose methods are functions of one model. A function is loaded when it is first called, and freed when
/// memory is short. Caches go in as inputs, without a copy; the session stores the rows that come out.
public final class FunctionRuntime: Runtime {
    public let name: String
    private let manifest: Manifest
    private let caches: [String: Tensor]
    private let loader: any ModelLoader
    private var loaded: [Step: any ModelFunction] = [:]

    /// Throws `VlmpError.bundle(.runtime, ...)` where the bundle updates its caches in place, which Core ML's inputs
    /// cannot.
    public init(_ manifest: Manifest, caches: [String: Tensor], loader: any ModelLoader) throws {
        guard !manifest.kv.inPlace else {
            throw VlmpError.bundle(.runtime, "Core ML does not update caches in place: export the bundle for it.")
        }
        name = loader.name
        self.manifest = manifest
        self.caches = caches
        self.loader = loader
    }

    public func run(_ step: Step, _ inputs: [String: Tensor], stop: Stop) throws -> [String: Tensor] {
        let method = manifest.method(step)
        let function = try function(for: step, named: method.entry)
        try stop.check()  // loading may have taken seconds
        let given = inputs.merging(caches.filter { cache in method.inputs.contains { $0.name == cache.key } }) { $1 }
        let arrays: [String: any StridedArray]
        do {
            arrays = try function.predict(given, outputs: method.outputs.map(\.name))
        } catch {
            throw VlmpError.runtime("\(name) failed in \(step.rawValue): \(line(error))")
        }
        var outputs: [String: Tensor] = [:]
        for spec in method.outputs {
            guard let array = arrays[spec.name] else {
                throw VlmpError.runtime("The model returned no \(spec.name): export the bundle again.")
            }
            outputs[spec.name] = try array.dense(as: spec)
        }
        return outputs
    }

    /// Frees all functions. Each is loaded again when it is called.
    public func trim() {
        loaded = [:]
    }

    private func function(for step: Step, named entry: String) throws -> any ModelFunction {
        if let function = loaded[step] { return function }
        do {
            let function = try loader.load(function: entry)
            loaded[step] = function
            return function
        } catch {
            throw VlmpError.runtime("\(name) cannot load the function \(entry) of \(manifest.model): \(line(error))")
        }
    }
}

/// An error as a line for people.
func line(_ error: any Error) -> String {
    let text = (error as? VlmpError)?.message ?? error.localizedDescription
    return text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
}
