// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "vlmp",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [
        .library(name: "VlmpCore", targets: ["VlmpCore"]),
        .library(name: "VlmpCoreML", targets: ["VlmpCoreML"]),
        .library(name: "VlmpApp", targets: ["VlmpApp"]),
    ],
    targets: [
        .target(name: "VlmpCore"),
        .target(name: "VlmpCoreML", dependencies: ["VlmpCore"]),
        .target(name: "VlmpApp", dependencies: ["VlmpCore"]),
        .testTarget(name: "VlmpAppTests", dependencies: ["VlmpApp", "VlmpCore", "VlmpCoreML"]),
    ],
    swiftLanguageModes: [.v6]
)
