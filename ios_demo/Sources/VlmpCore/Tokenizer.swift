/// Byte-level BPE, as bundles carry it: texts to ids and back. It changes nothing, and any thread may use it.
public final class Tokenizer: Sendable {
    /// How a text is cut into words, and words into tokens.
    enum Kind: Sendable {
        /// Qwen2's pattern and byte-level BPE, with NFC or without.
        case qwen2(nfc: Bool)
    }

    struct Merge: Sendable {
        let rank: Int
        let id: Int
    }

    struct Token: Sendable {
        let bytes: [UInt8]
        let special: Bool
    }

    /// Texts of added tokens are compared as UTF-8: to Swift's strings composed and decomposed characters are equal.
    struct Added: Sendable {
        let text: [UInt8]
        let id: Int
        let special: Bool
    }

    private let kind: Kind
    private let byteIds: [Int]
    private let merges: [UInt64: Merge]
    private let tokens: [Int: Token]
    private let added: [Added]
    /// By their first byte, the longest first.
    private let addedAt: [UInt8: [Added]]

    /// `byteIds`: of the token of each byte. `merges`: by `pair` of two ids. `tokens`: by id, added ones too.
    init(kind: Kind, byteIds: [Int], merges: [UInt64: Merge], tokens: [Int: Token], added: [Added]) {
        self.kind = kind
        self.byteIds = byteIds
        self.merges = merges
        self.tokens = tokens
        self.added = added
        addedAt = Dictionary(grouping: added.sorted { $0.text.count > $1.text.count }) { $0.text[0] }
    }

    /// Texts of the special tokens, UTF-8.
    var specialTokens: [[UInt8]] { added.filter(\.special).map(\.text) }

    /// Id of an added token, nil where there is none of this text.
    func addedId(_ text: [UInt8]) -> Int? { added.last { $0.text == text }?.id }

    /// Ids of a text in which added tokens are meant.
    public func encode(_ text: String) -> [Int] { encode(Array(text.utf8)) }

    /// Ids of a text in which nothing is an added token.
    public func encodeAsText(_ text: String) -> [Int] { encodeAsText(Array(text.utf8)) }

    /// The text of ids, without special tokens and what is no token.
    public func decode(_ ids: [Int]) -> String {
        var bytes: [UInt8] = []
        for id in ids {
            if let token = tokens[id], !token.special { bytes += token.bytes }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    func encode(_ text: [UInt8]) -> [Int] {
        var ids: [Int] = []
        var plain = 0  // begin of what is not encoded yet
        var place = 0
        while place < text.count {
            guard let token = addedAt[text[place]]?.first(where: { text[place...].starts(with: $0.text) }) else {
                place += 1
                continue
            }
            encodePlain(text[plain..<place], &ids)
            ids.append(token.id)
            place += token.text.count
            plain = place
        }
        encodePlain(text[plain...], &ids)
        return ids
    }

    func encodeAsText(_ text: [UInt8]) -> [Int] {
        var ids: [Int] = []
        encodePlain(text[...], &ids)
        return ids
    }

    private func encodePlain(_ text: ArraySlice<UInt8>, _ ids: inout [Int]) {
        guard !text.isEmpty else { return }
        switch kind {
        case .qwen2(let nfc):
            var points = String(decoding: text, as: UTF8.self).unicodeScalars.map(\.value)
            if nfc { points = compose(points) }
            let words = Words(points)
            var begin = 0
            while begin < points.count {
                let end = words.end(begin)
                encodeWord(utf8(points[begin..<end]), &ids)
                begin = end
            }
        }
    }

    /// Merges neighbours, the pair of lowest rank first, of equal ones the leftmost. By a heap: words may be long.
    private func encodeWord(_ bytes: [UInt8], _ ids: inout [Int]) {
        let count = bytes.count
        var symbols = bytes.map { byteIds[Int($0)] }  // -1: merged into its left neighbour
        var before = (0..<count).map { $0 - 1 }
        var after = (0..<count).map { $0 + 1 }
        var candidates = Heap()
        func consider(_ left: Int) {
            guard left >= 0, after[left] < count, let merge = merges[pair(symbols[left], symbols[after[left]])] else {
                return
            }
            candidates.push(Candidate(rank: merge.rank, left: left, id: merge.id))
        }
        for left in 0..<count { consider(left) }
        while let best = candidates.pop() {
            let left = best.left
            guard symbols[left] >= 0, after[left] < count else { continue }
            let right = after[left]
            // Otherwise a neighbour has been merged since.
            guard merges[pair(symbols[left], symbols[right])]?.id == best.id else { continue }
            symbols[left] = best.id
            symbols[right] = -1
            after[left] = after[right]
            if after[left] < count { before[after[left]] = left }
            consider(before[left])
            consider(left)
        }
        ids += symbols.filter { $0 >= 0 }
    }
}

/// Two ids as one key.
func pair(_ left: Int, _ right: Int) -> UInt64 { UInt64(left) << 32 | UInt64(right) }

private struct Candidate {
    let rank: Int
    let left: Int
    let id: Int

    static func < (one: Candidate, other: Candidate) -> Bool {
        one.rank != other.rank ? one.rank < other.rank : one.left < other.left
    }
}

/// Candidates, of which the least comes out first.
private struct Heap {
    private var items: [Candidate] = []

    mutating func push(_ item: Candidate) {
        items.append(item)
        var place = items.count - 1
        while place > 0 && items[place] < items[(place - 1) / 2] {
            items.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    mutating func pop() -> Candidate? {
        guard let last = items.popLast() else { return nil }
        guard let first = items.first else { return last }
        items[0] = last
        var place = 0
        while true {
            var least = place
            for child in [2 * place + 1, 2 * place + 2] where child < items.count && items[child] < items[least] {
                least = child
            }
            if least == place { return first }
            items.swapAt(place, least)
            place = least
        }
    }
}

/// The text of an answer, piece by piece: no character of which bytes are still to come.
struct TextStream {
    /// All that was handed out.
    private(set) var shown = ""
    private let tokenizer: Tokenizer

    init(_ tokenizer: Tokenizer) {
        self.tokenizer = tokenizer
    }

    /// What is new with all tokens so far, empty where nothing is. Once the answer has `ended`, nothing is held back.
    mutating func next(_ tokens: [Int], ended: Bool) -> String {
        let text = tokenizer.decode(tokens)
        // By scalars: a Character may grow with what follows it.
        let (all, before) = (text.unicodeScalars, shown.unicodeScalars.count)
        if all.count <= before || !ended && all.last == "\u{FFFD}" { return "" }
        shown = text
        return String(String.UnicodeScalarView(all.dropFirst(before)))
    }
}
