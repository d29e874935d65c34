#if canImport(CoreML)
import CoreML
import Foundation
import VlmpCore

/// Opens bundles whose target is `coreml`, on iOS 18 and macOS 15 or later.
public struct CoreMLOpener: RuntimeOpener {
    /// Where the graphs may run. The system chooses among these for each operator.
    public enum Units: String, Sendable, CaseIterable {
        case all, cpuAndNeuralEngine, cpuAndGPU, cpuOnly

        var computeUnits: MLComputeUnits {
            switch self {
            case .all: .all
            case .cpuAndNeuralEngine: .cpuAndNeuralEngine
            case .cpuAndGPU: .cpuAndGPU
            case .cpuOnly: .cpuOnly
            }
        }
    }

    private let units: Units
    private let compiled: CompiledModels

    public init(units: Units = .all, compiled: CompiledModels) {
        self.units = units
        self.compiled = compiled
    }

    /// Compiles the package unless that was done before; its functions are loaded when they are called. Core ML chooses
    /// its threads itself.
    public func open(
        _ folder: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?
    ) throws -> any Runtime {
        do {
            let model = try compiled.model(manifest, in: folder, compile: compile)
            return try FunctionRuntime(manifest, caches: caches, loader: MLModelLoader(model: model, units: units))
        } catch let error as VlmpError {
            throw error
        } catch {
            throw VlmpError.bundle(.runtime, "Core ML cannot compile \(manifest.model): \(line(error))")
        }
    }
}

/// Waits for Core ML on a thread that may wait: its call that waits itself is deprecated.
private func compile(_ package: URL) throws -> URL {
    final class Box: @unchecked Sendable { var result: Result<URL, any Error>? }
    let (box, done) = (Box(), DispatchSemaphore(value: 0))
    MLModel.compileModel(at: package) { result in
        box.result = result
        done.signal()
    }
    done.wait()
    return try box.result!.get()
}

/// One `MLModel` for each function, as Core ML has it since iOS 18.
private struct MLModelLoader: ModelLoader {
    let model: URL
    let units: CoreMLOpener.Units

    var name: String { "Core ML (\(units.rawValue)), \(ProcessInfo.processInfo.operatingSystemVersionString)" }

    func load(function: String) throws -> any ModelFunction {
        let configuration = MLModelConfiguration()
        configuration.functionName = function
        configuration.computeUnits = units.computeUnits
        return MLModelFunction(try MLModel(contentsOf: model, configuration: configuration))
    }
}

private final class MLModelFunction: ModelFunction {
    private let model: MLModel

    init(_ model: MLModel) {
        self.model = model
    }

    func predict(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: any StridedArray] {
        let values = try inputs.mapValues { MLFeatureValue(multiArray: try multiArray($0)) }
        let results = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: values))
        var arrays: [String: any StridedArray] = [:]
        for name in outputs {
            if let array = results.featureValue(for: name)?.multiArrayValue { arrays[name] = MultiArray(array: array) }
        }
        return arrays
    }
}

/// The tensor's own memory as Core ML takes it, which keeps the tensor.
private func multiArray(_ tensor: Tensor) throws -> MLMultiArray {
    var strides = [Int](repeating: 1, count: tensor.shape.count)
    for dimension in tensor.shape.indices.dropLast().reversed() {
        strides[dimension] = strides[dimension + 1] * tensor.shape[dimension + 1]
    }
    let type: MLMultiArrayDataType =
        switch tensor.dtype {
        case .float32: .float32
        case .float16: .float16
        case .int32: .int32
        }
    return try MLMultiArray(
        dataPointer: tensor.bytes.baseAddress!, shape: tensor.shape.map { NSNumber(value: $0) }, dataType: type,
        strides: strides.map { NSNumber(value: $0) }, deallocator: { _ in withExtendedLifetime(tensor) {} })
}

private struct MultiArray: StridedArray {
    let array: MLMultiArray

    var shape: [Int] { array.shape.map(\.intValue) }
    var strides: [Int] { array.strides.map(\.intValue) }

    var dtype: DType? {
        switch array.dataType {
        case .float32: .float32
        case .float16: .float16
        case .int32: .int32
        default: nil
        }
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try array.withUnsafeBytes(body)
    }
}
#endif
