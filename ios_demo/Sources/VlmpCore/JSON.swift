/// A JSON value. Texts are UTF-8: to Swift's strings composed and decomposed characters are equal, to a tokenizer not.
package enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    /// As it is written.
    case number(String)
    case text([UInt8])
    case list([JSON])
    /// In the order of the file.
    case object([Member])

    package struct Member: Sendable, Equatable {
        package let name: [UInt8]
        package let value: JSON
    }

    /// Why a text is no JSON.
    package struct Problem: Error {
        package let message: String
    }

    /// Reads a text of JSON and nothing else. Throws `Problem`.
    package static func parse(_ bytes: [UInt8]) throws -> JSON {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw Problem(message: "it is not UTF-8") }
        return try bytes.withUnsafeBufferPointer { buffer in
            var parser = Parser(bytes: buffer)
            return try parser.document()
        }
    }

    /// A field of an object: of several with this name the last one.
    package subscript(_ name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        let wanted = Array(name.utf8)
        return members.last { $0.name == wanted }?.value
    }
}

private struct Parser {
    static let mostDepth = 256
    let bytes: UnsafeBufferPointer<UInt8>
    var place = 0
    var depth = 0

    mutating func document() throws -> JSON {
        let value = try value()
        skipBlanks()
        if place < bytes.count { throw problem("there is more after its end") }
        return value
    }

    private func problem(_ what: String) -> JSON.Problem { JSON.Problem(message: "\(what), at byte \(place)") }

    private var next: UInt8? { place < bytes.count ? bytes[place] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { place += 1 }
    }

    /// Whether this character comes next, which is passed then.
    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipBlanks()
        guard next == UInt8(ascii: character) else { return false }
        place += 1
        return true
    }

    private mutating func expect(_ character: Unicode.Scalar) throws {
        if !take(character) { throw problem("'\(character)' is missing") }
    }

    private mutating func value() throws -> JSON {
        skipBlanks()
        guard let byte = next else { throw problem("it ends too early") }
        depth += 1
        defer { depth -= 1 }
        if depth > Self.mostDepth { throw problem("it is nested too deeply") }
        switch byte {
        case UInt8(ascii: "{"): return .object(try members())
        case UInt8(ascii: "["): return .list(try items())
        case UInt8(ascii: "\""): return .text(try text())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return .number(try number())
        }
    }

    private mutating func word(_ word: String, _ value: JSON) throws -> JSON {
        guard bytes[place...].starts(with: word.utf8) else { throw problem("an unknown word") }
        place += word.utf8.count
        return value
    }

    private mutating func members() throws -> [JSON.Member] {
        try expect("{")
        var members: [JSON.Member] = []
        if take("}") { return members }
        repeat {
            skipBlanks()
            guard next == UInt8(ascii: "\"") else { throw problem("a name is missing") }
            let name = try text()
            try expect(":")
            members.append(JSON.Member(name: name, value: try value()))
        } while take(",")
        try expect("}")
        return members
    }

    private mutating func items() throws -> [JSON] {
        try expect("[")
        var items: [JSON] = []
        if take("]") { return items }
        repeat { items.append(try value()) } while take(",")
        try expect("]")
        return items
    }

    private mutating func number() throws -> String {
        let start = place
        func digits() throws {
            let first = place
            while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { place += 1 }
            if place == first { throw problem("a value is missing") }
        }
        if next == UInt8(ascii: "-") { place += 1 }
        let whole = place
        try digits()
        if bytes[whole] == UInt8(ascii: "0") && place > whole + 1 { throw problem("a number begins with 0") }
        if next == UInt8(ascii: ".") {
            place += 1
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            place += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { place += 1 }
            try digits()
        }
        return String(decoding: bytes[start..<place], as: UTF8.self)
    }

    private mutating func text() throws -> [UInt8] {
        place += 1  // the quote
        var text: [UInt8] = []
        while let byte = next {
            place += 1
            switch byte {
            case UInt8(ascii: "\""): return text
            case UInt8(ascii: "\\"): text += try escaped()
            case 0..<0x20: throw problem("a control character in a text")
            default: text.append(byte)
            }
        }
        throw problem("a text has no end")
    }

    private mutating func escaped() throws -> [UInt8] {
        guard let byte = next else { throw problem("a text has no end") }
        place += 1
        switch Unicode.Scalar(byte) {
        case "\"", "\\", "/": return [byte]
        case "b": return [0x08]
        case "f": return [0x0C]
        case "n": return [0x0A]
        case "r": return [0x0D]
        case "t": return [0x09]
        case "u": return try character()
        default: throw problem("an unknown escape")
        }
    }

    private mutating func character() throws -> [UInt8] {
        var point = try hexadecimal()
        if (0xD800..<0xDC00).contains(point), bytes[place...].starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "u")]) {
            place += 2
            let low = try hexadecimal()
            if (0xDC00..<0xE000).contains(low) { point = 0x10000 + (point - 0xD800) << 10 + (low - 0xDC00) }
        }
        guard let scalar = Unicode.Scalar(point) else { throw problem("half a character") }
        return Array(UTF8.encode(scalar)!)
    }

    private mutating func hexadecimal() throws -> UInt32 {
        let digits = String(decoding: bytes[place..<min(place + 4, bytes.count)], as: UTF8.self)
        guard digits.utf8.count == 4, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
            throw problem("an escape without four digits")
        }
        place += 4
        return UInt32(digits, radix: 16)!
    }
}

// Writing.

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = JSON(value) }
    package init(integerLiteral value: Int) { self = JSON(value) }
    package init(arrayLiteral elements: JSON...) { self = .list(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(elements.map { Member(name: Array($0.utf8), value: $1) })
    }

    package init(_ value: String) { self = .text(Array(value.utf8)) }
    package init(_ value: Int) { self = .number(String(value)) }
    package init(_ values: [Int]) { self = .list(values.map { JSON($0) }) }
    /// Numbers that are not finite have no JSON: null.
    package init(_ value: Double) { self = value.isFinite ? .number("\(value)") : .null }

    /// In one line, in ASCII.
    package var written: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let digits): digits
        case .text(let bytes): Self.quotedText(bytes)
        case .list(let items): "[" + items.map(\.written).joined(separator: ", ") + "]"
        case .object(let members):
            "{" + members.map { "\(Self.quotedText($0.name)): \($0.value.written)" }.joined(separator: ", ") + "}"
        }
    }

    private static func quotedText(_ bytes: [UInt8]) -> String {
        var text = "\""
        for unit in String(decoding: bytes, as: UTF8.self).utf16 {
            switch unit {
            case 0x22: text += "\\\""
            case 0x5C: text += "\\\\"
            case 0x20..<0x7F: text.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
            default:
                let digits = String(unit, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            }
        }
        return text + "\""
    }
}
