/// A photo: `rgb` holds red, green, blue of each pixel, rows from the top.
public struct Picture: Sendable, Equatable {
    public let width: Int
    public let height: Int
    public let rgb: [UInt8]

    public init(width: Int, height: Int, rgb: [UInt8]) {
        precondition(
            width > 0 && height > 0 && rgb.count == 3 * width * height, "\(width) x \(height), \(rgb.count) bytes")
        self.width = width
        self.height = height
        self.rgb = rgb
    }

    /// The same, upright. `orientation` is EXIF's, 1 to 8; another number is 1.
    public func upright(_ orientation: Int) -> Picture {
        guard (2...8).contains(orientation) else { return self }
        let across = orientation >= 5  // rows become columns
        let fromRight = [2, 3, 7, 8].contains(orientation)
        let fromBelow = [3, 4, 6, 7].contains(orientation)
        let (newWidth, newHeight) = across ? (height, width) : (width, height)
        let turned = [UInt8](unsafeUninitializedCapacity: rgb.count) { buffer, count in
            var to = 0
            for y in 0..<newHeight {
                for x in 0..<newWidth {
                    let (column, row) = across ? (y, x) : (x, y)
                    let from =
                        3 * ((fromBelow ? height - 1 - row : row) * width + (fromRight ? width - 1 - column : column))
                    for channel in 0..<3 { buffer[to + channel] = rgb[from + channel] }
                    to += 3
                }
            }
            count = to
        }
        return Picture(width: newWidth, height: newHeight, rgb: turned)
    }

    /// Refuses a photo before it is decoded: more than 100 megapixels, or hardly more than a line. Throws
    /// `VlmpError.picture`.
    public static func checkSize(width: Int, height: Int) throws {
        let (pixels, overflow) = width.multipliedReportingOverflow(by: height)
        if overflow || pixels > mostPixels {
            throw VlmpError.picture(
                .size,
                "The photo has \(width) x \(height) pixels: at most \(mostPixels / 1_000_000) megapixels are read.")
        }
        if max(width, height) > mostAspect * min(width, height) {
            throw VlmpError.picture(
                .shape,
                "The photo has \(width) x \(height) pixels: one side may be at most \(mostAspect) times as long as "
                    + "the other.")
        }
    }

    private static let mostPixels = 100_000_000
    private static let mostAspect = 200
}

/// Where a photo lies in the model's picture, in pixels.
public struct Placement: Sendable, Equatable {
    public let width: Int
    public let height: Int
    public let left: Int
    public let top: Int
}

/// Where a photo of `width` x `height` pixels lies in the picture of `spec`.
public func placement(width: Int, height: Int, in spec: ImageSpec) -> Placement {
    if spec.fit == .stretch || width * spec.height == height * spec.width {
        return Placement(width: spec.width, height: spec.height, left: 0, top: 0)
    }
    let scale = min(Double(spec.width) / Double(width), Double(spec.height) / Double(height))
    func fitted(_ side: Int, _ most: Int) -> Int {
        min(max(Int((Double(side) * scale).rounded(.toNearestOrEven)), 1), most)
    }
    let (inner, innerHeight) = (fitted(width, spec.width), fitted(height, spec.height))
    return Placement(
        width: inner, height: innerHeight, left: (spec.width - inner) / 2, top: (spec.height - innerHeight) / 2)
}

/// The picture that the model sees: resized as Pillow does it, with bars where the aspect ratio differs and `spec`
/// pads. Throws `VlmpError.picture`.
public func fit(_ picture: Picture, to spec: ImageSpec) throws -> Picture {
    try Picture.checkSize(width: picture.width, height: picture.height)
    let place = placement(width: picture.width, height: picture.height, in: spec)
    let inner = resize(picture, width: place.width, height: place.height, by: spec.resample)
    if place.width == spec.width && place.height == spec.height { return inner }
    var rgb = (0..<3 * spec.width * spec.height).map { spec.padRgb[$0 % 3] }
    let line = 3 * inner.width
    for y in 0..<inner.height {
        let to = 3 * ((place.top + y) * spec.width + place.left)
        rgb.replaceSubrange(to..<to + line, with: inner.rgb[y * line..<(y + 1) * line])
    }
    return Picture(width: spec.width, height: spec.height, rgb: rgb)
}

/// The input of `vision`: [1, 3, height, width], values 0..255. Throws `VlmpError.picture`.
func toPixels(_ picture: Picture, _ manifest: Manifest) throws -> Tensor {
    let spec = manifest.image
    let fitted = try fit(picture, to: spec)
    let area = spec.width * spec.height
    var pixels = [Float](repeating: 0, count: 3 * area)
    for channel in 0..<3 {
        for pixel in 0..<area { pixels[channel * area + pixel] = Float(fitted.rgb[3 * pixel + channel]) }
    }
    let tensor = Tensor(shape: [1, 3, spec.height, spec.width], dtype: manifest.precision)
    tensor.set(pixels)
    return tensor
}
