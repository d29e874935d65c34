// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, D hidden, H KV heads, C
// head size
package dev.vlmp.engine

/**
 * What a bundle is: its manifest of schema version 2 with the first picture size. docs/bundle.md explains each field.
 */
class Manifest
internal constructor(
    val model: String,
    val checkpoint: String,
    val target: String,
    val precision: String,
    val quantization: String,
    /** V */
    val vocabSize: Int,
    val prompt: PromptSpec,
    val image: ImageSpec,
    /** Where tokens are pruned; an unpruned bundle has one whose pruner is `none`, or none at all. */
    val stages: List<StageSpec>,
    val kv: KvSpec,
    /** What each step runs. */
    val methods: Map<Step, MethodSpec>,
    val files: List<FileSpec>,
) {
    /** S: visual tokens that are left after the last stage. */
    val numKept: Int
        get() = stages.lastOrNull()?.numKept ?: image.visualTokens

    /** The stage in the vision tower, which is the first. */
    val tower: StageSpec?
        get() = stages.firstOrNull()?.takeIf { it.inTower }

    /** K: the decoder layer that the first stage in the language model stands before, 0 without one. */
    val pruneLayer: Int
        get() = stages.firstOrNull { !it.inTower }?.index ?: 0

    /** Bytes of all files of the bundle. */
    val sizeBytes: Long
        get() = files.sumOf { it.sizeBytes }

    /** Bytes of all KV caches. */
    val cacheBytes: Long
        get() = kv.layers.sumOf { it.elements * FLOAT_BYTES }

    /**
     * Bytes that running the bundle takes, about: a runtime packs the weights anew, and works in memory of its own.
     * More than the least that the manifest tells, [sizeBytes] and [cacheBytes].
     */
    val memoryBytes: Long
        get() = sizeBytes * 3 / 2 + cacheBytes + (96L shl 20)

    fun method(step: Step): MethodSpec = methods.getValue(step)
}

/** The four methods of a bundle. */
enum class Step(val key: String) {
    VISION("vision"),
    PREFILL("prefill"),
    DECODE("decode"),
    EXTEND("extend"),
}

/**
 * How words become tokens. [textLen]: T. [maxNewTokens]: G. No [controlTokens]: all special tokens of the tokenizer.
 */
class PromptSpec
internal constructor(
    val first: String,
    val following: String,
    val textLen: Int,
    val maxNewTokens: Int,
    val endIds: Set<Int>,
    val endTextId: Int,
    val padId: Int,
    val controlTokens: List<String>,
    val tokenizerFile: String,
)

/** The picture that the model sees, in pixels. [padRgb] 0..255 of the bars where [pad], [visualTokens]: N. */
class ImageSpec
internal constructor(
    val height: Int,
    val width: Int,
    val pad: Boolean,
    val padRgb: IntArray,
    val resample: Resample,
    val visualTokens: Int,
    val segments: List<SegmentSpec>,
)

/** Tokens on a grid over [box]: left, top, right, bottom, in pixels of the fitted picture. */
class SegmentSpec
internal constructor(val rows: Int, val columns: Int, val first: Int, val stride: Int, val box: IntArray) {
    /** Row and column of a visual token, null where it is not on this grid. */
    fun cell(token: Int): Pair<Int, Int>? {
        val row = Math.floorDiv(token - first, stride)
        val column = Math.floorMod(token - first, stride)
        return if (row in 0 until rows && column < columns) Pair(row, column) else null
    }
}

/**
 * Before decoder layer [index], or where [inTower] before block [index] of the vision tower, [tokens] visual tokens
 * become [numKept]. [rebuilt]: after the tower the others come back. [weighs]: attention counts each of them as those
 * that it stands for.
 */
class StageSpec
internal constructor(
    val inTower: Boolean,
    val rebuilt: Boolean,
    val index: Int,
    val pruner: String,
    val tokens: Int,
    val numKept: Int,
    val weighs: Boolean,
) {
    /** Visual tokens that go on. */
    val left: Int
        get() = if (rebuilt) tokens else numKept

    /** Whether the language model takes its weights. */
    internal val told: Boolean
        get() = weighs && !rebuilt
}

/** [inPlace]: graphs write into the caches; otherwise they return rows, which the host stores. */
class KvSpec internal constructor(val inPlace: Boolean, val layers: List<KvLayerSpec>)

/**
 * H, C, the slot of the first text token after the picture, and all slots; or, of a layer without keys, the shape of
 * its [state], which each call replaces.
 */
class KvLayerSpec
internal constructor(
    val kvHeads: Int = 0,
    val headDim: Int = 0,
    val base: Int = 0,
    val slots: Int = 0,
    val state: List<Int> = emptyList(),
) {
    val hasKeys
        get() = state.isEmpty()

    /** Of all its caches. */
    internal val elements
        get() = if (hasKeys) 2L * kvHeads * headDim * slots else state.fold(1L) { product, size -> product * size }
}

/**
 * A graph: [file] and [dataFile] (empty: none) inside the bundle, [entry] its name there. Tensors in the graph's order.
 */
class MethodSpec
internal constructor(
    val file: String,
    val entry: String,
    val dataFile: String,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
)

/** [dtype]: float32 or int32. */
class TensorSpec internal constructor(val name: String, val shape: List<Int>, val dtype: String) {
    internal val elements: Int
        get() = shape.fold(1) { product, size -> product * size }

    override fun toString() = "$name $dtype $shape"
}

class FileSpec internal constructor(val path: String, val sha256: String, val sizeBytes: Long)

internal const val FLOAT_BYTES = 4
