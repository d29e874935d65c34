package dev.vlmp.engine

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import java.io.DataOutputStream
import java.io.File
import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test

/** Answers of bundles. tests/ask_bundles.py asks Python the same, and both are compared. */
class SameAsPythonTest {
    private fun folders(property: String): List<File> {
        val paths = System.getProperty(property).orEmpty()
        assumeTrue(paths.isNotEmpty(), "no -D$property=FOLDER")
        return paths.split(File.pathSeparator).map { File(it) }
    }

    /** Leaves NAME.json, and in NAME.logits what each call of a step has returned: big-endian float32. */
    @Test
    fun `three photos, each with a question and a second one`() {
        val answers = folders("vlmp.answers").single()
        for (bundle in folders("vlmp.asked").flatMap { it.listFiles(File::isDirectory)!!.sorted() }) {
            DataOutputStream(File(answers, "${bundle.name}.logits").outputStream().buffered()).use { logits ->
                val recording = RuntimeOpener { folder, manifest, caches, threads ->
                    Recording(OnnxRuntime.open(folder, manifest, caches, threads), logits)
                }
                Engine(mapOf("onnx" to recording)).use { engine ->
                    engine.load(bundle, threads = 1)
                    val told = JsonArray()
                    for (case in QUESTIONS) {
                        val photo = Bundles.photo(case.first)
                        told.add(json(engine.ask(photo, case.second, LIMIT)))
                        told.add(json(engine.reply(case.third, LIMIT)))
                    }
                    File(answers, "${bundle.name}.json").writeText(told.toString())
                    assertEquals(2 * QUESTIONS.size, told.size())
                }
            }
        }
    }

    private class Recording(private val runtime: Runtime, private val logits: DataOutputStream) : Runtime by runtime {
        override fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> =
            runtime.run(step, inputs, stop).also { outputs ->
                outputs["logits"]?.floats()?.forEach { logits.writeFloat(it) }
            }
    }

    private fun json(answer: Answer) =
        JsonObject().apply {
            add("tokens", array(answer.tokens))
            addProperty("text", answer.text)
            add("stages", JsonArray().apply { answer.stages.forEach { add(array(it.toList())) } })
            add("order", array(answer.order.toList()))
        }

    private fun array(numbers: List<Int>) = JsonArray().apply { numbers.forEach { add(it) } }

    private companion object {
        const val LIMIT = 8
        val QUESTIONS =
            listOf(
                Triple("photo-1.png", "List the objects.", "What colour is it?"),
                Triple("photo-2.png", "How many are there?", "Why?"),
                Triple("photo-3.png", "Describe the picture.", "And now?"),
            )
    }
}
