import Foundation
import Synchronization

/// What runs the graphs of one bundle: named tensors in, named tensors out. One call at a time, on one thread.
///
/// Caches belong to the session, which hands them over once, when a runtime is opened. Of a bundle that updates them in
/// place, a call writes into them.
public protocol Runtime: AnyObject {
    /// Name and version, for people: `onnxruntime 1.29.0`.
    var name: String { get }

    /// Runs a method on all inputs but the caches: `inputs` by name, of the shapes and dtypes of the manifest. Returns
    /// its outputs but caches that were updated in place, of the shapes and dtypes of the manifest too: whoever
    /// implements it checks that, for copies rest on it. They are good until the next call.
    ///
    /// While it runs, `stop` may end it, where the runtime can do that: then it throws `Stopped`. Throws
    /// `VlmpError.runtime`.
    func run(_ step: Step, _ inputs: [String: Tensor], stop: Stop) throws -> [String: Tensor]

    /// Frees what can be loaded again at the next call: memory is short. It does nothing unless implemented.
    func trim()
}

extension Runtime {
    public func trim() {}
}

/// Opens runtimes of one kind.
public protocol RuntimeOpener: Sendable {
    /// Loads the graphs of the bundle in `folder`. `caches` by the names of their inputs. `threads`: nil is the
    /// runtime's own choice. It frees all when its last reference is gone.
    ///
    /// Throws `VlmpError.bundle(.runtime, ...)` where they cannot be loaded.
    func open(_ folder: URL, _ manifest: Manifest, caches: [String: Tensor], threads: Int?) throws -> any Runtime
}

/// A call of a turn that was asked to stop. What the caches hold is as it was before.
public struct Stopped: Error {
    public init() {}
}

/// By which any thread may end one turn's calls at any time.
public final class Stop: Sendable {
    private struct State {
        var asked = false
        var end: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    public init() {}

    /// Whether somebody has asked.
    public var asked: Bool { state.withLock { $0.asked } }

    /// Lets the call that runs throw `Stopped`, at once where the runtime can end it, and all later ones.
    public func ask() {
        state.withLock {
            $0.asked = true
            $0.end?()
        }
    }

    /// Throws `Stopped` if somebody has asked.
    public func check() throws {
        if asked { throw Stopped() }
    }

    /// Runs `call`. Meanwhile `ask` calls `end`, which ends it and must not wait; nothing calls `end` after it is over.
    public func during<Made>(end: @escaping @Sendable () -> Void, _ call: () throws -> Made) throws -> Made {
        try state.withLock {
            if $0.asked { throw Stopped() }
            $0.end = end
        }
        defer { state.withLock { $0.end = nil } }
        return try call()
    }
}
