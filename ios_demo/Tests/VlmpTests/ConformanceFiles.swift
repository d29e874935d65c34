import Foundation
import XCTest

@testable import VlmpCore

/// The files that every reader of a bundle is tested by: tests/conformance/README.md.
enum ConformanceFiles {
    static let folder = URL(fileURLWithPath: #filePath).appendingPathComponent(
        "../../../../tests/conformance/files"
    ).standardizedFileURL

    static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appendingPathComponent(path)))
    }

    static func json(_ path: String) throws -> JSON { try JSON.parse(bytes(path)) }

    /// Little-endian numbers.
    static func numbers<Number>(_ path: String, _: Number.Type) throws -> [Number] {
        try bytes(path).withUnsafeBytes { memory in
            (0..<memory.count / MemoryLayout<Number>.size).map {
                memory.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Number>.size, as: Number.self)
            }
        }
    }

    static func tokenizer(_ name: String) throws -> Tokenizer {
        try parseTokenizer(bytes("tokenizer/\(name)/tokenizer.json"))
    }

    static func picture(_ path: String) throws -> Picture {
        try Picture(photo: Data(contentsOf: folder.appendingPathComponent(path)))
    }
}

/// Of what is known to be there; a test ends where it is not.
extension JSON {
    var list: [JSON] {
        guard case .list(let items) = self else { fatalError("\(self) is no list") }
        return items
    }

    var members: [Member] {
        guard case .object(let members) = self else { fatalError("\(self) is no object") }
        return members
    }

    var utf8: [UInt8] {
        guard case .text(let bytes) = self else { fatalError("\(self) is no text") }
        return bytes
    }

    var string: String { String(decoding: utf8, as: UTF8.self) }

    var double: Double {
        guard case .number(let digits) = self else { fatalError("\(self) is no number") }
        return Double(digits)!
    }

    var int: Int { Int(double) }

    var ints: [Int] { list.map(\.int) }

    func at(_ name: String) -> JSON { self[name]! }

    /// Nil where a field is absent or null.
    func optional(_ name: String) -> JSON? { self[name] == .null ? nil : self[name] }

    /// As the files write a change.
    func changed(_ changes: JSON) -> JSON {
        changes.list.reduce(self) { $0.setting($1.at("at").list[...], $1["value"]) }
    }

    private func setting(_ path: ArraySlice<JSON>, _ value: JSON?) -> JSON {
        guard let step = path.first else { return value! }
        let rest = path.dropFirst()
        switch self {
        case .object(var members):
            let place = members.firstIndex { $0.name == step.utf8 }
            let new = rest.isEmpty ? value : members[place!].value.setting(rest, value)
            if let place { members.remove(at: place) }
            if let new { members.insert(Member(name: step.utf8, value: new), at: place ?? members.count) }
            return .object(members)
        case .list(var items):
            if let new = rest.isEmpty ? value : items[step.int].setting(rest, value) {
                items[step.int] = new
            } else {
                items.remove(at: step.int)
            }
            return .list(items)
        default: fatalError("\(self) has no parts")
        }
    }
}

/// What a call throws, nil where it is no error of ours.
func problem(_ call: () throws -> Void) -> VlmpError? {
    do {
        try call()
    } catch {
        return error as? VlmpError
    }
    return nil
}

extension VlmpError {
    var bundleProblem: BundleProblem? {
        if case .bundle(let problem, _) = self { problem } else { nil }
    }
}

/// A folder that is gone with the test.
func temporaryFolder(_ test: XCTestCase) throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("vlmp-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    test.addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
    return folder
}

/// Damages texts of JSON, half of the times their bytes and half of the times their tree, and hands them to `read`,
/// which must throw `VlmpError` or nothing. Some of both must come.
func fuzz(_ texts: [[UInt8]], seed: UInt64, rounds: Int, _ read: ([UInt8]) throws -> Void) throws {
    var random = Mt19937(seed)
    let trees = try texts.map { try JSON.parse($0) }
    var (refused, same) = (0, 0)
    for round in 0..<rounds {
        let number = Int(random.next() % UInt64(texts.count))
        var text = texts[number]
        if round % 2 == 0 {
            for _ in 0...random.next() % 3 {
                let place = Int(random.next() % UInt64(text.count))
                switch random.next() % 3 {
                case 0: text.remove(at: place)
                case 1: text[place] = UInt8(truncatingIfNeeded: random.next())
                default: text.insert(text[Int(random.next() % UInt64(text.count))], at: place)
                }
            }
        } else {
            text = Array(damaged(trees[number], &random).written.utf8)
        }
        do {
            try read(text)
            same += 1
        } catch let error as VlmpError {
            XCTAssertFalse(error.message.isEmpty || error.message.contains("\n"), error.message)
            refused += 1
        }
    }
    XCTAssert(refused > rounds / 10 && same > 0, "\(refused) refused, \(same) not")
}

/// A tree in which one value is another.
private func damaged(_ tree: JSON, _ random: inout Mt19937) -> JSON {
    let values: [JSON] = [
        .null, .bool(true), -1, 0, 1, 7, 16_777_216, 16_777_217, 4_294_967_296, .number("9223372036854775807"),
        .number("1e300"), .number("0.5"), "", "..", "float16", "key_0", [], [[]], [:], [0, 0], [1, 3, 16_777_216],
    ]
    let other = values[Int(random.next() % UInt64(values.count))]
    switch tree {
    case .object(var members) where !members.isEmpty && random.next() % 8 != 0:
        let place = Int(random.next() % UInt64(members.count))
        if random.next() % 8 == 0 {
            members.remove(at: place)
        } else {
            members[place] = JSON.Member(name: members[place].name, value: damaged(members[place].value, &random))
        }
        return .object(members)
    case .list(var items) where !items.isEmpty && random.next() % 8 != 0:
        let place = Int(random.next() % UInt64(items.count))
        items[place] = damaged(items[place], &random)
        return .list(items)
    default: return other
    }
}
