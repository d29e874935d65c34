import Foundation
import VlmpCore

/// A photo that questions are about.
public struct Photo: Sendable, Identifiable {
    public let id = UUID()
    public let name: String
    /// The file, for showing it.
    public let data: Data
    /// Decoded and upright.
    public let picture: Picture

    /// Decodes a file, which takes time. Throws `VlmpError.picture`.
    public init(_ data: Data, name: String) throws {
        self.data = data
        self.name = name
        picture = try Picture(photo: data)
    }
}
