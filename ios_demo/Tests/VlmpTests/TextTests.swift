import XCTest

@testable import VlmpCore

/// The tokenizer against the conformance files, and against damage drawn by lot.
final class TextTests: XCTestCase {
    private let names = ["tiny", "trained", "older", "llama", "smollm", "llama3"]

    func testTextsToIdsAndBack() throws {
        for name in names {
            let tokenizer = try ConformanceFiles.tokenizer(name)
            let cases = try ConformanceFiles.json("tokenizer/\(name)/cases.json")
            for item in cases.at("encode").list.map(\.list) {
                let (text, ids) = (item[0].string, item[1].ints)
                XCTAssertEqual(tokenizer.encode(text), ids, "\(name): \(item[0])")
                // As bytes: to == of strings, composed and decomposed characters are the same.
                XCTAssertEqual(
                    Array(tokenizer.decode(ids).utf8), item.count == 3 ? item[2].utf8 : item[0].utf8, "\(name): \(ids)")
            }
            for item in cases.at("decode").list.map(\.list) {
                XCTAssertEqual(Array(tokenizer.decode(item[0].ints).utf8), item[1].utf8, "\(name): \(item[0])")
            }
            let added = try ConformanceFiles.json("tokenizer/\(name)/tokenizer.json").at("added_tokens").list
            let control = added.map { $0.at("content").utf8 }.filter { $0.first == UInt8(ascii: "<") }
            for item in cases.at("as_text").list.map(\.list) {
                let ids = try encodeTurn(tokenizer, mark, item[0].utf8, control)
                XCTAssertEqual(ids, item[1].ints, "\(name): \(item[0])")
            }
        }
    }

    func testCodePoints() throws {
        for name in ["tiny", "trained"] {
            let tokenizer = try ConformanceFiles.tokenizer(name)
            let numbers = try ConformanceFiles.numbers("tokenizer/\(name)/code_points.bin", UInt16.self)
            let points = (0...0x10FFFF as ClosedRange<UInt32>).lazy.compactMap { Unicode.Scalar($0) }
            var (place, tested) = (0, 0)
            for (index, point) in points.enumerated() where index % 23 == 0 {
                let count = Int(numbers[place])
                let ids = numbers[place + 1...place + count].map { Int($0) }
                if tokenizer.encode(String(point)) != ids { XCTFail("\(name): \(point.value)") }
                place += 1 + count
                tested += 1
            }
            XCTAssertEqual(place, numbers.count)
            XCTAssertEqual(tested, 48_351)
        }
    }

    func testPrompts() throws {
        let tokenizers = try Dictionary(uniqueKeysWithValues: names.map { ($0, try ConformanceFiles.tokenizer($0)) })
        for item in try ConformanceFiles.json("prompt/cases.json").at("cases").list {
            let tokenizer = tokenizers[item.at("tokenizer").string]!
            let listed = item.at("control_tokens").list.map(\.utf8)
            let control = item.at("meant") == .bool(true) ? [] : listed.isEmpty ? tokenizer.specialTokens : listed
            let (template, words) = (item.at("template").utf8, item.at("prompt").utf8)
            if let ids = item["ids"] {
                XCTAssertEqual(try encodeTurn(tokenizer, template, words, control), ids.ints, item.written)
            } else {
                guard
                    case .prompt(.controlToken, _) = problem({ _ = try encodeTurn(tokenizer, template, words, control) }
                    )
                else { return XCTFail(item.written) }
            }
        }
    }

    func testStreams() throws {
        for item in try ConformanceFiles.json("stream/cases.json").at("cases").list {
            var stream = TextStream(try ConformanceFiles.tokenizer(item.at("tokenizer").string))
            let ids = item.at("ids").ints
            let chunks = ids.indices.map { stream.next(Array(ids[...$0]), ended: $0 == ids.count - 1) }
            XCTAssertEqual(chunks.map { Array($0.utf8) }, item.at("chunks").list.map(\.utf8), item.written)
        }
    }

    func testTokenizersOfOtherKindsAreRefused() throws {
        let refused = try ConformanceFiles.json("tokenizer/refused.json")
        let ofTiny = (name: refused.at("base").string, cases: refused.at("cases"))
        let ofOthers = refused.at("other_bases").members.map {
            (name: String(decoding: $0.name, as: UTF8.self), cases: $0.value)
        }
        XCTAssertEqual(ofOthers.count, 3)
        for (name, cases) in [ofTiny] + ofOthers {
            let base = try ConformanceFiles.json("tokenizer/\(name)/tokenizer.json")
            for item in cases.list {
                let text = Array(base.changed(item.at("change")).written.utf8)
                let found = problem { _ = try parseTokenizer(text) }?.bundleProblem
                XCTAssertEqual(found, .tokenizer, "\(name): \(item.written)")
            }
        }
    }

    func testByteTokensInSmallLettersAreBytes() throws {
        let change: JSON = [["at": ["model", "vocab", "<0xe9>"], "value": 800]]
        let json = try ConformanceFiles.json("tokenizer/llama/tokenizer.json").changed(change)
        XCTAssertEqual(try parseTokenizer(Array(json.written.utf8)).decode([800]), "\u{FFFD}")
    }

    /// The vocabulary of the conformance files has no token that would show it.
    func testNumbersOfANewerUnicodeAreWords() {
        let words = WordsGpt2([0x20, 0x11DE0, 0x11DE0])
        XCTAssertEqual([words.end(0), words.end(1), words.end(2)], [1, 2, 3])
    }

    func testDamagedTokenizersAreRefusedOrRead() throws {
        let texts = try ["trained", "llama", "smollm"].map {
            try ConformanceFiles.bytes("tokenizer/\($0)/tokenizer.json")
        }
        try fuzz(texts, seed: 8, rounds: 300) {
            let tokenizer = try parseTokenizer($0)
            _ = tokenizer.decode(tokenizer.encode("Wie geht's? <|im_end|>"))
        }
    }

    func testLongWordsTakeNoSquareOfTime() throws {
        for name in ["tiny", "llama", "smollm", "llama3"] {
            let tokenizer = try ConformanceFiles.tokenizer(name)
            for part in ["ab", "12", "- "] {
                let text = String(repeating: part, count: 100_000)
                XCTAssertEqual(tokenizer.decode(tokenizer.encode(text)), text, name)
            }
        }
    }
}
