package dev.vlmp.engine

import com.google.gson.JsonParser
import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class BenchmarkTest {
    private val machine = Machine("Example Phone", "Android 16", "unknown", 8, 11500.0, mapOf("power save" to "off"))
    private var ns = 0L
    private var looks = 0
    private var thermal = "none"

    private fun benchmark(freeMemory: Long? = null, onMemory: () -> Unit = {}) =
        Benchmark(
            mapOf("onnx" to OnnxRuntime),
            machine,
            { Condition(thermal, 31.5) },
            { "2026-01-31T12:00:00Z" },
            {
                onMemory()
                looks++
                Memory(100.0 + looks, 200.0 + looks)
            },
            { freeMemory },
        ) {
            // Each look at the clock is 1.5 ms later than the one before, so that figures are the same each time.
            ns += 1_500_000
            ns
        }

    /** With -Dvlmp.profile=FILE it leaves what it writes: tests/android/test_android_demo.py imports it. */
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
            benchmark()
                .run(folders, Bundles.photo("photo-1.png"), settings, onProgress = { some, all -> done += some to all })!!
        assertEquals((1..6).map { it to 6 }, done)
        val profile = JsonParser.parseString(text).asJsonObject
        assertEquals(
            listOf("1 0", "1 1", "2 0", "2 1", "3 0", "3 1"),
            profile.list("conditions").map { it.asJsonObject }.map { "${it.int("round")} ${it.int("bundle")}" },
        )
        assertEquals(
            listOf("Memory is that of one process, which ran all bundles: its peak is that of the largest."),
            profile.list("warnings").map { it.asString },
        )
        for ((number, bundle) in profile.list("bundles").map { it.asJsonObject }.withIndex()) {
            // Three looks a run, of which this bundle has every other one.
            val memory = bundle.getAsJsonObject("memory")
            assertEquals(
                listOf(101.0, 114.0, 115.0, 215.0).map { it + 3 * number },
                listOf("libraries_rss_mib", "loaded_rss_mib", "ran_rss_mib", "peak_rss_mib").map {
                    memory.get(it).asDouble
                },
            )
            val phases = bundle.getAsJsonObject("phases")
            assertEquals(
                listOf(1.5, 4.5, 1.5 / 4),
                listOf("vision", "first_token", "decode").map { phases.getAsJsonObject(it).get("median_ms").asDouble },
            )
        }
        System.getProperty("vlmp.profile").orEmpty().let { if (it.isNotEmpty()) File(it).writeText(text) }
    }

    @Test
    fun `it can be stopped, before it begins and inside a run`() {
        val folders = listOf(Bundles.folder("onnx-pruned"))
        val photo = Bundles.photo("photo-1.png")
        val settings = BenchmarkSettings(1, 1, null, "Why?", "a.png")
        assertEquals(null, benchmark().run(folders, photo, settings, stop = Stop().apply { ask() }))
        assertEquals(0, looks)
        val stop = Stop()
        // The second look comes after loading, before the first question.
        assertEquals(null, benchmark { if (looks == 1) stop.ask() }.run(folders, photo, settings, stop = stop))
        assertEquals(2, looks)
    }

    @Test
    fun `it refuses what has no room`() {
        val folders = listOf(Bundles.folder("onnx-pruned"))
        val photo = Bundles.photo("photo-1.png")
        val error =
            assertThrows(BadTurn::class.java) {
                benchmark().run(folders, photo, BenchmarkSettings(1, 33, null, "Why?", "a.png"))
            }
        assertEquals(32, error.most)
        val settings = BenchmarkSettings(1, 1, null, "Why?", "a.png")
        assertThrows(TooLittleMemory::class.java) { benchmark(1L shl 20).run(folders, photo, settings) }
    }

    @Test
    fun `heat is a warning`() {
        thermal = "severe"
        val settings = BenchmarkSettings(1, 1, null, "Why?", "a.png")
        val text = benchmark().run(listOf(Bundles.folder("onnx-pruned")), Bundles.photo("photo-1.png"), settings)!!
        val warnings = JsonParser.parseString(text).asJsonObject.list("warnings").map { it.asString }
        assertEquals(listOf("The phone was hot: severe."), warnings)
    }

    @Test
    fun `median and quartiles`() {
        assertEquals(Triple(61.0, 61.5, 62.0), quartiles(listOf(61.0, 60.5, 63.0, 61.5, 62.0)))
        assertEquals(Triple(1.75, 2.5, 3.25), quartiles(listOf(4.0, 1.0, 3.0, 2.0)))
        assertEquals(Triple(5.0, 5.0, 5.0), quartiles(listOf(5.0)))
    }
}
