import Foundation
import VlmpCore

/// The files that all readers of bundles share.
let conformanceFiles = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().appendingPathComponent("../../../tests/conformance/files").standardizedFileURL

/// A folder that is removed with its last reference.
final class TemporaryFolder: Sendable {
    let url: URL

    init() {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("vlmp-\(UUID().uuidString)")
        try! FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(at: url)
    }
}

/// Writes a bundle for Core ML whose package is not one: the manifest is that of a real export.
func writeBundle(_ folder: URL, pruned: Bool = true) throws {
    let files = FileManager.default
    try files.createDirectory(at: folder.appendingPathComponent("model.mlpackage"), withIntermediateDirectories: true)
    let contents = [
        "model.mlpackage/Manifest.json": Data(folder.lastPathComponent.utf8),
        "tokenizer.json": try Data(
            contentsOf: conformanceFiles.appendingPathComponent("tokenizer/tiny/tokenizer.json")),
    ]
    for (path, data) in contents { try data.write(to: folder.appendingPathComponent(path)) }
    let text = try Data(contentsOf: conformanceFiles.appendingPathComponent("manifest/coreml-pruned.json"))
    var manifest = try JSONSerialization.jsonObject(with: text) as! [String: Any]
    if !pruned { unprune(&manifest) }
    manifest["files"] = contents.map { path, data in
        ["path": path, "sha256": sha256(data), "size_bytes": data.count] as [String: Any]
    }
    try JSONSerialization.data(withJSONObject: manifest).write(to: folder.appendingPathComponent("manifest.json"))
}

/// The manifest of such a bundle, in memory.
func manifest(pruned: Bool = true) throws -> Manifest {
    let folder = TemporaryFolder()
    try writeBundle(folder.url, pruned: pruned)
    return try readBundle(folder.url)
}

/// What an export without pruning has in its manifest: all tokens are kept, and all layers have the sizes of the first.
private func unprune(_ manifest: inout [String: Any]) {
    var shape = (manifest["shapes"] as! [[String: Any]])[0]
    let tokens = (shape["image"] as! [String: Any])["visual_tokens"] as! Int
    var stage = (shape["stages"] as! [[String: Any]])[0]
    (stage["num_kept"], stage["pruner"]) = (tokens, "none")
    shape["stages"] = [stage]
    var kv = shape["kv"] as! [String: Any]
    let layers = kv["layers"] as! [[String: Any]]
    kv["layers"] = layers.map { _ in layers[0] }
    shape["kv"] = kv
    manifest["shapes"] = [shape]
    var methods = manifest["methods"] as! [String: [String: Any]]
    for (name, method) in methods {
        for side in ["inputs", "outputs"] {
            let tensors = method[side] as! [[String: Any]]
            methods[name]![side] = tensors.map { tensor in
                var tensor = tensor
                let parts = (tensor["name"] as! String).split(separator: "_")
                if ["kept", "order"].contains(parts[0]) { tensor["shape"] = [tokens] }
                if ["key", "value"].contains(parts[0]) {
                    let ofFirst = (parts.dropLast() + ["0"]).joined(separator: "_")
                    let first = tensors.first { $0["name"] as! String == ofFirst }!
                    tensor["shape"] = first["shape"]
                }
                return tensor
            }
        }
    }
    manifest["methods"] = methods
}

private func sha256(_ data: Data) -> String {
    var digest = Sha256()
    digest.update(data)
    return digest.finished()
}

/// A photo in two colours.
func photo(width: Int = 60, height: Int = 40) -> Picture {
    Picture(width: width, height: height, rgb: (0..<3 * width * height).map { UInt8($0 % 251) })
}
