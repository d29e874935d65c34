import Foundation
import VlmpCore

extension AppModel {
    /// Reads what is there. When the app first starts, its own bundles are imported.
    public func start() {
        run(.reading) { [self] in
            try await refresh()
            if bundles.isEmpty {
                for folder in own { try await add(folder) }
                chosen = nil  // the first one came when it was alone
                try await refresh()
            }
        }
    }

    /// Copies a bundle into the app. `finished` is called when the folder is not needed any more.
    public func importBundle(_ folder: URL, finished: @escaping @MainActor () -> Void = {}) {
        guard isIdle else {
            problem = "The bundle was not imported, since another task is running: stop it, and import again."
            finished()
            return
        }
        run(.importing(folder.lastPathComponent, share: 0)) { [self] in
            defer { finished() }
            do {
                try await add(folder)
            } catch is Stopped {
                problem = "The import was cancelled; nothing of it is left."
            }
        }
    }

    /// Removes a bundle, which is unloaded first.
    public func delete(_ bundle: StoredBundle) {
        run(.deleting) { [self] in
            if loaded == bundle.name { await close() }
            try await onOwnThread { [store, onDelete] in
                try store.delete(bundle)
                onDelete(bundle.manifest)
            }
            try await refresh()
        }
    }

    private func add(_ folder: URL) async throws {
        let name = folder.lastPathComponent
        activity = .importing(name, share: 0)
        _ = try await workElsewhere({ done, all in .importing(name, share: Double(done) / Double(max(all, 1))) }) {
            [store, halt] report in
            try store.add(folder, stop: halt, onProgress: report)
        }
        try await refresh()
    }

    /// Lists the bundles anew, and chooses among them where what was chosen is gone.
    func refresh() async throws {
        (bundles, reports) = try await onOwnThread { [store, archive] in (store.list(), archive.list()) }
        let names = Set(bundles.map(\.name))
        offered = own.filter { !names.contains($0.lastPathComponent) }
        let plain = bundles.filter { !$0.manifest.pruned }.map(\.name)
        let fewer = bundles.filter { $0.manifest.pruned }.map(\.name)
        if !names.contains(chosen ?? "") { chosen = fewer.first ?? plain.first }
        if !names.contains(one ?? "") { one = plain.first ?? fewer.first }
        if !names.contains(other ?? "") { other = fewer.first { $0 != one } ?? plain.first { $0 != one } }
    }
}
