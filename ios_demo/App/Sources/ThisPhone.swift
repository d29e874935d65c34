@preconcurrency import Darwin
import Foundation
import UIKit
import VlmpApp
import VlmpCore
import VlmpCoreML
import os

extension AppModel {
    /// With Core ML, bundles in the app's support folder, and compiled models among the caches.
    static func onThisPhone() -> AppModel {
        let files = FileManager.default
        let support = files.urls(for: .applicationSupportDirectory, in: .userDomainMask)[0]
        let documents = files.urls(for: .documentDirectory, in: .userDomainMask)[0]  // which the Files app shows
        let caches = files.urls(for: .cachesDirectory, in: .userDomainMask)[0]
        let compiled = CompiledModels(folder: caches.appendingPathComponent("compiled"))
        let own = Bundle.main.resourceURL!.appendingPathComponent("Bundles")
        let folders = (try? files.contentsOfDirectory(at: own, includingPropertiesForKeys: nil)) ?? []
        return AppModel(
            ["coreml": CoreMLOpener(compiled: compiled)],
            store: BundleStore(support.appendingPathComponent("bundles"), targets: ["coreml"]),
            archive: Reports(documents.appendingPathComponent("reports")),
            own: folders.filter { $0.hasDirectoryPath }.sorted { $0.path < $1.path }, phone: thisPhone(),
            background: BackgroundTask(), onDelete: { try? compiled.remove($0) })
    }
}

@MainActor
private func thisPhone() -> Phone {
    let process = ProcessInfo.processInfo
    let system = "\(UIDevice.current.systemName) \(UIDevice.current.systemVersion)"
    return Phone(
        machine: {
            Machine(
                name: systemText("hw.machine"), os: system, cpu: systemText("hw.machine"), cores: process.processorCount,
                memoryMib: Double(process.physicalMemory) / 0x1p20,
                facts: ["low_power_mode": process.isLowPowerModeEnabled ? "on" : "off"])
        },
        condition: { Condition(thermalState: process.thermalState.word) },
        memory: footprint,
        freeMemory: { Int64(os_proc_available_memory()) })
}

extension ProcessInfo.ThermalState {
    /// As reports have it, and people read it.
    var word: String {
        switch self {
        case .nominal: "nominal"
        case .fair: "fair"
        case .serious: "serious"
        case .critical: "critical"
        @unknown default: "unknown"
        }
    }
}

/// `iPhone17,1` for `hw.machine`.
private func systemText(_ name: String) -> String {
    var size = 0
    sysctlbyname(name, nil, &size, nil, 0)
    var text = [CChar](repeating: 0, count: size + 1)
    sysctlbyname(name, &text, &size, nil, 0)
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// What iOS counts against the app's limit, and the most of it so far.
@Sendable private func footprint() -> Memory? {
    var info = task_vm_info_data_t()
    var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
    let capacity = Int(count)
    let result = withUnsafeMutablePointer(to: &info) { pointer in
        pointer.withMemoryRebound(to: integer_t.self, capacity: capacity) {
            task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
        }
    }
    guard result == KERN_SUCCESS else { return nil }
    return Memory(
        residentMib: Double(info.phys_footprint) / 0x1p20, peakMib: Double(info.ledger_phys_footprint_peak) / 0x1p20)
}

/// iOS's time for an app that has left the screen.
@MainActor
private final class BackgroundTask: BackgroundTime {
    private var task = UIBackgroundTaskIdentifier.invalid

    func begin(onExpiry: @escaping @MainActor @Sendable () -> Void) {
        end()
        task = UIApplication.shared.beginBackgroundTask(withName: "answer") { [weak self] in
            onExpiry()
            self?.end()
        }
    }

    func end() {
        if task != .invalid { UIApplication.shared.endBackgroundTask(task) }
        task = .invalid
    }
}
