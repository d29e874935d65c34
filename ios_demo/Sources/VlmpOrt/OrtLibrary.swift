import COnnxRuntime
import Foundation
import VlmpCore

/// ONNX Runtime, as found on this machine when it is first asked for.
final class OrtLibrary: Sendable {
    /// The functions of the C API.
    let api: OrtApi
    let version: String
    private let environment: UInt

    /// Throws `VlmpError.bundle(.runtime, ...)` where there is none.
    static func shared() throws -> OrtLibrary { try loaded.get() }

    private static let loaded = Result { try OrtLibrary() }
    private static let names = ["libonnxruntime.so", "libonnxruntime.so.1"]

    /// What VLMP_ONNXRUNTIME names, otherwise what the system finds.
    private init() throws {
        let named = ProcessInfo.processInfo.environment["VLMP_ONNXRUNTIME"]
        let names = named.map { [$0] } ?? Self.names
        guard let library = names.lazy.compactMap({ dlopen($0, RTLD_NOW) }).first,
            let symbol = dlsym(library, "OrtGetApiBase")
        else {
            throw VlmpError.bundle(
                .runtime, "\(names[0]) cannot be loaded: set VLMP_ONNXRUNTIME to ONNX Runtime's library")
        }
        typealias GetBase = @convention(c) () -> UnsafePointer<OrtApiBase>?
        let base = unsafeBitCast(symbol, to: GetBase.self)()!.pointee
        version = String(cString: base.GetVersionString()!)
        guard let api = base.GetApi(UInt32(ORT_API_VERSION)) else {
            throw VlmpError.bundle(.runtime, "ONNX Runtime \(version) is too old")
        }
        self.api = api.pointee
        var made: OpaquePointer?
        // Warnings tell of bound caches, at each call.
        try throwing(self.api, self.api.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "vlmp", &made))
        environment = UInt(bitPattern: made)  // for good: the library stays loaded
    }

    /// Nothing changes it, and threads may share it.
    var env: OpaquePointer { OpaquePointer(bitPattern: environment)! }

    func check(_ status: OpaquePointer?) throws { try throwing(api, status) }
}

/// What ONNX Runtime says of a call that failed.
struct OrtFailure: Error {
    let message: String
}

private func throwing(_ api: OrtApi, _ status: OpaquePointer?) throws {
    guard let status else { return }
    defer { api.ReleaseStatus(status) }
    throw OrtFailure(message: oneLine(String(cString: api.GetErrorMessage(status)!)))
}
