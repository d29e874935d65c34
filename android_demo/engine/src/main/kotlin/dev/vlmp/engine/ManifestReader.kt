package dev.vlmp.engine

import dev.vlmp.engine.BadBundle.Kind

private const val SCHEMA_VERSION = 2
private const val MOST_LAYERS = 1024
private const val MOST_ELEMENTS = 1L shl 29 // of a tensor, so that its bytes fit into one buffer
private const val MOST_FILE_BYTES = 1L shl 50
private val DIGEST = Regex("[0-9a-f]{64}")

/**
 * Reads a manifest and checks all that can be checked without the files: fields, stages, names, and that every tensor
 * is the one that follows from the sizes, since copies between buffers rest on that.
 *
 * [file] is named in messages. Raises [BadBundle].
 */
fun parseManifest(text: String, file: String): Manifest {
    val root = Field.parse(text, file, Kind.FIELD)
    checkVersion(root, text, file)
    val target = root.at("target").text()
    if (target != "onnx" && target != "executorch") {
        throw BadBundle(Kind.TARGET, "$file: target is ${quoted(target)}: this engine runs onnx and executorch")
    }
    val vocabSize = root.at("vocab_size").count()
    val shapes = root.at("shapes").items()
    if (shapes.isEmpty()) root.at("shapes").refuse("is empty")
    val shape = shapes.first()
    val image = readImage(shape.at("image"))
    val kv = readKv(shape.at("kv"))
    val manifest =
        Manifest(
            model = root.at("model").text(),
            checkpoint = root.at("checkpoint").text(),
            target = target,
            precision = readFloats(root.at("precision")),
            quantization = root.at("quantization").text(),
            vocabSize = vocabSize,
            prompt = readPrompt(root.at("prompt"), vocabSize),
            image = image,
            stages = readStages(shape.at("stages").raising(Kind.STAGES), image.visualTokens, kv.layers.size),
            kv = kv,
            methods =
                Step.values().associate {
                    Pair(it, readMethod(root.at("methods").at(shape.at("methods").at(it.key).text())))
                },
            files = root.at("files").items().map(::readFile),
        )
    checkSlots(shape.at("kv").at("layers"), manifest)
    checkTensors(manifest, file)
    checkNames(manifest, file)
    return manifest
}

private fun checkVersion(root: Field, text: String, file: String) {
    if (!text.trimStart().startsWith("{")) root.refuse("must be an object")
    val versioned = root.raising(Kind.VERSION)
    val version = versioned.at("schema_version").int(1, Int.MAX_VALUE)
    if (version > SCHEMA_VERSION) {
        throw BadBundle(
            Kind.VERSION,
            "$file: schema_version is $version, this app reads $SCHEMA_VERSION: update the app",
        )
    }
    if (version < SCHEMA_VERSION) {
        throw BadBundle(
            Kind.VERSION,
            "$file: schema_version is $version, this app reads $SCHEMA_VERSION: export the model again, with " +
                "vlmp-export --model ${modelOf(root)} --target ${targetOf(root)} --output FOLDER",
        )
    }
}

private fun modelOf(root: Field) =
    if (root.has("model") && root.at("model").isText) quoted(root.at("model").text()).trim('\'') else "MODEL"

private fun targetOf(root: Field) =
    if (root.has("target") && root.at("target").isText && root.at("target").text() == "executorch") "executorch"
    else "onnx"

private fun readPrompt(field: Field, vocabSize: Int) =
    PromptSpec(
        first = readTemplate(field.at("first")),
        following = readTemplate(field.at("following")),
        textLen = field.at("text_len").count(),
        maxNewTokens = field.at("max_new_tokens").count(),
        endIds = field.at("end_ids").ints(0, Int.MAX_VALUE).toSet(),
        endTextId = field.at("end_text_id").int(0, vocabSize - 1),
        padId = field.at("pad_id").int(0, vocabSize - 1),
        controlTokens =
            if (field.has("control_tokens")) field.at("control_tokens").items().map(::readControlToken)
            else emptyList(),
        tokenizerFile = field.at("tokenizer_file").text(),
    )

/** This engine runs float32. */
private fun readFloats(field: Field): String {
    if (field.choice("float32", "float16") != "float32")
        field.raising(Kind.TENSORS).refuse("is float16: this engine runs float32")
    return "float32"
}

private fun readTemplate(field: Field): String =
    field.text().also { if (MARK !in it) field.refuse("must have $MARK, where the user's words go") }

private fun readControlToken(field: Field): String = field.text().also { if (it.isEmpty()) field.refuse("is empty") }

private fun readImage(field: Field): ImageSpec {
    if (field.has("frames")) field.at("frames").int(1, 1)
    val filters = Resample.entries.associateBy { it.name.lowercase() }
    val resample = filters.getValue(field.at("resample").choice(*filters.keys.toTypedArray()))
    val padRgb = field.at("pad_rgb").ints(0, 255)
    if (padRgb.size != 3) field.at("pad_rgb").refuse("must have three values")
    val segments = field.at("segments").items().map(::readSegment)
    if (segments.isEmpty()) field.at("segments").refuse("is empty")
    val pad = field.at("fit").choice("pad", "stretch") == "pad"
    val visualTokens = field.at("visual_tokens").count()
    val (height, width) = Pair(field.at("height").count(), field.at("width").count())
    return ImageSpec(height, width, pad, padRgb, resample, visualTokens, segments)
}

private fun readSegment(field: Field): SegmentSpec {
    val box = field.at("box").ints(-Field.MOST, Field.MOST)
    if (box.size != 4) field.at("box").refuse("must have four values")
    val first = field.at("first").int(0)
    return SegmentSpec(field.at("rows").count(), field.at("columns").count(), first, field.at("stride").count(), box)
}

private fun readStages(field: Field, visualTokens: Int, layers: Int): List<StageSpec> {
    val stages = ArrayList<StageSpec>()
    for (item in field.items()) {
        val inTower = item.at("place").choice("vision", "layer") == "vision"
        if (inTower && stages.isNotEmpty())
            item.at("place").refuse("is vision, which only the first stage's may be")
        val rebuilt = item.has("form") && item.at("form").choice("dropped", "rebuilt") == "rebuilt"
        if (rebuilt && !inTower) item.at("form").refuse("is rebuilt, which is of the vision tower")
        val stage =
            StageSpec(
                inTower,
                rebuilt,
                item.at("index").int(0, if (inTower) Field.MOST else layers - 1),
                item.at("pruner").text(),
                item.at("tokens").count(),
                item.at("num_kept").count(),
                item.has("weighs") && item.at("weighs").boolean(),
            )
        val before = stages.lastOrNull()
        if (before != null && !before.inTower && stage.index <= before.index)
            item.at("index").refuse("is not after the stage before, ${before.index}")
        val left = before?.left ?: visualTokens
        if (stage.tokens != left) item.at("tokens").refuse("is not what comes in, $left")
        if (stage.numKept > left) item.at("num_kept").refuse("is more than comes in, $left")
        stages += stage
    }
    if (stages.size == 1 && stages[0].inTower)
        field.refuse("must have one in the language model after that in the vision tower")
    return stages
}

private fun readKv(field: Field): KvSpec {
    readFloats(field.at("dtype"))
    val inPlace = field.at("update").choice("rows", "in_place") == "in_place"
    val layers =
        field.at("layers").items().map {
            if (it.has("state")) KvLayerSpec(state = readState(it.at("state")))
            else
                KvLayerSpec(
                    it.at("kv_heads").count(),
                    it.at("head_dim").count(),
                    it.at("base").count(),
                    it.at("slots").count(),
                )
        }
    if (layers.size !in 1..MOST_LAYERS) field.at("layers").refuse("must have 1 to $MOST_LAYERS entries")
    return KvSpec(inPlace, layers)
}

private fun readState(field: Field): List<Int> {
    val shape = field.ints(1, Field.MOST).toList()
    if (shape.size != 2) field.refuse("must have two sizes")
    return shape
}

private fun readMethod(field: Field) =
    MethodSpec(
        file = field.at("file").text(),
        entry = field.at("entry").text(),
        dataFile = if (field.has("data_file")) field.at("data_file").text() else "",
        inputs = field.at("inputs").items().map(::readTensor),
        outputs = field.at("outputs").items().map(::readTensor),
    )

private fun readTensor(field: Field): TensorSpec {
    val shape = field.at("shape").ints(0, Field.MOST).toList()
    if (elements(shape) > MOST_ELEMENTS) field.at("shape").raising(Kind.TENSORS).refuse("is too large")
    return TensorSpec(field.at("name").text(), shape, field.at("dtype").choice("float32", "float16", "int32"))
}

/** Their product, or something above [MOST_ELEMENTS]. */
private fun elements(shape: List<Int>): Long =
    shape.fold(1L) { product, size -> minOf(product * size, MOST_ELEMENTS + 1) }

private fun readFile(field: Field): FileSpec {
    val sha256 = field.at("sha256").text()
    if (!DIGEST.matches(sha256)) field.at("sha256").refuse("must be 64 hexadecimal digits")
    return FileSpec(field.at("path").text(), sha256, field.at("size_bytes").integer(0, MOST_FILE_BYTES))
}

private fun checkSlots(layers: Field, manifest: Manifest) {
    val room = manifest.prompt.textLen.toLong() + manifest.prompt.maxNewTokens
    for ((layer, field) in manifest.kv.layers.zip(layers.items())) {
        if (layer.hasKeys && layer.slots.toLong() != layer.base + room) {
            field
                .at("slots")
                .refuse("is ${layer.slots}, must be base, text_len and max_new_tokens together, ${layer.base + room}")
        }
    }
}

/** Raises [BadBundle] unless each method has exactly the tensors of docs/bundle.md, "Methods". */
private fun checkTensors(manifest: Manifest, file: String) {
    val textLen = manifest.prompt.textLen
    val image = manifest.image
    val hidden = manifest.method(Step.VISION).outputs.firstOrNull { it.name == "visual" }?.shape?.getOrNull(1) ?: 1
    val ids = TensorSpec("ids", listOf(1, textLen), "int32")
    val one = TensorSpec("ids", listOf(1, 1), "int32")
    val textLength = TensorSpec("text_len", listOf(1), "int32")
    val past = TensorSpec("past", listOf(1), "int32")
    val tower = manifest.tower
    val drops = tower != null && !tower.rebuilt
    val visual = TensorSpec("visual", listOf(tower?.left ?: image.visualTokens, hidden), "float32")
    val places = listOfNotNull(tower).map { TensorSpec("places", listOf(it.numKept), "int32") }
    // What steps of the language model take of the picture, and what later ones do, in place.
    val picture = listOf(visual) + if (drops) places else emptyList()
    val noPicture = picture.map { TensorSpec(it.name, listOf(0) + it.shape.drop(1), it.dtype) }
    val logits = TensorSpec("logits", listOf(manifest.vocabSize), "float32")
    val kept =
        manifest.stages.dropLast(1).withIndex().filter { !it.value.inTower }.map { (number, stage) ->
            TensorSpec("kept_$number", listOf(stage.numKept), "int32")
        } +
            TensorSpec("kept", listOf(manifest.numKept), "int32") +
            TensorSpec("order", listOf(manifest.numKept), "int32") +
            TensorSpec("filled", listOf(1), "int32")
    val inPlace = manifest.kv.inPlace
    val fromTower = manifest.biases("_cache", inTower = true)
    val caches = manifest.caches("_cache") { it.slots } + fromTower + manifest.biases("_cache", inTower = false)
    val biases = manifest.biases("", inTower = false)

    /** What a step returns for the caches of keys and values: all of them, or so many rows of each. */
    fun returned(rows: (KvLayerSpec) -> Int) = manifest.caches("") { if (inPlace) it.slots else rows(it) }
    val compare = { step: Step, inputs: List<TensorSpec>, outputs: List<TensorSpec> ->
        compare(file, step, "input", manifest.method(step).inputs, inputs)
        compare(file, step, "output", manifest.method(step).outputs, outputs)
    }
    compare(
        Step.VISION,
        listOf(TensorSpec("image", listOf(1, 3, image.height, image.width), "float32")),
        listOf(visual) + places + manifest.biases("", inTower = true),
    )
    if (inPlace) {
        val updated = returned { it.slots } + biases
        compare(Step.PREFILL, listOf(ids, textLength, past) + picture + caches, kept + logits + updated)
        compare(Step.DECODE, listOf(one, textLength, past) + noPicture + caches, updated + logits)
        compare(Step.EXTEND, listOf(ids, textLength, past) + noPicture + caches, updated + logits)
    } else {
        compare(
            Step.PREFILL,
            listOf(ids, textLength) + picture + fromTower,
            kept + logits + returned { it.base + textLen } + biases,
        )
        compare(Step.DECODE, listOf(one, past) + caches, returned { 1 } + logits)
        compare(Step.EXTEND, listOf(ids, textLength, past) + caches, returned { textLen } + logits)
    }
}

/**
 * A tensor for keys and one for values of each layer, or one for its state, [infix] in their names: `rows` by heads and
 * head size.
 */
private fun Manifest.caches(infix: String, rows: (KvLayerSpec) -> Int): List<TensorSpec> =
    kv.layers.flatMapIndexed { number, layer ->
        if (!layer.hasKeys) return@flatMapIndexed listOf(TensorSpec("$STATE${infix}_$number", layer.state, "float32"))
        val shape = listOf(layer.kvHeads, rows(layer), layer.headDim)
        CACHE_KINDS.map { TensorSpec("$it${infix}_$number", if (kv.inPlace) listOf(1) + shape else shape, "float32") }
    }

/** A tensor for each stage, in the vision tower or the language model, whose weights the latter takes. */
private fun Manifest.biases(infix: String, inTower: Boolean): List<TensorSpec> =
    stages.withIndex().filter { it.value.told && it.value.inTower == inTower }.map { (number, stage) ->
        TensorSpec("$BIAS${infix}_$number", listOf(stage.numKept), "float32")
    }

private fun compare(file: String, step: Step, kind: String, found: List<TensorSpec>, wanted: List<TensorSpec>) {
    val missing = wanted.associateBy { it.name }.toMutableMap()
    for (tensor in found) {
        val same =
            missing.remove(tensor.name)
                ?: throw BadBundle(
                    Kind.TENSORS,
                    "$file: ${step.key}: $kind ${quoted(tensor.name)} is unknown or there twice",
                )
        if (same.shape != tensor.shape || same.dtype != tensor.dtype) {
            throw BadBundle(
                Kind.TENSORS,
                "$file: ${step.key}: $kind ${tensor.name} is ${tensor.dtype} ${tensor.shape}, must be $same",
            )
        }
        if (elements(tensor.shape) > MOST_ELEMENTS) {
            throw BadBundle(Kind.TENSORS, "$file: ${step.key}: $kind ${tensor.name} is too large")
        }
    }
    missing.keys.firstOrNull()?.let { throw BadBundle(Kind.TENSORS, "$file: ${step.key}: $kind $it is missing") }
}

private fun checkNames(manifest: Manifest, file: String) {
    val data = manifest.methods.values.map { it.dataFile }.filter { it.isNotEmpty() }
    val used = manifest.methods.values.map { it.file } + data + manifest.prompt.tokenizerFile
    for (path in used + manifest.files.map { it.path }) {
        if (leaves(path)) throw BadBundle(Kind.NAME, "$file names ${quoted(path)}, which leaves the bundle's folder")
    }
    for (path in used) {
        if (manifest.files.none { it.path == path || it.path.startsWith("$path/") }) {
            throw BadBundle(Kind.UNLISTED, "$file uses ${quoted(path)} but does not list it among its files")
        }
    }
}

private fun leaves(path: String) =
    path.isEmpty() ||
        path.startsWith("/") ||
        '\\' in path ||
        '\u0000' in path ||
        path.split('/').all { it.isEmpty() || it == "." } ||
        ".." in path.split('/')

internal val CACHE_KINDS = listOf("key", "value")
internal const val BIAS = "bias"
internal const val STATE = "state"
