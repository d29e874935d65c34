// zlib's format (RFC 1950, 1951): PNG is read alike on all systems, whatever libraries they have.

/// The bytes that were deflated, at most `most`; what comes after them is not looked at. Nil where they are damaged.
func inflate(_ zlib: [UInt8], most: Int) -> [UInt8]? {
    guard zlib.count >= 2, zlib[0] & 15 == 8, (Int(zlib[0]) << 8 | Int(zlib[1])) % 31 == 0, zlib[1] & 0x20 == 0 else {
        return nil
    }
    return zlib.withUnsafeBufferPointer { bytes in
        var bits = Bits(bytes: bytes, place: 2)
        var whole = false
        let made = [UInt8](unsafeUninitializedCapacity: most) { buffer, count in
            whole = inflate(&bits, into: buffer, &count)
        }
        return whole ? made : nil
    }
}

/// Whether all went well: to the end of the last block, or until the buffer is full.
private func inflate(_ bits: inout Bits, into buffer: UnsafeMutableBufferPointer<UInt8>, _ count: inout Int) -> Bool {
    while true {
        guard let last = bits.take(1), let kind = bits.take(2) else { return false }
        switch kind {
        case 0:
            guard let length = bits.storedLength() else { return false }
            for _ in 0..<length {
                if count == buffer.count { return true }
                buffer[count] = bits.bytes[bits.place]
                bits.place += 1
                count += 1
            }
        case 1:
            if !inflateBlock(&bits, Huffman.fixedLengths, Huffman.fixedDistances, buffer, &count) { return false }
        case 2:
            guard let (lengths, distances) = bits.codes(),
                inflateBlock(&bits, lengths, distances, buffer, &count)
            else { return false }
        default: return false
        }
        if last == 1 || count == buffer.count { return true }
    }
}

private func inflateBlock(
    _ bits: inout Bits, _ lengths: Huffman, _ distances: Huffman, _ buffer: UnsafeMutableBufferPointer<UInt8>,
    _ count: inout Int
) -> Bool {
    while count < buffer.count {
        guard let symbol = lengths.next(&bits) else { return false }
        if symbol < 256 {
            buffer[count] = UInt8(symbol)
            count += 1
            continue
        }
        if symbol == 256 { return true }
        guard symbol < 286, let more = bits.take(lengthBits[symbol - 257]), let code = distances.next(&bits), code < 30,
            let far = bits.take(distanceBits[code])
        else { return false }
        let distance = distanceBase[code] + far
        if distance > count { return false }
        for _ in 0..<min(lengthBase[symbol - 257] + more, buffer.count - count) {
            buffer[count] = buffer[count - distance]
            count += 1
        }
    }
    return true
}

private let lengthBase = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
]
private let lengthBits = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]
private let distanceBase = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
]
private let distanceBits = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
]
/// In which order the lengths of the codes for lengths of codes come.
private let codeOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

/// Bits of bytes, the lowest first.
private struct Bits {
    let bytes: UnsafeBufferPointer<UInt8>
    var place: Int
    var held = 0
    var heldBits = 0

    mutating func take(_ count: Int) -> Int? {
        while heldBits < count {
            if place == bytes.count { return nil }
            held |= Int(bytes[place]) << heldBits
            place += 1
            heldBits += 8
        }
        defer {
            held >>= count
            heldBits -= count
        }
        return held & (1 << count - 1)
    }

    /// Of a block that is not packed, whose bytes begin at `place` then.
    mutating func storedLength() -> Int? {
        held = 0
        heldBits = 0
        guard let length = take(16), let check = take(16), length == check ^ 0xFFFF, place + length <= bytes.count
        else {
            return nil
        }
        return length
    }

    /// The two codes that a block brings with it.
    mutating func codes() -> (Huffman, Huffman)? {
        guard let literals = take(5), let distances = take(5), let codes = take(4) else { return nil }
        var lengths = [Int](repeating: 0, count: 19)
        for place in codeOrder.prefix(codes + 4) {
            guard let length = take(3) else { return nil }
            lengths[place] = length
        }
        let (first, all) = (literals + 257, literals + 257 + distances + 1)
        guard let code = Huffman(lengths) else { return nil }
        lengths = []
        while lengths.count < all {
            guard let symbol = code.next(&self) else { return nil }
            switch symbol {
            case 16:
                guard let before = lengths.last, let more = take(2) else { return nil }
                lengths += [Int](repeating: before, count: 3 + more)
            case 17:
                guard let more = take(3) else { return nil }
                lengths += [Int](repeating: 0, count: 3 + more)
            case 18:
                guard let more = take(7) else { return nil }
                lengths += [Int](repeating: 0, count: 11 + more)
            default: lengths.append(symbol)
            }
        }
        guard lengths.count == all, let literal = Huffman(Array(lengths[..<first])),
            let distance = Huffman(Array(lengths[first...]))
        else { return nil }
        return (literal, distance)
    }
}

/// A code by the lengths of its words.
private struct Huffman {
    static let fixedLengths = Huffman((0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 })!
    static let fixedDistances = Huffman([Int](repeating: 5, count: 30))!
    private static let longest = 15

    /// How many words there are of each length.
    private var counts = [Int](repeating: 0, count: longest + 1)
    /// By their words.
    private var symbols: [Int]

    /// Nil where there are more words than fit.
    init?(_ lengths: [Int]) {
        for length in lengths { counts[length] += 1 }
        counts[0] = 0
        var left = 1
        for length in 1...Self.longest {
            left = left * 2 - counts[length]
            if left < 0 { return nil }
        }
        symbols = (1...Self.longest).flatMap { length in lengths.indices.filter { lengths[$0] == length } }
    }

    /// The next symbol.
    func next(_ bits: inout Bits) -> Int? {
        var (code, first, index) = (0, 0, 0)
        for length in 1...Self.longest {
            guard let bit = bits.take(1) else { return nil }
            code |= bit
            let count = counts[length]
            if code - count < first { return symbols[index + code - first] }
            index += count
            first = (first + count) << 1
            code <<= 1
        }
        return nil
    }
}
