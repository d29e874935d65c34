import Foundation

/// A bundle in a `BundleStore`.
public struct StoredBundle: Sendable, Equatable, Identifiable {
    public let folder: URL
    public let manifest: Manifest

    public var name: String { folder.lastPathComponent }
    public var id: String { name }

    /// Reads the manifest; the hashes were compared when it was imported. Throws `VlmpError.bundle`.
    public init(_ folder: URL) throws {
        self.folder = folder
        manifest = try readBundle(folder, checkHashes: false)
    }
}

/// The bundles in a folder. A bundle is there whole, with the hashes of its manifest, or not at all.
///
/// Its calls take time: `onOwnThread` keeps the main thread free.
public final class BundleStore: Sendable {
    private static let part = ".part-"
    private static let spare: Int64 = 64 << 20
    private let folder: URL
    private let targets: Set<String>
    private let freeBytes: @Sendable (URL) -> Int64?

    /// `targets`: of the bundles that this app runs. `freeBytes`: of the disk that holds a folder, nil where nobody
    /// knows. What an import left whose app was ended is removed.
    public init(
        _ folder: URL, targets: Set<String>, freeBytes: @escaping @Sendable (URL) -> Int64? = BundleStore.freeBytes
    ) {
        self.folder = folder
        self.targets = targets
        self.freeBytes = freeBytes
        let files = FileManager.default
        try? files.createDirectory(at: folder, withIntermediateDirectories: true)
        for name in Self.names(folder) where name.hasPrefix(Self.part) {
            try? files.removeItem(at: folder.appendingPathComponent(name))
        }
    }

    /// All of them, by name. One that cannot be read is left out.
    public func list() -> [StoredBundle] {
        Self.names(folder).filter { !$0.hasPrefix(".") }.sorted()
            .compactMap { try? StoredBundle(folder.appendingPathComponent($0, isDirectory: true)) }
    }

    /// Removes a bundle. Throws `VlmpError.store`.
    public func delete(_ bundle: StoredBundle) throws {
        let going = folder.appendingPathComponent(Self.part + bundle.name)
        try touching(bundle.name) {
            try FileManager.default.moveItem(at: bundle.folder, to: going)
            try FileManager.default.removeItem(at: going)
        }
    }

    /// Copies the bundle in a folder: all of it, or nothing. `name`: what it is called here, that of the folder unless
    /// given; a number is added where that is taken. `onProgress` gets bytes copied so far, and all. `stop` ends it.
    ///
    /// Throws `VlmpError.bundle`, `.store`, and `Stopped`.
    public func add(
        _ source: URL, name: String? = nil, stop: Stop = Stop(),
        onProgress: (_ done: Int64, _ all: Int64) -> Void = { _, _ in }
    ) throws -> StoredBundle {
        guard regularFileSize(source.appendingPathComponent(manifestName)) != nil else {
            throw VlmpError.store(.noBundle, "There is no \(manifestName) in it: choose the folder of a bundle.")
        }
        let text = try readFile(source, manifestName, most: mostManifestBytes, problem: .unreadable)
        let manifest = try parseManifest(text)
        if !targets.contains(manifest.target) {
            throw VlmpError.bundle(
                .target,
                "The bundle is for \(manifest.target): this app runs \(targets.sorted().joined(separator: " and "))")
        }
        let needed = manifest.sizeBytes + Self.spare
        if let free = freeBytes(folder), needed > free {
            throw VlmpError.store(
                .disk(needed: needed, free: free),
                "The bundle needs \(needed >> 20) MiB, but only \(free >> 20) MiB are free.")
        }
        let name = freeName(name ?? source.lastPathComponent)
        let part = folder.appendingPathComponent(Self.part + name)
        defer { try? FileManager.default.removeItem(at: part) }
        try touching(name) {
            try? FileManager.default.removeItem(at: part)
            try FileManager.default.createDirectory(at: part, withIntermediateDirectories: true)
        }
        var done: Int64 = 0
        for spec in manifest.files {
            try copy(spec, source, part) { count in
                try stop.check()
                done += count
                onProgress(done, manifest.sizeBytes)
            }
        }
        let here = folder.appendingPathComponent(name, isDirectory: true)
        try touching(name) {
            try Data(text).write(to: part.appendingPathComponent(manifestName))
            try stop.check()
            try FileManager.default.moveItem(at: part, to: here)
        }
        return try StoredBundle(here)
    }

    /// What the system says is free for a folder's files.
    @Sendable public static func freeBytes(_ folder: URL) -> Int64? {
        let facts = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
        return (facts?[.systemFreeSize] as? NSNumber)?.int64Value
    }

    private func copy(_ spec: FileSpec, _ source: URL, _ part: URL, _ onBytes: (Int64) throws -> Void) throws {
        let to = part.appendingPathComponent(spec.path)
        guard let size = regularFileSize(source.appendingPathComponent(spec.path)) else {
            throw VlmpError.bundle(.missing, "\(quoted(spec.path)) is missing in the bundle.")
        }
        if size != spec.sizeBytes {
            throw VlmpError.bundle(.size, "\(quoted(spec.path)) is damaged: its size is not the manifest's.")
        }
        let output = try touching(spec.path) {
            try FileManager.default.createDirectory(
                at: to.deletingLastPathComponent(), withIntermediateDirectories: true)
            _ = FileManager.default.createFile(atPath: to.path, contents: nil)
            return try FileHandle(forWritingTo: to)
        }
        defer { try? output.close() }
        var digest = Sha256()
        try readBlocks(source, spec.path) { block in
            digest.update(block)
            try touching(spec.path) { try output.write(contentsOf: block) }
            try onBytes(Int64(block.count))
        }
        try touching(spec.path) { try output.synchronize() }
        if digest.finished() != spec.sha256 {
            throw VlmpError.bundle(.hash, "\(quoted(spec.path)) is damaged: its sha256 is not the manifest's.")
        }
    }

    private func freeName(_ wanted: String) -> String {
        let plain = wanted.unicodeScalars.map { scalar in
            let kept =
                scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
                || "._-".unicodeScalars.contains(scalar)
            return kept ? Character(scalar) : "-"
        }
        let trimmed = String(plain).trimmingCharacters(in: CharacterSet(charactersIn: ".-")).prefix(60)
        let name = trimmed.isEmpty ? "bundle" : String(trimmed)
        let taken = Set(Self.names(folder))
        var number = 1
        while true {
            let numbered = number == 1 ? name : "\(name)-\(number)"
            if !taken.contains(numbered) { return numbered }
            number += 1
        }
    }

    private static func names(_ folder: URL) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    }

    /// Turns the system's errors into lines of ours.
    private func touching<Made>(_ path: String, _ call: () throws -> Made) throws -> Made {
        do {
            return try call()
        } catch let error as Stopped {
            throw error
        } catch {
            throw VlmpError.store(.files, "\(quoted(path)): \(oneLine(error.localizedDescription))")
        }
    }
}

/// Runs what takes long on a thread of its own.
public func onOwnThread<Made: Sendable>(_ work: @escaping @Sendable () throws -> Made) async throws -> Made {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue(label: "vlmp work", qos: .userInitiated).async {
            continuation.resume(with: Result(catching: work))
        }
    }
}
