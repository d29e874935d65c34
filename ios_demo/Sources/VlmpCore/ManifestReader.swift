// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, D hidden, H KV heads, C
// head size

private let schemaVersion = 2
private let mostLayers = 1024
private let mostElements = 1 << 29  // of a tensor, so that its bytes fit into one buffer
private let mostFileBytes: Int64 = 1 << 50

private enum Target: String, CaseIterable {
    case onnx, executorch, coreml
}

private enum Update: String, CaseIterable {
    case rows
    case inPlace = "in_place"
}

private enum Floats: String, CaseIterable {
    case float32, float16
}

/// Reads a manifest and checks all that can be checked without the files: fields, stages, names, and that every tensor
/// is the one that follows from the sizes, since copies between buffers rest on that.
///
/// `file` is named in messages. Throws `VlmpError.bundle`.
public func parseManifest(_ text: [UInt8], file: String = manifestName) throws -> Manifest {
    let root = try Field.parse(text, file: file, problem: .field)
    try checkVersion(root, file)
    let target = try root.at("target").text()
    if Target(rawValue: target) == nil {
        throw VlmpError.bundle(.target, "\(file): target is \(quoted(target)), which this app does not know")
    }
    let vocabSize = try root.at("vocab_size").count()
    let shapes = try root.at("shapes")
    guard let shape = try shapes.items().first else { throw shapes.refusal("is empty") }
    let image = try readImage(shape.at("image"))
    let kv = try readKv(shape.at("kv"))
    let methods = try root.at("methods")
    let manifest = Manifest(
        model: try root.at("model").text(),
        checkpoint: try root.at("checkpoint").text(),
        target: target,
        precision: try readFloats(root.at("precision")),
        quantization: try root.at("quantization").text(),
        vocabSize: vocabSize,
        prompt: try readPrompt(root.at("prompt"), vocabSize),
        image: image,
        stages: try readStages(shape.at("stages").raising(.stages), image.visualTokens, kv.layers.count),
        kv: kv,
        methods: Dictionary(
            uniqueKeysWithValues: try Step.allCases.map {
                ($0, try readMethod(methods.at(shape.at("methods").at($0.rawValue).text())))
            }),
        files: try root.at("files").items().map(readFile))
    try checkSlots(shape.at("kv").at("layers"), manifest)
    try checkTensors(manifest, file)
    try checkNames(manifest, file)
    return manifest
}

private func checkVersion(_ root: Field, _ file: String) throws {
    _ = try root.members()
    let version = try root.raising(.version).at("schema_version").int(1, Int.max)
    if version > schemaVersion {
        throw VlmpError.bundle(
            .version, "\(file): schema_version is \(version), this app reads \(schemaVersion): update the app")
    }
    if version < schemaVersion {
        throw VlmpError.bundle(
            .version,
            "\(file): schema_version is \(version), this app reads \(schemaVersion): export the model again, with a "
                + "newer vlmp-export")
    }
}

private func readPrompt(_ field: Field, _ vocabSize: Int) throws -> PromptSpec {
    PromptSpec(
        first: try readTemplate(field.at("first")),
        following: try readTemplate(field.at("following")),
        textLen: try field.at("text_len").count(),
        maxNewTokens: try field.at("max_new_tokens").count(),
        endIds: Set(try field.at("end_ids").ints(0, Int(Int32.max))),
        endTextId: try field.at("end_text_id").int(0, vocabSize - 1),
        padId: try field.at("pad_id").int(0, vocabSize - 1),
        controlTokens: field.has("control_tokens") ? try field.at("control_tokens").items().map(readFilled) : [],
        tokenizerFile: try field.at("tokenizer_file").text())
}

private func readFloats(_ field: Field) throws -> DType {
    DType(rawValue: try field.choice(Floats.self).rawValue)!
}

private func readTemplate(_ field: Field) throws -> String {
    let template = try field.text()
    if !contains(Array(template.utf8), mark) {
        throw field.refusal("must have {prompt}, where the user's words go")
    }
    return template
}

private func readFilled(_ field: Field) throws -> String {
    let text = try field.text()
    if text.isEmpty { throw field.refusal("is empty") }
    return text
}

private func readImage(_ field: Field) throws -> ImageSpec {
    if field.has("frames") { _ = try field.at("frames").int(1, 1) }
    let padRgb = try field.at("pad_rgb").ints(0, 255)
    if padRgb.count != 3 { throw try field.at("pad_rgb").refusal("must have three values") }
    let segments = try field.at("segments").items().map(readSegment)
    if segments.isEmpty { throw try field.at("segments").refusal("is empty") }
    return ImageSpec(
        height: try field.at("height").count(), width: try field.at("width").count(),
        fit: try field.at("fit").choice(Fit.self), padRgb: padRgb.map { UInt8($0) },
        resample: try field.at("resample").choice(Resample.self), visualTokens: try field.at("visual_tokens").count(),
        segments: segments)
}

private func readSegment(_ field: Field) throws -> SegmentSpec {
    let box = try field.at("box").ints(-Field.most, Field.most)
    if box.count != 4 { throw try field.at("box").refusal("must have four values") }
    return SegmentSpec(
        rows: try field.at("rows").count(), columns: try field.at("columns").count(),
        first: try field.at("first").int(0), stride: try field.at("stride").count(), box: box)
}

private func readStages(_ field: Field, _ visualTokens: Int, _ layers: Int) throws -> [StageSpec] {
    var stages: [StageSpec] = []
    for item in try field.items() {
        let place = try item.at("place").choice(Place.self)
        if place == .vision, !stages.isEmpty {
            throw try item.at("place").refusal("is vision, which only the first stage's may be")
        }
        let form = item.has("form") ? try item.at("form").choice(Form.self) : .dropped
        if place == .layer, form == .rebuilt {
            throw try item.at("form").refusal("is rebuilt, which is of the vision tower")
        }
        let stage = StageSpec(
            place: place, form: form, index: try item.at("index").int(0, place == .layer ? layers - 1 : Field.most),
            pruner: try item.at("pruner").text(), tokens: try item.at("tokens").count(),
            numKept: try item.at("num_kept").count(),
            weighs: item.has("weighs") ? try item.at("weighs").boolean() : false)
        if let before = stages.last, before.place == .layer, stage.index <= before.index {
            throw try item.at("index").refusal("is not after the stage before, \(before.index)")
        }
        let left = stages.last?.left ?? visualTokens
        if stage.tokens != left { throw try item.at("tokens").refusal("is not what comes in, \(left)") }
        if stage.numKept > left { throw try item.at("num_kept").refusal("is more than comes in, \(left)") }
        stages.append(stage)
    }
    if stages.count == 1, stages[0].place == .vision {
        throw field.refusal("must have one in the language model after that in the vision tower")
    }
    return stages
}

private func readKv(_ field: Field) throws -> KvSpec {
    let layers = try field.at("layers").items().map(readLayer)
    if !(1...mostLayers).contains(layers.count) {
        throw try field.at("layers").refusal("must have 1 to \(mostLayers) entries")
    }
    return KvSpec(
        inPlace: try field.at("update").choice(Update.self) == .inPlace, dtype: try readFloats(field.at("dtype")),
        layers: layers)
}

private func readLayer(_ field: Field) throws -> KvLayerSpec {
    if field.has("state") {
        let state = try field.at("state").ints(1, Field.most)
        if state.count != 2 { throw try field.at("state").refusal("must have two sizes") }
        return KvLayerSpec(state: state)
    }
    return KvLayerSpec(
        kvHeads: try field.at("kv_heads").count(), headDim: try field.at("head_dim").count(),
        base: try field.at("base").count(), slots: try field.at("slots").count())
}

private func readMethod(_ field: Field) throws -> MethodSpec {
    MethodSpec(
        file: try field.at("file").text(), entry: try field.at("entry").text(),
        dataFile: field.has("data_file") ? try field.at("data_file").text() : "",
        inputs: try field.at("inputs").items().map(readTensor),
        outputs: try field.at("outputs").items().map(readTensor))
}

private func readTensor(_ field: Field) throws -> TensorSpec {
    let shape = try field.at("shape").ints(0, Field.most)
    if elements(shape) > mostElements { throw try field.at("shape").raising(.tensors).refusal("is too large") }
    return TensorSpec(name: try field.at("name").text(), shape: shape, dtype: try field.at("dtype").choice(DType.self))
}

/// Their product, or something above `mostElements`.
private func elements(_ shape: [Int]) -> Int {
    shape.reduce(1) { min($0 * $1, mostElements + 1) }
}

private func readFile(_ field: Field) throws -> FileSpec {
    let sha256 = try field.at("sha256").bytes()
    let hexadecimal = Set("0123456789abcdef".utf8)
    if sha256.count != 64 || !sha256.allSatisfy(hexadecimal.contains) {
        throw try field.at("sha256").refusal("must be 64 hexadecimal digits")
    }
    return FileSpec(
        path: try field.at("path").text(), sha256: String(decoding: sha256, as: UTF8.self),
        sizeBytes: try field.at("size_bytes").integer(0, mostFileBytes))
}

private func checkSlots(_ layers: Field, _ manifest: Manifest) throws {
    let room = manifest.prompt.textLen + manifest.prompt.maxNewTokens
    for (layer, field) in zip(manifest.kv.layers, try layers.items())
    where layer.hasKeys && layer.slots != layer.base + room {
        throw try field.at("slots").refusal(
            "is \(layer.slots), must be base, text_len and max_new_tokens together, \(layer.base + room)")
    }
}

/// Throws `VlmpError.bundle` unless each method has exactly the tensors of docs/bundle.md, "Methods".
private func checkTensors(_ manifest: Manifest, _ file: String) throws {
    let (textLen, image, floats) = (manifest.prompt.textLen, manifest.image, manifest.precision)
    let visualShape = manifest.method(.vision).outputs.first { $0.name == "visual" }?.shape ?? []
    let hidden = visualShape.count > 1 ? visualShape[1] : 1
    func int32(_ name: String, _ shape: [Int]) -> TensorSpec { TensorSpec(name: name, shape: shape, dtype: .int32) }
    let ids = int32("ids", [1, textLen])
    let one = int32("ids", [1, 1])
    let textLength = int32("text_len", [1])
    let past = int32("past", [1])
    let tower = manifest.tower
    let visual = TensorSpec(name: "visual", shape: [tower?.left ?? image.visualTokens, hidden], dtype: floats)
    let places = tower.map { [int32("places", [$0.numKept])] } ?? []
    // What steps of the language model take of the picture, and what later ones do, in place.
    let seen = [visual] + (tower?.form == .dropped ? places : [])
    let nothing = seen.map { TensorSpec(name: $0.name, shape: [0] + $0.shape.dropFirst(), dtype: $0.dtype) }
    let logits = TensorSpec(name: "logits", shape: [manifest.vocabSize], dtype: floats)
    let earlier = manifest.stages.dropLast().enumerated().filter { $1.place == .layer }.map {
        int32("kept_\($0)", [$1.numKept])
    }
    let kept = earlier + [int32("kept", [manifest.numKept]), int32("order", [manifest.numKept]), int32("filled", [1])]
    let inPlace = manifest.kv.inPlace
    let fromTower = biasTensors(manifest, "_cache", .vision)
    let caches = cacheTensors(manifest, "_cache") { $0.slots } + fromTower + biasTensors(manifest, "_cache", .layer)
    let biases = biasTensors(manifest, "", .layer)

    /// What a step returns for the caches of keys and values: all of them, or so many rows of each.
    func returned(_ rows: (KvLayerSpec) -> Int) -> [TensorSpec] {
        cacheTensors(manifest, "") { inPlace ? $0.slots : rows($0) }
    }
    func compare(_ step: Step, _ inputs: [TensorSpec], _ outputs: [TensorSpec]) throws {
        let method = manifest.method(step)
        try compareTensors("\(file): \(step.rawValue): input", method.inputs, inputs)
        try compareTensors("\(file): \(step.rawValue): output", method.outputs, outputs)
    }
    let picture = TensorSpec(name: "image", shape: [1, 3, image.height, image.width], dtype: floats)
    try compare(.vision, [picture], [visual] + places + biasTensors(manifest, "", .vision))
    if inPlace {
        let updated = returned { $0.slots } + biases
        try compare(.prefill, [ids, textLength, past] + seen + caches, kept + [logits] + updated)
        try compare(.decode, [one, textLength, past] + nothing + caches, updated + [logits])
        try compare(.extend, [ids, textLength, past] + nothing + caches, updated + [logits])
    } else {
        let filled = returned { $0.base + textLen } + biases
        try compare(.prefill, [ids, textLength] + seen + fromTower, kept + [logits] + filled)
        try compare(.decode, [one, past] + caches, returned { _ in 1 } + [logits])
        try compare(.extend, [ids, textLength, past] + caches, returned { _ in textLen } + [logits])
    }
}

/// A tensor for keys and one for values of each layer, or one for its state, `infix` in their names: `rows` by heads
/// and head size.
private func cacheTensors(_ manifest: Manifest, _ infix: String, _ rows: (KvLayerSpec) -> Int) -> [TensorSpec] {
    manifest.kv.layers.enumerated().flatMap { number, layer in
        if !layer.hasKeys {
            return [TensorSpec(name: "\(stateKind)\(infix)_\(number)", shape: layer.state, dtype: manifest.kv.dtype)]
        }
        let shape = (manifest.kv.inPlace ? [1] : []) + [layer.kvHeads, rows(layer), layer.headDim]
        return cacheKinds.map { TensorSpec(name: "\($0)\(infix)_\(number)", shape: shape, dtype: manifest.kv.dtype) }
    }
}

/// A tensor for each stage of a place whose weights the language model takes.
private func biasTensors(_ manifest: Manifest, _ infix: String, _ place: Place) -> [TensorSpec] {
    manifest.stages.enumerated().filter { $1.told && $1.place == place }.map { number, stage in
        TensorSpec(name: "\(biasKind)\(infix)_\(number)", shape: [stage.numKept], dtype: manifest.kv.dtype)
    }
}

private func compareTensors(_ what: String, _ found: [TensorSpec], _ wanted: [TensorSpec]) throws {
    var missing = Dictionary(uniqueKeysWithValues: wanted.map { ($0.name, $0) })
    for tensor in found {
        guard let same = missing.removeValue(forKey: tensor.name) else {
            throw VlmpError.bundle(.tensors, "\(what) \(quoted(tensor.name)) is unknown or there twice")
        }
        if same != tensor { throw VlmpError.bundle(.tensors, "\(what) \(tensor) must be \(same)") }
    }
    if let tensor = wanted.first(where: { missing[$0.name] != nil }) {
        throw VlmpError.bundle(.tensors, "\(what) \(tensor.name) is missing")
    }
}

private func checkNames(_ manifest: Manifest, _ file: String) throws {
    let methods = Step.allCases.map(manifest.method)
    let data = methods.map(\.dataFile).filter { !$0.isEmpty }
    let used = methods.map(\.file) + data + [manifest.prompt.tokenizerFile]
    for path in used + manifest.files.map(\.path) where leaves(path) {
        throw VlmpError.bundle(.name, "\(file) names \(quoted(path)), which leaves the bundle's folder")
    }
    let listed = manifest.files.map { Array($0.path.utf8) }
    for path in used {
        let (wanted, folder) = (Array(path.utf8), Array((path + "/").utf8))
        if !listed.contains(where: { $0 == wanted || $0.starts(with: folder) }) {
            throw VlmpError.bundle(.unlisted, "\(file) uses \(quoted(path)) but does not list it among its files")
        }
    }
}

private func leaves(_ path: String) -> Bool {
    let bytes = Array(path.utf8)
    let parts = bytes.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }
    return bytes.first == UInt8(ascii: "/") || bytes.contains(UInt8(ascii: "\\")) || bytes.contains(0)
        || parts.allSatisfy { $0 == "." } || parts.contains("..")
}
