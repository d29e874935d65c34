package dev.vlmp.engine

import ai.onnxruntime.OrtException
import com.google.gson.JsonParser
import java.io.File
import java.nio.file.Path
import java.security.MessageDigest
import kotlin.concurrent.thread
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** Stopping and failing on the real runtime. */
class OnnxRuntimeTest {
    @Test
    fun `a stop ends a call inside, and the conversation goes on`() {
        val folder = Bundles.folder("onnx-unpruned")
        val manifest = readBundle(folder)
        Session(manifest, folder, OnnxRuntime, threads = 1).use { session ->
            val ids = intArrayOf(1546, 472, 270, 289)
            val seen = session.vision(toPixels(Bundles.photo("photo-1.png"), manifest.image))
            session.prefill(ids, seen)
            val before = session.progress
            val wanted = session.decode(339).toList()
            session.rewind(before)
            // A stop that comes too early or too late ends the turn between two calls: they are moved until one hits.
            var inside = 0
            for (round in 0 until 2000) {
                if (inside == 3) break
                val stop = Stop()
                val stopper = thread {
                    Thread.sleep(0, 20_000 * round % 1_000_000)
                    stop.ask()
                }
                try {
                    session.extend(ids, stop)
                    session.rewind(before)
                } catch (stopped: Stopped) {
                    if (stopped.cause is OrtException) inside++
                }
                stopper.join()
                assertEquals(ids.size, session.past)
                assertEquals(wanted, session.decode(339).toList())
                session.rewind(before)
            }
            assertEquals(3, inside, "calls that ONNX Runtime ended itself")
        }
    }

    @Test
    fun `a graph that returns more than the manifest says is refused`() {
        val folder = Bundles.folder("onnx-unpruned")
        val text = File(folder, "manifest.json").readText()
        val root = JsonParser.parseString(text).asJsonObject
        val stage = root.list("shapes")[0].asJsonObject.list("stages")[0].asJsonObject
        stage.addProperty("num_kept", stage.int("tokens") - 1)
        for (method in root.getAsJsonObject("methods").entrySet().map { it.value.asJsonObject }) {
            for (tensor in
                method.list("outputs").map { it.asJsonObject }.filter { it.text("name") in setOf("kept", "order") }) {
                tensor.list("shape").set(0, stage.get("num_kept"))
            }
        }
        val manifest = parseManifest(root.toString(), "manifest.json")
        Session(manifest, folder, OnnxRuntime, threads = 1).use { session ->
            val seen = session.vision(toPixels(Bundles.photo("photo-1.png"), manifest.image))
            assertThrows(RuntimeFailure::class.java) { session.prefill(intArrayOf(1546), seen) }
            assertEquals(0, session.past)
        }
    }

    @Test
    fun `a graph that is none is refused in a line`(@TempDir folder: Path) {
        val source = Bundles.folder("onnx-pruned")
        val manifest = File(source, "manifest.json").readText()
        val vision =
            JsonParser.parseString(manifest)
                .asJsonObject
                .getAsJsonObject("methods")
                .getAsJsonObject("vision")
                .text("file")
        source.listFiles()!!.forEach { it.copyTo(File(folder.toFile(), it.name)) }
        val content = "no graph".toByteArray()
        File(folder.toFile(), vision).writeBytes(content)
        val files = JsonParser.parseString(manifest).asJsonObject
        val entry = files.list("files").map { it.asJsonObject }.first { it.text("path") == vision }
        entry.addProperty("size_bytes", content.size)
        entry.addProperty(
            "sha256",
            MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) },
        )
        File(folder.toFile(), "manifest.json").writeText(files.toString())
        Engine().use { engine ->
            val error = assertThrows(BadBundle::class.java) { engine.load(folder.toFile()) }
            assertEquals(BadBundle.Kind.RUNTIME, error.kind)
            assertTrue('\n' !in error.message!!)
            assertEquals(State.FAILED, engine.state)
            engine.load(source)
            assertEquals(State.READY, engine.state)
            assertTrue(engine.runtimeName!!.startsWith("onnxruntime 1."))
        }
    }
}
