#if canImport(VlmpOrt)
import Foundation
@testable import VlmpCore
import VlmpOrt
import XCTest

/// ONNX Runtime and the benchmark, on real bundles.
final class OrtTests: XCTestCase {
    private let machine = Machine(
        name: "Example Phone", os: "iOS 18.5", cpu: "unknown", cores: 6, memoryMib: 7500,
        facts: ["low power": "off"])

    func testACallEndsWhereItIsStopped() throws {
        let folder = try bundleFolder("onnx-unpruned")
        let manifest = try readBundle(folder, checkHashes: false)
        let session = try Session(manifest, folder, OrtOpener(), threads: 1)
        let seen = try session.vision(Tensor(manifest.method(.vision).inputs[0]))
        let ids = [Int](repeating: 1, count: manifest.prompt.textLen)
        _ = try session.prefill([1], seen)
        let before = session.progress
        let stop = Stop()
        // Another thread asks inside the call: it is asked for when `during` is entered, or while it runs.
        let asker = Thread { stop.ask() }
        asker.start()
        var calls = 0
        XCTAssertThrowsError(
            try {
                while true {
                    session.rewind(to: before)
                    _ = try session.extend(ids, stop: stop)
                    calls += 1
                }
            }()
        ) { XCTAssert($0 is Stopped, "\($0)") }
        XCTAssertEqual(session.past, 1)
        _ = try session.extend(ids)  // and it goes on with a new one
        XCTAssertEqual(session.past, 1 + ids.count)
    }

    func testADamagedGraphIsRefused() throws {
        let source = try bundleFolder("onnx-pruned")
        let folder = try temporaryFolder(self).appendingPathComponent("damaged")
        try FileManager.default.copyItem(at: source, to: folder)
        let manifest = try readBundle(folder, checkHashes: false)
        try Data("no graph".utf8).write(to: folder.appendingPathComponent(manifest.method(.vision).file))
        let error = problem { _ = try Session(manifest, folder, OrtOpener()) }
        XCTAssertEqual(error?.bundleProblem, .runtime)
        XCTAssert(
            error!.message.hasPrefix("damaged cannot be loaded: ") && !error!.message.contains("\n"), error!.message
        )
    }

    /// Whoever runs this test with VLMP_PROFILE imports what it writes: tests/ios/test_swift_package.py.
    func testTwoBundlesInTurns() throws {
        let folders = try ["onnx-unpruned", "onnx-pruned"].map(bundleFolder)
        let looks = Looks()
        let benchmark = Benchmark(
            ["onnx": OrtOpener()], machine, condition: { Condition(thermalState: "nominal") },
            memory: {
                let look = looks.next()
                return Memory(residentMib: 100 + look, peakMib: 200 + look)
            }, now: { "2026-01-31T12:00:00Z" }, clock: counting())
        var done: [[Int]] = []
        let settings = BenchmarkSettings(
            runs: 3, decodeTokens: 4, threads: 1, prompt: "What is in this picture?", photo: "photo-1.png")
        let photo = try ConformanceFiles.picture("steps/photo-1.png")
        let text = try XCTUnwrap(benchmark.run(folders, photo, settings) { done.append([$0, $1]) })
        XCTAssertEqual(done, (1...6).map { [$0, 6] })
        let profile = try JSON.parse(Array(text.utf8))
        XCTAssertEqual(
            profile.at("conditions").list.map { [$0.at("round").int, $0.at("bundle").int] },
            [[1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]])
        XCTAssertEqual(
            profile.at("warnings").list.map(\.string),
            ["Memory is that of one process, which ran all bundles: its peak is that of the largest."])
        for (number, bundle) in profile.at("bundles").list.enumerated() {
            // Three looks a run, of which this bundle has every other one.
            let memory = ["libraries_rss_mib", "loaded_rss_mib", "ran_rss_mib", "peak_rss_mib"].map {
                bundle.at("memory").at($0).double - Double(3 * number)
            }
            XCTAssertEqual(memory, [101, 114, 115, 215])
            let medians = ["vision", "first_token", "decode"].map {
                bundle.at("phases").at($0).at("median_ms").double
            }
            XCTAssertEqual(medians, [1.5, 4.5, 1.5 / 4])
        }
        if let path = ProcessInfo.processInfo.environment["VLMP_PROFILE"] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        }
    }

    func testABenchmarkCanBeStoppedAndRefuses() throws {
        let folders = [try bundleFolder("onnx-pruned")]
        let photo = try ConformanceFiles.picture("steps/photo-1.png")
        let settings = BenchmarkSettings(runs: 1, decodeTokens: 1, prompt: "Why?", photo: "a.png")
        func benchmark(free: Int64? = nil, hot: String? = nil, memory: @escaping @Sendable () -> Memory? = { nil })
            -> Benchmark
        {
            Benchmark(
                ["onnx": OrtOpener()], machine, condition: { Condition(thermalState: hot) }, memory: memory,
                freeMemory: { free })
        }
        let stop = Stop()
        // The second look comes after loading, before the first question.
        let looks = Looks()
        let stopping = benchmark {
            if looks.next() == 2 { stop.ask() }
            return nil
        }
        XCTAssertNil(try stopping.run(folders, photo, settings, stop: stop))
        XCTAssertNil(try benchmark().run(folders, photo, settings, stop: stop))
        let long = BenchmarkSettings(runs: 1, decodeTokens: 33, prompt: "Why?", photo: "a.png")
        guard case .turn(.limit(most: 32), _) = problem({ _ = try benchmark().run(folders, photo, long) }),
            case .memory = problem({ _ = try benchmark(free: 1 << 20).run(folders, photo, settings) })
        else { return XCTFail("taken") }
        let text = try XCTUnwrap(benchmark(hot: "serious").run(folders, photo, settings))
        XCTAssert(text.contains("\"The phone was hot: serious.\""))
    }

    func testQuartiles() {
        XCTAssert(quartiles([61, 60.5, 63, 61.5, 62]) == (61, 61.5, 62))
        XCTAssert(quartiles([4, 1, 3, 2]) == (1.75, 2.5, 3.25))
        XCTAssert(quartiles([5]) == (5, 5, 5))
    }
}
#endif
