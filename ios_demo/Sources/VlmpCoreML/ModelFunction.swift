import VlmpCore

/// One function of a model, loaded: an `MLModel`, or what stands for it in tests.
public protocol ModelFunction: AnyObject {
    /// Runs it on `inputs` by name. Returns its outputs of these names, those that it has.
    func predict(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: any StridedArray]
}

/// Loads functions of one model.
public protocol ModelLoader {
    /// For people: `Core ML`.
    var name: String { get }

    /// Throws where the model has no such function, or cannot be loaded.
    func load(function: String) throws -> any ModelFunction
}

/// Numbers as Core ML hands them out: at `strides`, which may leave gaps between rows.
public protocol StridedArray {
    var shape: [Int] { get }
    /// Steps from a number to the next one of each dimension, in numbers.
    var strides: [Int] { get }
    /// nil: of a type that no bundle has.
    var dtype: DType? { get }

    /// Its memory, which is good during the call.
    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result
}

extension StridedArray {
    /// The same numbers without gaps. Throws `VlmpError.runtime` where they are not as `spec` says, or strides lead out
    /// of its memory.
    package func dense(as spec: TensorSpec) throws -> Tensor {
        guard shape == spec.shape, dtype == spec.dtype else {
            let found = "\(dtype?.rawValue ?? "another type") \(shape)"
            throw VlmpError.runtime(
                "The model returned \(spec.name) as \(found), not as \(spec.dtype.rawValue) \(spec.shape): "
                    + "export the bundle again.")
        }
        let tensor = Tensor(shape: shape, dtype: spec.dtype)
        let width = spec.dtype.bytes
        let last = zip(shape, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 }
        try withBytes { source in
            guard strides.count == shape.count, strides.allSatisfy({ $0 >= 0 }), (last + 1) * width <= source.count
            else {
                throw VlmpError.runtime(
                    "The model returned \(spec.name) with strides that leave its memory: \(strides).")
            }
            copyRows(from: source, to: tensor.bytes, width: width)
        }
        return tensor
    }

    /// Copies runs of numbers that have no gaps in between, from the first to the last one.
    private func copyRows(from source: UnsafeRawBufferPointer, to target: UnsafeMutableRawBufferPointer, width: Int) {
        // The last dimensions that follow one another in memory are one run.
        var run = 1
        var outer = shape.count
        while outer > 0, shape[outer - 1] == 1 || strides[outer - 1] == run {
            run *= shape[outer - 1]
            outer -= 1
        }
        var place = [Int](repeating: 0, count: outer)
        for start in stride(from: 0, to: shape.reduce(1, *), by: run) {
            let from = zip(place, strides).reduce(0) { $0 + $1.0 * $1.1 }
            let row = UnsafeRawBufferPointer(rebasing: source[from * width..<(from + run) * width])
            UnsafeMutableRawBufferPointer(rebasing: target[start * width..<(start + run) * width]).copyMemory(from: row)
            for dimension in place.indices.reversed() {
                place[dimension] += 1
                if place[dimension] < shape[dimension] { break }
                place[dimension] = 0
            }
        }
    }
}
