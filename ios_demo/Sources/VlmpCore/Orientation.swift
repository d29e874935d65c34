// Which way up a photo is, by what its file tells beside the pixels: as Pillow reads it.

private let exifMark = Array("Exif\0\0".utf8)
private let xmpMark = Array("http://ns.adobe.com/xap/1.0/\0".utf8)
private let orientationTag = 0x0112

/// 1 to 8, as EXIF counts them: the number of the EXIF block, and where that has none, the first one in XMP. `exif`: a
/// TIFF file after up to two marks.
func orientation(exif: [UInt8], xmp: [UInt8]) -> Int { exifOrientation(exif) ?? xmpOrientation(xmp) }

/// EXIF's orientation of a JPEG file, 1 without one.
func orientation(jpeg bytes: [UInt8]) -> Int {
    var (exif, xmp): ([UInt8], [UInt8]) = ([], [])
    var place = 2
    while place + 4 <= bytes.count, bytes[place] == 0xFF {
        let marker = bytes[place + 1]
        if marker == 0xFF {
            place += 1
            continue
        }
        let length = Int(bytes[place + 2]) << 8 | Int(bytes[place + 3])
        guard marker != 0xDA, length >= 2, place + 2 + length <= bytes.count else { break }
        let data = bytes[place + 4..<place + 2 + length]
        if marker == 0xE1 {
            if data.starts(with: exifMark) { exif += exif.isEmpty ? data : data.dropFirst(exifMark.count) }
            if data.starts(with: xmpMark) { xmp = Array(data.dropFirst(xmpMark.count)) }
        }
        place += 2 + length
    }
    return orientation(exif: exif, xmp: xmp)
}

/// Nil where there is no such entry before the end or the damage.
private func exifOrientation(_ block: [UInt8]) -> Int? {
    var exif = block[...]
    for _ in 0..<2 where exif.starts(with: exifMark) { exif = exif.dropFirst(exifMark.count) }
    if exif.isEmpty { return nil }
    let tiff = Tiff(bytes: Array(exif))
    let heads: [[UInt8]] = [Array("MM\0*".utf8), Array("II*\0".utf8), Array("MM*\0".utf8), Array("II\0*".utf8)]
    guard let directory = tiff.number(4, 4), heads.contains(where: { exif.starts(with: $0) }) else { return 1 }
    var seen: Set<Int> = []
    var sum = 0  // of the data that lie elsewhere
    for entry in 0..<(tiff.number(directory, 2) ?? 0) {
        let place = directory + 2 + 12 * entry
        guard let tag = tiff.number(place, 2), let type = tiff.number(place + 2, 2),
            let count = tiff.number(place + 4, 4),
            let offset = tiff.number(place + 8, 4)
        else { return nil }
        guard !seen.contains(tag), type < Tiff.sizes.count else { continue }
        let size = count * Tiff.sizes[type]
        if size == 0 { continue }
        if size > 4 {
            sum += size
            if sum > exif.count { continue }
            if offset > exif.count || exif.count - offset < size { return nil }
        }
        if tag == orientationTag { return checked(tiff.value(size > 4 ? offset : place + 8, type)) }
        seen.insert(tag)
    }
    return nil
}

private struct Tiff {
    /// Bytes of one value of each type; 0 where there is no such type.
    static let sizes = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8]
    let bytes: [UInt8]

    /// Unsigned, of `size` bytes, nil where they are not all there.
    func number(_ place: Int, _ size: Int) -> Int? {
        guard place <= bytes.count, bytes.count - place >= size else { return nil }
        let part = bytes[place..<place + size]
        return Int(
            truncatingIfNeeded: (bytes[0] == UInt8(ascii: "I") ? Array(part.reversed()) : Array(part)).reduce(UInt(0)) {
                $0 << 8 | UInt($1)
            })
    }

    /// The first of an entry's values. Of whole numbers the sign does not matter: none from 1 to 8 has one.
    func value(_ place: Int, _ type: Int) -> Double {
        let whole = { (at: Int, size: Int) in number(at, size) ?? 0 }
        switch type {
        case 1, 2, 7: return 1  // texts, for Pillow
        case 5: return Double(whole(place, 4)) / Double(whole(place + 4, 4))
        case 10:
            let parts = [0, 4].map { Double(Int32(truncatingIfNeeded: whole(place + $0, 4))) }
            return parts[0] / parts[1]
        case 11: return Double(Float(bitPattern: UInt32(truncatingIfNeeded: whole(place, 4))))
        case 12: return Double(bitPattern: UInt64(bitPattern: Int64(whole(place, 8))))
        default: return Double(whole(place, Self.sizes[type]))
        }
    }
}

private func checked(_ value: Double) -> Int { (1...8).first { Double($0) == value } ?? 1 }

private func xmpOrientation(_ xmp: [UInt8]) -> Int {
    let name = Array("tiff:Orientation".utf8)
    for place in xmp.indices where xmp[place...].starts(with: name) {
        let rest = xmp[(place + name.count)...]
        let value =
            rest.starts(with: "=\"".utf8) ? rest.dropFirst(2) : rest.starts(with: ">".utf8) ? rest.dropFirst() : []
        if let digit = value.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) {
            return checked(Double(digit - UInt8(ascii: "0")))
        }
    }
    return 1
}
