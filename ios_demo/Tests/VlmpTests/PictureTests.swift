import Foundation
import XCTest

@testable import VlmpCore

/// Decoding and fitting of photos against the conformance files.
final class PictureTests: XCTestCase {
    func testFittedPictures() throws {
        var tested = 0
        for item in try ConformanceFiles.json("picture/cases.json").at("cases").list {
            let file = item.at("file").string
            guard file.hasSuffix(".png") else { continue }  // JPEG is ImageIO's
            let spec = spec(of: item)
            let fitted = try fit(ConformanceFiles.picture("picture/\(file)"), to: spec)
            XCTAssertEqual(fitted.rgb, try ConformanceFiles.bytes("picture/\(item.at("fitted").string)"), item.written)
            tested += 1
        }
        XCTAssertGreaterThan(tested, 50)
    }

    func testWhichWayUpJpegIs() throws {
        for number in 1...8 {
            XCTAssertEqual(orientation(jpeg: try ConformanceFiles.bytes("picture/turn-\(number).jpg")), number)
        }
        XCTAssertEqual(orientation(jpeg: try ConformanceFiles.bytes("picture/444.jpg")), 1)
        XCTAssertNotEqual(orientation(jpeg: try ConformanceFiles.bytes("picture/jpeg-xmp.jpg")), 1)
    }

    func testPicturesAreRefused() throws {
        for item in try ConformanceFiles.json("picture/cases.json").at("refused").list {
            let found = problem { _ = try ConformanceFiles.picture("picture/\(item.at("file").string)") }
            guard case .picture(let problem, _) = found else { return XCTFail(item.written) }
            XCTAssertEqual("\(problem)", item.at("refused").string, item.written)
        }
    }

    func testDamagedPicturesAreRefusedOrRead() throws {
        var random = Mt19937(9)
        for name in ["palette-with-alphas", "grey16", "turn-6", "xmp-attribute"] {
            let whole = try ConformanceFiles.bytes("picture/\(name).png")
            for _ in 0..<200 {
                var bytes = whole
                let place = Int(random.next() % UInt64(bytes.count))
                bytes[place] = UInt8(truncatingIfNeeded: random.next())
                do {
                    _ = try Picture(photo: Data(withChecksums(bytes)))
                } catch is VlmpError {}
            }
        }
    }

    func testWhereThePhotoLiesIsTheMiddle() {
        let spec = ImageSpec(
            height: 56, width: 84, fit: .pad, padRgb: [1, 2, 3], resample: .bicubic, visualTokens: 4, segments: [])
        let place = placement(width: 100, height: 300, in: spec)
        XCTAssertEqual([place.width, place.height, place.left, place.top], [19, 56, 32, 0])
    }

    func testCells() {
        let segment = SegmentSpec(rows: 2, columns: 3, first: 4, stride: 5, box: [10, 20, 40, 60])
        XCTAssertEqual(segment.cell(of: 10), Cell(left: 20, top: 40, width: 10, height: 20))
        XCTAssertNil(segment.cell(of: 3))
        XCTAssertNil(segment.cell(of: 7))
        XCTAssertNil(segment.cell(of: 14))
    }

    func testHalves() {
        for bits in 0...UInt16.max {
            let value = Float(Float16(bitPattern: bits))
            XCTAssert(fromHalf(bits) == value || fromHalf(bits).isNaN && value.isNaN, "\(bits)")
            if !value.isNaN { XCTAssertEqual(toHalf(value), bits) }
        }
        for bits in stride(from: UInt32(0), to: UInt32.max - 4099, by: 4099) {
            let value = Float(bitPattern: bits)
            if value.isNaN { continue }
            XCTAssertEqual(toHalf(value), Float16(value).bitPattern, "\(value)")
        }
    }

    private func spec(of item: JSON) -> ImageSpec {
        ImageSpec(
            height: item.at("height").int, width: item.at("width").int, fit: Fit(rawValue: item.at("fit").string)!,
            padRgb: item.at("pad_rgb").ints.map { UInt8($0) },
            resample: Resample(rawValue: item.at("resample").string)!, visualTokens: 1, segments: [])
    }

    /// Sums as they should be, so that damage comes farther.
    private func withChecksums(_ png: [UInt8]) -> [UInt8] {
        var (bytes, place) = (png, 8)
        while place + 12 <= bytes.count {
            let length = bytes[place..<place + 4].reduce(0) { $0 << 8 | Int($1) }
            guard length <= bytes.count - place - 12 else { break }
            let sum = crc32(bytes[place + 4..<place + 8 + length])
            for byte in 0..<4 { bytes[place + 8 + length + byte] = UInt8(truncatingIfNeeded: sum >> (24 - 8 * byte)) }
            place += 12 + length
        }
        return bytes
    }
}
