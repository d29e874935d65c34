import Foundation
import Synchronization

/// What an `Engine` is doing.
public enum EngineState: String, Sendable {
    /// Nothing is loaded.
    case empty
    case loading
    /// A bundle is loaded and answers questions.
    case ready
    case answering
    /// A turn was asked to stop, and ends within a token.
    case stopping
    /// Loading failed. Another bundle can be loaded.
    case failed

    /// Whether `next` may come after it.
    public func leads(to next: EngineState) -> Bool {
        switch self {
        case .empty: next == .loading
        case .loading: [.ready, .failed].contains(next)
        case .ready: [.answering, .loading, .empty].contains(next)
        case .answering: [.ready, .stopping].contains(next)
        case .stopping: next == .ready
        case .failed: [.loading, .empty].contains(next)
        }
    }
}

/// What is asked in a turn. Without a picture it is about the same one as the turn before.
public struct Question: Sendable {
    public var picture: Picture?
    public var words: String
    /// Most tokens of the answer, nil is the bundle's own limit.
    public var limit: Int?
    /// Whether control tokens in the words are meant; otherwise all of it is text.
    public var controlTokens: Bool

    public init(_ words: String, about picture: Picture? = nil, limit: Int? = nil, controlTokens: Bool = false) {
        self.words = words
        self.picture = picture
        self.limit = limit
        self.controlTokens = controlTokens
    }
}

/// What comes of a question.
public enum Reply: Sendable, Equatable {
    /// The next piece of the answer.
    case text(String)
    /// All of it, at the end.
    case answer(Answer)
}

/// One bundle at a time, and a conversation with it: what an app holds. Calls run one after the other on a thread of
/// its own, so none keeps the main thread waiting; `stop` and what is `nonisolated` may be called at any time.
public actor Engine {
    private struct Shown {
        var state = EngineState.empty
        var stop: Stop?
        var manifest: Manifest?
        var runtimeName: String?
        var loadMs = 0.0
    }

    private let openers: [String: any RuntimeOpener]
    private let freeMemory: @Sendable () -> Int64?
    private let clock: MonotonicClock
    private let onState: @Sendable (EngineState) -> Void
    private let shown = Mutex(Shown())
    private let executor = OwnThread()
    private let telling = DispatchQueue(label: "vlmp states")
    private var chat: Chat?

    /// `openers`: by a manifest's target. `freeMemory`: bytes that a bundle may take, nil where nobody knows. `onState`
    /// is told each new state in its turn, on a queue of its own; `state` may be a later one by then.
    public init(
        _ openers: [String: any RuntimeOpener], freeMemory: @escaping @Sendable () -> Int64? = { nil },
        clock: @escaping MonotonicClock = systemClock, onState: @escaping @Sendable (EngineState) -> Void = { _ in }
    ) {
        self.openers = openers
        self.freeMemory = freeMemory
        self.clock = clock
        self.onState = onState
    }

    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// What it is doing now.
    public nonisolated var state: EngineState { shown.withLock { $0.state } }

    /// Of the bundle that is loaded, nil without one.
    public nonisolated var manifest: Manifest? { shown.withLock { $0.manifest } }

    /// Name and version of the runtime of the bundle that is loaded, nil without one.
    public nonisolated var runtimeName: String? { shown.withLock { $0.runtimeName } }

    /// Milliseconds that loading has taken, without checking the files.
    public nonisolated var loadMs: Double { shown.withLock { $0.loadMs } }

    /// Loads a bundle in the place of the one before. `threads`: nil is the runtime's own choice. `checkHashes` can be
    /// left out where they were compared already. `onProgress` gets bytes hashed so far, and all.
    ///
    /// Throws `VlmpError.bundle`, `.memory`, and `CancellationError` where its task is cancelled while files are
    /// hashed. Then the state is `failed`.
    public func load(
        _ folder: URL, threads: Int? = nil, checkHashes: Bool = true, sampling: Sampling = .greedy,
        onProgress: @Sendable (_ done: Int64, _ all: Int64) -> Void = { _, _ in }
    ) throws {
        enter(.loading)
        chat = nil  // its memory is free before the next one takes its own
        do {
            let manifest = try readBundle(folder, checkHashes: checkHashes) {
                try Task.checkCancellation()
                onProgress($0, $1)
            }
            let opener = try fittingOpener(openers, folder, manifest, freeMemory())
            let start = clock()
            let tokenizer = try readTokenizer(folder, manifest)
            let session = try Session(manifest, folder, opener, threads: threads)
            let ms = clock() - start
            chat = Chat(session, tokenizer, sampling: sampling, clock: clock)
            enter(.ready) {
                $0.manifest = manifest
                $0.runtimeName = session.runtime.name
                $0.loadMs = ms
            }
        } catch {
            enter(.failed)
            throw error
        }
    }

    /// Answers a question. `onText` gets the answer piece by piece, on this engine's thread. Where the task is
    /// cancelled, the turn is stopped, and what there is of the answer comes back.
    ///
    /// Throws `VlmpError.prompt`, `.picture`, `.turn`, `.runtime`; afterwards further questions can be asked.
    public func answer(
        _ question: Question, onText: @Sendable (String) -> Void = { _ in }
    ) async throws -> Answer {
        let stop = Stop()
        return try await withTaskCancellationHandler {
            try answer(question, stop, onText)
        } onCancel: {
            stop.ask()
        }
    }

    /// The same, as a stream: pieces of the answer, and all of it at the end. Who ends the loop early stops the turn.
    public nonisolated func replies(to question: Question) -> AsyncThrowingStream<Reply, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    let answer = try await answer(question) { continuation.yield(.text($0)) }
                    continuation.yield(.answer(answer))
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    /// Ends the turn that runs, within a token. Without one it does nothing. It waits for nothing.
    public nonisolated func stop() {
        shown.withLock { shown in
            guard shown.state == .answering else { return }
            shown.stop?.ask()
            shown.state = .stopping
            tell(.stopping)
        }
    }

    /// Forgets the conversation. Throws `VlmpError.turn(.closed, ...)` where nothing is loaded.
    public func reset() throws {
        try loaded().reset()
    }

    /// Frees what can be loaded again at the next question: memory is short.
    public func trim() {
        chat?.session.runtime.trim()
    }

    /// Frees all memory. `stop` first ends a turn that runs, otherwise it is waited for. Afterwards a bundle can be
    /// loaded.
    public func close() {
        chat = nil
        if state != .empty { enter(.empty) }
    }

    private func answer(_ question: Question, _ stop: Stop, _ onText: (String) -> Void) throws -> Answer {
        let chat = try loaded()
        enter(.answering) { $0.stop = stop }
        defer { enter(.ready) }
        if let picture = question.picture {
            return try chat.ask(
                picture, question.words, limit: question.limit, controlTokens: question.controlTokens, stop: stop,
                onText: onText)
        }
        return try chat.reply(
            question.words, limit: question.limit, controlTokens: question.controlTokens, stop: stop, onText: onText)
    }

    private func loaded() throws -> Chat {
        guard let chat else { throw VlmpError.turn(.closed, "No bundle is loaded.") }
        return chat
    }

    /// Goes on to a state. What is told of a bundle goes with it.
    private func enter(_ next: EngineState, change: (inout Shown) -> Void = { _ in }) {
        shown.withLock {
            precondition($0.state.leads(to: next), "\($0.state) does not lead to \(next)")
            $0.state = next
            $0.stop = nil
            if [.empty, .loading, .failed].contains(next) { ($0.manifest, $0.runtimeName) = (nil, nil) }
            change(&$0)
            tell(next)
        }
    }

    /// Under the lock, so that states are told in their order; whoever listens may call what takes the lock.
    private nonisolated func tell(_ next: EngineState) {
        telling.async { [onState] in onState(next) }
    }
}

/// Runs an actor on a thread that may be busy for seconds: the shared ones are few.
private final class OwnThread: SerialExecutor {
    private let queue = DispatchQueue(label: "vlmp engine", qos: .userInitiated)

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}

/// What opens a bundle that fits into `freeBytes`. Throws `VlmpError.bundle`, `.memory`.
func fittingOpener(
    _ openers: [String: any RuntimeOpener], _ folder: URL, _ manifest: Manifest, _ freeBytes: Int64?
) throws -> any RuntimeOpener {
    guard let opener = openers[manifest.target] else {
        let known = openers.keys.sorted().joined(separator: " and ")
        throw VlmpError.bundle(
            .target, "\(folder.lastPathComponent) is for \(manifest.target): this app runs \(known)")
    }
    if let freeBytes, manifest.memoryBytes > freeBytes {
        throw VlmpError.memory(
            needed: manifest.memoryBytes, free: freeBytes,
            "\(folder.lastPathComponent) needs about \(manifest.memoryBytes >> 20) MiB of memory, and "
                + "\(freeBytes >> 20) are free: close other apps, or take a smaller bundle.")
    }
    return opener
}
