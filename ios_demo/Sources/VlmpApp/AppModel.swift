import Foundation
import Observation
import VlmpCore

/// All that the pages show, and all that they can ask for. Long work runs elsewhere, one task at a time; what a task
/// throws ends as a line in `problem`, in a state from which one can go on.
@MainActor
@Observable
public final class AppModel {
    /// What runs.
    public enum Activity: Equatable, Sendable {
        case idle
        case reading
        case loading(String)
        case answering
        case importing(String, share: Double)
        case measuring(done: Int, all: Int)
        case deleting
    }

    public internal(set) var activity = Activity.idle
    /// Whether what runs was asked to stop.
    public private(set) var stopping = false
    /// What went wrong last, or was stopped.
    public internal(set) var problem: String?
    public internal(set) var photo: Photo?
    public internal(set) var turns: [Turn] = []
    public internal(set) var compared: [Compared] = []
    public internal(set) var bundles: [StoredBundle] = []
    /// Bundles inside the app that are not imported.
    public internal(set) var offered: [URL] = []
    public internal(set) var reports: [Report] = []
    /// Of the bundle that is loaded.
    public private(set) var loaded: String?
    /// Of the bundle that is asked.
    public var chosen: String?
    /// Of the bundles that are compared.
    public var one: String?
    public var other: String?
    /// What is being typed. A question that failed comes back.
    public var draft = ""

    @ObservationIgnored let store: BundleStore
    @ObservationIgnored let archive: Reports
    @ObservationIgnored let phone: Phone
    @ObservationIgnored let engine: Engine
    @ObservationIgnored let openers: [String: any RuntimeOpener]
    @ObservationIgnored let own: [URL]
    @ObservationIgnored let onDelete: @Sendable (Manifest) -> Void
    /// Ends what runs, where it is not a turn.
    @ObservationIgnored private(set) var halt = Stop()
    @ObservationIgnored private let background: any BackgroundTime
    @ObservationIgnored private var turn: Task<Answer, any Error>?
    @ObservationIgnored private var work: Task<Void, Never>?
    @ObservationIgnored private var interruption: String?

    /// `own`: bundles inside the app. `openers`: by a manifest's target. `onDelete` gets the manifest of a bundle that
    /// was deleted.
    public init(
        _ openers: [String: any RuntimeOpener], store: BundleStore, archive: Reports, own: [URL], phone: Phone,
        background: any BackgroundTime, onDelete: @escaping @Sendable (Manifest) -> Void = { _ in }
    ) {
        self.openers = openers
        self.store = store
        self.archive = archive
        self.own = own
        self.phone = phone
        self.background = background
        self.onDelete = onDelete
        engine = Engine(openers, freeMemory: phone.freeMemory)
    }

    public var isIdle: Bool { activity == .idle }

    /// Whether the next question goes to the conversation that there is.
    public var canReply: Bool {
        guard isIdle, let first = turns.first?.answer, let last = turns.last?.answer else { return false }
        // Stopped before its first token, a first question leaves no picture.
        return loaded != nil && loaded == chosen && !first.tokens.isEmpty && last.end != .full
    }

    /// The manifest of the bundle that has answered what is shown.
    public var manifest: Manifest? { bundles.first { $0.name == loaded }?.manifest }

    /// Says something in the place where problems are told.
    public func tell(_ problem: String) {
        self.problem = problem
    }

    /// Takes another photo, which begins a new conversation.
    public func choose(_ data: Data, name: String) {
        guard isIdle else {
            problem = "The photo was not taken, since another task is running: stop it, and choose again."
            return
        }
        run(.reading) { [self] in
            photo = try await onOwnThread { try Photo(data, name: name) }
            turns = []
            compared = []
        }
    }

    /// Asks about the photo, with the bundle loaded first if it is not.
    public func ask() {
        let words = draft
        guard let photo, let bundle = bundle(named: chosen), !words.allSatisfy(\.isWhitespace) else { return }
        let follows = canReply
        run(.loading(bundle.name)) { [self] in
            try await open(bundle)
            if !follows { turns = [] }
            turns.append(Turn(words))
            draft = ""
            let place = turns.count - 1
            do {
                let question = Question(words, about: follows ? nil : photo.picture)
                let answer = try await answer(question) { [self] in turns[place].text += $0 }
                turns[place].text = answer.text
                turns[place].interruption = interruption
                turns[place].answer = answer
            } catch {
                turns.removeLast()
                draft = words
                throw error
            }
        }
    }

    /// Ends what runs: an answer within a token, an import at the next block, a benchmark within a token. What there is
    /// of an answer stays. `interruption`: why the app does it by itself.
    public func stop(_ interruption: String? = nil) {
        guard !isIdle, !stopping else { return }
        stopping = true
        self.interruption = interruption
        halt.ask()
        turn?.cancel()
    }

    /// The app leaves the screen: what runs goes on as long as the system lets it, and then says that it was stopped.
    public func leaveScreen() {
        guard !isIdle else { return }
        background.begin { [self] in
            stop("Stopped: iOS lets an app run for some seconds only after it has left the screen.")
        }
    }

    /// Memory is short: what can be loaded again is freed, after the answer that runs.
    public func freeMemory() {
        Task { await engine.trim() }
    }

    /// Waits until nothing runs.
    public func finished() async {
        await work?.value
    }

    func bundle(named name: String?) -> StoredBundle? { bundles.first { $0.name == name } }

    /// Runs one task, unless another one is running.
    func run(_ first: Activity, _ body: @escaping @MainActor () async throws -> Void) {
        guard isIdle else { return }
        (activity, problem, stopping, interruption, halt) = (first, nil, false, nil, Stop())
        work = Task {
            do {
                try await body()
            } catch is Stopped {
                problem = interruption ?? "Stopped."
            } catch {
                problem = (error as? VlmpError)?.message ?? error.localizedDescription
            }
            (activity, stopping) = (.idle, false)
            background.end()
        }
    }

    /// Loads a bundle, unless it is loaded. Throws `Stopped` where somebody has asked for that meanwhile.
    func open(_ bundle: StoredBundle) async throws {
        if loaded != bundle.name {
            activity = .loading(bundle.name)
            loaded = nil
            // Hashes were compared when it was imported.
            try await engine.load(bundle.folder, checkHashes: false)
            loaded = bundle.name
        }
        try halt.check()
        activity = .answering
    }

    /// Frees the bundle that is loaded, with its conversation.
    func close() async {
        await engine.close()
        loaded = nil
        turns = []
    }

    /// One turn, of which `onText` gets the pieces.
    func answer(_ question: Question, onText: (String) -> Void = { _ in }) async throws -> Answer {
        let (pieces, sink) = AsyncStream.makeStream(of: String.self)
        let running = Task { [engine] in
            defer { sink.finish() }
            return try await engine.answer(question) { sink.yield($0) }
        }
        turn = running
        defer { turn = nil }
        for await piece in pieces { onText(piece) }
        return try await running.value
    }

    /// Runs what takes long elsewhere, and shows how far it is.
    func workElsewhere<Made: Sendable>(
        _ shown: (_ done: Int64, _ all: Int64) -> Activity,
        _ body: @escaping @Sendable (_ report: @escaping @Sendable (Int64, Int64) -> Void) throws -> Made
    ) async throws -> Made {
        let (steps, sink) = AsyncStream.makeStream(of: (Int64, Int64).self, bufferingPolicy: .bufferingNewest(1))
        let running = Task {
            defer { sink.finish() }
            return try await onOwnThread { try body { sink.yield(($0, $1)) } }
        }
        for await (done, all) in steps { activity = shown(done, all) }
        return try await running.value
    }
}
