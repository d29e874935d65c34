import Foundation
import XCTest

@testable import VlmpCore

/// The host loop against the conformance files, on a stand-in for the runtime that says a script.
final class DialogTests: XCTestCase {
    private let picture = Picture(width: 2, height: 2, rgb: [UInt8](repeating: 9, count: 12))

    func testDialogs() throws {
        for kind in ["", "tower-", "rebuilt-"].flatMap({ ["\($0)rows", "\($0)in_place"] }) {
            for item in try ConformanceFiles.json("dialog/cases.json").at("cases").list {
                let (chat, scripted) = try start(ConformanceFiles.bytes("dialog/\(kind).json"))
                for action in item.at("actions").list {
                    try check(action, chat, scripted, "\(kind): \(item.at("name").string)")
                }
            }
        }
    }

    /// Core ML's bundles are of halves.
    func testHalvesAsWell() throws {
        let text = String(decoding: try ConformanceFiles.bytes("dialog/rows.json"), as: UTF8.self)
        let halves = Array(text.replacingOccurrences(of: "\"float32\"", with: "\"float16\"").utf8)
        let (chat, scripted) = try start(halves)
        scripted.begin([40, 41, 1538])
        XCTAssertEqual(try chat.ask(picture, "Why?").tokens, [40, 41, 1538])
        XCTAssertEqual(scripted.held(chat.session.past).suffix(2), [40, 41])
    }

    func testAStageThatWeighs() throws {
        for kind in ["rows", "in_place"] {
            let (chat, scripted) = try start(Array(weighing(ConformanceFiles.json("dialog/\(kind).json")).written.utf8))
            scripted.begin([40, 41, 1538])
            let kept = try chat.ask(picture, "Why?")
            XCTAssertEqual(kept.tokens, [40, 41, 1538])
            // The first turn has 8 text tokens; no later call adds to it.
            XCTAssertEqual(scripted.bias(0), [8, 9, 10], kind)
            XCTAssertNil(scripted.bias(1))
            XCTAssertEqual(scripted.held(chat.session.past).suffix(2), [40, 41])
            scripted.begin([42, 1538])
            _ = try chat.reply("Why?")
            XCTAssertEqual(scripted.bias(0), [8, 9, 10], kind)
        }
    }

    func testAStageThatWeighsNeedsItsTensors() throws {
        for kind in ["rows", "in_place"] {
            let whole = try weighing(ConformanceFiles.json("dialog/\(kind).json"))
            for methods in [["prefill"], ["decode", "extend"]] {
                let cut = Array(weighing(try ConformanceFiles.json("dialog/\(kind).json"), in: methods).written.utf8)
                XCTAssertEqual(problem { _ = try parseManifest(cut) }?.bundleProblem, .tensors, "\(kind) \(methods)")
            }
            let odd: JSON = [["at": ["shapes", 0, "stages", 0, "weighs"], "value": 1]]
            let text = Array(whole.changed(odd).written.utf8)
            XCTAssertEqual(problem { _ = try parseManifest(text) }?.bundleProblem, .stages)
        }
    }

    func testATokenThatTheModelDoesNotKnowIsRefused() throws {
        let text = String(decoding: try ConformanceFiles.bytes("dialog/rows.json"), as: UTF8.self)
        let (chat, _) = try start(Array(text.replacingOccurrences(of: "2048", with: "1546").utf8))
        guard case .prompt(.noToken, _) = problem({ _ = try chat.ask(picture, "Why?") }) else {
            return XCTFail("taken")
        }
    }

    func testOneTurnAtATime() throws {
        let (chat, scripted) = try start(ConformanceFiles.bytes("dialog/rows.json"))
        scripted.begin([40, 1538])
        var refused = 0
        _ = try chat.ask(picture, "Why?") { [picture] _ in
            for call in [{ _ = try chat.ask(picture, "Why?") }, { _ = try chat.reply("Why?") }, { try chat.reset() }] {
                if case .turn(.busy, _) = problem(call) { refused += 1 }
            }
        }
        XCTAssertEqual(refused, 3)
    }

    func testWhatOnTextThrowsEndsTheTurnAndTheConversationGoesOn() throws {
        struct Gone: Error {}
        let (chat, scripted) = try start(ConformanceFiles.bytes("dialog/rows.json"))
        scripted.begin([40, 41, 1538])
        XCTAssertThrowsError(try chat.ask(picture, "Why?") { _ in throw Gone() }) { XCTAssert($0 is Gone) }
        XCTAssertEqual(chat.unfed, 40)
        scripted.begin([7, 42, 1538])  // the first is said after 40, and dropped
        XCTAssertEqual(try chat.reply("Why?").tokens, [42, 1538])
    }

    func testSamplingGoesOnThroughTurnsAndResetSeedsItAnew() throws {
        let sampling = Sampling(temperature: 100, topP: 1, seed: 3)!
        let (chat, scripted) = try start(ConformanceFiles.bytes("dialog/rows.json"), sampling)
        func answer() throws -> [Int] {
            scripted.begin([])
            return try chat.ask(picture, "Why?", limit: 4).tokens
        }
        let (first, second) = (try answer(), try answer())
        XCTAssertNotEqual(first, second)
        try chat.reset()
        XCTAssertEqual(try answer(), first)
    }

    func testTimings() throws {
        let scripted = ScriptedOpener()
        let manifest = try parseManifest(ConformanceFiles.bytes("dialog/rows.json"))
        let session = try Session(manifest, ConformanceFiles.folder, scripted)
        let chat = Chat(session, try ConformanceFiles.tokenizer("tiny"), clock: counting())
        scripted.opened!.begin([40, 41, 1538])
        var timings = Timings()
        (timings.preprocessMs, timings.visionMs, timings.prefillMs, timings.decodeMs) = (1.5, 1.5, 1.5, [1.5, 1.5])
        XCTAssertEqual(try chat.ask(picture, "Why?").timings, timings)
        XCTAssertEqual(timings.firstTokenMs, 4.5)
        XCTAssertEqual(timings.decodeTokensPerSecond, 1000 / 1.5, accuracy: 1e-9)
    }

    /// The manifest of a bundle whose first stage weighs, with the tensors of that in some methods.
    private func weighing(_ manifest: JSON, in methods: [String] = ["prefill", "decode", "extend"]) -> JSON {
        let inPlace = manifest.at("shapes").list[0].at("kv").at("update") == "in_place"
        func bias(_ name: String) -> JSON { ["name": JSON(name), "shape": [3], "dtype": "float32"] }
        var changes: [JSON] = [["at": ["shapes", 0, "stages", 0, "weighs"], "value": .bool(true)]]
        for method in methods {
            for (kind, name) in [("inputs", "bias_cache_0"), ("outputs", "bias_0")]
            where inPlace || (method == "prefill") == (kind == "outputs") {
                let tensors = manifest.at("methods").at(method).at(kind).list + [bias(name)]
                changes.append(["at": ["methods", JSON(method), JSON(kind)], "value": .list(tensors)])
            }
        }
        return manifest.changed(.list(changes))
    }

    private func start(_ manifest: [UInt8], _ sampling: Sampling = .greedy) throws -> (Chat, Scripted) {
        let opener = ScriptedOpener()
        let session = try Session(parseManifest(manifest), ConformanceFiles.folder, opener)
        return (Chat(session, try ConformanceFiles.tokenizer("tiny"), sampling: sampling), opener.opened!)
    }

    /// Does an action, and compares all that comes of it.
    private func check(_ action: JSON, _ chat: Chat, _ scripted: Scripted, _ name: String) throws {
        let then = action.at("then")
        scripted.begin(
            action.optional("script")?.ints ?? [], failsAt: action.optional("fails_at")?.int,
            notFiniteAt: action.optional("not_finite_at")?.int, stopIn: action.optional("stop_in")?.int)
        let stop = Stop()
        var pieces: [String] = []
        let onText = { (piece: String) in
            pieces.append(piece)
            if pieces.count == action.optional("stop_after")?.int { stop.ask() }
        }
        let limit = action.optional("limit")?.int
        let meant = action.optional("control_tokens") == .bool(true)
        let first = action.at("do") == "ask"
        do {
            if action.at("do") == "reset" {
                try chat.reset()
            } else {
                let words = action.at("prompt").string
                let answer =
                    first
                    ? try chat.ask(picture, words, limit: limit, controlTokens: meant, stop: stop, onText: onText)
                    : try chat.reply(words, limit: limit, controlTokens: meant, stop: stop, onText: onText)
                XCTAssertEqual(answer.tokens, then.optional("tokens")?.ints, name)
                XCTAssertEqual(answer.text, then.optional("text")?.string, name)
                XCTAssertEqual(pieces, then.optional("pieces")?.list.map(\.string), name)
                XCTAssertEqual(answer.end == .stopped, then.optional("stopped") == .bool(true), name)
                let seen = first && !answer.tokens.isEmpty
                XCTAssertEqual(answer.stages, seen ? [[1, 2, 3], [1, 3]] : [], name)
                XCTAssertEqual(answer.order, seen ? [3, 1] : [], name)
            }
            XCTAssertNil(then.optional("refused") ?? then.optional("failed"), name)
        } catch let error as VlmpError {
            if case .runtime = error {
                XCTAssertEqual(then.optional("failed"), .bool(true), "\(name): \(error)")
            } else {
                XCTAssertEqual(refusal(error), refusal(then), name)
            }
        }
        XCTAssertEqual(.list(scripted.calls), then.at("calls"), name)
        let held = scripted.held(chat.session.past)
        XCTAssertEqual(held, then.at("held").ints, name)
        let fed: [Float] = held.enumerated().flatMap { [Float($1), Float($0)] }
        for state in chat.session.progress.states.values {
            XCTAssertEqual(state.floats, Array(([0, 0, 0, 0] + fed).suffix(4)), name)
        }
        XCTAssertEqual(chat.unfed.map { [$0] } ?? [], then.at("unfed").ints, name)
        XCTAssertEqual(chat.session.room, then.at("room").int, name)
    }

    private func refusal(_ then: JSON) -> String {
        let numbers = ["tokens", "needed", "most"].compactMap { then.optional($0)?.int }
        return "\(then.optional("refused")?.string ?? "nothing") \(numbers)"
    }

    private func refusal(_ error: VlmpError) -> String {
        switch error {
        case .prompt(.empty, _): "empty_prompt []"
        case .prompt(.tooLong(let tokens, let most), _): "prompt_too_long \([tokens, most])"
        case .turn(.limit(let most), _): "limit \([most])"
        case .turn(.noImage, _): "no_image []"
        case .turn(.full(let needed, _), _): "full \([needed])"
        default: "\(error)"
        }
    }
}

/// A clock of which each look is 1.5 ms later than the one before.
func counting() -> MonotonicClock {
    let looks = Looks()
    return { looks.next() * 1.5 }
}

/// Counts, on any thread.
final class Looks: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0.0

    func next() -> Double {
        lock.withLock {
            count += 1
            return count
        }
    }
}
