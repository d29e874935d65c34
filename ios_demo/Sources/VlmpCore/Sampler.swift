#if canImport(Darwin)
import Darwin
#else
import Glibc
#endif

/// How the next token is chosen. The same seed gives the same answer as in the C++ runner.
public struct Sampling: Sendable, Equatable {
    /// 0 to 100; 0 is greedy.
    public let temperature: Double
    /// Tokens are drawn from the smallest set of likeliest ones whose shares reach it, 0 to 1.
    public let topP: Double
    public let seed: UInt64

    /// The first of the largest logits.
    public static let greedy = Sampling(temperature: 0, topP: 1, seed: 0)!

    /// Nil where a number is out of its limits.
    public init?(temperature: Double, topP: Double, seed: UInt64) {
        guard (0...100).contains(temperature), (0...1).contains(topP) else { return nil }
        self.temperature = temperature
        self.topP = topP
        self.seed = seed
    }
}

/// Chooses tokens, one after the other.
public struct Sampler: Sendable {
    private let sampling: Sampling
    private var random: Mt19937

    public init(_ sampling: Sampling) {
        self.sampling = sampling
        random = Mt19937(sampling.seed)
    }

    /// A token by logits [V], all of them finite.
    public mutating func sample(_ logits: [Float]) -> Int {
        if sampling.temperature == 0 { return largest(logits) }
        // Sorted as whole numbers, since a vocabulary has 150,000 tokens.
        let order = logits.indices.map { fallingKey(logits[$0], $0) }.sorted().map { Int($0 & 0xFFFF_FFFF) }
        let top = Double(logits[order[0]])
        let weights = order.map { exp((Double(logits[$0]) - top) / sampling.temperature) }
        let share = sampling.topP * weights.reduce(0, +)
        var nucleus = 0.0
        var count = 0
        while count < weights.count && (count == 0 || nucleus < share) {
            nucleus += weights[count]
            count += 1
        }
        var rest = nucleus * (Double(random.next() >> 11) * 0x1p-53)
        for place in 0..<count {
            rest -= weights[place]
            if rest < 0 { return order[place] }
        }
        return order[count - 1]
    }
}

/// The first of the largest logits.
func largest(_ logits: [Float]) -> Int {
    var best = 0
    for token in logits.indices where logits[token] > logits[best] { best = token }
    return best
}

/// Ascending by it, logits fall, and equal ones stand by their tokens.
private func fallingKey(_ logit: Float, _ token: Int) -> UInt64 {
    let bits = (logit + 0).bitPattern  // + 0: -0 equals 0
    let rising = bits >> 31 == 1 ? ~bits : bits | 0x8000_0000  // compares as the floats do
    return UInt64(~rising) << 32 | UInt64(token)
}

/// C++'s `mt19937_64`.
struct Mt19937: Sendable {
    private static let size = 312
    private static let middle = 156
    private static let upper: UInt64 = 0xFFFF_FFFF_8000_0000
    private var state: [UInt64]
    private var place = size

    init(_ seed: UInt64) {
        state = [seed]
        for index in 1..<Self.size {
            let before = state[index - 1]
            state.append(6_364_136_223_846_793_005 &* (before ^ before >> 62) &+ UInt64(index))
        }
    }

    mutating func next() -> UInt64 {
        if place == Self.size { refill() }
        var value = state[place]
        place += 1
        value ^= value >> 29 & 0x5555_5555_5555_5555
        value ^= value << 17 & 0x71D6_7FFF_EDA6_0000
        value ^= value << 37 & 0xFFF7_EEE0_0000_0000
        return value ^ value >> 43
    }

    private mutating func refill() {
        for index in 0..<Self.size {
            let both = state[index] & Self.upper | state[(index + 1) % Self.size] & ~Self.upper
            let twist: UInt64 = both & 1 == 1 ? 0xB502_6F5A_A966_19E9 : 0
            state[index] = state[(index + Self.middle) % Self.size] ^ both >> 1 ^ twist
        }
        place = 0
    }
}
