// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "vlmp",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [.library(name: "VlmpCore", targets: ["VlmpCore"])],
    targets: [.target(name: "VlmpCore")],
    swiftLanguageModes: [.v6]
)
