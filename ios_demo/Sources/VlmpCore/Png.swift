// PNG, as Pillow shows it in RGB over white.

private let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

func isPng(_ bytes: [UInt8]) -> Bool { bytes.starts(with: signature) }

/// A PNG file's pixels, not turned upright. Throws `VlmpError.picture`.
func decodePng(_ bytes: [UInt8]) throws -> Picture {
    let chunks = try pngChunks(bytes)
    guard let data = chunks.first, data.kind == "IHDR", let header = Header(data.bytes) else {
        throw unreadable("its header is damaged")
    }
    try Picture.checkSize(width: header.width, height: header.height)
    var packed: [UInt8] = []
    for chunk in chunks where chunk.kind == "IDAT" { packed += chunk.bytes }
    guard let filtered = inflate(packed, most: header.filteredBytes), filtered.count == header.filteredBytes else {
        throw unreadable("its pixels are damaged")
    }
    let colours = Colours(
        header, palette: chunks.last { $0.kind == "PLTE" }?.bytes ?? [],
        clear: chunks.last { $0.kind == "tRNS" }.map { Array($0.bytes) })
    var rgb = [UInt8](repeating: 0, count: 3 * header.width * header.height)
    var place = 0
    for pass in header.passes where pass.width > 0 && pass.height > 0 {
        var before = [UInt8](repeating: 0, count: header.lineBytes(pass.width))
        for row in 0..<pass.height {
            let end = place + 1 + before.count
            guard let line = unfiltered(filtered[place..<end], before, header.pixelBytes) else {
                throw unreadable("its pixels are damaged")
            }
            place = end
            let first = (pass.top + row * pass.down) * header.width + pass.left
            for column in 0..<pass.width {
                let (red, green, blue) = colours.pixel(line, column)
                let to = 3 * (first + column * pass.across)
                (rgb[to], rgb[to + 1], rgb[to + 2]) = (red, green, blue)
            }
            before = line
        }
    }
    return Picture(width: header.width, height: header.height, rgb: rgb)
}

/// EXIF's orientation of a PNG file, 1 without one.
func orientation(png bytes: [UInt8]) -> Int {
    guard let chunks = try? pngChunks(bytes) else { return 1 }
    let exif = chunks.last { $0.kind == "eXIf" }.map { Array($0.bytes) }
    let xmp = chunks.filter { $0.kind == "iTXt" }.compactMap { xmpText($0.bytes) }.last
    return orientation(exif: exif ?? [], xmp: xmp ?? [])
}

private let mostTextBytes = 1 << 20

/// What an iTXt chunk holds where it is XMP.
private func xmpText(_ chunk: ArraySlice<UInt8>) -> [UInt8]? {
    let keyword = chunk.prefix { $0 != 0 }
    guard keyword.elementsEqual("XML:com.adobe.xmp".utf8), chunk.count > keyword.count + 3 else { return nil }
    let packed = chunk[chunk.startIndex + keyword.count + 1] != 0
    var rest = chunk.dropFirst(keyword.count + 3)
    for _ in 0..<2 { rest = rest.drop { $0 != 0 }.dropFirst() }  // language, translated keyword
    return packed ? inflate(Array(rest), most: mostTextBytes) ?? [] : Array(rest)
}

private struct Chunk {
    let kind: String
    let bytes: ArraySlice<UInt8>
}

private func pngChunks(_ bytes: [UInt8]) throws -> [Chunk] {
    var chunks: [Chunk] = []
    var place = signature.count
    while chunks.last?.kind != "IEND" {
        guard bytes.count - place >= 12 else { throw unreadable("the file is cut off") }
        let length = bigEndian(bytes[place..<place + 4])
        guard bytes.count - place - 12 >= length else { throw unreadable("the file is cut off") }
        let checked = bytes[place + 4..<place + 8 + length]
        if crc32(checked) != bigEndian(bytes[checked.endIndex..<checked.endIndex + 4]) {
            throw unreadable("a checksum in it is wrong")
        }
        chunks.append(Chunk(kind: String(decoding: checked.prefix(4), as: UTF8.self), bytes: checked.dropFirst(4)))
        place += 12 + length
    }
    return chunks
}

private func unreadable(_ what: String) -> VlmpError {
    .picture(.unreadable, "The photo cannot be read: \(what).")
}

private func bigEndian(_ bytes: some Collection<UInt8>) -> Int { bytes.reduce(0) { $0 << 8 | Int($1) } }

private let crcTable: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ value >> 1 : value >> 1 }
}

func crc32(_ bytes: ArraySlice<UInt8>) -> Int {
    var sum: UInt32 = 0xFFFF_FFFF
    for byte in bytes { sum = crcTable[Int((sum ^ UInt32(byte)) & 0xFF)] ^ sum >> 8 }
    return Int(sum ^ 0xFFFF_FFFF)
}

private enum ColourType: Int {
    case grey = 0
    case rgb = 2
    case palette = 3
    case greyAlpha = 4
    case rgbAlpha = 6

    var channels: Int {
        switch self {
        case .grey, .palette: 1
        case .greyAlpha: 2
        case .rgb: 3
        case .rgbAlpha: 4
        }
    }

    var depths: [Int] {
        switch self {
        case .grey: [1, 2, 4, 8, 16]
        case .palette: [1, 2, 4, 8]
        default: [8, 16]
        }
    }
}

/// Every `across`-th pixel of every `down`-th line: all, or one of seven passes.
private struct Pass {
    let left: Int
    let top: Int
    let across: Int
    let down: Int
    let width: Int
    let height: Int

    init(_ header: Header, _ left: Int, _ top: Int, _ across: Int, _ down: Int) {
        (self.left, self.top, self.across, self.down) = (left, top, across, down)
        width = (header.width - left + across - 1) / across
        height = (header.height - top + down - 1) / down
    }
}

private struct Header {
    let width: Int
    let height: Int
    let depth: Int
    let colour: ColourType
    private let interlaced: Bool

    init?(_ chunk: ArraySlice<UInt8>) {
        let bytes = Array(chunk)
        guard bytes.count == 13, let colour = ColourType(rawValue: Int(bytes[9])),
            colour.depths.contains(Int(bytes[8])), bytes[10] == 0, bytes[11] == 0, bytes[12] < 2
        else { return nil }
        width = bigEndian(bytes[0..<4])
        height = bigEndian(bytes[4..<8])
        depth = Int(bytes[8])
        self.colour = colour
        interlaced = bytes[12] == 1
        if width == 0 || height == 0 { return nil }
    }

    var passes: [Pass] {
        if !interlaced { return [Pass(self, 0, 0, 1, 1)] }
        return [
            Pass(self, 0, 0, 8, 8), Pass(self, 4, 0, 8, 8), Pass(self, 0, 4, 4, 8), Pass(self, 2, 0, 4, 4),
            Pass(self, 0, 2, 2, 4), Pass(self, 1, 0, 2, 2), Pass(self, 0, 1, 1, 2),
        ]
    }

    /// Of all lines, each with its filter.
    var filteredBytes: Int {
        passes.reduce(0) { $0 + ($1.width > 0 ? $1.height * (1 + lineBytes($1.width)) : 0) }
    }

    func lineBytes(_ width: Int) -> Int { (width * colour.channels * depth + 7) / 8 }

    /// How far to the left a filter looks.
    var pixelBytes: Int { max(1, colour.channels * depth / 8) }
}

/// A line without its filter, which its first byte names. `before`: the line above.
private func unfiltered(_ filtered: ArraySlice<UInt8>, _ before: [UInt8], _ pixelBytes: Int) -> [UInt8]? {
    var line = Array(filtered.dropFirst())
    switch filtered.first {
    case 0: break
    case 1: for place in line.indices.dropFirst(pixelBytes) { line[place] &+= line[place - pixelBytes] }
    case 2: for place in line.indices { line[place] &+= before[place] }
    case 3:
        for place in line.indices {
            let left = place < pixelBytes ? 0 : Int(line[place - pixelBytes])
            line[place] &+= UInt8((left + Int(before[place])) / 2)
        }
    case 4:
        for place in line.indices {
            let inside = place >= pixelBytes
            let (left, above) = (inside ? Int(line[place - pixelBytes]) : 0, Int(before[place]))
            let corner = inside ? Int(before[place - pixelBytes]) : 0
            let (a, b, c) = (abs(above - corner), abs(left - corner), abs(left + above - 2 * corner))
            line[place] &+= UInt8(a <= b && a <= c ? left : b <= c ? above : corner)
        }
    default: return nil
    }
    return line
}

/// What the samples of a line stand for.
private struct Colours {
    private let depth: Int
    private let type: ColourType
    private let palette: [(UInt8, UInt8, UInt8)]
    /// Alphas of a palette.
    private let alphas: [UInt8]
    /// The clear colour of grey and RGB, in samples as the file has them.
    private let clear: [Int]?

    init(_ header: Header, palette bytes: [UInt8].SubSequence, clear chunk: [UInt8]?) {
        (depth, type) = (header.depth, header.colour)
        let entries = Array(bytes)
        palette = (0..<entries.count / 3).map { (entries[3 * $0], entries[3 * $0 + 1], entries[3 * $0 + 2]) }
        alphas = type == .palette ? chunk ?? [] : []
        let channels = type.channels
        if let chunk, type == .grey || type == .rgb, chunk.count >= 2 * channels {
            let top = 1 << depth - 1
            clear = (0..<channels).map { channel in
                let value = bigEndian(chunk[2 * channel..<2 * channel + 2])
                return top == 1 ? min(value, 1) : value & top  // of one bit, Pillow takes any number but 0 for white
            }
        } else {
            clear = nil
        }
    }

    /// Red, green, blue of a pixel.
    @inline(__always)
    func pixel(_ line: [UInt8], _ column: Int) -> (UInt8, UInt8, UInt8) {
        switch type {
        case .grey:
            let value = sample(line, column)
            if let clear, clear[0] == value { return (255, 255, 255) }
            let grey = depth == 16 ? UInt8((value + 128) / 257) : UInt8(value * (255 / (1 << depth - 1)))
            return (grey, grey, grey)
        case .palette:
            let index = sample(line, column)
            let colour = index < palette.count ? palette[index] : (0, 0, 0)
            return index < alphas.count ? overWhite(colour, alphas[index]) : colour
        case .greyAlpha:
            let grey = high(line, 2 * column)
            return overWhite((grey, grey, grey), high(line, 2 * column + 1))
        case .rgb:
            let first = 3 * column
            if let clear, (0..<3).allSatisfy({ sample(line, first + $0) == clear[$0] }) { return (255, 255, 255) }
            return (high(line, first), high(line, first + 1), high(line, first + 2))
        case .rgbAlpha:
            let first = 4 * column
            return overWhite((high(line, first), high(line, first + 1), high(line, first + 2)), high(line, first + 3))
        }
    }

    private func sample(_ line: [UInt8], _ number: Int) -> Int {
        switch depth {
        case 8: return Int(line[number])
        case 16: return Int(line[2 * number]) << 8 | Int(line[2 * number + 1])
        default:
            let bit = number * depth
            return Int(line[bit / 8]) >> (8 - depth - bit % 8) & (1 << depth - 1)
        }
    }

    /// The upper 8 bits of a sample of 8 or 16.
    private func high(_ line: [UInt8], _ number: Int) -> UInt8 { line[number * depth / 8] }
}

/// A colour over white, as Pillow composites.
private func overWhite(_ colour: (UInt8, UInt8, UInt8), _ alpha: UInt8) -> (UInt8, UInt8, UInt8) {
    func over(_ value: UInt8) -> UInt8 {
        if alpha == 0 { return 255 }
        let share = Int(alpha) * 128  // of 255 * 128
        let sum = Int(value) * share + 255 * (32640 - share) + 16384
        return UInt8((((sum >> 8) + sum) >> 8) >> 7)
    }
    return (over(colour.0), over(colour.1), over(colour.2))
}
