/// Stands for the user's words in a template.
let mark = Array("{prompt}".utf8)

/// Ids of a template with the user's words in it.
///
/// What a user types is text, whatever it looks like, unless `controlTokens` are meant. `most`: ids that have room.
/// Throws `VlmpError.prompt`.
func encodePrompt(
    _ tokenizer: Tokenizer, _ manifest: Manifest, template: String, _ words: String, most: Int, controlTokens: Bool
) throws -> [Int] {
    let listed = manifest.prompt.controlTokens.map { Array($0.utf8) }
    let control = controlTokens ? [] : listed.isEmpty ? tokenizer.specialTokens : listed
    let template = Array(template.utf8)
    let ids = try encodeTurn(tokenizer, template, Array(words.utf8), control)
    if ids.contains(where: { $0 >= manifest.vocabSize }) {
        throw VlmpError.prompt(
            .noToken, "The question has a token that this bundle's model does not know: reword it.")
    }
    let around = try encodeTurn(tokenizer, template, [], []).count
    if ids.count > most {
        let (own, room) = (ids.count - around, max(0, most - around))
        throw VlmpError.prompt(
            .tooLong(tokens: own, most: room),
            "The question has \(own) tokens, this bundle takes up to \(room): shorten it.")
    }
    return ids
}

/// Throws `VlmpError.prompt` where there is nothing but white space.
func checkWords(_ words: String) throws {
    if words.unicodeScalars.allSatisfy({ isSpace($0.value) || (0x1C...0x1F).contains($0.value) }) {
        throw VlmpError.prompt(.empty, "The question is empty: ask something about the picture.")
    }
}

/// The same without limits. `control`: tokens that are text where the user types them.
func encodeTurn(
    _ tokenizer: Tokenizer, _ template: [UInt8], _ words: [UInt8], _ control: [[UInt8]]
) throws -> [Int] {
    var ids: [Int] = []
    for (place, piece) in filled(template, cut(words, control)).enumerated() {
        ids += place % 2 == 1 ? tokenizer.encodeAsText(piece) : tokenizer.encode(piece)
    }
    let meant = Set(control.compactMap(tokenizer.addedId))
    let own = tokenizer.encode(filled(template, [[]])[0])
    if ids.filter(meant.contains) != own.filter(meant.contains) {
        throw VlmpError.prompt(
            .controlToken, "The question is no plain text to this bundle's tokenizer: reword it.")
    }
    return ids
}

/// Text, control token, text, ..., text. Of several tokens that begin at one place the longest is taken.
private func cut(_ words: [UInt8], _ control: [[UInt8]]) -> [[UInt8]] {
    let longestFirst = control.sorted { $0.count > $1.count }
    var pieces: [[UInt8]] = []
    var plain = 0
    var place = 0
    while place < words.count {
        guard let token = longestFirst.first(where: { words[place...].starts(with: $0) }) else {
            place += 1
            continue
        }
        pieces += [Array(words[plain..<place]), token]
        place += token.count
        plain = place
    }
    return pieces + [Array(words[plain...])]
}

/// The template with these pieces in the place of each mark, cut at the control tokens alike.
private func filled(_ template: [UInt8], _ pieces: [[UInt8]]) -> [[UInt8]] {
    var all: [[UInt8]] = []
    var open: [UInt8] = []
    var place = 0
    while place < template.count {
        if template[place...].starts(with: mark) {
            open += pieces[0]
            for piece in pieces.dropFirst() {
                all.append(open)
                open = piece
            }
            place += mark.count
        } else {
            open.append(template[place])
            place += 1
        }
    }
    return all + [open]
}

/// Whether bytes stand somewhere in others.
func contains(_ text: [UInt8], _ part: [UInt8]) -> Bool {
    text.indices.contains { text[$0...].starts(with: part) }
}
