#if canImport(VlmpOrt)
import Foundation
@testable import VlmpCore
import VlmpOrt
import XCTest

/// The folder of bundles that VLMP_BUNDLES names; without it a test is skipped.
func bundleFolder(_ name: String) throws -> URL {
    guard let folder = ProcessInfo.processInfo.environment["VLMP_BUNDLES"] else {
        throw XCTSkip("VLMP_BUNDLES names no bundles: tests/ios/test_swift_package.py exports them")
    }
    return URL(fileURLWithPath: folder).appendingPathComponent(name)
}

/// Real bundles on ONNX Runtime against what PyTorch answered.
final class StepsTests: XCTestCase {
    func testPruned() async throws { try await check("onnx-pruned") }

    func testUnpruned() async throws { try await check("onnx-unpruned") }

    func testStaged() async throws { try await check("onnx-staged") }

    func testInt4() async throws { try await check("onnx-int4") }

    private func check(_ name: String) async throws {
        let folder = try bundleFolder(name)
        let cases = try ConformanceFiles.json("steps/cases.json")
        let expected = cases.at("expected").at(cases.at("bundles").at(name).at("expected").string)
        let session = try Session(try readBundle(folder), folder, OrtOpener(), threads: 1)
        try check(session, Expected(expected))
        // Rounding may turn a near tie, after which answers differ.
        if expected.at("top1_share").double == 1 { try await converse(folder, expected) }
    }

    /// With the expected tokens, so that each step is judged by itself.
    private func check(_ session: Session, _ expected: Expected) throws {
        for conversation in expected.json.at("conversations").list {
            let seen = try see(conversation, session)
            for turn in conversation.at("turns").list {
                var logits: [[Float]] = []
                if turn.at("do") == "ask" {
                    let first = try session.prefill(turn.at("ids").ints, seen)
                    expected.compareKept(first, turn)
                    logits.append(first.logits)
                } else {
                    for token in turn.at("unfed").ints { _ = try session.decode(token) }
                    logits.append(try session.extend(turn.at("ids").ints))
                }
                for token in turn.at("tokens").ints.dropLast() { logits.append(try session.decode(token)) }
                expected.compare(turn.at("first_row").int, logits)
            }
        }
        let forced = expected.json.at("forced")
        let first = try session.prefill(forced.at("ids").ints, try see(forced, session))
        expected.compareKept(first, forced)
        var logits = [first.logits]
        for token in forced.at("decode").ints { logits.append(try session.decode(token)) }
        logits.append(try session.extend(forced.at("extend").ints))
        if let token = forced.optional("decode_after") { logits.append(try session.decode(token.int)) }
        expected.compare(forced.at("first_row").int, logits)
        expected.checkShares()
    }

    /// The whole host loop, from photo and words to text.
    private func converse(_ folder: URL, _ expected: JSON) async throws {
        let engine = Engine(["onnx": OrtOpener()])
        try await engine.load(folder, threads: 1)
        for conversation in expected.at("conversations").list {
            let photo = try ConformanceFiles.picture("steps/\(conversation.at("photo").string)")
            for turn in conversation.at("turns").list {
                let picture = turn.at("do") == "ask" ? photo : nil
                let question = Question(
                    turn.at("prompt").string, about: picture, limit: turn.optional("limit")?.int)
                let answer = try await engine.answer(question)
                XCTAssertEqual(answer.tokens, turn.at("tokens").ints)
                XCTAssertEqual(answer.text, turn.at("text").string)
                XCTAssertEqual(answer.stages, turn.at("stages").list.map(\.ints))
                XCTAssertEqual(answer.order, turn.at("order").ints)
                XCTAssertEqual(answer.timings.decodeMs.count, answer.tokens.count - 1)
            }
        }
    }

    private func see(_ conversation: JSON, _ session: Session) throws -> Seen {
        let photo = try ConformanceFiles.picture("steps/\(conversation.at("photo").string)")
        return try session.vision(toPixels(photo, session.manifest))
    }
}

/// What is expected of a bundle, and how near it came.
private final class Expected {
    let json: JSON
    private let logits: [Float]
    private let relative: Float
    private let exact: Bool
    private var keptShares: [Double] = []
    private var sameTop: [Bool] = []

    init(_ json: JSON) throws {
        self.json = json
        logits = try ConformanceFiles.numbers("steps/\(json.at("logits").string)", Float.self)
        relative = Float(json.at("relative").double)
        exact = json.at("top1_share").double == 1
    }

    /// Logits from a row on. Each must be as near as the files say.
    func compare(_ firstRow: Int, _ found: [[Float]]) {
        let size = json.at("vocab_size").int
        for (place, row) in found.enumerated() {
            let wanted = Array(logits[(firstRow + place) * size..<(firstRow + place + 1) * size])
            let most = wanted.map(\.magnitude).max()! * relative
            let farthest = zip(wanted, row).map { ($0 - $1).magnitude }.max()!
            XCTAssertLessThanOrEqual(farthest, most, "row \(firstRow + place)")
            XCTAssertEqual(row.count, size)
            sameTop.append(wanted.max()! - wanted[largest(row)] <= (exact ? 0 : most))
        }
    }

    func compareKept(_ found: Prefilled, _ wanted: JSON) {
        let stages = wanted.at("stages").list.map(\.ints)
        XCTAssertEqual(found.stages.count, stages.count)
        for (one, other) in zip(found.stages, stages) {
            keptShares.append(Double(Set(one).intersection(other).count) / Double(other.count))
        }
        XCTAssertEqual(found.order.sorted(), found.stages.last)
        if exact, let order = wanted["order"] { XCTAssertEqual(found.order, order.ints) }
    }

    func checkShares() {
        let kept = keptShares.reduce(0, +) / Double(keptShares.count)
        XCTAssertGreaterThanOrEqual(kept, json.at("kept_share").double)
        let same = Double(sameTop.filter { $0 }.count) / Double(sameTop.count)
        XCTAssertGreaterThanOrEqual(same, json.at("top1_share").double)
    }
}
#endif
