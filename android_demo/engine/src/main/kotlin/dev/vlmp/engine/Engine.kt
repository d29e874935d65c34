package dev.vlmp.engine

import java.io.File
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** What an [Engine] is doing. */
enum class State {
    /** Nothing is loaded. */
    EMPTY,
    LOADING,

    /** A bundle is loaded and answers questions. */
    READY,
    ANSWERING,

    /** A turn was asked to stop, and ends within a token. */
    STOPPING,

    /** Loading failed. Another bundle can be loaded. */
    FAILED;

    /** Whether this state may come after it. */
    fun leadsTo(next: State): Boolean =
        next in
            when (this) {
                EMPTY -> setOf(LOADING)
                LOADING -> setOf(READY, FAILED)
                READY -> setOf(ANSWERING, LOADING, EMPTY)
                ANSWERING -> setOf(READY, STOPPING)
                STOPPING -> setOf(READY)
                FAILED -> setOf(LOADING, EMPTY)
            }
}

/**
 * One bundle at a time, and a conversation with it: what an app holds. Each call is for a worker thread, except [stop]
 * and [close], which any thread may call at any time. A call at the wrong moment raises [BadTurn] and changes nothing.
 *
 * [openers]: by a manifest's target. [freeMemory]: bytes that a bundle may take, null where nobody knows. [clock]:
 * nanoseconds. [onState] is told each new state, on the thread that made it; it may call [stop] and [close] only.
 */
class Engine(
    private val openers: Map<String, RuntimeOpener> = mapOf("onnx" to OnnxRuntime),
    private val freeMemory: () -> Long? = { null },
    private val clock: () -> Long = System::nanoTime,
    private val onState: (State) -> Unit = {},
) : AutoCloseable {
    private val lock = ReentrantLock()
    private val finished = lock.newCondition()
    private var chat: Chat? = null
    private var turn: Stop? = null // of the turn that runs
    private var closing = false
    private var owner: Thread? = null // of the call that loads or answers

    /** What it is doing. */
    @Volatile
    var state = State.EMPTY
        private set

    /** Milliseconds that loading has taken, without checking the files. */
    @Volatile
    var loadMs = 0.0
        private set

    /** Of the bundle that is loaded, null without one. */
    val manifest: Manifest?
        get() = lock.withLock { chat?.session?.manifest }

    /** Name and version of the runtime of the bundle that is loaded, null without one. */
    val runtimeName: String?
        get() = lock.withLock { chat?.session?.runtimeName }

    /**
     * Loads a bundle in the place of the one before. [threads]: null is the runtime's own choice. [checkHashes] can be
     * left out where they were compared already. [onProgress] gets bytes hashed so far, and all.
     *
     * Raises [BadBundle], [TooLittleMemory], [BadTurn]. Then the state is FAILED, unless another call was running.
     */
    fun load(
        folder: File,
        threads: Int? = null,
        checkHashes: Boolean = true,
        onProgress: (Long, Long) -> Unit = { _, _ -> },
    ) {
        val before =
            lock.withLock {
                if (!state.leadsTo(State.LOADING))
                    throw BadTurn(BadTurn.Kind.BUSY, "Another task is running: wait for it.")
                enter(State.LOADING)
                chat.also { chat = null }
            }
        var loaded: Chat? = null
        try {
            before?.session?.close()
            loaded = open(folder, threads, checkHashes, onProgress)
        } finally {
            finish(loaded)
        }
    }

    /** As [Chat.ask]. Raises [BadTurn] also where nothing is loaded, or another call is running. */
    fun ask(
        picture: Picture,
        words: String,
        limit: Int? = null,
        controlTokens: Boolean = false,
        sampler: Sampler = Greedy,
        onText: (String) -> Unit = {},
    ): Answer = answering { chat, stop -> chat.ask(picture, words, limit, controlTokens, sampler, stop, onText) }

    /** As [Chat.reply], with the same errors. */
    fun reply(
        words: String,
        limit: Int? = null,
        controlTokens: Boolean = false,
        sampler: Sampler = Greedy,
        onText: (String) -> Unit = {},
    ): Answer = answering { chat, stop -> chat.reply(words, limit, controlTokens, sampler, stop, onText) }

    /** Ends the turn that runs, within a token. Without one it does nothing. */
    fun stop() {
        lock.withLock {
            if (state == State.ANSWERING) {
                turn?.ask()
                enter(State.STOPPING)
            }
        }
    }

    /** Forgets the conversation. Raises [BadTurn] while another call is running. */
    fun reset() {
        lock.withLock { ready().reset() }
    }

    /**
     * Frees all memory. A turn that runs is stopped first, and waited for; so is loading. Where the turn itself calls
     * (`onText`), memory is freed as soon as it is over. Afterwards a bundle can be loaded again.
     */
    override fun close() {
        lock.withLock {
            if (owner != null) {
                closing = true
                stop()
                if (owner == Thread.currentThread()) return
                while (owner != null) finished.await()
            }
            release()
        }
    }

    private fun open(folder: File, threads: Int?, checkHashes: Boolean, onProgress: (Long, Long) -> Unit): Chat {
        val manifest = readBundle(folder, checkHashes, onProgress)
        val opener = openers.fitting(folder, manifest, freeMemory())
        val started = clock()
        val tokenizer = readTokenizer(folder, manifest)
        val chat = Chat(Session(manifest, folder, opener, threads), tokenizer, clock)
        loadMs = (clock() - started) / 1e6
        return chat
    }

    private fun answering(answer: (Chat, Stop) -> Answer): Answer {
        val stop = Stop()
        val chat =
            lock.withLock {
                ready().also {
                    turn = stop
                    enter(State.ANSWERING)
                }
            }
        try {
            return answer(chat, stop)
        } finally {
            finish(chat)
        }
    }

    private fun ready(): Chat {
        if (state == State.READY) return chat!!
        if (state == State.EMPTY || state == State.FAILED) throw BadTurn(BadTurn.Kind.CLOSED, "No bundle is loaded.")
        throw BadTurn(BadTurn.Kind.BUSY, "Another task is running: wait for it, or stop it.")
    }

    /** Ends the call that loads or answers. [left]: what is loaded now. */
    private fun finish(left: Chat?) {
        lock.withLock {
            try {
                chat = left
                enter(if (left == null) State.FAILED else State.READY)
                if (closing) release()
            } finally {
                finished.signalAll() // whatever was raised: somebody may wait in close
            }
        }
    }

    private fun release() {
        val session = chat?.session
        closing = false
        chat = null
        if (state != State.EMPTY) enter(State.EMPTY)
        session?.close()
    }

    private fun enter(next: State) {
        check(state.leadsTo(next)) { "$state does not lead to $next" }
        state = next
        owner = if (next in WORKING) owner ?: Thread.currentThread() else null
        onState(next)
    }

    private companion object {
        val WORKING = setOf(State.LOADING, State.ANSWERING, State.STOPPING)
    }
}

/** What opens a bundle that fits into [freeBytes]. Raises [BadBundle], [TooLittleMemory]. */
internal fun Map<String, RuntimeOpener>.fitting(folder: File, manifest: Manifest, freeBytes: Long?): RuntimeOpener {
    val opener =
        this[manifest.target]
            ?: throw BadBundle(
                BadBundle.Kind.TARGET,
                "${folder.name} is for ${manifest.target}: this app runs ${keys.joinToString(" and ")}",
            )
    if (freeBytes != null && manifest.memoryBytes > freeBytes) {
        val (needs, has) = Pair(manifest.memoryBytes shr 20, freeBytes shr 20)
        throw TooLittleMemory(
            manifest.memoryBytes,
            freeBytes,
            "${folder.name} needs about $needs MiB of memory, and $has are free: " +
                "close other apps, or take a smaller bundle.",
        )
    }
    return opener
}
