package dev.vlmp.engine

import java.io.File
import java.nio.ByteBuffer
import java.nio.file.Path
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** The engine's states, from several threads, on a runtime that waits where a test wants it to. */
class EngineTest {
    @TempDir lateinit var folder: Path
    private val states = ArrayList<State>()
    private val picture = Picture(2, 2, ByteArray(12))

    /** Says token 40 for ever. A call waits for [gate], and tells [entered] before. */
    private inner class Waiting : Runtime {
        override val name = "waiting"
        @Volatile var gate: CountDownLatch? = null
        @Volatile var entered = CountDownLatch(1)
        @Volatile var closed = false
        @Volatile var inCall = false
        var failing = false

        override fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> {
            check(!closed) { "used after it was closed" }
            inCall = true
            entered.countDown()
            try {
                stop.during({ gate?.countDown() }) { gate?.await() }
            } finally {
                inCall = false
            }
            if (failing) throw RuntimeFailure("the runtime failed")
            val spec = parseManifest(File(folder.toFile(), "manifest.json").readText(), "manifest.json").method(step)
            return spec.outputs
                .associate { Pair(it.name, directBuffer(it.elements)) }
                .also { it["logits"]?.asFloatBuffer()?.put(40, 1f) }
        }

        override fun close() {
            check(!inCall) { "closed while it runs" }
            closed = true
        }
    }

    private val runtimes = ArrayList<Waiting>()
    private var opening: () -> Unit = {}
    private var free: Long? = null
    private var onState: (State) -> Unit = {}
    private val engine =
        Engine(
            mapOf(
                "executorch" to
                    RuntimeOpener { _, _, _, _ ->
                        opening()
                        Waiting().also { runtimes += it }
                    }
            ),
            { free },
            onState = {
                states += it
                onState(it)
            },
        )

    @BeforeEach
    fun writeBundle() {
        val contents = ConformanceFiles.json("manifest/cases.json").getAsJsonObject("contents")
        for ((name, content) in contents.entrySet()) File(folder.toFile(), name).writeText(content.asString)
        File(ConformanceFiles.folder, "manifest/rows.json").copyTo(File(folder.toFile(), "manifest.json"))
    }

    @Test
    fun `only these states follow one another`() {
        val wanted =
            setOf(
                "EMPTY LOADING",
                "LOADING READY",
                "LOADING FAILED",
                "READY ANSWERING",
                "READY LOADING",
                "READY EMPTY",
                "ANSWERING READY",
                "ANSWERING STOPPING",
                "STOPPING READY",
                "FAILED LOADING",
                "FAILED EMPTY",
            )
        assertEquals(
            wanted,
            State.values().flatMap { from -> State.values().filter { from.leadsTo(it) }.map { "$from $it" } }.toSet(),
        )
    }

    @Test
    fun `load, ask, reply, load another, close`() {
        engine.load(folder.toFile())
        assertEquals("scripted", engine.manifest!!.model)
        assertEquals(listOf(40, 40), engine.ask(picture, "Why?", 2).tokens)
        assertEquals("I", engine.reply("Why?", 1).text)
        engine.load(folder.toFile())
        assertTrue(runtimes[0].closed && !runtimes[1].closed)
        assertEquals(BadTurn.Kind.NO_IMAGE, assertThrows(BadTurn::class.java) { engine.reply("Why?") }.kind)
        engine.close()
        assertTrue(runtimes[1].closed)
        assertEquals(
            "LOADING READY ANSWERING READY ANSWERING READY LOADING READY ANSWERING READY EMPTY",
            states.joinToString(" "),
        )
    }

    @Test
    fun `nothing can be asked of an engine that is empty, failed or closed`() {
        val refused = {
            assertEquals(BadTurn.Kind.CLOSED, assertThrows(BadTurn::class.java) { engine.ask(picture, "Why?") }.kind)
            assertEquals(BadTurn.Kind.CLOSED, assertThrows(BadTurn::class.java) { engine.reply("Why?") }.kind)
            assertEquals(BadTurn.Kind.CLOSED, assertThrows(BadTurn::class.java) { engine.reset() }.kind)
            engine.stop()
        }
        refused()
        engine.load(folder.toFile())
        engine.close()
        refused()
        opening = { throw BadBundle(BadBundle.Kind.RUNTIME, "no graph") }
        assertThrows(BadBundle::class.java) { engine.load(folder.toFile()) }
        assertEquals(State.FAILED, engine.state)
        refused()
        engine.close()
        engine.close()
        assertEquals(State.EMPTY, engine.state)
        assertEquals(null, engine.manifest)
    }

    @Test
    fun `a failed load can be followed by one that works`() {
        File(folder.toFile(), "weights.bin").writeText("weightS\n")
        assertEquals(BadBundle.Kind.HASH, assertThrows(BadBundle::class.java) { engine.load(folder.toFile()) }.kind)
        File(folder.toFile(), "weights.bin").writeText("weights\n")
        engine.load(folder.toFile())
        assertEquals(listOf(State.LOADING, State.FAILED, State.LOADING, State.READY), states)
    }

    @Test
    fun `too little memory is told before anything is loaded`() {
        free = 1 shl 20
        opening = { throw AssertionError("it was loaded") }
        val error = assertThrows(TooLittleMemory::class.java) { engine.load(folder.toFile()) }
        assertEquals(1L shl 20, error.freeBytes)
        assertTrue(error.neededBytes > error.freeBytes)
        assertEquals(State.FAILED, engine.state)
    }

    @Test
    fun `a target that this app does not run is refused`() {
        val other = Engine(emptyMap())
        assertEquals(BadBundle.Kind.TARGET, assertThrows(BadBundle::class.java) { other.load(folder.toFile()) }.kind)
    }

    @Test
    fun `a failed turn leaves the engine ready`() {
        engine.load(folder.toFile())
        runtimes[0].failing = true
        assertThrows(RuntimeFailure::class.java) { engine.ask(picture, "Why?") }
        assertEquals(State.READY, engine.state)
        runtimes[0].failing = false
        assertEquals(End.LIMIT, engine.ask(picture, "Why?", 1).end)
        assertEquals(BadPrompt.Kind.EMPTY, assertThrows(BadPrompt::class.java) { engine.reply(" ") }.kind)
        assertEquals(State.READY, engine.state)
    }

    @Test
    fun `a stop from another thread ends a call that runs`() {
        val turn = answeringInACall()
        engine.stop()
        val answer = turn.join()
        assertEquals(End.STOPPED, answer.end)
        assertEquals(emptyList<Int>(), answer.tokens)
        assertEquals("LOADING READY ANSWERING STOPPING READY", states.joinToString(" "))
        assertEquals(BadTurn.Kind.NO_IMAGE, assertThrows(BadTurn::class.java) { engine.reply("Why?") }.kind)
    }

    @Test
    fun `a stop as soon as it answers is not lost`() {
        onState = { if (it == State.ANSWERING) engine.stop() }
        engine.load(folder.toFile())
        assertEquals(End.STOPPED, engine.ask(picture, "Why?").end)
        onState = {}
        assertEquals(End.LIMIT, engine.ask(picture, "Why?", 1).end)
        onState = { if (it == State.ANSWERING) engine.stop() }
        assertEquals(emptyList<Int>(), engine.reply("Why?").tokens)
        onState = {}
        assertEquals(listOf(40), engine.reply("Why?", 1).tokens)
    }

    @Test
    fun `while it answers, all but stop and close are refused`() {
        val turn = answeringInACall()
        for (call in
            listOf(
                { engine.ask(picture, "Why?") },
                { engine.reply("Why?") },
                { engine.reset() },
                { engine.load(folder.toFile()) },
            )) {
            assertEquals(BadTurn.Kind.BUSY, assertThrows(BadTurn::class.java) { call() }.kind)
        }
        runtimes[0].gate!!.countDown()
        assertEquals(24, turn.join().tokens.size)
    }

    @Test
    fun `closing while it answers stops the turn, and waits for it`() {
        val turn = answeringInACall()
        engine.close()
        assertTrue(runtimes[0].closed && !runtimes[0].inCall)
        assertEquals(End.STOPPED, turn.join().end)
        assertEquals("LOADING READY ANSWERING STOPPING READY EMPTY", states.joinToString(" "))
    }

    @Test
    fun `closing while it loads waits, and leaves nothing`() {
        val (entered, gate) = CountDownLatch(1) to CountDownLatch(1)
        opening = {
            entered.countDown()
            gate.await()
        }
        val loader = thread { engine.load(folder.toFile()) }
        assertTrue(entered.await(60, TimeUnit.SECONDS))
        assertEquals(BadTurn.Kind.BUSY, assertThrows(BadTurn::class.java) { engine.ask(picture, "Why?") }.kind)
        val closer = thread { engine.close() }
        while (closer.state != Thread.State.WAITING) Thread.yield()
        gate.countDown()
        loader.join()
        closer.join()
        assertTrue(runtimes[0].closed)
        assertEquals("LOADING READY EMPTY", states.joinToString(" "))
    }

    @Test
    fun `onText may stop and close, and nothing else`() {
        engine.load(folder.toFile())
        var refused = 0
        val answer =
            engine.ask(picture, "Why?") {
                try {
                    engine.reply("Why?")
                } catch (error: BadTurn) {
                    if (error.kind == BadTurn.Kind.BUSY) refused++
                }
                engine.close()
                assertTrue(!runtimes[0].closed)
            }
        assertEquals(listOf(40), answer.tokens)
        assertEquals(1, refused)
        assertTrue(runtimes[0].closed)
        assertEquals("LOADING READY ANSWERING STOPPING READY EMPTY", states.joinToString(" "))
    }

    @Test
    fun `what onText throws ends the turn, and the conversation goes on`() {
        engine.load(folder.toFile())
        assertThrows(IllegalStateException::class.java) { engine.ask(picture, "Why?") { error("the page is gone") } }
        assertEquals(State.READY, engine.state)
        assertEquals(End.LIMIT, engine.reply("Why?", 1).end)
    }

    private class Turn(val join: () -> Answer)

    /** A turn on another thread, that is inside `vision` now. */
    private fun answeringInACall(): Turn {
        engine.load(folder.toFile())
        runtimes[0].gate = CountDownLatch(1)
        var answer: Answer? = null
        val worker = thread { answer = engine.ask(picture, "Why?") }
        assertTrue(runtimes[0].entered.await(60, TimeUnit.SECONDS))
        return Turn {
            worker.join()
            answer!!
        }
    }
}
