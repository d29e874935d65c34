package dev.vlmp.engine

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import java.io.File
import java.nio.file.Path
import java.util.Random
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.io.TempDir

/** The reader of manifests against the conformance files, and against damage drawn by lot. */
class ManifestTest {
    private val cases = ConformanceFiles.json("manifest/cases.json")

    @TempDir lateinit var folder: Path

    @TestFactory
    fun `what valid ones say`(): List<DynamicTest> =
        cases
            .list("valid")
            .map { it.asJsonObject }
            .map { case ->
                dynamicTest(case.text("file")) {
                    val text = File(ConformanceFiles.folder, "manifest/${case.text("file")}").readText()
                    when {
                        case.text("file").startsWith("schema-1") -> {
                            val error = assertThrows(BadBundle::class.java) { parseManifest(text, "manifest.json") }
                            assertEquals(BadBundle.Kind.VERSION, error.kind)
                            assertTrue("vlmp-export --model " in error.message!!, error.message)
                        }
                        case.getAsJsonObject("facts").text("target") == "coreml" ->
                            assertEquals(
                                BadBundle.Kind.TARGET,
                                assertThrows(BadBundle::class.java) { parseManifest(text, "manifest.json") }.kind,
                            )
                        else -> compare(case.getAsJsonObject("facts"), parseManifest(text, "manifest.json"))
                    }
                }
            }

    private fun compare(facts: JsonObject, found: Manifest) {
        for ((name, value) in
            listOf(
                "model" to found.model,
                "target" to found.target,
                "precision" to found.precision,
                "quantization" to found.quantization,
            )) {
            assertEquals(facts.text(name), value)
        }
        assertEquals(facts.int("vocab_size"), found.vocabSize)
        val image = facts.getAsJsonObject("image")
        assertEquals(
            listOf("height", "width", "visual_tokens").map { image.int(it) },
            listOf(found.image.height, found.image.width, found.image.visualTokens),
        )
        assertEquals(image.text("fit") == "pad", found.image.pad)
        assertEquals(image.get("pad_rgb").ints(), found.image.padRgb.toList())
        assertEquals(image.text("resample"), found.image.resample.name.lowercase())
        val segments =
            found.image.segments.map {
                "[${it.rows},${it.columns},${it.first},${it.stride},${it.box.toList().toString().replace(" ", "")}]"
            }
        assertEquals(facts.list("segments").map { it.toString() }, segments)
        val stages =
            found.stages.map {
                val place = if (it.inTower) "vision" else "layer"
                val form = if (it.rebuilt) "rebuilt" else "dropped"
                listOf(place, it.index, it.pruner, it.tokens, it.numKept, form, it.weighs).map(Any::toString)
            }
        val told = listOf("place", "index", "pruner", "tokens", "num_kept", "form", "weighs")
        assertEquals(
            facts.list("stages").map { it.asJsonObject }.map { stage -> told.map { stage.get(it).asString } },
            stages,
        )
        assertEquals(facts.int("num_kept"), found.numKept)
        val kv = facts.getAsJsonObject("kv")
        assertEquals(kv.text("update") == "in_place", found.kv.inPlace)
        assertEquals(
            kv.list("layers").map { it.ints() },
            found.kv.layers.map { it.state.ifEmpty { listOf(it.kvHeads, it.headDim, it.base, it.slots) } },
        )
        val prompt = facts.getAsJsonObject("prompt")
        assertEquals(
            listOf("first", "following", "tokenizer_file").map { prompt.text(it) },
            found.prompt.let { listOf(it.first, it.following, it.tokenizerFile) },
        )
        assertEquals(
            listOf("text_len", "max_new_tokens", "end_text_id", "pad_id").map { prompt.int(it) },
            found.prompt.let { listOf(it.textLen, it.maxNewTokens, it.endTextId, it.padId) },
        )
        assertEquals(prompt.get("end_ids").ints().toSet(), found.prompt.endIds)
        assertEquals(prompt.get("control_tokens").texts(), found.prompt.controlTokens)
        for (step in Step.values()) {
            val wanted = facts.getAsJsonObject("methods").getAsJsonObject(step.key)
            val method = found.method(step)
            assertEquals(
                listOf("file", "entry", "data_file").map { wanted.text(it) },
                listOf(method.file, method.entry, method.dataFile),
            )
            for ((name, tensors) in listOf("inputs" to method.inputs, "outputs" to method.outputs)) {
                val plain = tensors.map { "[\"${it.name}\",${it.shape.toString().replace(" ", "")},\"${it.dtype}\"]" }
                assertEquals(wanted.list(name).map { it.toString() }, plain)
            }
        }
    }

    @TestFactory
    fun `hostile ones are refused`(): List<DynamicTest> =
        listOf("", "_tower").flatMap { more -> cases.get("bases$more").texts().map { it to "hostile$more" } }.flatMap {
            (base, hostile) ->
            cases
                .list(hostile)
                .map { it.asJsonObject }
                .map { case ->
                    dynamicTest("$base: ${case.text("class")} ${case.text("field")}") {
                        val manifest = ConformanceFiles.json("manifest/$base")
                        ConformanceFiles.change(manifest, case.list("change"))
                        writeBundle(manifest.toString(), case.getAsJsonObject("files"))
                        val error = assertThrows(BadBundle::class.java) { readBundle(folder.toFile()) }
                        assertEquals(case.text("class").uppercase(), error.kind.name, error.message)
                        assertFalse('\n' in error.message!!)
                        if (error.kind == BadBundle.Kind.FIELD)
                            assertTrue(case.text("field") in error.message!!, error.message)
                    }
                }
        }

    @Test
    fun `those of schema 1 are refused before files are looked for`() {
        for (base in cases.get("bases_1").texts()) {
            for (case in cases.list("hostile_1").map { it.asJsonObject }) {
                val manifest = ConformanceFiles.json("manifest/$base")
                ConformanceFiles.change(manifest, case.list("change"))
                assertThrows(BadBundle::class.java) { parseManifest(manifest.toString(), "manifest.json") }
            }
        }
    }

    @Test
    fun `the bases are bundles`() {
        for (base in cases.get("bases").texts() + cases.get("bases_tower").texts()) {
            writeBundle(ConformanceFiles.json("manifest/$base").toString(), JsonObject())
            var told = 0L to 0L
            assertEquals("scripted", readBundle(folder.toFile()) { done, all -> told = done to all }.model)
            assertTrue(told.first == told.second && told.first > 0)
        }
    }

    @Test
    fun `what is no manifest is refused`() {
        for (text in cases.get("texts").texts()) {
            File(folder.toFile(), "manifest.json").writeText(text)
            val error = assertThrows(BadBundle::class.java) { readBundle(folder.toFile()) }
            assertTrue("manifest.json" in error.message!! && '\n' !in error.message!!, error.message)
        }
    }

    @Test
    fun `a folder without a manifest is refused`() {
        assertEquals(
            BadBundle.Kind.UNREADABLE,
            assertThrows(BadBundle::class.java) { readBundle(folder.toFile()) }.kind,
        )
    }

    @Test
    fun `memory counts the caches and more than the files`() {
        val manifest = parseManifest(ConformanceFiles.json("manifest/rows.json").toString(), "manifest.json")
        assertEquals(4L * (2 * 2 * (51 + 50 + 49) + 2 * 2), manifest.cacheBytes)
        assertTrue(manifest.memoryBytes > manifest.sizeBytes + manifest.cacheBytes)
    }

    @Test
    fun `damaged manifests are refused or read`() {
        val random = Random(7)
        val texts =
            listOf("manifest/rows.json", "manifest/onnx-staged.json").map {
                File(ConformanceFiles.folder, it).readText()
            }
        fuzz(texts, random, 3000) { parseManifest(it, "manifest.json") }
    }

    @Test
    fun `damaged tokenizers are refused or read`() {
        val text = File(ConformanceFiles.folder, "tokenizer/trained/tokenizer.json").readText()
        fuzz(listOf(text), Random(8), 1000) {
            Tokenizer.parse(it, "tokenizer.json").let { read ->
                read.decode(read.encode("Wie geht's? <|im_end|>").toList())
            }
        }
    }

    /** Half of the mutations change the text, half the tree. Whatever is raised but [BadBundle] fails the test. */
    private fun fuzz(texts: List<String>, random: Random, count: Int, read: (String) -> Any) {
        var refused = 0
        for (round in 0 until count) {
            val text = texts[random.nextInt(texts.size)]
            val damaged = if (random.nextBoolean()) damagedText(text, random) else damagedTree(text, random)
            try {
                read(damaged)
            } catch (error: BadBundle) {
                refused++
                assertTrue('\n' !in error.message!! && error.message!!.length < 1000, error.message)
            } catch (error: Throwable) {
                throw AssertionError("round $round: $error on ${damaged.take(2000)}", error)
            }
        }
        assertTrue(refused in count / 4 until count, "$refused of $count were refused")
    }

    private fun damagedText(text: String, random: Random): String {
        val bytes = StringBuilder(text)
        repeat(1 + random.nextInt(4)) {
            val place = random.nextInt(bytes.length)
            when (random.nextInt(3)) {
                0 -> bytes.setCharAt(place, "{}[]\",:0-e\\\u0000\uD800".random(kotlin.random.Random(random.nextInt())))
                1 -> bytes.delete(place, minOf(bytes.length - 1, place + 1 + random.nextInt(30)))
                else -> bytes.insert(place, bytes.substring(place, minOf(bytes.length, place + random.nextInt(30))))
            }
        }
        return bytes.toString()
    }

    private fun damagedTree(text: String, random: Random): String {
        val root = com.google.gson.JsonParser.parseString(text)
        var node: JsonElement = root
        while (true) {
            val container = node
            val replace: (JsonElement?) -> Unit
            val child: JsonElement
            if (container is JsonObject && container.size() > 0) {
                val name = container.keySet().elementAt(random.nextInt(container.size()))
                child = container.get(name)
                replace = { if (it == null) container.remove(name) else container.add(name, it) }
            } else if (container.isJsonArray && container.asJsonArray.size() > 0) {
                val place = random.nextInt(container.asJsonArray.size())
                child = container.asJsonArray[place]
                replace = {
                    if (it == null) container.asJsonArray.remove(place) else container.asJsonArray.set(place, it)
                }
            } else {
                return root.toString()
            }
            if (child.isJsonPrimitive || random.nextInt(4) == 0) {
                replace(VALUES[random.nextInt(VALUES.size)])
                return root.toString()
            }
            node = child
        }
    }

    private fun writeBundle(manifest: String, files: JsonObject) {
        folder.toFile().listFiles()!!.forEach { it.delete() }
        for ((name, content) in cases.getAsJsonObject("contents").entrySet()) {
            val written = if (files.has(name)) files.get(name) else content
            if (!written.isJsonNull) File(folder.toFile(), name).writeText(written.asString)
        }
        File(folder.toFile(), "manifest.json").writeText(manifest)
    }

    private companion object {
        val VALUES =
            listOf(
                null,
                com.google.gson.JsonNull.INSTANCE,
                JsonPrimitive(0),
                JsonPrimitive(-1),
                JsonPrimitive(1L shl 40),
                JsonPrimitive(1.5),
                JsonPrimitive(true),
                JsonPrimitive(""),
                JsonPrimitive("../x"),
                JsonPrimitive("\uD800"),
                JsonPrimitive("float16"),
                JsonObject(),
                com.google.gson.JsonArray(),
                JsonPrimitive(Int.MAX_VALUE),
                JsonPrimitive(16777216),
            )
    }
}
