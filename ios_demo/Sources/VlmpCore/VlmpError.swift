import Foundation

/// Something that whoever uses a bundle can mend. Its text is one line for people.
public enum VlmpError: Error, Sendable, Equatable {
    /// A bundle that is not run.
    case bundle(BundleProblem, String)
    /// A phone without room for a bundle, in bytes.
    case memory(needed: Int64, free: Int64, String)
    /// Words that are no question to this bundle.
    case prompt(PromptProblem, String)
    /// A photo that is refused.
    case picture(PictureProblem, String)
    /// A call that does not fit the state of the conversation; nothing has changed.
    case turn(TurnProblem, String)
    /// The runtime failed in a call, or returned numbers that are none. The conversation is as it was before that call.
    case runtime(String)
    /// A bundle that is not imported; nothing of it is left.
    case store(StoreProblem, String)

    /// The line for people.
    public var message: String {
        switch self {
        case .bundle(_, let message), .memory(_, _, let message), .prompt(_, let message), .picture(_, let message),
            .turn(_, let message), .runtime(let message), .store(_, let message):
            message
        }
    }
}

extension VlmpError: LocalizedError, CustomStringConvertible {
    public var errorDescription: String? { message }
    public var description: String { message }
}

/// Which check refused a bundle: see "Check before you load" in docs/bundle.md.
public enum BundleProblem: String, Sendable {
    case unreadable, version, target, field, stages, tensors, name, unlisted, missing, size, hash, tokenizer, runtime
}

/// Why words are no question.
public enum PromptProblem: Sendable, Equatable {
    /// White space only.
    case empty
    /// `tokens` of the words, of which `most` have room.
    case tooLong(tokens: Int, most: Int)
    /// The tokenizer makes a control token of plain text.
    case controlToken
    /// The tokenizer has more tokens than the model.
    case noToken
}

/// Why a photo is refused.
public enum PictureProblem: Sendable {
    /// More than 100 megapixels.
    case size
    /// One side is more than 200 times the other.
    case shape
    /// No picture, a damaged one, or of a format that this system does not read.
    case unreadable
}

/// Why a turn is refused.
public enum TurnProblem: Sendable, Equatable {
    /// A reply before the first question.
    case noImage
    /// The caches have room for `room` of the `needed` tokens.
    case full(needed: Int, room: Int)
    /// The length of an answer must be from 1 to `most`.
    case limit(most: Int)
    /// Another task is running.
    case busy
    /// No bundle is loaded.
    case closed
}

/// Why a bundle is not imported.
public enum StoreProblem: Sendable, Equatable {
    /// No folder of a bundle was chosen.
    case noBundle
    /// The disk has `free` of the `needed` bytes.
    case disk(needed: Int64, free: Int64)
    /// The system does not let it be read or written.
    case files
}

/// A text from outside, as it may stand in a line: short, and without control characters.
package func quoted(_ text: String) -> String {
    let scalars = text.unicodeScalars
    var shown = "'"
    for scalar in scalars.prefix(80) {
        let control =
            scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028
            || scalar.value == 0x2029
        shown.unicodeScalars.append(control ? "?" : scalar)
    }
    return shown + (scalars.count > 80 ? "...'" : "'")
}

/// The message of another library's error, as one line.
package func oneLine(_ text: String) -> String {
    let words = text.unicodeScalars.split { $0.properties.isWhitespace || $0.value < 0x20 }
    return String(words.map { String($0) }.joined(separator: " ").prefix(300))
}
