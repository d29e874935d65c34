private let modelSettings = ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]
private let addedSettings = ["single_word", "lstrip", "rstrip", "normalized"]

/// Reads a tokenizer.json. `file` is named in messages.
///
/// Throws `VlmpError.bundle` where it is none, or of another kind, which would give other ids.
public func parseTokenizer(_ text: [UInt8], file: String = "tokenizer.json") throws -> Tokenizer {
    let root = try Field.parse(text, file: file, problem: .tokenizer)
    let kind = try readKind(root)
    let model = try root.at("model")
    let vocab = try model.at("vocab")
    var ids: [[UInt8]: Int] = [:]
    var vocabulary = Tokenizer.Vocabulary()
    for member in try vocab.members() {
        // Fields with their places only where something is wrong: there are 150,000.
        func field() -> Field { vocab.inside(quoted(String(decoding: member.name, as: UTF8.self)), member.value) }
        let id: Int
        if case .number(let digits) = member.value, let number = Int(digits), (0...Field.most).contains(number) {
            id = number
        } else {
            id = try field().int(0)  // refuses it
        }
        let token = kind.meaning(of: member.name)
        if vocabulary.tokens.updateValue(token, forKey: id) != nil {
            throw field().refusal("is another token's id, too")
        }
        if ids.updateValue(id, forKey: member.name) != nil { throw field().refusal("is there twice") }
        switch kind {
        case .characters:
            let points = String(decoding: member.name, as: UTF8.self).unicodeScalars
            if points.count == 1 { vocabulary.characterIds[points.first!.value] = id }
        case .bytes(_, _, wholeWords: true):
            if let word = word(member.name) { vocabulary.wordIds[word] = id }
        case .bytes: break
        }
    }
    vocabulary.byteIds = try (0...UInt8.max).map { byte in
        guard let id = ids[kind.token(of: byte)] else { throw vocab.refusal("has no token for byte \(byte)") }
        return id
    }
    for (rank, field) in try model.at("merges").items().enumerated() {
        let (left, right) = try mergeParts(field)
        func id(of token: [UInt8]) throws -> Int {
            guard let id = ids[token] else {
                let name = quoted(String(decoding: token, as: UTF8.self))
                throw field.refusal("needs token \(name), which is not in the vocabulary")
            }
            return id
        }
        let merge = Tokenizer.Merge(rank: rank, id: try id(of: left + right))
        vocabulary.merges[pair(try id(of: left), try id(of: right))] = merge
    }
    for field in try root.at("added_tokens").items() { try readAdded(field, kind, &ids, &vocabulary) }
    return Tokenizer(kind: kind, vocabulary)
}

/// Refuses all that is not there to be run.
private func readKind(_ root: Field) throws -> Tokenizer.Kind {
    let model = try root.at("model")
    if model.has("type") { try model.at("type").require("BPE") }
    for setting in modelSettings { try model.requireAbsent(setting) }
    if model.has("byte_fallback"), try model.at("byte_fallback").boolean() {
        try model.requireAbsent("ignore_merges")
        return .characters(strip: try readCharacters(root))
    }
    let wholeWords = model.has("ignore_merges") ? try model.at("ignore_merges").boolean() : false
    let pattern = try readPattern(root.at("pre_tokenizer"))
    try root.at("decoder").at("type").require("ByteLevel")
    let nfc = root.has("normalizer")
    if nfc { try root.at("normalizer").at("type").require("NFC") }
    return .bytes(pattern, nfc: nfc, wholeWords: wholeWords)
}

private func readPattern(_ field: Field) throws -> Tokenizer.Pattern {
    try field.at("type").require("Sequence")
    let steps = try field.at("pretokenizers").items()
    if steps.count != 2 { throw field.refusal("must be a split and a byte level step") }
    let (split, byteLevel) = (steps[0], steps[1])
    let byDigits = try split.at("type").value == "Digits"
    try byteLevel.at("type").require("ByteLevel")
    try byteLevel.at("add_prefix_space").require(.bool(false))
    try byteLevel.at("use_regex").require(.bool(byDigits))
    if byDigits {
        try split.at("individual_digits").require(.bool(true))
        return .gpt2
    }
    try split.at("type").require("Split")
    try split.at("behavior").require("Isolated")
    try split.at("invert").require(.bool(false))
    if try split.at("pattern").value == ["Regex": JSON(regex(digits: "\\p{N}{1,3}"))] { return .llama3 }
    try split.at("pattern").require(["Regex": JSON(regex(digits: "\\p{N}"))])
    return .qwen2
}

/// Qwen2's and Llama 3's pattern, with what it says of digits.
private func regex(digits: String) -> String {
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\(digits)| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
        + "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
}

/// Of a vocabulary of characters. Returns whether decoding drops a space at the beginning.
private func readCharacters(_ root: Field) throws -> Bool {
    if root.has("pre_tokenizer") {
        throw try root.at("pre_tokenizer").refusal("must be null where there are tokens for bytes")
    }
    let (space, mark) = (JSON(" "), JSON(String(spaceMark)))
    try requireReplace(root.at("normalizer"), space, by: mark)
    let decoder = try root.at("decoder")
    try decoder.at("type").require("Sequence")
    let steps = try decoder.at("decoders").items()
    if !(3...4).contains(steps.count) { throw decoder.refusal("must have three or four steps") }
    try requireReplace(steps[0], mark, by: space)
    try steps[1].at("type").require("ByteFallback")
    try steps[2].at("type").require("Fuse")
    if steps.count == 3 { return false }
    try steps[3].at("type").require("Strip")
    try steps[3].at("content").require(space)
    try steps[3].at("start").require(1)
    try steps[3].at("stop").require(0)
    return true
}

private func requireReplace(_ field: Field, _ old: JSON, by new: JSON) throws {
    try field.at("type").require("Replace")
    try field.at("pattern").require(["String": old])
    try field.at("content").require(new)
}

/// Two parts of a merge: a list or, in older files, with a space between them.
private func mergeParts(_ field: Field) throws -> ([UInt8], [UInt8]) {
    let parts =
        field.isText
        ? try field.bytes().split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false).map { Array($0) }
        : try field.items().map { try $0.bytes() }
    if parts.count != 2 { throw field.refusal("must be two tokens") }
    return (parts[0], parts[1])
}

private func readAdded(
    _ field: Field, _ kind: Tokenizer.Kind, _ ids: inout [[UInt8]: Int], _ vocabulary: inout Tokenizer.Vocabulary
) throws {
    for setting in addedSettings { try field.requireAbsent(setting) }
    let content = try field.at("content").bytes()
    if content.isEmpty { throw try field.at("content").refusal("is empty") }
    let id = try field.at("id").int(0)
    if let known = ids[content] ?? (vocabulary.tokens[id] == nil ? nil : -1), known != id {
        throw try field.at("id").refusal("is not the token's own")
    }
    let special = try field.at("special").boolean()
    ids[content] = id
    var token = kind.meaning(of: content)
    token.special = special
    vocabulary.tokens[id] = token
    vocabulary.added.append(Tokenizer.Added(text: content, id: id, special: special))
}

extension Tokenizer.Kind {
    /// The token that stands for a byte.
    fileprivate func token(of byte: UInt8) -> [UInt8] {
        guard case .characters = self else { return byteCharacters[Int(byte)] }
        return Array("<0x".utf8) + [byte >> 4, byte & 15].map { hexadecimal[Int($0)] } + [UInt8(ascii: ">")]
    }

    /// What a token stands for; one of bytes with a character that stands for no byte is taken as it is.
    fileprivate func meaning(of token: [UInt8]) -> Tokenizer.Token {
        guard case .characters = self else { return Tokenizer.Token(bytes: word(token) ?? token) }
        if let byte = byte(token) { return Tokenizer.Token(bytes: [byte], isByte: true) }
        let points = String(decoding: token, as: UTF8.self).unicodeScalars.map { $0 == spaceMark ? 0x20 : $0.value }
        return Tokenizer.Token(bytes: utf8(points[...]))
    }
}

/// The byte that a token of a vocabulary of characters stands for, whose digits may be small letters; nil where it
/// stands for a text.
private func byte(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else { return nil }
    let digits = token[3..<5].map { $0 >= UInt8(ascii: "a") ? $0 - 0x20 : $0 }.compactMap(hexadecimal.firstIndex)
    return digits.count == 2 ? UInt8(16 * digits[0] + digits[1]) : nil
}

private let hexadecimal = Array("0123456789ABCDEF".utf8)

/// The bytes that a token's characters stand for, nil where one stands for none.
private func word(_ token: [UInt8]) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in String(decoding: token, as: UTF8.self).unicodeScalars {
        guard let byte = characterBytes[scalar] else { return nil }
        result.append(byte)
    }
    return result
}

/// The printable character that stands for each byte, itself or one from U+0100 on, as UTF-8.
private let byteCharacters: [[UInt8]] = byteScalars.map { Array(UTF8.encode($0)!) }
private let characterBytes = Dictionary(uniqueKeysWithValues: byteScalars.enumerated().map { ($1, UInt8($0)) })
private let byteScalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (0..<256).map { byte -> Unicode.Scalar in
        if (0x21...0x7E).contains(byte) || byte >= 0xA1 && byte != 0xAD { return Unicode.Scalar(UInt8(byte)) }
        defer { next += 1 }
        return Unicode.Scalar(next)!
    }
}()
