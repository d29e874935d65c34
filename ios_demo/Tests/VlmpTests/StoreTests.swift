import Foundation
import XCTest

@testable import VlmpCore

/// Import of bundles: all of one, or nothing.
final class StoreTests: XCTestCase {
    private let cases = try! ConformanceFiles.json("manifest/cases.json")

    func testABundleIsThereWhole() throws {
        let (store, source, folder) = try start()
        var told: [[Int64]] = []
        let bundle = try store.add(source) { told.append([$0, $1]) }
        XCTAssertEqual(told.last, [bundle.manifest.sizeBytes, bundle.manifest.sizeBytes])
        XCTAssertEqual(bundle.name, "my-bundle")
        _ = try readBundle(bundle.folder)
        XCTAssertEqual(store.list(), [bundle])
        XCTAssertEqual(try store.add(source).name, "my-bundle-2")
        XCTAssertEqual(try store.add(source, name: "../.. x/").name, "x")
        try store.delete(bundle)
        XCTAssertEqual(store.list().map(\.name), ["my-bundle-2", "x"])
        XCTAssertEqual(try names(folder), ["my-bundle-2", "x"])
    }

    func testAHostileOneLeavesNothing() throws {
        let (store, source, folder) = try start()
        for item in cases.at("hostile").list {
            let manifest = try ConformanceFiles.json("manifest/rows.json").changed(item.at("change"))
            try writeBundle(source, manifest, item.at("files"))
            let error = problem { _ = try store.add(source) }
            XCTAssertEqual(error?.bundleProblem?.rawValue, item.at("class").string, item.written)
            XCTAssertEqual(try names(folder), [])
        }
    }

    func testAStoppedImportLeavesNothing() throws {
        let (store, source, folder) = try start()
        let stop = Stop()
        XCTAssertThrowsError(try store.add(source, stop: stop) { _, _ in stop.ask() }) {
            XCTAssert($0 is Stopped, "\($0)")
        }
        XCTAssertEqual(try names(folder), [])
    }

    func testWhatAnEndedAppLeftIsRemoved() throws {
        let (_, _, folder) = try start()
        try FileManager.default.createDirectory(
            at: folder.appendingPathComponent(".part-x/y"), withIntermediateDirectories: true)
        let store = BundleStore(folder, targets: ["executorch"])
        XCTAssertEqual(try names(folder), [])
        XCTAssertEqual(store.list(), [])
    }

    func testItIsRefusedBeforeItIsCopied() throws {
        let (_, source, folder) = try start()
        let small = BundleStore(folder, targets: ["executorch"]) { _ in 1000 }
        guard case .store(.disk(_, free: 1000), _) = problem({ _ = try small.add(source) }) else {
            return XCTFail("taken")
        }
        let other = BundleStore(folder, targets: ["coreml"])
        XCTAssertEqual(problem { _ = try other.add(source) }?.bundleProblem, .target)
        guard case .store(.noBundle, _) = problem({ _ = try other.add(folder) }) else { return XCTFail("taken") }
        XCTAssertEqual(try names(folder), [])
    }

    func testADiskThatCannotBeWritten() throws {
        let (store, source, folder) = try start()
        try FileManager.default.removeItem(at: folder)
        try Data().write(to: folder)  // a file where the folder was
        guard case .store(.files, let message) = problem({ _ = try store.add(source) }) else { return XCTFail("taken") }
        XCTAssertFalse(message.contains("\n"))
    }

    /// A store, a bundle outside, and the store's folder.
    private func start() throws -> (BundleStore, URL, URL) {
        let base = try temporaryFolder(self)
        let (source, folder) = (base.appendingPathComponent("my bundle"), base.appendingPathComponent("store"))
        try FileManager.default.createDirectory(at: source, withIntermediateDirectories: true)
        try writeBundle(source, ConformanceFiles.json("manifest/rows.json"), [:])
        return (BundleStore(folder, targets: ["executorch"]), source, folder)
    }

    private func writeBundle(_ folder: URL, _ manifest: JSON, _ files: JSON) throws {
        try writeScripted(folder, manifest, cases.at("contents"), files)
    }

    private func names(_ folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }
}

/// Writes a bundle of the conformance files, `files` standing in the place of `contents`.
func writeScripted(_ folder: URL, _ manifest: JSON, _ contents: JSON, _ files: JSON) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
        try FileManager.default.removeItem(at: folder.appendingPathComponent(name))
    }
    for file in contents.members {
        let name = String(decoding: file.name, as: UTF8.self)
        let content = files[name] ?? file.value
        if content != .null { try Data(content.utf8).write(to: folder.appendingPathComponent(name)) }
    }
    try Data(manifest.written.utf8).write(to: folder.appendingPathComponent(manifestName))
}
