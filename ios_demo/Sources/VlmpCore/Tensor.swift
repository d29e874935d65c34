/// Numbers in memory that stays where it is, row after row without gaps, in the machine's byte order.
public final class Tensor {
    public let shape: [Int]
    public let dtype: DType
    /// Its memory, which lives as long as the tensor.
    public let bytes: UnsafeMutableRawBufferPointer

    /// How many numbers it has.
    public var elements: Int { shape.reduce(1, *) }

    /// Zeros.
    public init(shape: [Int], dtype: DType) {
        self.shape = shape
        self.dtype = dtype
        let count = shape.reduce(1, *) * dtype.bytes
        // An empty tensor has a pointer too: runtimes mind. 64: what vector units like.
        bytes = UnsafeMutableRawBufferPointer(
            rebasing: UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 64)[..<count])
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Zeros, as a manifest describes them.
    public convenience init(_ spec: TensorSpec) {
        self.init(shape: spec.shape, dtype: spec.dtype)
    }

    /// Whole numbers, as int32.
    public convenience init(_ values: [Int], shape: [Int]) {
        self.init(shape: shape, dtype: .int32)
        precondition(values.count == elements, "\(values.count) values for \(shape)")
        bytes.withMemoryRebound(to: Int32.self) { memory in
            for (place, value) in values.enumerated() { memory[place] = Int32(value) }
        }
    }

    deinit {
        bytes.baseAddress?.deallocate()
    }

    /// The numbers of an int32 tensor.
    public var ints: [Int] {
        precondition(dtype == .int32)
        return bytes.withMemoryRebound(to: Int32.self) { memory in memory.map { Int($0) } }
    }

    /// The numbers of a float32 or float16 tensor.
    public var floats: [Float] {
        switch dtype {
        case .float32: bytes.withMemoryRebound(to: Float.self) { Array($0) }
        case .float16: bytes.withMemoryRebound(to: UInt16.self) { memory in memory.map(fromHalf) }
        case .int32: preconditionFailure("int32 holds no floats")
        }
    }

    /// Sets the numbers of a float32 or float16 tensor.
    public func set(_ values: [Float]) {
        precondition(values.count == elements && dtype != .int32, "\(values.count) floats for \(shape)")
        switch dtype {
        case .float32:
            bytes.withMemoryRebound(to: Float.self) { memory in _ = memory.update(fromContentsOf: values) }
        default:
            bytes.withMemoryRebound(to: UInt16.self) { memory in
                for (place, value) in values.enumerated() { memory[place] = toHalf(value) }
            }
        }
    }

    /// The same numbers in memory of their own.
    public func copy() -> Tensor {
        let other = Tensor(shape: shape, dtype: dtype)
        other.bytes.copyMemory(from: UnsafeRawBufferPointer(bytes))
        return other
    }
}

// Swift's Float16 is not there on every Mac.

/// A half's value.
func fromHalf(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = UInt32(bits >> 10 & 0x1F)
    let fraction = UInt32(bits & 0x3FF)
    switch exponent {
    case 0: return Float(bitPattern: sign | (Float(fraction) * 0x1p-24).bitPattern)
    case 0x1F: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
}

/// The nearest half, half to even.
func toHalf(_ value: Float) -> UInt16 {
    let sign = UInt16(value.bitPattern >> 16 & 0x8000)
    let size = value.magnitude
    if size.isNaN { return sign | 0x7E00 }
    if size >= 65520 { return sign | 0x7C00 }
    // Below 2^-14 halves are 2^-24 apart.
    if size < 0x1p-14 { return sign | UInt16((size * 0x1p24).rounded(.toNearestOrEven)) }
    let bits = size.bitPattern
    let half = (bits >> 13) - 112 << 10
    let rest = bits & 0x1FFF
    let up: UInt32 = rest > 0x1000 || rest == 0x1000 && half & 1 == 1 ? 1 : 0
    return sign | UInt16(half + up)
}
