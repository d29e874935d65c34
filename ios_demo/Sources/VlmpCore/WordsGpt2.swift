// Each digit alone, then GPT-2's pattern over what stands between them, matched by hand:
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Its third alternative never has anything to match then.

private enum Kind {
    case letter, digit, space, other, end

    init(_ point: UInt32) {
        if isLetter(point) {
            self = .letter
        } else if isNumber(point) || isOtherNumber(point) {
            self = .digit
        } else {
            self = isSpace(point) ? .space : .other
        }
    }

    var isWord: Bool { self == .letter || self == .other }
}

/// By the pattern of GPT-2.
struct WordsGpt2: Splitter {
    private let points: [UInt32]
    private let kinds: [Kind]  // and one for the end

    init(_ points: [UInt32]) {
        self.points = points
        kinds = points.map(Kind.init) + [.end]
    }

    func end(_ begin: Int) -> Int {
        if kinds[begin] == .digit { return begin + 1 }
        let contraction = contraction(begin)
        if contraction > 0 { return begin + contraction }
        let first = points[begin] == 0x20 ? begin + 1 : begin
        if kinds[first].isWord { return run(first) }
        // White space: all of it but a last one that belongs to the next word, which no digit is.
        let end = run(begin)
        return kinds[end].isWord && end > begin + 1 ? end - 1 : end
    }

    /// Length of an English contraction in small letters, or 0.
    private func contraction(_ begin: Int) -> Int {
        let next = points[begin...].prefix(3).compactMap(Unicode.Scalar.init)
        if [["'", "r", "e"], ["'", "v", "e"], ["'", "l", "l"]].contains(next) { return 3 }
        return [["'", "s"], ["'", "t"], ["'", "m"], ["'", "d"]].contains(Array(next.prefix(2))) ? 2 : 0
    }

    /// End of what is of the same kind.
    private func run(_ begin: Int) -> Int {
        var end = begin
        while kinds[end] == kinds[begin] { end += 1 }
        return end
    }
}
