/// What stands for a space in vocabularies of characters.
let spaceMark: Unicode.Scalar = "\u{2581}"

/// BPE, as bundles carry it: texts to ids and back. It changes nothing, and any thread may use it.
public final class Tokenizer: Sendable {
    /// What tokens stand for.
    enum Kind: Sendable {
        /// Bytes, of words that are cut out by a pattern, after NFC or without. `wholeWords`: a word that is in the
        /// vocabulary is one token, whatever merges say.
        case bytes(Pattern, nfc: Bool, wholeWords: Bool)
        /// Characters, and bytes of those that are not in the vocabulary; a text is one word. `strip`: decoding drops a
        /// space at the beginning.
        case characters(strip: Bool)
    }

    /// How a text is cut into words.
    enum Pattern: Sendable {
        case qwen2, llama3, gpt2

        func splitter(_ points: [UInt32]) -> any Splitter {
            switch self {
            case .qwen2: Words(points, digits: 1)
            case .llama3: Words(points, digits: 3)
            case .gpt2: WordsGpt2(points)
            }
        }
    }

    struct Vocabulary: Sendable {
        /// Of the token of each byte.
        var byteIds: [Int] = []
        /// Of single characters; empty where tokens stand for bytes.
        var characterIds: [UInt32: Int] = [:]
        /// Of whole words, by their bytes; empty unless words are whole.
        var wordIds: [[UInt8]: Int] = [:]
        /// By `pair` of two ids.
        var merges: [UInt64: Merge] = [:]
        /// By id, added ones too.
        var tokens: [Int: Token] = [:]
        var added: [Added] = []
    }

    struct Merge: Sendable {
        let rank: Int
        let id: Int
    }

    struct Token: Sendable {
        let bytes: [UInt8]
        /// It is one byte of a vocabulary of characters.
        var isByte = false
        var special = false
    }

    /// Texts of added tokens are compared as UTF-8: to Swift's strings composed and decomposed characters are equal.
    struct Added: Sendable {
        let text: [UInt8]
        let id: Int
        let special: Bool
    }

    private let kind: Kind
    private let vocabulary: Vocabulary
    /// By their first byte, the longest first.
    private let addedAt: [UInt8: [Added]]

    init(kind: Kind, _ vocabulary: Vocabulary) {
        self.kind = kind
        self.vocabulary = vocabulary
        addedAt = Dictionary(grouping: vocabulary.added.sorted { $0.text.count > $1.text.count }) { $0.text[0] }
    }

    /// Texts of the special tokens, UTF-8.
    var specialTokens: [[UInt8]] { vocabulary.added.filter(\.special).map(\.text) }

    /// Id of an added token, nil where there is none of this text.
    func addedId(_ text: [UInt8]) -> Int? { vocabulary.added.last { $0.text == text }?.id }

    /// Ids of a text in which added tokens are meant.
    public func encode(_ text: String) -> [Int] { encode(Array(text.utf8)) }

    /// Ids of a text in which nothing is an added token.
    public func encodeAsText(_ text: String) -> [Int] { encodeAsText(Array(text.utf8)) }

    /// The text of ids, without special tokens and what is no token.
    public func decode(_ ids: [Int]) -> String {
        var text: [UInt8] = []
        var run: [UInt8] = []  // of tokens that are single bytes: characters as a whole, or all of them broken
        func endRun() {
            let whole = String(validating: run, as: UTF8.self) != nil
            text += whole ? run : run.flatMap { _ in "\u{FFFD}".utf8 }
            run = []
        }
        for token in ids.compactMap(shown) {
            if token.isByte {
                run += token.bytes
            } else {
                endRun()
                text += token.bytes
            }
        }
        endRun()
        if case .characters(strip: true) = kind, text.first == UInt8(ascii: " ") { text.removeFirst() }
        return String(decoding: text, as: UTF8.self)
    }

    /// Whether what comes next may change `text`, which is the decoded `ids`: bytes of its last character are to come.
    /// Where tokens that are single bytes follow one another, each may yet make all of them broken characters.
    func awaitsBytes(_ ids: [Int], _ text: String) -> Bool {
        text.unicodeScalars.last == "\u{FFFD}" || ids.reversed().lazy.compactMap(shown).first?.isByte == true
    }

    /// Nil where it is left out of a text.
    private func shown(_ id: Int) -> Token? {
        guard let token = vocabulary.tokens[id], !token.special else { return nil }
        return token
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
        var points = String(decoding: text, as: UTF8.self).unicodeScalars.map(\.value)
        switch kind {
        case .characters: merge(points.flatMap(characterIds), &ids)
        case .bytes(let pattern, let nfc, _):
            if nfc { points = compose(points) }
            let words = pattern.splitter(points)
            var begin = 0
            while begin < points.count {
                let end = words.end(begin)
                let word = utf8(points[begin..<end])
                if let whole = vocabulary.wordIds[word] { ids.append(whole) } else { merge(byteIds(word), &ids) }
                begin = end
            }
        }
    }

    private func byteIds(_ bytes: [UInt8]) -> [Int] { bytes.map { vocabulary.byteIds[Int($0)] } }

    /// Id of a character, or those of its bytes.
    private func characterIds(_ point: UInt32) -> [Int] {
        vocabulary.characterIds[point == 0x20 ? spaceMark.value : point].map { [$0] } ?? byteIds(utf8([point]))
    }

    /// Merges neighbours, the pair of lowest rank first, of equal ones the leftmost. By a heap: words may be long.
    private func merge(_ single: [Int], _ ids: inout [Int]) {
        let count = single.count
        var symbols = single  // -1: merged into its left neighbour
        var before = (0..<count).map { $0 - 1 }
        var after = (0..<count).map { $0 + 1 }
        var candidates = Heap()
        func consider(_ left: Int) {
            guard left >= 0, after[left] < count,
                let merge = vocabulary.merges[pair(symbols[left], symbols[after[left]])]
            else { return }
            candidates.push(Candidate(rank: merge.rank, left: left, id: merge.id))
        }
        for left in 0..<count { consider(left) }
        while let best = candidates.pop() {
            let left = best.left
            guard symbols[left] >= 0, after[left] < count else { continue }
            let right = after[left]
            // Otherwise a neighbour has been merged since.
            guard vocabulary.merges[pair(symbols[left], symbols[right])]?.id == best.id else { continue }
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
        if all.count <= before || !ended && tokenizer.awaitsBytes(tokens, text) { return "" }
        shown = text
        return String(String.UnicodeScalarView(all.dropFirst(before)))
    }
}
