package dev.vlmp.engine

import com.google.gson.JsonParser
import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class BenchmarkTest {
    private val machine = Machine("Example Phone", "Android 16", "unknown", 8, 11500.0, mapOf("power save" to "off"))
    private var ns = 0L
    private val benchmark =
        Benchmark(mapOf("onnx" to OnnxRuntime), machine, { Condition("none", 31.5) }, { "2026-01-31T12:00:00Z" }) {
            // Each look at the clock is 1.5 ms later than the one before, so that figures are the same each time.
            ns += 1_500_000
            ns
        }

    /** Whoever runs this test with -Dvlmp.profile=FILE imports what it writes: tests/android/test_engine.py. */
    @Test
    fun `two bundles in turns`() {
        val folders = listOf(Bundles.folder("onnx-unpruned"), Bundles.folder("onnx-pruned"))
        val done = ArrayList<Pair<Int, Int>>()
        val settings =
            BenchmarkSettings(
                runs = 3,
                decodeTokens = 4,
                threads = 1,
                prompt = "What is in this picture?",
                photo = "photo-1.png",
            )
        val text =
            benchmark.run(folders, Bundles.photo("photo-1.png"), settings, { some, all -> done += some to all })!!
        assertEquals((1..6).map { it to 6 }, done)
        val profile = JsonParser.parseString(text).asJsonObject
        assertEquals(
            listOf("1 0", "1 1", "2 0", "2 1", "3 0", "3 1"),
            profile.list("conditions").map { it.asJsonObject }.map { "${it.int("round")} ${it.int("bundle")}" },
        )
        for (bundle in profile.list("bundles").map { it.asJsonObject }) {
            val phases = bundle.getAsJsonObject("phases")
            assertEquals(
                listOf(1.5, 4.5, 1.5 / 4),
                listOf("vision", "first_token", "decode").map { phases.getAsJsonObject(it).get("median_ms").asDouble },
            )
        }
        System.getProperty("vlmp.profile").orEmpty().let { if (it.isNotEmpty()) File(it).writeText(text) }
    }

    @Test
    fun `it can be stopped, and refuses what has no room`() {
        val folders = listOf(Bundles.folder("onnx-pruned"))
        val photo = Bundles.photo("photo-1.png")
        assertEquals(
            null,
            benchmark.run(folders, photo, BenchmarkSettings(1, 1, null, "Why?", "a.png"), stopped = { true }),
        )
        val error =
            assertThrows(BadTurn::class.java) {
                benchmark.run(folders, photo, BenchmarkSettings(1, 33, null, "Why?", "a.png"))
            }
        assertEquals(32, error.most)
    }

    @Test
    fun `median and quartiles`() {
        assertEquals(Triple(61.0, 61.5, 62.0), quartiles(listOf(61.0, 60.5, 63.0, 61.5, 62.0)))
        assertEquals(Triple(1.75, 2.5, 3.25), quartiles(listOf(4.0, 1.0, 3.0, 2.0)))
        assertEquals(Triple(5.0, 5.0, 5.0), quartiles(listOf(5.0)))
    }
}
