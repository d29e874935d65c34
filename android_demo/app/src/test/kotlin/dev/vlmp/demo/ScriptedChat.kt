package dev.vlmp.demo

import dev.vlmp.engine.Answer
import dev.vlmp.engine.BadBundle
import dev.vlmp.engine.End
import dev.vlmp.engine.Manifest
import dev.vlmp.engine.Picture
import dev.vlmp.engine.Runtime
import dev.vlmp.engine.RuntimeOpener
import dev.vlmp.engine.Step
import dev.vlmp.engine.Stop
import dev.vlmp.engine.Timings
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.concurrent.CountDownLatch

/**
 * Stands where the engine comes, so that pages and states can be tested without one: it answers at once, and keeps
 * tokens by a rule of its own. [hold] makes it wait after the first word until it is stopped.
 */
class ScriptedChats(var hold: Boolean = false, var refuse: String? = null, var fault: Exception? = null) : ChatLoader {
    val calls = ArrayList<String>()
    val open = LinkedHashSet<String>()
    var begun = CountDownLatch(1)

    override fun load(folder: File): Chat {
        calls += "load ${folder.name}"
        check(open.isEmpty()) { "two bundles in memory at once" }
        refuse?.let { throw BadBundle(BadBundle.Kind.RUNTIME, it) }
        open += folder.name
        return ScriptedChat(this, folder.name, Bundle(folder).manifest)
    }
}

private class ScriptedChat(private val chats: ScriptedChats, private val name: String, private val manifest: Manifest) : Chat {
    private val stopped = CountDownLatch(1)

    override fun ask(picture: Picture, prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer {
        chats.calls += "ask $name"
        // As a pruner does it: far apart first.
        fun order(tokens: Int) = IntArray(tokens) { it * 37 % manifest.image.visualTokens }
        val stages = manifest.stages.map { order(it.numKept).sortedArray() }
        return answer("A red square.", onText, stages, order(manifest.numKept), vision = 120.0)
    }

    override fun reply(prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer {
        chats.calls += "reply $name"
        return answer("It is red.", onText, emptyList(), IntArray(0), vision = 0.0)
    }

    override fun stop() = stopped.countDown()

    override fun close() {
        chats.calls += "close $name"
        chats.open -= name
    }

    private fun answer(text: String, onText: (String) -> Unit, stages: List<IntArray>, order: IntArray, vision: Double): Answer {
        val words = text.split(Regex("(?<= )"))
        chats.fault?.let { throw it }
        onText(words[0])
        chats.begun.countDown()
        val timings = Timings(if (vision > 0) 5.0 else 0.0, vision, 30.0 + manifest.numKept, listOf(8.0, 9.0))
        if (chats.hold) {
            stopped.await()
            return Answer(words[0], listOf(0), End.STOPPED, stages, order, timings)
        }
        words.drop(1).forEach(onText)
        return Answer(text, words.indices.toList(), End.FINISHED, stages, order, timings)
    }
}

/** Runs no graph: outputs are zeros. It waits in the first call until it is stopped, if [chats] hold. */
class ScriptedRuntimes(private val chats: ScriptedChats) : RuntimeOpener {
    override fun open(folder: File, manifest: Manifest, caches: Map<String, ByteBuffer>, threads: Int?): Runtime {
        chats.calls += "measure ${folder.name}"
        check(chats.open.isEmpty()) { "two bundles in memory at once" }
        chats.open += folder.name
        return object : Runtime {
            override val name = "scripted 1.0"

            override fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> {
                val ended = CountDownLatch(1)
                chats.begun.countDown()
                if (chats.hold) stop.during({ ended.countDown() }) { ended.await() }
                return manifest.method(step).outputs.associate {
                    val bytes = it.shape.fold(4) { all, size -> all * size }
                    Pair(it.name, ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder()))
                }
            }

            override fun close() {
                chats.open -= folder.name
            }
        }
    }
}

/** The app with that in it. Its tasks run when the test lets them, so that every state in between can be looked at. */
open class TestApp : DemoApp() {
    val chats = ScriptedChats()
    val tasks = ArrayDeque<Runnable>()
    override val loader: ChatLoader get() = chats
    override val runtimes: Map<String, RuntimeOpener> by lazy { mapOf("onnx" to ScriptedRuntimes(chats)) }
    private var living: Demo? = null
    override val demo: Demo get() = living ?: newDemo().also { living = it }

    override val worker = java.util.concurrent.Executor { tasks += it }

    /** Android ends the process: what is in memory is gone. */
    fun die() {
        living = null
        tasks.clear()
        chats.open.clear()
    }

    /** Runs what is to be done, and what the main thread is then told, until nothing is left. */
    fun settle() {
        do {
            tasks.removeFirstOrNull()?.run()
            org.robolectric.shadows.ShadowLooper.idleMainLooper()
        } while (tasks.isNotEmpty())
    }
}
