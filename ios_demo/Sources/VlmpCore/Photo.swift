import Foundation

#if canImport(ImageIO)
import CoreGraphics
import ImageIO
#endif

extension Picture {
    /// A photo's file, decoded and upright. PNG is read here, alike on all systems; on Apple's systems ImageIO reads
    /// JPEG, HEIC and whatever else it knows. It is refused before it is decoded where it is too large.
    ///
    /// Throws `VlmpError.picture`.
    public init(photo: Data) throws {
        let bytes = [UInt8](photo)
        if isPng(bytes) {
            self = try decodePng(bytes).upright(orientation(png: bytes))
            return
        }
        #if canImport(ImageIO)
        self = try decodeByImageIO(photo)
        #else
        throw VlmpError.picture(.unreadable, "The photo is no PNG: other formats are read on Apple's systems only.")
        #endif
    }
}

#if canImport(ImageIO)
private func decodeByImageIO(_ photo: Data) throws -> Picture {
    let unreadable = VlmpError.picture(
        .unreadable, "The photo cannot be read: it is damaged, or of an unknown format.")
    guard let source = CGImageSourceCreateWithData(photo as CFData, nil),
        let facts = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any],
        let width = facts[kCGImagePropertyPixelWidth] as? Int,
        let height = facts[kCGImagePropertyPixelHeight] as? Int
    else { throw unreadable }
    try Picture.checkSize(width: width, height: height)
    guard var image = CGImageSourceCreateImageAtIndex(source, 0, nil) else { throw unreadable }
    // The profile is ignored: its colours are taken as those of the context, so that nothing converts them.
    if image.colorSpace?.model == .rgb, let same = image.copy(colorSpace: CGColorSpaceCreateDeviceRGB()) {
        image = same
    }
    if image.colorSpace?.model == .monochrome, let same = image.copy(colorSpace: CGColorSpaceCreateDeviceGray()) {
        image = same
    }
    let jpeg = photo.starts(with: [0xFF, 0xD8])
    let turned = jpeg ? orientation(jpeg: [UInt8](photo)) : facts[kCGImagePropertyOrientation] as? Int ?? 1
    var rgbx = [UInt8](repeating: 255, count: 4 * width * height)
    let drawn = rgbx.withUnsafeMutableBytes { memory in
        guard
            let context = CGContext(
                data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        else { return false }
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))  // alpha lies over white
        return true
    }
    if !drawn { throw unreadable }
    let rgb = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { buffer, count in
        for pixel in 0..<width * height {
            for channel in 0..<3 { buffer[3 * pixel + channel] = rgbx[4 * pixel + channel] }
        }
        count = 3 * width * height
    }
    return Picture(width: width, height: height, rgb: rgb).upright(turned)
}
#endif
