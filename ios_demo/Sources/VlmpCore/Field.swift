/// One value of a JSON file, with its place for messages. Whatever is not as asked for is refused: all members that
/// read throw `VlmpError.bundle` of the kind `problem`.
struct Field {
    static let most = 1 << 24
    let value: JSON
    private let file: String
    private let path: String
    private let problem: BundleProblem

    init(_ value: JSON, file: String, path: String = "", problem: BundleProblem) {
        self.value = value
        self.file = file
        self.path = path
        self.problem = problem
    }

    /// The root of a JSON text. `file` is named in messages.
    static func parse(_ bytes: [UInt8], file: String, problem: BundleProblem) throws -> Field {
        do {
            return Field(try JSON.parse(bytes), file: file, problem: problem)
        } catch let error as JSON.Problem {
            throw VlmpError.bundle(problem, "\(file) is not JSON: \(error.message)")
        }
    }

    /// The same, where what is wrong counts as another kind.
    func raising(_ problem: BundleProblem) -> Field { Field(value, file: file, path: path, problem: problem) }

    func refusal(_ what: String) -> VlmpError {
        .bundle(problem, "\(file): \(path.isEmpty ? "it" : path) \(what)")
    }

    /// A value inside this one.
    func inside(_ name: String, _ value: JSON) -> Field {
        Field(value, file: file, path: path.isEmpty ? name : "\(path).\(name)", problem: problem)
    }

    /// Whether a field is there, and not null.
    func has(_ name: String) -> Bool { (value[name] ?? .null) != .null }

    func at(_ name: String) throws -> Field {
        guard case .object = value else { throw refusal("must be an object") }
        guard let found = value[name] else { throw inside(name, .null).refusal("is missing") }
        return inside(name, found)
    }

    func items() throws -> [Field] {
        guard case .list(let items) = value else { throw refusal("must be a list") }
        return items.enumerated().map { inside("\($0)", $1) }
    }

    /// The fields of an object in their order.
    func members() throws -> [JSON.Member] {
        guard case .object(let members) = value else { throw refusal("must be an object") }
        return members
    }

    var isText: Bool {
        if case .text = value { true } else { false }
    }

    /// UTF-8.
    func bytes() throws -> [UInt8] {
        guard case .text(let bytes) = value else { throw refusal("must be text") }
        return bytes
    }

    func text() throws -> String { String(decoding: try bytes(), as: UTF8.self) }

    func boolean() throws -> Bool {
        guard case .bool(let value) = value else { throw refusal("must be true or false") }
        return value
    }

    /// A number without a fraction from `least` to `most`.
    func integer(_ least: Int64, _ most: Int64) throws -> Int64 {
        guard case .number(let digits) = value, let number = Int64(digits), (least...most).contains(number) else {
            throw refusal("must be a whole number from \(least) to \(most)")
        }
        return number
    }

    func int(_ least: Int, _ most: Int = Field.most) throws -> Int { Int(try integer(Int64(least), Int64(most))) }

    /// 1 to 2^24.
    func count() throws -> Int { try int(1) }

    func ints(_ least: Int, _ most: Int) throws -> [Int] { try items().map { try $0.int(least, most) } }

    /// One of the values of a type.
    func choice<Kind: RawRepresentable & CaseIterable>(_: Kind.Type) throws -> Kind where Kind.RawValue == String {
        guard isText, let kind = Kind(rawValue: try text()) else {
            throw refusal("must be " + Kind.allCases.map(\.rawValue).joined(separator: " or "))
        }
        return kind
    }

    func require(_ wanted: JSON) throws {
        if value != wanted { throw refusal("must be \(wanted.written)") }
    }

    /// Refuses a field that is there, unless it says "no": false, empty or null.
    func requireAbsent(_ name: String) throws {
        switch value[name] ?? .null {
        case .null, .bool(false), .text([]): return
        default: throw try at(name).refusal("is set, which this app does not know")
        }
    }
}
