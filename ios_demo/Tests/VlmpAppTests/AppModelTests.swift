import Foundation
import Testing
import VlmpApp
import VlmpCore

/// The app's model over real bundles of vlmp-tiny's shape, a real engine, and a scripted model in the place of Core ML.
@MainActor
private final class Desk {
    let folder = TemporaryFolder()
    let background = Background()
    let opener: ScriptedOpener
    let model: AppModel

    init(
        own: [(name: String, pruned: Bool)] = [("plain", false), ("pruned", true)], script: [Int] = [400, 401, 402],
        free: Int64? = nil, prepare: @escaping @Sendable (ScriptedModel) -> Void = { _ in }
    ) throws {
        opener = ScriptedOpener(script: script, prepare: prepare)
        let folders = try own.map { [folder] name, pruned in
            let bundle = folder.url.appendingPathComponent("own/\(name)")
            try writeBundle(bundle, pruned: pruned)
            return bundle
        }
        let phone = Phone(
            machine: { Machine(name: "desk", os: "none", cpu: "none", cores: 1, memoryMib: 1) },
            condition: { Condition(thermalState: "fair") }, memory: { Memory(residentMib: 1, peakMib: 2) },
            freeMemory: { free })
        model = AppModel(
            ["coreml": opener], store: BundleStore(folder.url.appendingPathComponent("bundles"), targets: ["coreml"]),
            archive: Reports(folder.url.appendingPathComponent("reports")), own: folders, phone: phone,
            background: background)
    }

    /// With its bundles imported and a photo chosen.
    static func ready(
        script: [Int] = [400, 401, 402], prepare: @escaping @Sendable (ScriptedModel) -> Void = { _ in }
    ) async throws -> Desk {
        let desk = try Desk(script: script, prepare: prepare)
        desk.model.start()
        await desk.model.finished()
        try await desk.choosePhoto()
        return desk
    }

    func choosePhoto() async throws {
        let photo = try Data(contentsOf: conformanceFiles.appendingPathComponent("steps/photo-1.png"))
        model.choose(photo, name: "photo-1.png")
        await model.finished()
    }

    func ask(_ words: String) async {
        model.draft = words
        model.ask()
        await model.finished()
    }

    /// Names in the folder of bundles, with what is no bundle.
    var stored: [String] {
        let bundles = folder.url.appendingPathComponent("bundles").path
        return (try? FileManager.default.contentsOfDirectory(atPath: bundles).sorted()) ?? []
    }
}

@MainActor
private final class Background: BackgroundTime {
    var onExpiry: (@MainActor @Sendable () -> Void)?
    private(set) var ends = 0

    func begin(onExpiry: @escaping @MainActor @Sendable () -> Void) {
        self.onExpiry = onExpiry
    }

    func end() {
        if onExpiry != nil { ends += 1 }
        onExpiry = nil
    }
}

/// Keeps the engine's thread in a call until the test lets it go.
private final class Gate: Sendable {
    private let reached = DispatchSemaphore(value: 0)
    private let open = DispatchSemaphore(value: 0)

    func wait() {
        reached.signal()
        open.wait()
    }

    func whenReached() async throws {
        try await onOwnThread { [reached] in reached.wait() }
    }

    func pass() { open.signal() }
}

@MainActor
@Suite struct AskTests {
    @Test func aQuestionIsAnsweredAndAFurtherOneGoesToTheSamePhoto() async throws {
        let desk = try await Desk.ready()
        let model = desk.model
        #expect(model.chosen == "pruned")
        #expect(!model.canReply)
        await desk.ask("What is it?")
        #expect(model.problem == nil)
        #expect(model.draft == "")
        #expect(model.turns.map(\.question) == ["What is it?"])
        let answer = try #require(model.turns[0].answer)
        #expect(answer.tokens == [400, 401, 402, 1538])
        #expect(model.turns[0].text == answer.text)
        #expect(!answer.text.isEmpty)
        #expect(answer.order == answer.kept.reversed())
        #expect(model.turns[0].ending == nil)
        #expect(model.turns[0].figures?.contains("4 tokens") == true)
        #expect(model.canReply)
        await desk.ask("And now?")
        #expect(model.turns.map(\.question) == ["What is it?", "And now?"])
        #expect(model.turns[1].answer?.stages == [])
        #expect(desk.opener.opened.value.count == 1)
    }

    @Test func anotherPhotoOrBundleBeginsAnew() async throws {
        let desk = try await Desk.ready()
        let model = desk.model
        await desk.ask("One")
        try await desk.choosePhoto()
        #expect(model.turns.isEmpty)
        await desk.ask("Two")
        model.chosen = "plain"
        #expect(!model.canReply)
        await desk.ask("Three")
        #expect(model.turns.map(\.question) == ["Three"])
        #expect(model.loaded == "plain")
        #expect(model.turns[0].answer?.kept.count == 36)
    }

    @Test func aFullConversationSaysSo() async throws {
        let desk = try await Desk.ready(script: Array(repeating: 400, count: 100))
        let model = desk.model
        await desk.ask("Tell all.")
        #expect(model.turns[0].answer?.end == .limit)
        #expect(model.turns[0].ending != nil)
        model.draft = "More"
        model.ask()
        await model.finished()
        while model.canReply && model.problem == nil { await desk.ask("More") }
        #expect(model.turns.last?.answer?.end == .full || model.problem?.contains("full") == true)
    }

    @Test func stoppedInTheMiddleTheAnswerStaysAndTheConversationGoesOn() async throws {
        let gate = Gate()
        let desk = try await Desk.ready(script: Array(repeating: 400, count: 20)) { scripted in
            scripted.onDecode = { if $0 == 3 { gate.wait() } }
        }
        let model = desk.model
        model.draft = "Go on"
        model.ask()
        try await gate.whenReached()
        #expect(model.activity == .answering)
        model.stop()
        #expect(model.stopping)
        gate.pass()
        await model.finished()
        #expect(model.turns[0].answer?.end == .stopped)
        #expect(model.turns[0].answer?.tokens.count == 3)
        #expect(model.turns[0].ending == "Stopped.")
        #expect(model.problem == nil)
        #expect(!model.stopping && model.isIdle && model.canReply)
    }

    @Test func stoppedWhileABundleLoadsNothingIsAsked() async throws {
        let gate = Gate()
        let desk = try await Desk.ready { _ in gate.wait() }
        let model = desk.model
        model.draft = "Go on"
        model.ask()
        try await gate.whenReached()
        #expect(model.activity == .loading("pruned"))
        model.stop()
        gate.pass()
        await model.finished()
        #expect(model.turns.isEmpty)
        #expect(model.problem == "Stopped.")
        #expect(model.draft == "Go on")
        #expect(desk.opener.opened.value[0].loads == [])
    }

    @Test(arguments: ["load vision", "vision", "prefill", "decode"])
    func aFailureIsALineAndTheQuestionComesBack(_ failing: String) async throws {
        let desk = try await Desk.ready { $0.failing = failing }
        let model = desk.model
        await desk.ask("What is it?")
        #expect(model.turns.isEmpty)
        #expect(model.problem?.contains("the model is broken") == true)
        #expect(model.draft == "What is it?")
        desk.opener.opened.value[0].failing = nil
        await desk.ask("What is it?")
        #expect(model.problem == nil)
        #expect(model.turns[0].answer?.end == .finished)
    }

    @Test func tooLittleMemoryIsSaidBeforeLoading() async throws {
        let desk = try Desk(free: 1 << 20)
        desk.model.start()
        await desk.model.finished()
        try await desk.choosePhoto()
        await desk.ask("What is it?")
        #expect(desk.model.problem?.contains("MiB of memory") == true)
        #expect(desk.opener.opened.value.isEmpty)
        #expect(desk.model.isIdle)
    }

    @Test func memoryThatIsShortFreesFunctionsAndKeepsTheConversation() async throws {
        let desk = try await Desk.ready()
        await desk.ask("One")
        desk.model.freeMemory()
        await desk.ask("Two")
        let loads = desk.opener.opened.value[0].loads
        #expect(loads.filter { $0 == "decode" }.count == 2)
        #expect(desk.model.turns.count == 2)
        #expect(desk.model.problem == nil)
    }

    @Test func offTheScreenAnAnswerIsFinishedOrSaysThatItWasStopped() async throws {
        for expires in [false, true] {
            let gate = Gate()
            let desk = try await Desk.ready(script: Array(repeating: 400, count: 5)) { scripted in
                scripted.onDecode = { if $0 == 2 { gate.wait() } }
            }
            let model = desk.model
            model.leaveScreen()
            #expect(desk.background.onExpiry == nil)  // nothing runs
            model.draft = "Go on"
            model.ask()
            try await gate.whenReached()
            model.leaveScreen()
            if expires { desk.background.onExpiry?() }
            gate.pass()
            await model.finished()
            #expect(model.turns[0].answer?.end == (expires ? .stopped : .finished))
            #expect(model.turns[0].ending?.contains("left the screen") == (expires ? true : nil))
            #expect(desk.background.ends == 1)
        }
    }

    @Test func whileSomethingRunsNothingElseBegins() async throws {
        let gate = Gate()
        let desk = try await Desk.ready { _ in gate.wait() }
        let model = desk.model
        model.draft = "Go on"
        model.ask()
        try await gate.whenReached()
        model.choose(Data(), name: "other")
        #expect(model.problem?.contains("another task") == true)
        var released = false
        model.importBundle(desk.folder.url.appendingPathComponent("own/plain")) { released = true }
        #expect(released)
        model.measure(runs: 1)
        model.compare("x")
        model.delete(model.bundles[0])
        #expect(model.activity == .loading("pruned"))
        gate.pass()
        await model.finished()
        #expect(model.turns[0].answer != nil)
        #expect(model.bundles.count == 2)
    }

    @Test func whatIsNoPhotoIsRefusedAndTheOldOneStays() async throws {
        let desk = try await Desk.ready()
        desk.model.choose(Data("no photo".utf8), name: "text")
        await desk.model.finished()
        #expect(desk.model.problem != nil)
        #expect(desk.model.photo?.name == "photo-1.png")
    }
}

@MainActor
@Suite struct BundlesTests {
    @Test func whenItFirstStartsItsOwnBundlesAreImported() async throws {
        let desk = try await Desk.ready()
        let model = desk.model
        #expect(model.bundles.map(\.name) == ["plain", "pruned"])
        #expect(model.offered == [])
        #expect([model.chosen, model.one, model.other] == ["pruned", "plain", "pruned"])
        #expect(model.bundles[1].facts.contains("9 of 36 visual tokens (vlm-pruner)"))
        await desk.ask("One")
        model.delete(model.bundles[1])
        await model.finished()
        #expect(desk.stored == ["plain"])
        #expect(model.offered.map(\.lastPathComponent) == ["pruned"])
        #expect(model.chosen == "plain")
        #expect(model.loaded == nil)
        #expect(model.turns.isEmpty)
        model.start()  // the next time it starts, what was deleted stays away
        await model.finished()
        #expect(desk.stored == ["plain"])
    }

    @Test func aDamagedBundleIsNamedAndNothingOfItIsLeft() async throws {
        let desk = try await Desk.ready()
        let bad = desk.folder.url.appendingPathComponent("bad")
        try writeBundle(bad)
        try Data("eman".utf8).write(to: bad.appendingPathComponent("model.mlpackage/Manifest.json"))
        var released = 0
        desk.model.importBundle(bad) { released += 1 }
        await desk.model.finished()
        #expect(desk.model.problem?.contains("damaged") == true)
        #expect(released == 1)
        #expect(desk.stored == ["plain", "pruned"])
    }

    @Test func anImportThatIsCancelledLeavesNothing() async throws {
        let desk = try await Desk.ready()
        let other = desk.folder.url.appendingPathComponent("other")
        try writeBundle(other)
        desk.model.importBundle(other)
        #expect(desk.model.activity == .importing("other", share: 0))
        desk.model.stop()
        await desk.model.finished()
        #expect(desk.model.problem == "The import was cancelled; nothing of it is left.")
        #expect(desk.stored == ["plain", "pruned"])
    }
}

@MainActor
@Suite struct MeasureTests {
    @Test func bothBundlesAreAskedWithTheClock() async throws {
        let desk = try await Desk.ready()
        let model = desk.model
        #expect(model.canCompare)
        model.compare("")
        await model.finished()
        #expect(model.problem == nil)
        #expect(model.compared.map(\.bundle.name) == ["plain", "pruned"])
        #expect(model.compared.map(\.answer.kept.count) == [36, 9])
        let line = Compared.summary(model.compared[0], model.compared[1])
        let caches = model.compared.map { Double($0.bundle.manifest.cacheBytes) }
        #expect(line.contains("the caches take \(Int((caches[1] / caches[0] * 100).rounded())) %"))
        #expect(caches[1] < caches[0])
        // Warmed up by a question of two tokens: each of the two was asked twice.
        #expect(desk.opener.opened.value.count == 2)
    }

    @Test func aReportIsKeptInTheProfilesSchemaWithTheHeat() async throws {
        let desk = try await Desk.ready(script: Array(repeating: 400, count: 40))
        let model = desk.model
        model.measure(runs: 2)
        await model.finished()
        #expect(model.problem == nil)
        let report = try #require(model.reports.first)
        #expect(report.lines.count == 5)
        #expect(report.lines[0].hasPrefix("plain: first token "))
        #expect(report.lines.contains("Thermal state: fair."))
        #expect(report.lines.contains("The phone was hot: fair."))
        let json = try JSONSerialization.jsonObject(with: Data(contentsOf: report.url)) as? [String: Any]
        #expect((json?["machine"] as? [String: Any])?["kind"] as? String == "ios")
        #expect(desk.opener.opened.value.count == 4)
        model.delete(report)
        await model.finished()
        #expect(model.reports.isEmpty)
    }

    @Test func aBenchmarkThatIsStoppedKeepsNoReport() async throws {
        let gate = Gate()
        let desk = try await Desk.ready(script: Array(repeating: 400, count: 40)) { scripted in
            scripted.onDecode = { if $0 == 2 { gate.wait() } }
        }
        let model = desk.model
        model.measure(runs: 2)
        try await gate.whenReached()
        model.stop()
        gate.pass()
        await model.finished()
        #expect(model.problem == "Stopped.")
        #expect(model.reports.isEmpty)
        #expect(model.isIdle)
    }
}
