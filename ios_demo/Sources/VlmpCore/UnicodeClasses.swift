// Classes and NFC by the tables of UnicodeTables.swift: the platform's are of another version on each phone.

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
private let syllables: UInt32 = 0xAC00
private let leads: UInt32 = 0x1100
private let vowels: UInt32 = 0x1161
private let tails: UInt32 = 0x11A7
private let leadCount: UInt32 = 19
private let vowelCount: UInt32 = 21
private let tailCount: UInt32 = 28
private let syllableCount = leadCount * vowelCount * tailCount

private let letters = Ranges(entries(UnicodeTables.letters))
private let numbers = Ranges(entries(UnicodeTables.numbers))
private let otherNumbers = Ranges(entries(UnicodeTables.otherNumbers))
private let spaces = Ranges(entries(UnicodeTables.spaces))
private let marks = entries(UnicodeTables.marks)
private let markRanges = Ranges(marks)
private let decompositions = Dictionary(
    uniqueKeysWithValues: entries(UnicodeTables.decompositions).map { ($0[0], Array($0[1...])) })
private let compositions = Dictionary(
    uniqueKeysWithValues: entries(UnicodeTables.compositions).map { (key($0[0], $0[1]), $0[2]) })

func isLetter(_ point: UInt32) -> Bool { letters.find(point) != nil }

func isNumber(_ point: UInt32) -> Bool { numbers.find(point) != nil }

/// What tokenizers that cut out digits take for numbers beyond these.
func isOtherNumber(_ point: UInt32) -> Bool { otherNumbers.find(point) != nil }

func isSpace(_ point: UInt32) -> Bool { spaces.find(point) != nil }

/// Canonical combining class.
private func combiningClass(_ point: UInt32) -> UInt32 { markRanges.find(point).map { marks[$0][2] } ?? 0 }

/// NFC of code points.
func compose(_ points: [UInt32]) -> [UInt32] {
    // Below U+0300 nothing is a mark, and what is composed already stays so.
    if points.allSatisfy({ $0 < 0x300 }) { return points }
    return composed(sorted(decomposed(points)))
}

private func decomposed(_ points: [UInt32]) -> [UInt32] {
    points.flatMap { point -> [UInt32] in
        guard (syllables..<syllables + syllableCount).contains(point) else { return decompositions[point] ?? [point] }
        let syllable = point - syllables
        let tail = syllable % tailCount
        let open = [leads + syllable / (vowelCount * tailCount), vowels + syllable / tailCount % vowelCount]
        return tail == 0 ? open : open + [tails + tail]
    }
}

/// Marks between two starters by their class, stably.
private func sorted(_ points: [UInt32]) -> [UInt32] {
    var points = points
    var begin = 0
    while begin < points.count {
        var end = begin
        while end < points.count && combiningClass(points[end]) != 0 { end += 1 }
        if end - begin > 1 {
            let run = points[begin..<end].enumerated().sorted { one, other in
                let (first, second) = (combiningClass(one.element), combiningClass(other.element))
                return first != second ? first < second : one.offset < other.offset
            }
            points.replaceSubrange(begin..<end, with: run.map(\.element))
        }
        begin = end + 1
    }
    return points
}

private func composed(_ points: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    var starter: Int?
    var blocked: UInt32 = 0  // class of the last mark that stayed after the starter
    for point in points {
        let own = combiningClass(point)
        if let starter, result.count == starter + 1 || blocked < own, let whole = composition(result[starter], point) {
            result[starter] = whole
            continue
        }
        if own == 0 { starter = result.count }
        blocked = own
        result.append(point)
    }
    return result
}

private func composition(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if (leads..<leads + leadCount).contains(first), (vowels..<vowels + vowelCount).contains(second) {
        return syllables + ((first - leads) * vowelCount + second - vowels) * tailCount
    }
    if (syllables..<syllables + syllableCount).contains(first), (first - syllables) % tailCount == 0,
        (tails + 1..<tails + tailCount).contains(second)
    {
        return first + second - tails
    }
    return compositions[key(first, second)]
}

private func key(_ first: UInt32, _ second: UInt32) -> UInt64 { UInt64(first) << 32 | UInt64(second) }

private func entries(_ table: String) -> [[UInt32]] {
    table.utf8.split(separator: UInt8(ascii: ",")).map { entry in
        entry.split(separator: UInt8(ascii: " ")).map { digits in
            digits.reduce(0) {
                $0 * 36 + UInt32($1 >= UInt8(ascii: "a") ? $1 - UInt8(ascii: "a") + 10 : $1 - UInt8(ascii: "0"))
            }
        }
    }
}

/// Sorted ranges of code points.
private struct Ranges {
    private let first: [UInt32]
    private let last: [UInt32]

    init(_ entries: [[UInt32]]) {
        first = entries.map { $0[0] }
        last = entries.map { $0[1] }
    }

    /// Which range holds a point.
    func find(_ point: UInt32) -> Int? {
        var (low, high) = (0, first.count)
        while low < high {
            let middle = (low + high) / 2
            if first[middle] <= point { low = middle + 1 } else { high = middle }
        }
        return low > 0 && point <= last[low - 1] ? low - 1 : nil
    }
}

/// UTF-8 of code points, none of which is half a surrogate pair.
func utf8(_ points: ArraySlice<UInt32>) -> [UInt8] {
    points.flatMap { UTF8.encode(Unicode.Scalar($0)!)! }
}
