import Foundation
import VlmpCore

extension AppModel {
    /// What is asked where nothing was typed.
    public static let usualQuestion = "What is in this picture?"

    /// Whether there are two bundles to compare, and a photo.
    public var canCompare: Bool {
        isIdle && photo != nil && bundle(named: one) != nil && bundle(named: other) != nil && one != other
    }

    /// The same question to both bundles, with the clock after another one that warms each up.
    public func compare(_ words: String) {
        guard canCompare, let photo else { return }
        let asked = words.allSatisfy(\.isWhitespace) ? Self.usualQuestion : words
        let subjects = [one, other].compactMap { bundle(named: $0) }
        compared = []
        turns = []
        run(.loading(subjects[0].name)) { [self] in
            for subject in subjects {
                try await open(subject)
                let warm = 2  // one token from the photo, one from the caches
                _ = try await answer(Question(asked, about: photo.picture, limit: warm))
                try halt.check()
                let timed = try await answer(Question(asked, about: photo.picture))
                if timed.end == .stopped { throw Stopped() }
                compared.append(Compared(bundle: subject, answer: timed))
            }
        }
    }

    /// Times both bundles in turns with nothing else in memory, and keeps the report unless it is stopped.
    public func measure(runs: Int) {
        guard canCompare, let photo else { return }
        let subjects = [one, other].compactMap { bundle(named: $0) }
        let tokens = min(16, subjects.map(\.manifest.prompt.maxNewTokens).min() ?? 1)
        let settings = BenchmarkSettings(
            runs: runs, decodeTokens: tokens, prompt: Self.usualQuestion, photo: photo.name)
        let benchmark = Benchmark(
            openers, phone.machine(), condition: phone.condition, memory: phone.memory, freeMemory: phone.freeMemory)
        run(.measuring(done: 0, all: runs * subjects.count)) { [self] in
            await close()
            let json = try await workElsewhere({ .measuring(done: Int($0), all: Int($1)) }) { [halt] report in
                try benchmark.run(
                    subjects.map(\.folder), photo.picture, settings, checkHashes: false, stop: halt,
                    onProgress: { report(Int64($0), Int64($1)) })
            }
            guard let json else { throw Stopped() }
            try archive.save(json)
            try await refresh()
        }
    }

    /// Removes a report.
    public func delete(_ report: Report) {
        run(.deleting) { [self] in
            try archive.delete(report)
            try await refresh()
        }
    }
}
