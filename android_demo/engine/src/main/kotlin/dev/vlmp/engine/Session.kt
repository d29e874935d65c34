// P prefix, N visual, S kept visual tokens, T text bucket, G room for answers, V vocabulary, H KV heads, C head size
package dev.vlmp.engine

import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer

/**
 * What vision tells of a picture. [visual]: tokens, float32 [N, D], fewer where the tower has dropped some. Of a bundle
 * with a stage there [places], int32, the numbers of those that went through all of it, ascending; [bias] if the
 * language model takes what each counts for.
 */
class Seen(val visual: ByteBuffer, val places: ByteBuffer? = null, val bias: ByteBuffer? = null)

/**
 * What prefill tells beside filling the caches: [logits] [V]; [stages]: kept of each stage, ascending; [order]: the
 * last one's as chosen.
 */
class Prefilled(val logits: FloatArray, val stages: List<IntArray>, val order: IntArray)

/**
 * How far a conversation is: text tokens after the picture that the caches hold, and what layers without keys have made
 * of them, by the names of the inputs. No call changes either.
 */
class Progress internal constructor(val past: Int, internal val states: Map<String, ByteBuffer>)

/**
 * A loaded bundle with the caches of one conversation, in tensors and token ids. A [Chat] puts words around it.
 *
 * It is for one thread at a time. A call that fails or is stopped leaves [past] as it was.
 */
class Session(val manifest: Manifest, folder: File, opener: RuntimeOpener, threads: Int? = null) : AutoCloseable {
    private val caches =
        manifest
            .method(Step.DECODE)
            .inputs
            .filter { "_cache_" in it.name && !it.name.startsWith(STATE) }
            .associate { Pair(it.name, directBuffer(it.elements)) }
    private val noStates =
        manifest
            .method(Step.DECODE)
            .inputs
            .filter { it.name.startsWith("${STATE}_cache_") }
            .associate { Pair(it.name, directBuffer(it.elements)) }
    private val runtime = opener.open(folder, manifest, caches, threads)
    private val nothing = directBuffer(0) // the picture, in later steps

    /** Name and version of what runs the graphs. */
    val runtimeName: String
        get() = runtime.name

    /** How far the conversation is. */
    var progress = Progress(0, noStates)
        private set

    /** Text tokens after the picture that the caches hold. Rows after them are never read. */
    val past: Int
        get() = progress.past

    /** Text tokens that still fit. */
    val room: Int
        get() = manifest.prompt.textLen + manifest.prompt.maxNewTokens - past

    /** [pixels] float32 [1, 3, height, width], 0..255. Returns what [prefill] takes of the picture. */
    fun vision(pixels: ByteBuffer, stop: Stop = Stop()): Seen {
        // Copies: they may be views of the runtime's memory.
        val outputs = run(Step.VISION, mapOf("image" to pixels), stop).mapValues { copied(it.value) }
        return Seen(outputs.getValue("visual"), outputs["places"], outputs["${BIAS}_0"])
    }

    /** Fills the caches with prefix, picture and the first text, 1 to T ids. If it fails there is no picture. */
    fun prefill(ids: IntArray, seen: Seen, stop: Stop = Stop()): Prefilled {
        reset()
        if (seen.bias != null) copy(seen.bias, 0, caches.getValue("${BIAS}_cache_0"), 0, seen.bias.remaining())
        val given = mapOf("visual" to seen.visual) + listOfNotNull(seen.places).associateBy { "places" }
        val outputs = call(Step.PREFILL, bucket(ids) + given, ids.size, stop)
        val earlier =
            manifest.stages.dropLast(1).mapIndexed { number, stage ->
                if (stage.inTower) seen.places!! else outputs.getValue("kept_$number")
            }
        val stages = (earlier + outputs.getValue("kept")).map { it.ints() }
        return Prefilled(outputs.getValue("logits").floats(), stages, outputs.getValue("order").ints())
    }

    /** Appends one token. Returns logits [V] of the next one. Raises [BadTurn] when the caches are full. */
    fun decode(token: Int, stop: Stop = Stop()): FloatArray {
        checkRoom(1)
        return call(Step.DECODE, mapOf("ids" to intBuffer(token), "text_len" to intBuffer(1)), 1, stop)
            .getValue("logits")
            .floats()
    }

    /** Appends 1 to T ids at once. Returns logits [V] of the next one. Raises [BadTurn] when the caches are full. */
    fun extend(ids: IntArray, stop: Stop = Stop()): FloatArray {
        checkRoom(ids.size)
        return call(Step.EXTEND, bucket(ids), ids.size, stop).getValue("logits").floats()
    }

    /** Raises [BadTurn] unless so many text tokens can be appended. */
    fun checkRoom(tokens: Int) {
        if (past == 0) throw BadTurn(BadTurn.Kind.NO_IMAGE, "There is no picture yet: ask about one first.")
        if (tokens > room) {
            throw BadTurn(
                BadTurn.Kind.FULL,
                "The conversation is full: $tokens more tokens, room for $room. Start a new one.",
                needed = tokens,
                most = room,
            )
        }
    }

    /** Forgets all that came after [before], an earlier [progress] of this conversation. */
    fun rewind(before: Progress) {
        require(before.past <= past) { "cannot go back to ${before.past}: the caches hold $past" }
        progress = before
    }

    /** Forgets the conversation. */
    fun reset() = rewind(Progress(0, noStates))

    override fun close() = runtime.close()

    /** Runs a method that puts [tokens] text tokens into the caches, and stores its rows where the host has to. */
    private fun call(step: Step, inputs: Map<String, ByteBuffer>, tokens: Int, stop: Stop): Map<String, ByteBuffer> {
        val outputs = run(step, inputs + progress.states + ("past" to intBuffer(past)), stop)
        if (!outputs.getValue("logits").floats().all { it.isFinite() }) {
            throw RuntimeFailure("The model returned numbers that are not finite: its weights or its graph are broken.")
        }
        if (!manifest.kv.inPlace) {
            for (tensor in manifest.method(step).outputs) store(step, tensor, outputs.getValue(tensor.name), tokens)
        }
        val states = noStates.keys.associateWith { copied(outputs.getValue(it.replace("_cache_", "_"))) }
        progress = Progress(past + tokens, states)
        return outputs
    }

    private fun run(step: Step, given: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> {
        val wanted = manifest.method(step).inputs.filter { it.name !in caches }
        val inputs = wanted.associate { Pair(it.name, if (it.elements == 0) nothing else given.getValue(it.name)) }
        stop.check()
        val outputs = runtime.run(step, inputs, stop)
        stop.check()
        return outputs
    }

    /** Copies the rows of valid tokens into a cache, without those of padding, or all of a stage's bias. */
    private fun store(step: Step, tensor: TensorSpec, rows: ByteBuffer, tokens: Int) {
        val (kind, number) = tensor.name.split('_').let { if (it.size == 2) it else return }
        if (kind == BIAS) copy(rows, 0, caches.getValue("${BIAS}_cache_$number"), 0, FLOAT_BYTES * tensor.elements)
        if (kind !in CACHE_KINDS) return
        val layer = manifest.kv.layers[number.toInt()]
        val cache = caches.getValue("${kind}_cache_$number")
        val width = FLOAT_BYTES * layer.headDim
        val first = if (step == Step.PREFILL) 0 else layer.base + past
        val count = if (step == Step.PREFILL) layer.base + tokens else tokens
        for (head in 0 until layer.kvHeads) {
            copy(rows, head * tensor.shape[1] * width, cache, (head * layer.slots + first) * width, count * width)
        }
    }

    private fun bucket(ids: IntArray): Map<String, ByteBuffer> {
        val size = manifest.prompt.textLen
        require(ids.size in 1..size) { "${ids.size} text tokens: this bundle takes 1 to $size at once" }
        require(ids.all { it in 0 until manifest.vocabSize }) { "a token is not in the model's vocabulary" }
        val padded = IntArray(size) { if (it < ids.size) ids[it] else manifest.prompt.padId }
        return mapOf("ids" to intBuffer(*padded), "text_len" to intBuffer(ids.size))
    }
}

// Positions are set through Buffer: ByteBuffer's own methods of that name are newer than Android 8.
private fun copy(from: ByteBuffer, fromByte: Int, to: ByteBuffer, toByte: Int, bytes: Int) {
    val source = from.duplicate()
    (source as Buffer).position(fromByte).limit(fromByte + bytes)
    val target = to.duplicate()
    (target as Buffer).position(toByte)
    target.put(source)
}

private fun copied(from: ByteBuffer): ByteBuffer {
    val bytes = from.remaining()
    return directBuffer(bytes / FLOAT_BYTES).also { copy(from, 0, it, 0, bytes) }
}
