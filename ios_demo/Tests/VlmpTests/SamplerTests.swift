import XCTest

@testable import VlmpCore

/// Sampling as the C++ runner does it.
final class SamplerTests: XCTestCase {
    func testTokens() throws {
        let cases = try ConformanceFiles.json("sampler/cases.json")
        for item in cases.at("cases").list {
            let logits = cases.at("logits").at(item.at("logits").string).list.map { Float($0.double) }
            let sampling = Sampling(
                temperature: item.at("temperature").double, topP: item.at("top_p").double,
                seed: UInt64(item.at("seed").string)!)!
            var sampler = Sampler(sampling)
            XCTAssertEqual(
                item.at("tokens").list.map { _ in sampler.sample(logits) }, item.at("tokens").ints, item.written)
        }
    }

    func testTheGenerator() throws {
        var random = Mt19937(5489)
        let numbers = try ConformanceFiles.json("sampler/cases.json").at("seed_5489").list
        XCTAssertEqual(numbers.map { _ in String(random.next()) }, numbers.map(\.string))
    }

    func testLimits() {
        XCTAssertNil(Sampling(temperature: 100.5, topP: 1, seed: 0))
        XCTAssertNil(Sampling(temperature: .nan, topP: 1, seed: 0))
        XCTAssertNil(Sampling(temperature: 1, topP: -0.1, seed: 0))
    }
}
