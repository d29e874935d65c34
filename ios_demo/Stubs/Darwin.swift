// Mach's calls in Swift's words; Apple's headers are C.

public func exp(_ x: Double) -> Double { fatalError() }

public typealias kern_return_t = Int32
public typealias mach_port_t = UInt32
public typealias natural_t = UInt32
public typealias integer_t = Int32
public typealias mach_msg_type_number_t = natural_t
public typealias task_flavor_t = natural_t

public let KERN_SUCCESS: kern_return_t = 0
public let TASK_VM_INFO: Int32 = 22
/// A variable in C too: Swift 6 takes it from a `@preconcurrency import` only.
public var mach_task_self_: mach_port_t = 0

public struct task_vm_info_data_t {
    public var phys_footprint: UInt64 = 0
    public var ledger_phys_footprint_peak: Int64 = 0
    public init() {}
}

@discardableResult public func task_info(
    _ target_task: mach_port_t, _ flavor: task_flavor_t, _ task_info_out: UnsafeMutablePointer<integer_t>!,
    _ task_info_outCnt: UnsafeMutablePointer<mach_msg_type_number_t>!
) -> kern_return_t { fatalError() }

@discardableResult public func sysctlbyname(
    _ name: UnsafePointer<CChar>!, _ oldp: UnsafeMutableRawPointer!, _ oldlenp: UnsafeMutablePointer<Int>!,
    _ newp: UnsafeMutableRawPointer!, _ newlen: Int
) -> Int32 { fatalError() }
