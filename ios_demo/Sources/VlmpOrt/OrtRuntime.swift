import COnnxRuntime
import Foundation
import VlmpCore

/// Opens bundles for `onnx` on ONNX Runtime's CPU kernels.
public struct OrtOpener: RuntimeOpener {
    public init() {}

    public func open(
        _ folder: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?
    ) throws -> any Runtime {
        do {
            return try OrtRuntime(OrtLibrary.shared(), folder, manifest, caches, threads)
        } catch let error as OrtFailure {
            throw VlmpError.bundle(.runtime, "\(folder.lastPathComponent) cannot be loaded: \(error.message)")
        }
    }
}

/// Each graph is loaded once. Caches are updated in place: one buffer is bound as input and as output.
private final class OrtRuntime: Runtime {
    let name: String
    private let library: OrtLibrary
    private let manifest: Manifest
    private let caches: [String: Tensor]
    private let memory: OpaquePointer
    /// By file: several methods may be calls of one graph.
    private var graphs: [String: OpaquePointer] = [:]

    private var api: OrtApi { library.api }

    init(
        _ library: OrtLibrary, _ folder: URL, _ manifest: Manifest, _ caches: [String: Tensor], _ threads: Int?
    ) throws {
        self.library = library
        self.manifest = manifest
        self.caches = caches
        name = "onnxruntime \(library.version)"
        var made: OpaquePointer?
        try library.check(library.api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &made))
        memory = made!
        var options: OpaquePointer?
        try library.check(api.CreateSessionOptions(&options))
        defer { api.ReleaseSessionOptions(options) }
        if let threads { try library.check(api.SetIntraOpNumThreads(options, Int32(threads))) }
        for method in manifest.methods.values where graphs[method.file] == nil {
            var graph: OpaquePointer?
            let path = folder.appendingPathComponent(method.file).path
            try library.check(api.CreateSession(library.env, path, options, &graph))
            graphs[method.file] = graph
        }
    }

    deinit {
        for graph in graphs.values { api.ReleaseSession(graph) }
        api.ReleaseMemoryInfo(memory)
    }

    func run(_ step: Step, _ inputs: [String: Tensor], stop: Stop) throws -> [String: Tensor] {
        let spec = manifest.method(step)
        let graph = graphs[spec.file]!
        var options: OpaquePointer?
        var binding: OpaquePointer?
        defer {
            api.ReleaseIoBinding(binding)
            api.ReleaseRunOptions(options)
        }
        do {
            try library.check(api.CreateRunOptions(&options))
            try library.check(api.RunOptionsSetRunLogSeverityLevel(options, 4))  // what fails is thrown
            try library.check(api.CreateIoBinding(graph, &binding))
            for input in spec.inputs {
                try bind(caches[input.name] ?? inputs[input.name]!) { api.BindInput(binding, input.name, $0) }
            }
            for output in spec.outputs {
                if let cache = updated(output.name) {
                    try bind(cache) { api.BindOutput(binding, output.name, $0) }
                } else {
                    try library.check(api.BindOutputToDevice(binding, output.name, memory))
                }
            }
            // ONNX Runtime allows it while a run goes on.
            let (ending, running) = (UInt(bitPattern: options), library)
            let end = { @Sendable in
                running.api.ReleaseStatus(running.api.RunOptionsSetTerminate(OpaquePointer(bitPattern: ending)))
            }
            try withExtendedLifetime(inputs) {
                try stop.during(end: end) { try library.check(api.RunWithBinding(graph, options, binding)) }
            }
            return try outputs(of: binding, spec)
        } catch let error as OrtFailure {
            if stop.asked { throw Stopped() }  // a call that was ended fails
            throw VlmpError.runtime("ONNX Runtime failed in \(step.rawValue): \(error.message)")
        }
    }

    /// The cache that an output is written into, nil where there is none.
    private func updated(_ output: String) -> Tensor? {
        guard manifest.kv.inPlace, let mark = output.firstIndex(of: "_") else { return nil }
        return caches[output[..<mark] + "_cache" + output[mark...]]
    }

    private func bind(_ tensor: Tensor, _ call: (OpaquePointer?) -> OpaquePointer?) throws {
        let shape = tensor.shape.map { Int64($0) }
        var value: OpaquePointer?
        try library.check(
            api.CreateTensorWithDataAsOrtValue(
                memory, tensor.bytes.baseAddress, tensor.bytes.count, shape, shape.count, tensor.dtype.ort, &value))
        defer { api.ReleaseValue(value) }  // the binding keeps a reference of its own
        try library.check(call(value))
    }

    /// Copies of what was not bound to memory of ours.
    private func outputs(of binding: OpaquePointer?, _ spec: MethodSpec) throws -> [String: Tensor] {
        var allocator: UnsafeMutablePointer<OrtAllocator>?
        try library.check(api.GetAllocatorWithDefaultOptions(&allocator))
        var found: UnsafeMutablePointer<OpaquePointer?>?
        var count = 0
        try library.check(api.GetBoundOutputValues(binding, allocator, &found, &count))
        defer {
            for place in 0..<count { api.ReleaseValue(found![place]) }
            if let found { _ = api.AllocatorFree(allocator, found) }
        }
        var made: [String: Tensor] = [:]
        for (place, output) in spec.outputs.enumerated() where updated(output.name) == nil {
            made[output.name] = try copied(found![place], output)
        }
        return made
    }

    private func copied(_ value: OpaquePointer?, _ spec: TensorSpec) throws -> Tensor {
        var info: OpaquePointer?
        try library.check(api.GetTensorTypeAndShape(value, &info))
        defer { api.ReleaseTensorTypeAndShapeInfo(info) }
        var type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
        var elements = 0
        try library.check(api.GetTensorElementType(info, &type))
        try library.check(api.GetTensorShapeElementCount(info, &elements))
        if type != spec.dtype.ort || elements != spec.elements {
            throw VlmpError.runtime("The graph returned \(elements) numbers of \(spec.name), not \(spec)")
        }
        let tensor = Tensor(spec)
        var data: UnsafeMutableRawPointer?
        try library.check(api.GetTensorMutableData(value, &data))
        if let data { tensor.bytes.copyMemory(from: UnsafeRawBufferPointer(start: data, count: tensor.bytes.count)) }
        return tensor
    }
}

extension DType {
    fileprivate var ort: ONNXTensorElementDataType {
        switch self {
        case .float32: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
        case .float16: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
        case .int32: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
        }
    }
}
