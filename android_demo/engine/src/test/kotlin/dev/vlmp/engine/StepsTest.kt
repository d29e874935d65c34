package dev.vlmp.engine

import com.google.gson.JsonObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/** Real bundles on ONNX Runtime against what PyTorch answered. */
class StepsTest {
    private val cases = ConformanceFiles.json("steps/cases.json")

    /** A session with what is expected of it. */
    private inner class Case(name: String) {
        val expected: JsonObject =
            cases
                .getAsJsonObject("expected")
                .getAsJsonObject(cases.getAsJsonObject("bundles").getAsJsonObject(name).text("expected"))
        val folder = Bundles.folder(name)
        val manifest = readBundle(folder)
        val session = Session(manifest, folder, OnnxRuntime, threads = 1)
        val exact = expected.get("top1_share").asDouble == 1.0
        private val rows =
            ConformanceFiles.floats("steps/${expected.text("logits")}").asList().chunked(expected.int("vocab_size"))
        private val keptShares = ArrayList<Double>()
        private val sameTop = ArrayList<Boolean>()

        fun see(photo: String) = session.vision(toPixels(Bundles.photo(photo), manifest.image))

        /** Compares logits from a row on. Each must be as near as the files say. */
        fun compare(firstRow: Int, found: List<FloatArray>) {
            for ((place, logits) in found.withIndex()) {
                val wanted = rows[firstRow + place]
                val largest = wanted.maxOf { Math.abs(it) }
                val farthest = wanted.indices.maxOf { Math.abs(wanted[it] - logits[it]) } / largest
                assertTrue(
                    farthest <= expected.get("relative").asDouble,
                    "row ${firstRow + place} is off by $farthest of its largest logit",
                )
                val gap = wanted.max() - wanted[Greedy.sample(logits)]
                sameTop += gap <= if (exact) 0.0 else expected.get("relative").asDouble * largest
            }
        }

        fun compareKept(first: Prefilled, stages: List<List<Int>>) {
            assertEquals(stages.size, first.stages.size)
            for ((found, wanted) in first.stages.zip(stages)) keptShares +=
                found.count { it in wanted } / wanted.size.toDouble()
            assertEquals(first.stages.last().toList(), first.order.sorted())
        }

        fun checkShares() {
            assertTrue(keptShares.average() >= expected.get("kept_share").asDouble, "kept $keptShares")
            assertTrue(sameTop.count { it } >= expected.get("top1_share").asDouble * sameTop.size, "top 1 $sameTop")
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4"])
    fun `steps with the expected tokens`(name: String) {
        val case = Case(name)
        case.session.use { session ->
            for (conversation in case.expected.list("conversations").map { it.asJsonObject }) {
                val seen = case.see(conversation.text("photo"))
                for (turn in conversation.list("turns").map { it.asJsonObject }) {
                    val ids = turn.get("ids").ints().toIntArray()
                    val logits = ArrayList<FloatArray>()
                    if (turn.text("do") == "ask") {
                        val first = session.prefill(ids, seen)
                        case.compareKept(first, turn.list("stages").map { it.ints() })
                        if (case.exact) assertEquals(turn.get("order").ints(), first.order.toList())
                        logits += first.logits
                    } else {
                        for (token in turn.get("unfed").ints()) session.decode(token)
                        logits += session.extend(ids)
                    }
                    for (token in turn.get("tokens").ints().dropLast(1)) logits += session.decode(token)
                    case.compare(turn.int("first_row"), logits)
                }
            }
            case.checkShares()
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4"])
    fun `many steps`(name: String) {
        val case = Case(name)
        case.session.use { session ->
            val forced = case.expected.getAsJsonObject("forced")
            val first = session.prefill(forced.get("ids").ints().toIntArray(), case.see(forced.text("photo")))
            case.compareKept(first, forced.list("stages").map { it.ints() })
            val logits = arrayListOf(first.logits)
            for (token in forced.get("decode").ints()) logits += session.decode(token)
            logits += session.extend(forced.get("extend").ints().toIntArray())
            forced.optional("decode_after")?.let { logits += session.decode(it.asInt) }
            case.compare(forced.int("first_row"), logits)
            case.checkShares()
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["onnx-pruned", "onnx-unpruned", "onnx-staged", "onnx-int4"])
    fun `conversations from a photo and words to text`(name: String) {
        val folder = Bundles.folder(name)
        val expected =
            cases
                .getAsJsonObject("expected")
                .getAsJsonObject(cases.getAsJsonObject("bundles").getAsJsonObject(name).text("expected"))
        assumeTrue(
            expected.get("top1_share").asDouble == 1.0,
            "rounding may turn a near tie, after which answers differ",
        )
        Engine().use { engine ->
            engine.load(folder, threads = 1)
            for (conversation in expected.list("conversations").map { it.asJsonObject }) {
                for (turn in conversation.list("turns").map { it.asJsonObject }) {
                    val limit = turn.optional("limit")?.asInt
                    val answer =
                        when (turn.text("do")) {
                            "ask" -> engine.ask(Bundles.photo(conversation.text("photo")), turn.text("prompt"), limit)
                            else -> engine.reply(turn.text("prompt"), limit)
                        }
                    assertEquals(turn.get("tokens").ints(), answer.tokens)
                    assertEquals(turn.text("text"), answer.text)
                    assertEquals(turn.list("stages").map { it.ints() }, answer.stages.map { it.toList() })
                    assertEquals(turn.get("order").ints(), answer.order.toList())
                    assertEquals(answer.tokens.size - 1, answer.timings.decodeMs.size)
                }
            }
        }
    }
}
