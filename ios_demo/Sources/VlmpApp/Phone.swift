import VlmpCore

/// What the app asks of the phone that it runs on.
public struct Phone: Sendable {
    public let machine: @Sendable () -> Machine
    public let condition: @Sendable () -> Condition
    public let memory: @Sendable () -> Memory?
    /// Bytes that a bundle may take, nil where nobody knows.
    public let freeMemory: @Sendable () -> Int64?

    public init(
        machine: @escaping @Sendable () -> Machine, condition: @escaping @Sendable () -> Condition,
        memory: @escaping @Sendable () -> Memory?, freeMemory: @escaping @Sendable () -> Int64?
    ) {
        self.machine = machine
        self.condition = condition
        self.memory = memory
        self.freeMemory = freeMemory
    }
}

/// A while in which the system lets the app run on after it has left the screen.
@MainActor
public protocol BackgroundTime: AnyObject {
    /// Asks for it. `onExpiry` is called shortly before the system stops the app.
    func begin(onExpiry: @escaping @MainActor @Sendable () -> Void)
    /// It is not needed any more. Without `begin` it does nothing.
    func end()
}
