import Foundation
import XCTest

@testable import VlmpCore

/// The engine that an app holds, on a runtime that says a script.
final class EngineTests: XCTestCase {
    private let picture = Picture(width: 2, height: 2, rgb: [UInt8](repeating: 9, count: 12))
    private let opener = ScriptedOpener()
    private let states = States()

    func testAnswersAsAStream() async throws {
        let engine = try await started()
        opener.opened!.begin([40, 41, 1538])
        var replies: [Reply] = []
        for try await reply in engine.replies(to: Question("Why?", about: picture)) { replies.append(reply) }
        guard case .answer(let answer) = replies.popLast() else { return XCTFail("no answer") }
        XCTAssertEqual(replies, [.text("I"), .text("J")])
        XCTAssertEqual(answer.tokens, [40, 41, 1538])
        XCTAssertEqual(answer.end, .finished)
        opener.opened!.begin([42, 1538])
        let second = try await engine.answer(Question("And?"))
        XCTAssertEqual(second.text, "K")
        XCTAssertEqual(engine.runtimeName, "scripted 1")
        XCTAssertEqual(engine.manifest?.model, "scripted")
        await engine.close()
        XCTAssertNil(engine.manifest)
        XCTAssertEqual(states.told(7), "loading ready answering ready answering ready empty")
    }

    func testAStopFromOutsideEndsTheTurn() async throws {
        let engine = try await started()
        opener.opened!.begin([Int](repeating: 40, count: 30))
        var calls = 0
        opener.opened!.onCall = {
            calls += 1
            if calls == 4 { engine.stop() }  // in the second decode
        }
        let answer = try await engine.answer(Question("Why?", about: picture))
        XCTAssertEqual(answer.end, .stopped)
        XCTAssertEqual(answer.tokens, [40, 40])
        XCTAssertEqual(engine.state, .ready)
        engine.stop()  // nothing runs: it does nothing
        opener.opened!.begin([7, 1538])  // the first is said after the last token of before, and dropped
        opener.opened!.onCall = {}
        let next = try await engine.answer(Question("Why?"))
        XCTAssertEqual(next.end, .finished)
        XCTAssertEqual(states.told(7), "loading ready answering stopping ready answering ready")
    }

    func testACancelledTaskEndsTheTurn() async throws {
        let engine = try await started()
        opener.opened!.begin([Int](repeating: 40, count: 30))
        let picture = picture
        var pieces = 0
        for try await reply in engine.replies(to: Question("Why?", about: picture)) {
            if case .text = reply { pieces += 1 }
            if pieces == 1 { break }
        }
        try await engine.reset()  // waits until the turn is over
        XCTAssertEqual(engine.state, .ready)
    }

    func testRefusalsLeaveItReady() async throws {
        let engine = try await started()
        for (question, wanted) in [
            (Question("And?"), "no picture"), (Question(" ", about: picture), "empty"),
            (Question("Why?", about: picture, limit: 0), "allows 1 to 24"),
        ] {
            do {
                _ = try await engine.answer(question)
                XCTFail("answered")
            } catch let error as VlmpError {
                XCTAssert(error.message.contains(wanted), error.message)
                XCTAssertEqual(error.localizedDescription, error.message)
            }
            XCTAssertEqual(engine.state, .ready)
        }
    }

    func testNothingIsLoaded() async throws {
        let engine = Engine([:])
        do {
            _ = try await engine.answer(Question("Why?", about: picture))
            XCTFail("answered")
        } catch VlmpError.turn(.closed, _) {}
        await engine.close()
        XCTAssertEqual(engine.state, .empty)
    }

    func testWhatCannotBeLoaded() async throws {
        let folder = try bundle()
        for (engine, wanted) in [
            (Engine(["coreml": opener]), "bundle is for executorch: this app runs coreml"),
            (Engine(["executorch": opener], freeMemory: { 1 << 20 }), "MiB of memory, and 1 are free"),
        ] {
            do {
                try await engine.load(folder)
                XCTFail("loaded")
            } catch let error as VlmpError {
                XCTAssert(error.message.contains(wanted), error.message)
            }
            XCTAssertEqual(engine.state, .failed)
        }
        try Data("{}".utf8).write(to: folder.appendingPathComponent("tokenizer.json"))
        let engine = Engine(["executorch": opener])
        do {
            try await engine.load(folder)
            XCTFail("loaded")
        } catch VlmpError.bundle(.size, _) {}
    }

    func testStatesFollowOneAnother() {
        let all: [EngineState] = [.empty, .loading, .ready, .answering, .stopping, .failed]
        let arrows = all.flatMap { from in all.filter { from.leads(to: $0) }.map { "\(from)>\($0)" } }
        XCTAssertEqual(
            arrows.joined(separator: " "),
            "empty>loading loading>ready loading>failed ready>empty ready>loading ready>answering answering>ready "
                + "answering>stopping stopping>ready failed>empty failed>loading")
    }

    private func bundle() throws -> URL {
        let folder = try temporaryFolder(self).appendingPathComponent("bundle")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let contents = try ConformanceFiles.json("manifest/cases.json").at("contents")
        try writeScripted(folder, ConformanceFiles.json("manifest/rows.json"), contents, [:])
        return folder
    }

    private func started() async throws -> Engine {
        let states = states
        let engine = Engine(["executorch": opener], onState: { states.add($0) })
        let folder = try bundle()
        try await engine.load(folder)
        XCTAssertEqual(engine.state, .ready)
        return engine
    }
}

/// What an engine tells, on another thread.
private final class States: @unchecked Sendable {
    private let condition = NSCondition()
    private var states: [EngineState] = []

    func add(_ state: EngineState) {
        condition.withLock {
            states.append(state)
            condition.broadcast()
        }
    }

    /// Waits for so many.
    func told(_ count: Int) -> String {
        condition.withLock {
            while states.count < count { condition.wait() }
            return states.map(\.rawValue).joined(separator: " ")
        }
    }
}
