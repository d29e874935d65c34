package dev.vlmp.engine

import com.google.gson.JsonObject
import java.io.File
import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

/** The host loop against the conformance files, on a stand-in for the runtime that says a script. */
class DialogTest {
    @TestFactory
    fun `dialogs`(): List<DynamicTest> =
        listOf("", "tower-", "rebuilt-").flatMap { listOf("${it}rows", "${it}in_place") }.flatMap { kind ->
            ConformanceFiles.cases("dialog/cases.json").map { case ->
                dynamicTest("$kind: ${case.text("name")}") {
                    val scripted = Scripted(kind)
                    for (action in case.list("actions").map { it.asJsonObject }) scripted.check(action)
                }
            }
        }

    @Test
    fun `half a character is no text, and nothing is run`() {
        val scripted = Scripted("rows")
        scripted.start(emptyList())
        val error = assertThrows(BadPrompt::class.java) { scripted.chat.ask(scripted.picture, "Why\uD83D?") }
        assertEquals(BadPrompt.Kind.NO_TEXT, error.kind)
    }

    @Test
    fun `a token that the model does not know is refused`() {
        val manifest = ConformanceFiles.json("dialog/rows.json")
        val scripted = Scripted("rows", manifest.toString().replace("2048", "1546"))
        val error = assertThrows(BadPrompt::class.java) { scripted.chat.ask(scripted.picture, "Why?") }
        assertEquals(BadPrompt.Kind.NO_TOKEN, error.kind)
    }
}

private val PLACES = intArrayOf(1, 2, 3)
private val BIAS_0 = floatArrayOf(0.5f, 1.5f, 2.5f)

/** A chat whose model says a script, as tests/conformance/README.md describes it. The bookkeeping is the real one. */
class Scripted(kind: String, text: String = ConformanceFiles.json("dialog/$kind.json").toString()) : Runtime {
    val manifest = parseManifest(text, "$kind.json")
    val picture = Picture(2, 2, ByteArray(12))
    private lateinit var caches: Map<String, ByteBuffer>
    val chat =
        Chat(
            Session(manifest, File("."), { _, _, given, _ -> this.also { caches = given } }),
            ConformanceFiles.tokenizer("tiny"),
        )
    private var script = ArrayList<Int>()
    private var failsAt: Int? = null
    private var notFiniteAt: Int? = null
    private var stopIn: Int? = null
    private val calls = ArrayList<Any>()

    override val name = "scripted"

    /** The numbers are those of calls, from 0. */
    fun start(tokens: List<Int>, failsAt: Int? = null, notFiniteAt: Int? = null, stopIn: Int? = null) {
        script = ArrayList(tokens)
        this.failsAt = failsAt
        this.notFiniteAt = notFiniteAt
        this.stopIn = stopIn
        calls.clear()
    }

    /** Does an action, and compares all that comes of it. */
    fun check(action: JsonObject) {
        val then = action.getAsJsonObject("then")
        val number = { name: String -> action.optional(name)?.asInt }
        val tokens = action.optional("script")?.ints() ?: emptyList()
        start(tokens, number("fails_at"), number("not_finite_at"), number("stop_in"))
        val pieces = ArrayList<String>()
        val onText = { piece: String ->
            pieces += piece
            if (pieces.size == action.optional("stop_after")?.asInt) chat.stop()
        }
        val limit = action.optional("limit")?.asInt
        val meant = action.optional("control_tokens")?.asBoolean ?: false
        try {
            val answer =
                when (action.text("do")) {
                    "ask" -> chat.ask(picture, action.text("prompt"), limit, meant, onText = onText)
                    "reply" -> chat.reply(action.text("prompt"), limit, meant, onText = onText)
                    else -> null.also { chat.reset() }
                }
            if (answer != null) {
                assertEquals(then.get("tokens").ints(), answer.tokens)
                assertEquals(then.text("text"), answer.text)
                assertEquals(then.get("pieces").texts(), pieces)
                assertEquals(then.get("stopped")?.asBoolean ?: false, answer.end == End.STOPPED)
                if (action.text("do") == "ask" && answer.tokens.isNotEmpty()) {
                    assertEquals(listOf(listOf(1, 2, 3), listOf(1, 3)), answer.stages.map { it.toList() })
                    assertEquals(listOf(3, 1), answer.order.toList())
                }
            }
            assertEquals(null, then.get("refused") ?: then.get("failed"))
        } catch (error: BadPrompt) {
            assertEquals(
                then.text("refused"),
                if (error.kind == BadPrompt.Kind.EMPTY) "empty_prompt" else "prompt_too_long",
            )
            if (then.has("tokens"))
                assertEquals(listOf(then.int("tokens"), then.int("most")), listOf(error.tokens, error.most))
        } catch (error: BadTurn) {
            assertEquals(then.text("refused"), error.kind.name.lowercase())
            if (then.has("needed")) assertEquals(then.int("needed"), error.needed)
            if (then.has("most")) assertEquals(then.int("most"), error.most)
        } catch (error: RuntimeFailure) {
            assertEquals(true, then.get("failed")?.asBoolean, error.message)
        }
        assertEquals(
            then.list("calls").toString(),
            calls.toString().replace(" ", "").replace(Regex("[a-z]{5,}")) { "\"${it.value}\"" },
        )
        assertEquals(then.get("held").ints(), held())
        assertEquals(then.get("unfed").ints(), listOfNotNull(chat.unfed))
        assertEquals(then.int("room"), chat.session.room)
    }

    override fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> {
        val number = calls.size
        if (number == failsAt) throw RuntimeFailure("the runtime failed")
        if (number == stopIn) chat.stop()
        val kept = number != stopIn && number != notFiniteAt
        val outputs = manifest.method(step).outputs.associate { Pair(it.name, directBuffer(it.elements)) }
        for (tensor in manifest.method(step).inputs.filter { it.name !in caches }) {
            assertEquals(4 * tensor.elements, inputs.getValue(tensor.name).remaining(), tensor.name)
        }
        if (step == Step.VISION) {
            if (kept) calls += listOf(step.key, null, emptyList<Int>())
            outputs["places"]?.asIntBuffer()?.put(PLACES)
            outputs["bias_0"]?.asFloatBuffer()?.put(BIAS_0)
            return outputs
        }
        val places = if (step == Step.PREFILL) PLACES.toList() else emptyList()
        inputs["places"]?.let { assertEquals(places, it.ints().toList()) }
        caches["bias_cache_0"]?.let { assertEquals(BIAS_0.toList(), it.floats().toList()) }
        val ids = inputs.getValue("ids").ints().toList()
        val length = inputs["text_len"]?.ints()?.single() ?: 1
        val past = inputs["past"]?.ints()?.single() ?: 0
        assertEquals(emptySet<Int>(), ids.drop(length).toSet() - manifest.prompt.padId)
        if (kept) calls += listOf(step.key, if (step == Step.PREFILL) null else past, ids.take(length))
        for ((layer, kv) in manifest.kv.layers.withIndex()) {
            if (!kv.hasKeys) {
                val given = inputs["state_cache_$layer"]?.floats()?.toList() ?: List(4) { 0f }
                if (step == Step.PREFILL) assertEquals(List(4) { 0f }, given)
                val fed = ids.take(length).flatMapIndexed { place, id -> listOf(id.toFloat(), (past + place).toFloat()) }
                outputs.getValue("state_$layer").asFloatBuffer().put((given + fed).takeLast(4).toFloatArray())
                continue
            }
            val before = if (step == Step.PREFILL) List(kv.base) { listOf(7000 + it, it) } else emptyList()
            val text = ids.take(length).mapIndexed { place, id -> listOf(id, past + place) }
            val padding = if (manifest.kv.inPlace) emptyList() else ids.drop(length).map { listOf(9999, 9999) }
            for ((kind, sign) in listOf("key" to 1f, "value" to -1f)) {
                val rows = (before + text + padding).flatten().map { it * sign }.toFloatArray()
                if (manifest.kv.inPlace) {
                    val to = caches.getValue("${kind}_cache_$layer").asFloatBuffer()
                    to.position(2 * if (step == Step.PREFILL) 0 else kv.base + past)
                    to.put(rows)
                } else {
                    outputs.getValue("${kind}_$layer").asFloatBuffer().put(rows)
                }
            }
        }
        val logits = outputs.getValue("logits").asFloatBuffer()
        if (number == notFiniteAt) logits.put(7, Float.NaN) else logits.put(script.removeFirstOrNull() ?: 0, 1f)
        if (step == Step.PREFILL) {
            for ((name, kept) in
                listOf("kept_0" to PLACES, "kept" to intArrayOf(1, 3), "order" to intArrayOf(3, 1))) {
                outputs[name]?.asIntBuffer()?.put(kept)
            }
        }
        return outputs
    }

    override fun close() = Unit

    /** Text ids whose rows are in the caches, the same in each layer's, each at its place. */
    private fun held(): List<Int> {
        val found =
            manifest.kv.layers.withIndex().filter { it.value.hasKeys }.map { (layer, kv) ->
                val keys = caches.getValue("key_cache_$layer").floats().map { it.toInt() }.chunked(2)
                val values = caches.getValue("value_cache_$layer").floats().map { -it.toInt() }.chunked(2)
                assertEquals(keys, values)
                val past = chat.session.past
                if (past > 0) assertEquals(List(kv.base) { listOf(7000 + it, it) }, keys.take(kv.base))
                val text = keys.subList(kv.base, kv.base + past)
                assertEquals((0 until past).toList(), text.map { it[1] })
                text.map { it[0] }
            }
        assertEquals(1, found.toSet().size)
        val fed = found.first().flatMapIndexed { place, id -> listOf(id, place) }
        for ((layer, kv) in manifest.kv.layers.withIndex().filter { !it.value.hasKeys }) {
            val state = chat.session.progress.states.getValue("state_cache_$layer").floats().map { it.toInt() }
            assertEquals((List(4) { 0 } + fed).takeLast(4), state, "${kv.state}")
        }
        return found.first()
    }
}
