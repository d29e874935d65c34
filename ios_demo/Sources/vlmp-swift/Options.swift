import Foundation
import VlmpCore

/// What was asked for on the command line.
struct Options {
    static let usage = """
        vlmp-swift BUNDLE --image FILE --prompt TEXT [options]

        Answers a question about an image with a bundle for ONNX Runtime.

          --image FILE          photo, PNG
          --prompt TEXT         question
          --reply TEXT          next question of the conversation; repeatable
          --control-tokens      take control tokens in them, as <|im_end|>, for what they are to the model, not for text
          --max-new-tokens N    longest answer (the bundle's)
          --temperature F       sample with this temperature; 0 is greedy (0)
          --top-p F             sample from the most likely tokens that make up this share (1)
          --seed N              of sampling (0)
          --threads N           of ONNX Runtime (its own choice)
          --json                write all answers as one JSON object, at the end
        """

    var bundle = ""
    var image = ""
    /// The question and those after it.
    var prompts: [String] = []
    var controlTokens = false
    var limit: Int?
    var sampling = Sampling.greedy
    var threads: Int?
    var json = false

    /// Throws `BadCall`.
    init(_ arguments: [String]) throws {
        var (question, replies): (String?, [String]) = (nil, [])
        var (temperature, topP, seed) = (0.0, 1.0, UInt64(0))
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            func value() throws -> String {
                guard let value = rest.popFirst() else { throw BadCall("\(argument) needs a value") }
                return value
            }
            func number<Number: LosslessStringConvertible>(_ what: String, _ fits: (Number) -> Bool) throws -> Number {
                let text = try value()
                guard let number = Number(text), fits(number) else {
                    throw BadCall("\(argument) '\(text)': must be \(what)")
                }
                return number
            }
            switch argument {
            case "--image": image = try value()
            case "--prompt":
                if question != nil { throw BadCall("--prompt is there twice: further questions are given by --reply") }
                question = try value()
            case "--reply": replies.append(try value())
            case "--control-tokens": controlTokens = true
            case "--max-new-tokens": limit = try number("a whole number from 1") { $0 > 0 }
            case "--temperature": temperature = try number("a number from 0 to 100") { (0...100).contains($0) }
            case "--top-p": topP = try number("a number from 0 to 1") { (0...1).contains($0) }
            case "--seed": seed = try number("a whole number from 0 to 2^64 - 1") { _ in true }
            case "--threads": threads = try number("a whole number from 1 to 1024") { (1...1024).contains($0) }
            case "--json": json = true
            default:
                if argument.hasPrefix("-") { throw BadCall("\(argument) is unknown; --help tells more") }
                if !bundle.isEmpty { throw BadCall("'\(argument)': there is a bundle already, '\(bundle)'") }
                bundle = argument
            }
        }
        if bundle.isEmpty { throw BadCall("the bundle is missing; --help tells more") }
        if image.isEmpty { throw BadCall("--image is missing; --help tells more") }
        guard let question else { throw BadCall("--prompt is missing; --help tells more") }
        prompts = [question] + replies
        sampling = Sampling(temperature: temperature, topP: topP, seed: seed)!
    }
}

/// A command that is not one.
struct BadCall: Error {
    let message: String

    init(_ message: String) {
        self.message = message
    }
}
