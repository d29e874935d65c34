package dev.vlmp.demo

import android.graphics.Bitmap
import dev.vlmp.engine.BadPrompt
import dev.vlmp.engine.Benchmark
import dev.vlmp.engine.Condition
import dev.vlmp.engine.End
import dev.vlmp.engine.Machine
import dev.vlmp.engine.Memory
import dev.vlmp.engine.Picture
import dev.vlmp.engine.State
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** The states, with a worker thread of its own and the test's thread as the main one. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TestApp::class)
class DemoTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val chats = ScriptedChats()
    private val worker = Executors.newSingleThreadExecutor()
    private val told = java.util.concurrent.LinkedBlockingQueue<Runnable>()
    private val phases = ArrayList<State>()
    private val bundles = listOf(Bundle(bundleFolder("tiny-unpruned")), Bundle(bundleFolder("tiny-pruned")))
    private val demo by lazy {
        Demo(chats, BundleStore(temporary.newFolder()), History(temporary.newFolder()), worker, { told.put(it) }).also { demo ->
            demo.listeners += { if (phases.lastOrNull() != demo.phase) phases += demo.phase }
        }
    }

    @Before
    fun aPhoto() {
        val preview = Bitmap.createBitmap(1, 1, Bitmap.Config.ARGB_8888)
        demo.choose(Photo("photo", Pair(1, 1), Picture(1, 1, ByteArray(3)), preview))
    }

    /** Does what the main thread is told, until [done]. */
    private fun until(done: () -> Boolean) {
        while (!done()) checkNotNull(told.poll(30, TimeUnit.SECONDS)) { "${demo.phase} for 30 s" }.run()
    }

    private fun settled() = until { demo.free }

    @Test
    fun aTurnGoesThroughItsStates() {
        demo.ask(bundles[1], "What?", 8)
        settled()
        assertEquals(listOf(State.EMPTY, State.LOADING, State.READY, State.ANSWERING, State.READY), phases)
        assertEquals("A red square.", demo.turns.single().text)
        assertEquals(16, demo.turns.single().answer?.order?.size)
    }

    @Test
    fun aStoppedAnswerStaysAndCanBeAskedFurther() {
        chats.hold = true
        demo.ask(bundles[1], "What?", 8)
        until { demo.turns.singleOrNull()?.text == "A " }
        demo.stop()
        assertEquals(State.STOPPING, demo.phase)
        demo.stop()
        settled()
        assertEquals(listOf(State.ANSWERING, State.STOPPING, State.READY), phases.takeLast(3))
        assertEquals(End.STOPPED, demo.turns.single().answer?.end)
        chats.hold = false
        demo.ask(bundles[1], "And?", 8)
        settled()
        assertEquals("reply tiny-pruned", chats.calls.last())
        assertEquals(2, demo.turns.size)
    }

    @Test
    fun nothingElseStartsMeanwhile() {
        chats.hold = true
        demo.ask(bundles[1], "What?", 8)
        until { demo.phase == State.ANSWERING }
        demo.ask(bundles[0], "Another?", 8)
        demo.compare(bundles, "Both?", 8)
        demo.delete(bundles[1])
        demo.import(FolderSource(bundleFolder("tiny-pruned")))
        demo.choose(checkNotNull(demo.photo))
        assertTrue(checkNotNull(demo.said).contains("another task is running"))
        chats.begun.await()
        demo.stop()
        settled()
        assertEquals(listOf("load tiny-pruned", "ask tiny-pruned"), chats.calls)
        assertTrue(bundles[1].folder.isDirectory)
    }

    @Test
    fun aBundleThatCannotBeLoadedIsSaidAndAnotherCanBe() {
        chats.refuse = "language.onnx is damaged"
        demo.ask(bundles[1], "What?", 8)
        settled()
        assertEquals(State.FAILED, demo.phase)
        assertEquals("language.onnx is damaged", demo.said)
        assertNull(demo.loaded)
        chats.refuse = null
        demo.ask(bundles[0], "What?", 8)
        settled()
        assertEquals(State.READY, demo.phase)
        assertNull(demo.said)
    }

    @Test
    fun aFaultOfTheEngineUnloadsIt() {
        chats.fault = IllegalStateException("out of range")
        demo.ask(bundles[1], "What?", 8)
        settled()
        assertEquals(State.EMPTY, demo.phase)
        assertEquals("IllegalStateException: out of range", demo.said)
        assertEquals(emptySet<String>(), chats.open)
        chats.fault = null
        demo.ask(bundles[1], "What?", 8)
        settled()
        assertEquals("A red square.", demo.turns.single().text)
    }

    @Test
    fun aQuestionThatIsRefusedLeavesTheConversation() {
        demo.ask(bundles[1], "What?", 8)
        settled()
        chats.fault = BadPrompt(BadPrompt.Kind.TOO_LONG, "The question is too long.")
        demo.ask(bundles[1], "And?", 8)
        settled()
        assertEquals(State.READY, demo.phase)
        assertEquals("The question is too long.", demo.said)
        assertEquals(listOf("What?"), demo.turns.map { it.question })
        assertTrue(demo.canReply)
    }

    @Test
    fun anotherBundleBeginsAnotherConversation() {
        demo.ask(bundles[0], "What?", 8)
        settled()
        demo.ask(bundles[1], "And?", 8)
        settled()
        assertEquals(listOf("And?"), demo.turns.map { it.question })
        assertEquals(setOf("tiny-pruned"), chats.open)
    }

    @Test
    fun aComparisonThatIsStoppedWhileItWarmsUpShowsNothing() {
        chats.hold = true
        demo.compare(bundles, "What?", 8)
        until { demo.phase == State.ANSWERING }
        chats.begun.await()
        demo.stop()
        settled()
        assertEquals(emptyList<Compared>(), demo.compared)
        assertEquals(listOf("load tiny-unpruned", "ask tiny-unpruned"), chats.calls)
        assertEquals(State.READY, demo.phase)
    }

    private var minute = 10
    private val benchmark = Benchmark(
        mapOf("onnx" to ScriptedRuntimes(chats)), Machine("test", "test", "test", 1, 1.0), { Condition("light") },
        { "2026-01-31T12:${minute++}:00Z" }, { Memory(1.0, 2.0) },
    )

    @Test
    fun aStoppedBenchmarkShowsNoFigures() {
        demo.ask(bundles[1], "What?", 8)
        settled()
        chats.calls.clear()
        chats.hold = true
        chats.begun = CountDownLatch(1)
        demo.measure(benchmark, bundles, "What?", 8, 5)
        until { demo.phase == State.EMPTY }
        assertEquals(10L, demo.measuring?.total)
        chats.begun.await()
        demo.delete(bundles[1])
        demo.choose(checkNotNull(demo.photo))
        assertTrue(checkNotNull(demo.said).contains("another task is running"))
        demo.stop()
        settled()
        assertEquals("no bundle after the first", listOf("close tiny-pruned", "measure tiny-unpruned"), chats.calls)
        assertEquals(emptyList<Measured>(), demo.history.list())
        assertEquals(emptySet<String>(), chats.open)
        assertEquals(State.EMPTY, demo.phase)
        assertNull(demo.measuring)
        assertTrue(bundles[1].folder.isDirectory)
    }

    @Test
    fun benchmarksStayUntilTheyAreDeleted() {
        for (rounds in listOf(1, 2)) {
            demo.measure(benchmark, bundles, "What?", 8, rounds)
            settled()
            assertNull(demo.said)
        }
        val folder = demo.history.list().first().file.parentFile!!
        File(folder, "damaged.json").writeText("{")
        val again = History(folder)
        assertEquals("the newest first", listOf(2, 1), again.list().map { it.runs })
        assertEquals(listOf("2026-01-31 12:11 UTC", "2026-01-31 12:10 UTC"), again.list().map { it.time })
        assertEquals(listOf("tiny-unpruned", "tiny-pruned"), again.list().first().bundles.map { it.name })
        assertEquals(listOf(2.0, 2.0), again.list().first().bundles.map { it.peak })
        assertEquals(listOf("light"), again.list().first().heat)
        again.delete(again.list().first())
        assertEquals(listOf(1), History(folder).list().map { it.runs })
    }
}
