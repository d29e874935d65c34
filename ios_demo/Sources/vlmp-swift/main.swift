import Foundation
import VlmpCore
import VlmpOrt

/// Answers all questions, streaming to standard output; figures go to standard error.
func run(_ options: Options) throws {
    guard let photo = FileManager.default.contents(atPath: options.image) else {
        throw BadCall("image \(options.image) cannot be read")
    }
    let picture = try Picture(photo: photo)  // before the bundle, which may take long to load
    let folder = URL(fileURLWithPath: options.bundle, isDirectory: true)
    let manifest = try readBundle(folder)
    if manifest.target != "onnx" {
        throw BadCall("\(options.bundle) is for \(manifest.target): vlmp-swift runs onnx")
    }
    let start = systemClock()
    let tokenizer = try readTokenizer(folder, manifest)
    let session = try Session(manifest, folder, OrtOpener(), threads: options.threads)
    let loadMs = systemClock() - start
    let chat = Chat(session, tokenizer, sampling: options.sampling)
    var answers: [Answer] = []
    for (turn, prompt) in options.prompts.enumerated() {
        let show = { (piece: String) in
            if !options.json { write(piece, FileHandle.standardOutput) }
        }
        let answer =
            turn == 0
            ? try chat.ask(picture, prompt, limit: options.limit, controlTokens: options.controlTokens, onText: show)
            : try chat.reply(prompt, limit: options.limit, controlTokens: options.controlTokens, onText: show)
        answers.append(answer)
        if options.json { continue }
        write("\n", FileHandle.standardOutput)
        if turn == 0 {
            let kept = answer.stages.map { "\($0.count)" }.joined(separator: ", ")
            say("kept \(kept) of \(manifest.image.visualTokens) visual tokens")
        }
        say(timingLine(answer.timings, loadMs: loadMs))
    }
    if options.json {
        let whole: JSON = [
            "runtime": JSON(session.runtime.name), "load_ms": JSON(loadMs), "answers": .list(answers.map(json)),
        ]
        write(whole.written + "\n", FileHandle.standardOutput)
    }
}

func json(_ answer: Answer) -> JSON {
    let timings = answer.timings
    return [
        "text": JSON(answer.text), "token_ids": JSON(answer.tokens), "end": JSON(answer.end.rawValue),
        "kept": JSON(answer.kept), "order": JSON(answer.order), "stages": .list(answer.stages.map { JSON($0) }),
        "preprocess_ms": JSON(timings.preprocessMs), "vision_ms": JSON(timings.visionMs),
        "prefill_ms": JSON(timings.prefillMs), "decode_ms": .list(timings.decodeMs.map { JSON($0) }),
    ]
}

func timingLine(_ timings: Timings, loadMs: Double) -> String {
    let decode = timings.decodeMs.reduce(0, +)
    let phases: KeyValuePairs = [
        "load": loadMs, "preprocess": timings.preprocessMs, "vision": timings.visionMs, "prefill": timings.prefillMs,
        "decode": decode,
    ]
    let rate = (timings.decodeTokensPerSecond * 10).rounded() / 10
    return phases.map { "\($0) \(Int($1.rounded())) ms" }.joined(separator: ", ")
        + " (\(timings.decodeMs.count) tokens, \(rate) tok/s)"
}

func say(_ line: String) { write("vlmp-swift: \(line)\n", FileHandle.standardError) }

/// Whoever reads may have gone.
func write(_ text: String, _ file: FileHandle) { try? file.write(contentsOf: Data(text.utf8)) }

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments.contains("--help") {
    print(Options.usage)
    exit(0)
}
do {
    try run(Options(arguments))
} catch let error as BadCall {
    say(oneLine(error.message))
    exit(2)
} catch {
    say(oneLine((error as? VlmpError)?.message ?? "\(error)"))
    exit(2)
}
