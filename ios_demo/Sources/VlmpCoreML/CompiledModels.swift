import Foundation
import VlmpCore

/// Where compiled models are kept. Core ML runs a model only after it has been compiled on the phone, which takes
/// seconds; the system may remove what is kept here at any time.
public struct CompiledModels: Sendable {
    /// Usually in the caches directory.
    public let folder: URL

    public init(folder: URL) {
        self.folder = folder
    }

    /// The compiled form of the package of a bundle. `compile` writes it to a place of its own, from which it is moved
    /// here.
    ///
    /// Throws what `compile` throws, errors of the file system, and `VlmpError.bundle(.runtime, ...)` where the methods
    /// are not functions of one package.
    public func model(_ manifest: Manifest, in bundle: URL, compile: (URL) throws -> URL) throws -> URL {
        guard Set(manifest.methods.values.map(\.file)).count == 1 else {
            throw VlmpError.bundle(
                .runtime, "The methods of \(manifest.model) are in several packages: export it again.")
        }
        let kept = place(of: manifest)
        if FileManager.default.fileExists(atPath: kept.path) { return kept }
        let made = try compile(bundle.appendingPathComponent(manifest.method(.vision).file))
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        do {
            try FileManager.default.moveItem(at: made, to: kept)
        } catch {
            try? FileManager.default.removeItem(at: made)
            // Somebody else may have been first: what is there is whole, since a move is one step.
            guard FileManager.default.fileExists(atPath: kept.path) else { throw error }
        }
        return kept
    }

    /// Removes the compiled form of a bundle, if it is there.
    public func remove(_ manifest: Manifest) throws {
        let kept = place(of: manifest)
        if FileManager.default.fileExists(atPath: kept.path) { try FileManager.default.removeItem(at: kept) }
    }

    /// Named by the content of the package, so that another bundle of the same name has a place of its own.
    private func place(of manifest: Manifest) -> URL {
        let package = manifest.method(.vision).file + "/"
        let hashes = manifest.files.filter { $0.path.hasPrefix(package) }.sorted { $0.path < $1.path }.map(\.sha256)
        let name = hashes.map { String($0.prefix(16)) }.joined(separator: "-")
        return folder.appendingPathComponent(name + ".mlmodelc", isDirectory: true)
    }
}
