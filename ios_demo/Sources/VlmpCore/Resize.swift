// Resampling with Pillow 13's arithmetic: coefficients in double, then fixed point with 22 bits after the point; one
// axis after the other, rounded to 8 bits between them.
import Foundation

private let bits: Int32 = 22

/// The same picture in `width` x `height` pixels.
func resize(_ picture: Picture, width: Int, height: Int, by resample: Resample) -> Picture {
    let filter = Filter(resample)
    let narrower = picture.width - width
    let lower = picture.height - height
    return lower > 0 && lower > 2 * narrower
        ? resizeRows(resizeColumns(picture, height, filter), width, filter)
        : resizeColumns(resizeRows(picture, width, filter), height, filter)
}

/// What a sample weighs by its distance; nothing beyond `reach`.
private struct Filter {
    let reach: Double
    let weigh: (Double) -> Double

    init(_ resample: Resample) {
        (reach, weigh) =
            switch resample {
            case .bilinear: (1, linear)
            case .bicubic: (2, cubic)
            case .lanczos: (3, lanczos)
            }
    }
}

private func linear(_ x: Double) -> Double { max(0, 1 - x.magnitude) }

private func cubic(_ at: Double) -> Double {
    let x = at.magnitude
    if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0
}

private func lanczos(_ x: Double) -> Double { -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0 }

private func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }

/// Which samples of a line make one of the new line: those from `first` on, with their weights.
private struct Window {
    let first: Int
    let weights: [Int32]
}

private func windows(from: Int, to: Int, _ filter: Filter) -> [Window] {
    let scale = Double(from) / Double(to)
    let wider = max(scale, 1)
    let reach = filter.reach * wider
    let step = 1 / wider
    return (0..<to).map { place in
        let center = (Double(place) + 0.5) * scale
        let first = max(0, Int(center - reach + 0.5))
        let end = min(from, Int(center + reach + 0.5))
        let exact = (first..<end).map { filter.weigh((Double($0) - center + 0.5) * step) }
        let sum = exact.reduce(0, +)
        return Window(first: first, weights: exact.map { fixed(sum == 0 ? $0 : $0 / sum) })
    }
}

private func fixed(_ weight: Double) -> Int32 {
    Int32((weight < 0 ? -0.5 : 0.5) + weight * Double(1 << bits))
}

private func clipped(_ sum: Int32) -> UInt8 {
    UInt8(min(max(sum >> bits, 0), 255))
}

private func resizeRows(_ picture: Picture, _ width: Int, _ filter: Filter) -> Picture {
    if picture.width == width { return picture }
    let windows = windows(from: picture.width, to: width, filter)
    let rgb = picture.rgb.withUnsafeBufferPointer { old in
        [UInt8](unsafeUninitializedCapacity: 3 * width * picture.height) { new, count in
            for y in 0..<picture.height {
                for window in windows {
                    for channel in 0..<3 {
                        var from = 3 * (y * picture.width + window.first) + channel
                        var sum: Int32 = 1 << (bits - 1)
                        for weight in window.weights {
                            sum &+= Int32(old[from]) &* weight
                            from += 3
                        }
                        new[count] = clipped(sum)
                        count += 1
                    }
                }
            }
        }
    }
    return Picture(width: width, height: picture.height, rgb: rgb)
}

private func resizeColumns(_ picture: Picture, _ height: Int, _ filter: Filter) -> Picture {
    if picture.height == height { return picture }
    let line = 3 * picture.width
    var sums = [Int32](repeating: 0, count: line)
    let rgb = picture.rgb.withUnsafeBufferPointer { old in
        [UInt8](unsafeUninitializedCapacity: line * height) { new, count in
            for window in windows(from: picture.height, to: height, filter) {
                for place in 0..<line { sums[place] = 1 << (bits - 1) }
                for (row, weight) in window.weights.enumerated() {
                    let from = (window.first + row) * line
                    for place in 0..<line { sums[place] &+= Int32(old[from + place]) &* weight }
                }
                for sum in sums {
                    new[count] = clipped(sum)
                    count += 1
                }
            }
        }
    }
    return Picture(width: picture.width, height: height, rgb: rgb)
}
