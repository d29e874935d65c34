private let pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    + "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
private let modelSettings = [
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges",
]
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
    var tokens: [Int: Tokenizer.Token] = [:]
    for member in try vocab.members() {
        // Fields with their places only where something is wrong: there are 150,000.
        func field() -> Field { vocab.inside(quoted(String(decoding: member.name, as: UTF8.self)), member.value) }
        let id: Int
        if case .number(let digits) = member.value, let number = Int(digits), (0...Field.most).contains(number) {
            id = number
        } else {
            id = try field().int(0)  // refuses it
        }
        let token = Tokenizer.Token(bytes: bytes(of: member.name), special: false)
        if tokens.updateValue(token, forKey: id) != nil { throw field().refusal("is another token's id, too") }
        if ids.updateValue(id, forKey: member.name) != nil { throw field().refusal("is there twice") }
    }
    let byteIds = try byteCharacters.enumerated().map { byte, character in
        guard let id = ids[character] else { throw vocab.refusal("has no token for byte \(byte)") }
        return id
    }
    var merges: [UInt64: Tokenizer.Merge] = [:]
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
        merges[pair(try id(of: left), try id(of: right))] = merge
    }
    let added = try root.at("added_tokens").items().map { try readAdded($0, &ids, &tokens) }
    return Tokenizer(kind: kind, byteIds: byteIds, merges: merges, tokens: tokens, added: added)
}

/// Refuses all that is not there to be run.
private func readKind(_ root: Field) throws -> Tokenizer.Kind {
    let model = try root.at("model")
    if model.has("type") { try model.at("type").require("BPE") }
    for setting in modelSettings { try model.requireAbsent(setting) }
    let preTokenizer = try root.at("pre_tokenizer")
    try preTokenizer.at("type").require("Sequence")
    let steps = try preTokenizer.at("pretokenizers").items()
    if steps.count != 2 { throw preTokenizer.refusal("must be a split and a byte level step") }
    let (split, byteLevel) = (steps[0], steps[1])
    try split.at("type").require("Split")
    try split.at("pattern").require(["Regex": JSON(pattern)])
    try split.at("behavior").require("Isolated")
    try split.at("invert").require(.bool(false))
    try byteLevel.at("type").require("ByteLevel")
    try byteLevel.at("add_prefix_space").require(.bool(false))
    try byteLevel.at("use_regex").require(.bool(false))
    try root.at("decoder").at("type").require("ByteLevel")
    if !root.has("normalizer") { return .qwen2(nfc: false) }
    try root.at("normalizer").at("type").require("NFC")
    return .qwen2(nfc: true)
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
    _ field: Field, _ ids: inout [[UInt8]: Int], _ tokens: inout [Int: Tokenizer.Token]
) throws -> Tokenizer.Added {
    for setting in addedSettings { try field.requireAbsent(setting) }
    let content = try field.at("content").bytes()
    if content.isEmpty { throw try field.at("content").refusal("is empty") }
    let id = try field.at("id").int(0)
    if let known = ids[content] ?? (tokens[id] == nil ? nil : -1), known != id {
        throw try field.at("id").refusal("is not the token's own")
    }
    let special = try field.at("special").boolean()
    ids[content] = id
    tokens[id] = Tokenizer.Token(bytes: bytes(of: content), special: special)
    return Tokenizer.Added(text: content, id: id, special: special)
}

/// What a token stands for; one with a character that stands for no byte is taken as it is.
private func bytes(of token: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    for scalar in String(decoding: token, as: UTF8.self).unicodeScalars {
        guard let byte = characterBytes[scalar] else { return token }
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
