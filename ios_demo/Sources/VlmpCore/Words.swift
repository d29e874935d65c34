// Qwen2's pattern, matched by hand, since regexes and their Unicode versions differ from phone to phone; that of Llama
// 3 and LFM2 has \p{N}{1,3} for \p{N}:
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// The first alternative that matches wins; together they match every character.

private enum Kind {
    case letter, number, space, newline, other

    init(_ point: UInt32) {
        if point == 0x0A || point == 0x0D {
            self = .newline
        } else if isSpace(point) {
            self = .space
        } else if isLetter(point) {
            self = .letter
        } else {
            self = isNumber(point) ? .number : .other
        }
    }
}

/// Cuts code points into words.
protocol Splitter {
    /// End of the word that begins at `begin`.
    func end(_ begin: Int) -> Int
}

/// By the pattern of Qwen2 or Llama 3.
struct Words: Splitter {
    private let points: [UInt32]
    private let digits: Int
    private let kinds: [Kind]

    /// `digits`: the most of one word.
    init(_ points: [UInt32], digits: Int) {
        self.points = points
        self.digits = digits
        kinds = points.map(Kind.init)
    }

    func end(_ begin: Int) -> Int {
        let contraction = contraction(begin)
        if contraction > 0 { return begin + contraction }
        switch kinds[begin] {
        case .letter: return run(begin, .letter)
        case .number: return numberEnd(begin)
        case .space, .other:
            if at(begin + 1, .letter) { return run(begin + 1, .letter) }
            if kinds[begin] == .other { return run(run(begin, .other), .newline) }
            if points[begin] == 0x20 && at(begin + 1, .other) { return run(run(begin + 1, .other), .newline) }
            return blankEnd(begin)
        case .newline: return blankEnd(begin)
        }
    }

    /// Length of an English contraction, or 0.
    private func contraction(_ begin: Int) -> Int {
        guard points[begin] == 0x27, begin + 1 < points.count, let first = folded(points[begin + 1]) else { return 0 }
        if "stmd".unicodeScalars.contains(first) { return 2 }
        guard begin + 2 < points.count, let second = folded(points[begin + 2]) else { return 0 }
        return [["r", "e"], ["v", "e"], ["l", "l"]].contains([first, second]) ? 3 : 0
    }

    private func numberEnd(_ begin: Int) -> Int {
        var end = begin + 1
        while end < begin + digits && at(end, .number) { end += 1 }
        return end
    }

    /// White space: up to its last newline; else all of it but a last one that belongs to the next word.
    private func blankEnd(_ begin: Int) -> Int {
        var end = begin
        var newline = begin
        while at(end, .space) || at(end, .newline) {
            end += 1
            if kinds[end - 1] == .newline { newline = end }
        }
        if newline > begin { return newline }
        return end == points.count || end == begin + 1 ? end : end - 1
    }

    private func at(_ place: Int, _ kind: Kind) -> Bool { place < kinds.count && kinds[place] == kind }

    private func run(_ begin: Int, _ kind: Kind) -> Int {
        var end = begin
        while at(end, kind) { end += 1 }
        return end
    }

    /// As the pattern without case sees an ASCII letter.
    private func folded(_ point: UInt32) -> Unicode.Scalar? {
        switch point {
        case 0x17F: "s"  // the long s
        case 0x41...0x5A: Unicode.Scalar(point + 0x20)
        case 0..<0x80: Unicode.Scalar(point)
        default: nil
        }
    }
}
