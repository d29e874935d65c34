import Foundation
import SwiftUI

public struct PHPickerFilter: Sendable {
    public static let images = PHPickerFilter()
}

public struct PhotosPickerItem: Hashable, Sendable {
    public struct EncodingDisambiguationPolicy: Sendable {
        public static let automatic = EncodingDisambiguationPolicy()
        public static let compatible = EncodingDisambiguationPolicy()
        public static let current = EncodingDisambiguationPolicy()
    }

    /// Apple's is for any `Transferable` type.
    public func loadTransferable(type: Data.Type) async throws -> Data? { fatalError() }
}

@MainActor @preconcurrency public struct PhotosPicker<Label: View>: View {
    @preconcurrency public nonisolated init(
        selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil,
        preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic,
        @ViewBuilder label: @Sendable () -> Label
    ) { fatalError() }
    public var body: Never { fatalError() }
}
