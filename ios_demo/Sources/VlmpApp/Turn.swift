import Foundation
import VlmpCore

/// A question with what is there of its answer.
public struct Turn: Identifiable, Sendable {
    public let id = UUID()
    public let question: String
    public internal(set) var text = ""
    /// nil until it is over.
    public internal(set) var answer: Answer?
    /// Why the app stopped it by itself, nil where it did not.
    public internal(set) var interruption: String?

    init(_ question: String) {
        self.question = question
    }

    /// Times and the number of tokens, nil until it is over.
    public var figures: String? {
        guard let answer else { return nil }
        let times = answer.timings
        var parts: [String] = []
        if !answer.tokens.isEmpty {
            parts.append("First token after \(milliseconds(times.firstTokenMs))")
            if !answer.stages.isEmpty {
                parts.append("vision \(milliseconds(times.visionMs)), prefill \(milliseconds(times.prefillMs))")
            }
        }
        if times.decodeTokensPerSecond > 0 { parts.append("\(fixed(times.decodeTokensPerSecond)) tokens a second") }
        parts.append(answer.tokens.count == 1 ? "1 token" : "\(answer.tokens.count) tokens")
        return parts.joined(separator: "; ") + "."
    }

    /// Why the answer ended, nil where it came to its end.
    public var ending: String? {
        switch answer?.end {
        case .stopped: interruption ?? "Stopped."
        case .full: "The conversation is full: choose a photo to begin a new one."
        case .limit: "The answer has as many tokens as one may have."
        case .finished, nil: nil
        }
    }
}

/// The same question to one of two bundles.
public struct Compared: Identifiable, Sendable {
    public let bundle: StoredBundle
    public let answer: Answer

    public var id: String { bundle.name }

    public var figures: String {
        let times = answer.timings
        return "First token after \(milliseconds(times.firstTokenMs)); prefill \(milliseconds(times.prefillMs)); "
            + "\(fixed(times.decodeTokensPerSecond)) tokens a second; "
            + "KV caches \(mebibytes(bundle.manifest.cacheBytes))."
    }

    /// What the second bundle brought, against the first.
    public static func summary(_ one: Compared, _ other: Compared) -> String {
        let time = other.answer.timings.firstTokenMs / max(one.answer.timings.firstTokenMs, 1e-9)
        let caches = Double(other.bundle.manifest.cacheBytes) / Double(max(one.bundle.manifest.cacheBytes, 1))
        return "With \(other.bundle.name), the first token comes after \(percent(time)) of the time, "
            + "and the caches take \(percent(caches)) of the memory."
    }
}

extension StoredBundle {
    /// A line about it, for people.
    public var facts: String {
        let pruners = manifest.stages.map(\.pruner).joined(separator: "+")
        let tokens = "\(manifest.numKept) of \(manifest.image.visualTokens) visual tokens (\(pruners))"
        let kept = manifest.pruned ? tokens : "unpruned"
        return "\(manifest.model), \(manifest.precision.rawValue), quantization \(manifest.quantization), \(kept), "
            + "\(mebibytes(manifest.sizeBytes)), KV caches \(mebibytes(manifest.cacheBytes))"
    }
}

func milliseconds(_ value: Double) -> String {
    value < 10 ? "\(fixed(value)) ms" : "\(Int(value.rounded())) ms"
}

func mebibytes(_ bytes: Int64) -> String { "\(fixed(Double(bytes) / 0x1p20)) MiB" }

func percent(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

func fixed(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
}
