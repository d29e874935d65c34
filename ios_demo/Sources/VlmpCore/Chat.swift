/// Why an answer ended.
public enum End: String, Sendable, Codable {
    /// An end token came.
    case finished
    /// It is as long as was asked for.
    case limit
    /// The caches are full.
    case full
    /// Somebody stopped it.
    case stopped
}

/// One turn.
public struct Answer: Sendable, Equatable, Codable {
    public let text: String
    /// Ids with the end token, if one came; none if it was stopped before the first one.
    public let tokens: [Int]
    public let end: End
    /// Visual tokens that each stage has kept, ascending; the last is what is left. Later turns have none.
    public let stages: [[Int]]
    /// The last stage's as they were chosen. Later turns have none.
    public let order: [Int]
    public let timings: Timings

    package init(
        text: String, tokens: [Int], end: End, stages: [[Int]], order: [Int], timings: Timings
    ) {
        self.text = text
        self.tokens = tokens
        self.end = end
        self.stages = stages
        self.order = order
        self.timings = timings
    }

    /// What is left after the last stage.
    public var kept: [Int] { stages.last ?? [] }
}

/// Where the time of one answer went, in milliseconds; 0 of what did not happen.
public struct Timings: Sendable, Equatable, Codable {
    public var preprocessMs = 0.0
    public var visionMs = 0.0
    /// Of a later turn, that of `extend`.
    public var prefillMs = 0.0
    /// One for each token after the first.
    public var decodeMs: [Double] = []

    public init() {}

    /// TTFT: from the photo to the first token, without loading.
    public var firstTokenMs: Double { preprocessMs + visionMs + prefillMs }

    /// Tokens a second after the first, 0 without any.
    public var decodeTokensPerSecond: Double {
        let sum = decodeMs.reduce(0, +)
        return sum > 0 ? Double(decodeMs.count) / sum * 1000 : 0
    }
}

/// Milliseconds from some moment on.
public typealias MonotonicClock = @Sendable () -> Double

/// The system's clock.
public let systemClock: MonotonicClock = {
    let start = ContinuousClock.now
    return {
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        return Double(seconds) * 1e3 + Double(attoseconds) * 1e-15
    }
}()

/// Questions about a picture, and answers: the host loop of docs/bundle.md.
///
/// It is for one thread at a time, which may be busy for seconds; a turn's `stop` may be asked from any other. A turn
/// that is refused changes nothing. An `Engine` makes it fit for an app.
public final class Chat {
    public let session: Session
    public let tokenizer: Tokenizer
    /// Last token of the answer, where the caches do not hold it yet.
    public private(set) var unfed: Int?
    private let clock: MonotonicClock
    private let sampling: Sampling
    private var sampler: Sampler
    private var answering = false

    /// `sampling`: how tokens are chosen in all turns.
    public init(
        _ session: Session, _ tokenizer: Tokenizer, sampling: Sampling = .greedy,
        clock: @escaping MonotonicClock = systemClock
    ) {
        self.session = session
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.clock = clock
        sampler = Sampler(sampling)
    }

    /// Answers a question about `picture`, which starts a conversation.
    ///
    /// `limit`: most tokens of the answer, nil is the bundle's own limit. `onText` gets the answer piece by piece, on
    /// this thread. `controlTokens`: such tokens in `words` are meant; otherwise all of it is text. `stop` ends the
    /// turn; if that is before its first token there is no picture afterwards.
    ///
    /// Throws `VlmpError.prompt`, `.picture`, `.turn`, `.runtime`, and what `onText` throws.
    public func ask(
        _ picture: Picture, _ words: String, limit: Int? = nil, controlTokens: Bool = false, stop: Stop = Stop(),
        onText: (String) throws -> Void = { _ in }
    ) throws -> Answer {
        try turn {
            try checkWords(words)
            let most = try checkedLimit(limit)
            let spec = session.manifest.prompt
            let ids = try encodePrompt(
                tokenizer, session.manifest, template: spec.first, words, most: spec.textLen,
                controlTokens: controlTokens)
            var telling = Telling(limit: most, text: TextStream(tokenizer))
            do {
                let pixels = try time(&telling.timings.preprocessMs) { try toPixels(picture, session.manifest) }
                let seen = try time(&telling.timings.visionMs) { try session.vision(pixels, stop: stop) }
                unfed = nil
                let first = try time(&telling.timings.prefillMs) { try session.prefill(ids, seen, stop: stop) }
                telling.prefilled = first
                try decode(first.logits, &telling, stop, onText)
            } catch is Stopped {
                if telling.tokens.isEmpty { forget() }
            }
            return try finish(&telling, onText)
        }
    }

    /// Answers a further question about the same picture. Parameters and errors as `ask` has them. Stopped before its
    /// first token, it leaves the conversation as it was.
    public func reply(
        _ words: String, limit: Int? = nil, controlTokens: Bool = false, stop: Stop = Stop(),
        onText: (String) throws -> Void = { _ in }
    ) throws -> Answer {
        try turn {
            if session.past == 0 { try session.checkRoom(1) }
            try checkWords(words)
            let most = try checkedLimit(limit)
            let spec = session.manifest.prompt
            let own = try encodePrompt(
                tokenizer, session.manifest, template: spec.following, words, most: spec.textLen - 1,
                controlTokens: controlTokens)
            let ids = [spec.endTextId] + own
            let before = (progress: session.progress, unfed: unfed)
            try session.checkRoom(ids.count + (unfed == nil ? 0 : 1))
            var telling = Telling(limit: most, text: TextStream(tokenizer))
            defer {
                if telling.tokens.isEmpty {
                    session.rewind(to: before.progress)
                    unfed = before.unfed
                }
            }
            do {
                let logits = try time(&telling.timings.prefillMs) {
                    if let token = unfed { _ = try session.decode(token, stop: stop) }
                    unfed = nil
                    return try session.extend(ids, stop: stop)
                }
                try decode(logits, &telling, stop, onText)
            } catch is Stopped {}
            return try finish(&telling, onText)
        }
    }

    /// Forgets the conversation, and seeds the choice of tokens anew. Throws `VlmpError.turn` inside a turn.
    public func reset() throws {
        try turn {
            forget()
            sampler = Sampler(sampling)
        }
    }

    private func forget() {
        session.reset()
        unfed = nil
    }

    /// An answer that is on its way.
    private struct Telling {
        let limit: Int
        var text: TextStream
        var tokens: [Int] = []
        var end = End.stopped
        var prefilled: Prefilled?
        var timings = Timings()
    }

    /// From the logits of the first token to the last token.
    private func decode(
        _ first: [Float], _ telling: inout Telling, _ stop: Stop, _ onText: (String) throws -> Void
    ) throws {
        var logits = first
        while true {
            let token = sampler.sample(logits)
            telling.tokens.append(token)
            let isEnd = session.manifest.prompt.endIds.contains(token)
            unfed = isEnd ? nil : token
            if isEnd {
                telling.end = .finished
            } else if telling.tokens.count == telling.limit {
                telling.end = .limit
            } else if session.room == 0 {
                telling.end = .full
            }
            try show(&telling, ended: telling.end != .stopped, onText)
            if telling.end != .stopped || stop.asked { return }
            var ms = 0.0
            logits = try time(&ms) { try session.decode(token, stop: stop) }
            telling.timings.decodeMs.append(ms)
        }
    }

    private func finish(_ telling: inout Telling, _ onText: (String) throws -> Void) throws -> Answer {
        try show(&telling, ended: true, onText)
        return Answer(
            text: telling.text.shown, tokens: telling.tokens, end: telling.end, stages: telling.prefilled?.stages ?? [],
            order: telling.prefilled?.order ?? [], timings: telling.timings)
    }

    private func show(_ telling: inout Telling, ended: Bool, _ onText: (String) throws -> Void) throws {
        let piece = telling.text.next(telling.tokens, ended: ended)
        if !piece.isEmpty { try onText(piece) }
    }

    private func turn<Made>(_ run: () throws -> Made) throws -> Made {
        if answering {
            throw VlmpError.turn(.busy, "Another question is being answered: wait for it, or stop it.")
        }
        answering = true
        defer { answering = false }
        return try run()
    }

    private func time<Made>(_ ms: inout Double, _ call: () throws -> Made) rethrows -> Made {
        let start = clock()
        defer { ms = clock() - start }
        return try call()
    }

    private func checkedLimit(_ limit: Int?) throws -> Int {
        let most = session.manifest.prompt.maxNewTokens
        if let limit, !(1...most).contains(limit) {
            throw VlmpError.turn(.limit(most: most), "An answer of \(limit) tokens: this bundle allows 1 to \(most).")
        }
        return limit ?? most
    }
}
