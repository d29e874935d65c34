public struct UTType: Hashable, Sendable {
    public static var folder: UTType { fatalError() }
    public static var image: UTType { fatalError() }
}
