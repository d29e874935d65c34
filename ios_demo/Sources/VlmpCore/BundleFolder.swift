import Foundation

/// The manifest's file in a bundle.
public let manifestName = "manifest.json"

let mostManifestBytes: Int64 = 1 << 26
private let mostTokenizerBytes: Int64 = 1 << 28

/// Reads the manifest of the bundle in `folder` and checks its files: each is there, of its size and, with
/// `checkHashes`, its sha256. `onProgress` gets bytes hashed so far and all of them; what it throws ends the reading.
///
/// Throws `VlmpError.bundle`.
public func readBundle(
    _ folder: URL, checkHashes: Bool = true, onProgress: (_ done: Int64, _ all: Int64) throws -> Void = { _, _ in }
) throws -> Manifest {
    let name = folder.lastPathComponent
    let text = try readFile(folder, manifestName, most: mostManifestBytes, problem: .unreadable)
    let manifest = try parseManifest(text, file: "\(name)/\(manifestName)")
    for spec in manifest.files {
        let path = quoted(spec.path)
        guard let size = regularFileSize(folder.appendingPathComponent(spec.path)) else {
            throw VlmpError.bundle(.missing, "\(name): \(path) is missing: copy the bundle again")
        }
        if size != spec.sizeBytes {
            throw VlmpError.bundle(
                .size, "\(name): \(path) has \(size) bytes, the manifest says \(spec.sizeBytes): copy the bundle again")
        }
    }
    if !checkHashes { return manifest }
    var done: Int64 = 0
    for spec in manifest.files {
        var digest = Sha256()
        try readBlocks(folder, spec.path) { block in
            digest.update(block)
            done += Int64(block.count)
            try onProgress(done, manifest.sizeBytes)
        }
        if digest.finished() != spec.sha256 {
            throw VlmpError.bundle(
                .hash, "\(name): \(quoted(spec.path)) is damaged (sha256 differs): copy the bundle again")
        }
    }
    return manifest
}

/// The tokenizer of a bundle. Throws `VlmpError.bundle`.
public func readTokenizer(_ folder: URL, _ manifest: Manifest) throws -> Tokenizer {
    let path = manifest.prompt.tokenizerFile
    let text = try readFile(folder, path, most: mostTokenizerBytes, problem: .tokenizer)
    return try parseTokenizer(text, file: "\(folder.lastPathComponent)/\(path)")
}

/// Bytes of a regular file, links being followed, nil where there is none.
func regularFileSize(_ file: URL) -> Int64? {
    let real = file.resolvingSymlinksInPath()
    guard let facts = try? FileManager.default.attributesOfItem(atPath: real.path),
        facts[.type] as? FileAttributeType == .typeRegular, let size = facts[.size] as? NSNumber
    else { return nil }
    return size.int64Value
}

func readFile(_ folder: URL, _ path: String, most: Int64, problem: BundleProblem) throws -> [UInt8] {
    let name = "\(folder.lastPathComponent)/\(path)"
    guard let size = regularFileSize(folder.appendingPathComponent(path)) else {
        throw VlmpError.bundle(problem, "\(name) does not exist: is this the folder of a bundle?")
    }
    if size > most { throw VlmpError.bundle(problem, "\(name) is too large: \(size) bytes") }
    do {
        return [UInt8](try Data(contentsOf: folder.appendingPathComponent(path)))
    } catch {
        throw VlmpError.bundle(problem, "\(name) cannot be read: \(oneLine(error.localizedDescription))")
    }
}

/// Calls `use` with each piece of a file, a mebibyte each. Throws `VlmpError.bundle`, and what `use` throws.
func readBlocks(_ folder: URL, _ path: String, use: (Data) throws -> Void) throws {
    func reading<Made>(_ call: () throws -> Made) throws -> Made {
        do {
            return try call()
        } catch {
            throw VlmpError.bundle(
                .unreadable,
                "\(folder.lastPathComponent): \(quoted(path)) cannot be read: \(oneLine(error.localizedDescription))")
        }
    }
    let file = try reading { try FileHandle(forReadingFrom: folder.appendingPathComponent(path)) }
    defer { try? file.close() }
    while let block = try reading({ try file.read(upToCount: 1 << 20) }), !block.isEmpty { try use(block) }
}
