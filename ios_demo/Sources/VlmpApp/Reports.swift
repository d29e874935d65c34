import Foundation

/// A benchmark that was kept, as JSON in the schema of `vlmp-profile`.
public struct Report: Identifiable, Sendable, Equatable {
    public let url: URL
    public let created: String
    /// `bundle: figures`, and what else is to be known.
    public let lines: [String]

    public var id: String { url.lastPathComponent }

    /// Throws where the file cannot be read as such.
    init(_ url: URL) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let profile = try decoder.decode(Profile.self, from: Data(contentsOf: url))
        self.url = url
        created = profile.created
        lines = profile.bundles.map(\.line) + profile.heat + profile.warnings
    }
}

/// The benchmarks in a folder.
public struct Reports: Sendable {
    private let folder: URL

    public init(_ folder: URL) {
        self.folder = folder
    }

    /// The newest first. A file that is no report is left out.
    public func list() -> [Report] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".json") }.compactMap { try? Report(folder.appendingPathComponent($0)) }
            .sorted { ($0.created, $0.id) > ($1.created, $1.id) }
    }

    /// Keeps a report, whole or not at all. Throws errors of the file system.
    public func save(_ json: String) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let name = "benchmark-\(UUID().uuidString.prefix(8)).json"
        try Data(json.utf8).write(to: folder.appendingPathComponent(name), options: .atomic)
    }

    public func delete(_ report: Report) throws {
        try FileManager.default.removeItem(at: report.url)
    }
}

/// What of a profile is shown.
private struct Profile: Decodable {
    struct Phase: Decodable {
        let medianMs: Double
        let lowMs: Double
        let highMs: Double
    }

    struct Bundle: Decodable {
        let name: String
        let phases: [String: Phase]

        var line: String {
            let shown = [("first_token", "first token"), ("prefill", "prefill"), ("decode", "a token")].compactMap {
                key, label in
                phases[key].map { phase in
                    let range = "\(milliseconds(phase.lowMs)) to \(milliseconds(phase.highMs))"
                    return "\(label) \(milliseconds(phase.medianMs)) (\(range))"
                }
            }
            return "\(name): " + shown.joined(separator: ", ")
        }
    }

    struct Run: Decodable {
        struct Condition: Decodable {
            let thermalStatus: String?
        }

        let before: Condition
        let after: Condition
    }

    let created: String
    let warnings: [String]
    let conditions: [Run]
    let bundles: [Bundle]

    var heat: [String] {
        let states = conditions.flatMap { [$0.before.thermalStatus, $0.after.thermalStatus] }.compactMap { $0 }
        let seen = states.reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
        return seen.isEmpty ? [] : ["Thermal state: \(seen.joined(separator: ", "))."]
    }
}
