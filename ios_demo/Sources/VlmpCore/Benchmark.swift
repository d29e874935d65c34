import Foundation

/// What a phone tells of itself. `facts`: battery, power saving, and the like.
public struct Machine: Sendable {
    public var name: String
    public var os: String
    public var cpu: String
    public var cores: Int
    public var memoryMib: Double
    public var facts: [String: String]

    public init(
        name: String, os: String, cpu: String, cores: Int, memoryMib: Double, facts: [String: String] = [:]
    ) {
        self.name = name
        self.os = os
        self.cpu = cpu
        self.cores = cores
        self.memoryMib = memoryMib
        self.facts = facts
    }
}

/// Memory of this process at a moment, and the most that it ever had.
public struct Memory: Sendable {
    public let residentMib: Double
    public let peakMib: Double

    public init(residentMib: Double, peakMib: Double) {
        self.residentMib = residentMib
        self.peakMib = peakMib
    }
}

/// How hot it is at a moment.
public struct Condition: Sendable {
    /// In the system's word (`nominal`, `fair`, `serious`, `critical`), nil where it does not say.
    public let thermalState: String?

    public init(thermalState: String? = nil) {
        self.thermalState = thermalState
    }
}

/// What is measured.
public struct BenchmarkSettings: Sendable {
    /// Timed runs of each bundle.
    public var runs: Int
    /// Tokens after the first, whatever they are.
    public var decodeTokens: Int
    public var threads: Int?
    public var prompt: String
    /// A file's name.
    public var photo: String

    public init(runs: Int, decodeTokens: Int, threads: Int? = nil, prompt: String, photo: String) {
        self.runs = runs
        self.decodeTokens = decodeTokens
        self.threads = threads
        self.prompt = prompt
        self.photo = photo
    }
}

/// Times bundles in turns, so that a phone that grows hot slows all of them alike: in each round each bundle is loaded,
/// asked once to warm it up, asked once more with a clock, and freed. Close an `Engine` first: it holds memory.
public struct Benchmark: Sendable {
    private let openers: [String: any RuntimeOpener]
    private let machine: Machine
    private let condition: @Sendable () -> Condition
    private let memory: @Sendable () -> Memory?
    private let freeMemory: @Sendable () -> Int64?
    private let now: @Sendable () -> String
    private let clock: MonotonicClock

    /// `openers`: by a manifest's target. `condition` is asked before and after each run, `memory` also in between, nil
    /// where nobody knows. `freeMemory`: bytes that a bundle may take. `now`: the time as ISO 8601, in UTC.
    public init(
        _ openers: [String: any RuntimeOpener], _ machine: Machine, condition: @escaping @Sendable () -> Condition,
        memory: @escaping @Sendable () -> Memory? = { nil }, freeMemory: @escaping @Sendable () -> Int64? = { nil },
        now: @escaping @Sendable () -> String = { Date.now.ISO8601Format() },
        clock: @escaping MonotonicClock = systemClock
    ) {
        self.openers = openers
        self.machine = machine
        self.condition = condition
        self.memory = memory
        self.freeMemory = freeMemory
        self.now = now
        self.clock = clock
    }

    /// Measures, which takes minutes: `onOwnThread` keeps the main thread free. `checkHashes` can be left out where
    /// they were compared already. `onProgress` gets runs that are done, and all. `stop` ends it within a token.
    ///
    /// Returns JSON in the schema of `vlmp-profile`, which `--device ios --import` reads; nil where it was stopped.
    /// Throws what `Engine.load` and `Chat.ask` throw.
    public func run(
        _ folders: [URL], _ picture: Picture, _ settings: BenchmarkSettings, checkHashes: Bool = true,
        stop: Stop = Stop(),
        onProgress: (_ done: Int, _ all: Int) -> Void = { _, _ in }
    ) throws -> String? {
        precondition(settings.runs > 0 && settings.decodeTokens > 0 && !folders.isEmpty, "at least one of each")
        var subjects = try folders.map { Subject(folder: $0, manifest: try readBundle($0, checkHashes: checkHashes)) }
        for subject in subjects {
            let most = subject.manifest.prompt.maxNewTokens
            if settings.decodeTokens > most {
                throw VlmpError.turn(
                    .limit(most: most), "\(subject.name) has room for \(most) tokens after the question.")
            }
        }
        var conditions: [RunCondition] = []
        do {
            for round in 1...settings.runs {
                for number in subjects.indices {
                    try stop.check()
                    let before = condition()
                    try measure(&subjects[number], picture, settings, stop)
                    conditions.append(RunCondition(round: round, bundle: number, before: before, after: condition()))
                    onProgress(conditions.count, settings.runs * subjects.count)
                }
            }
        } catch is Stopped {
            return nil
        }
        return profileJSON(machine, settings, picture, subjects, conditions, created: now()).written
    }

    private func measure(
        _ subject: inout Subject, _ picture: Picture, _ settings: BenchmarkSettings, _ stop: Stop
    ) throws {
        let opener = try fittingOpener(openers, subject.folder, subject.manifest, freeMemory())
        let before = memory()
        let start = clock()
        let tokenizer = try readTokenizer(subject.folder, subject.manifest)
        let session = try Session(subject.manifest, subject.folder, opener, threads: settings.threads)
        subject.add("load_warm", clock() - start)
        let loaded = memory()
        subject.runtimeName = session.runtime.name
        try checkWords(settings.prompt)
        let spec = subject.manifest.prompt
        let ids = try encodePrompt(
            tokenizer, subject.manifest, template: spec.first, settings.prompt, most: spec.textLen, controlTokens: false
        )
        _ = try turn(session, picture, ids, settings.decodeTokens, stop)
        for (phase, ms) in try turn(session, picture, ids, settings.decodeTokens, stop) { subject.add(phase, ms) }
        if let before, let loaded, let ran = memory() {
            subject.memories.append(RunMemory(before: before, loaded: loaded, ran: ran))
        }
    }

    /// Milliseconds of each phase; of decode, per token.
    private func turn(
        _ session: Session, _ picture: Picture, _ ids: [Int], _ decodeTokens: Int, _ stop: Stop
    ) throws -> [(String, Double)] {
        let start = clock()
        let pixels = try toPixels(picture, session.manifest)
        let fitted = clock()
        let seen = try session.vision(pixels, stop: stop)
        let known = clock()
        var logits = try session.prefill(ids, seen, stop: stop).logits
        let first = clock()
        for _ in 0..<decodeTokens { logits = try session.decode(largest(logits), stop: stop) }
        let end = clock()
        return [
            ("preprocess", fitted - start), ("vision", known - fitted), ("prefill", first - known),
            ("decode", (end - first) / Double(decodeTokens)), ("first_token", first - start),
        ]
    }
}

/// Before loading, loaded, and after both questions.
struct RunMemory {
    let before: Memory
    let loaded: Memory
    let ran: Memory
}

struct RunCondition {
    let round: Int
    let bundle: Int
    let before: Condition
    let after: Condition
}

/// A bundle that is measured.
struct Subject {
    let folder: URL
    let manifest: Manifest
    /// One a run, milliseconds.
    var samples: [(phase: String, ms: [Double])] = [
        "load_warm", "preprocess", "vision", "prefill", "decode", "first_token",
    ].map { ($0, []) }
    var memories: [RunMemory] = []
    var runtimeName = ""

    var name: String { folder.lastPathComponent }

    mutating func add(_ phase: String, _ ms: Double) {
        samples[samples.firstIndex { $0.phase == phase }!].ms.append(ms)
    }
}
