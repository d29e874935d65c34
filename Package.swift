// swift-tools-version: 6.0
// The libraries of ios_demo for who takes them by URL: SwiftPM looks for this file at the top of a repository.
import PackageDescription

let package = Package(
    name: "vlmp",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [
        .library(name: "VlmpCore", targets: ["VlmpCore"]),
        .library(name: "VlmpCoreML", targets: ["VlmpCoreML"]),
    ],
    targets: [
        .target(name: "VlmpCore", path: "ios_demo/Sources/VlmpCore"),
        .target(name: "VlmpCoreML", dependencies: ["VlmpCore"], path: "ios_demo/Sources/VlmpCoreML"),
    ],
    swiftLanguageModes: [.v6]
)
