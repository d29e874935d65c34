// swift-tools-version: 6.0
// On Linux run it through tools/swift.py, which finds a toolchain and ONNX Runtime: README.md.
import PackageDescription

var products: [Product] = [
    .library(name: "VlmpCore", targets: ["VlmpCore"]),
    .library(name: "VlmpCoreML", targets: ["VlmpCoreML"]),
    .library(name: "VlmpApp", targets: ["VlmpApp"]),
]
var targets: [Target] = [
    .target(name: "VlmpCore"),
    .target(name: "VlmpCoreML", dependencies: ["VlmpCore"]),
    .target(name: "VlmpApp", dependencies: ["VlmpCore"]),
]
var tested: [Target.Dependency] = ["VlmpCore"]

// Bundles for ONNX Runtime, on which the tests run. On Apple's systems the app runs Core ML instead.
#if os(Linux)
products.append(.executable(name: "vlmp-swift", targets: ["vlmp-swift"]))
targets += [
    .systemLibrary(name: "COnnxRuntime"),
    .target(name: "VlmpOrt", dependencies: ["VlmpCore", "COnnxRuntime"]),
    .executableTarget(name: "vlmp-swift", dependencies: ["VlmpCore", "VlmpOrt"]),
]
tested.append("VlmpOrt")
#endif
targets.append(.testTarget(name: "VlmpTests", dependencies: tested))
targets.append(.testTarget(name: "VlmpAppTests", dependencies: tested + ["VlmpApp", "VlmpCoreML"]))

let package = Package(
    name: "vlmp",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: products,
    targets: targets,
    swiftLanguageModes: [.v6]
)
