package dev.vlmp.demo

import dev.vlmp.engine.Answer
import dev.vlmp.engine.Engine
import dev.vlmp.engine.Picture
import dev.vlmp.engine.RuntimeOpener
import java.io.File

/** What the app asks of the engine: opens bundles. */
fun interface ChatLoader {
    /** Opens a bundle whose hashes were compared. Throws EngineException. */
    fun load(folder: File): Chat
}

/** A loaded bundle and its conversation. One call at a time, except [stop], which any thread may call. */
interface Chat : AutoCloseable {
    /** Starts a conversation about a picture. [onText] gets the answer piece by piece. Throws EngineException. */
    fun ask(picture: Picture, prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer

    /** Next turn of it. */
    fun reply(prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer

    /** Ends a turn within a token. The answer so far stays; without a turn it does nothing. */
    fun stop()
}

/** The engine. [runtimes]: by the target of a bundle. [freeMemory]: bytes that a bundle may take. */
class EngineLoader(private val runtimes: Map<String, RuntimeOpener>, private val freeMemory: () -> Long) : ChatLoader {
    override fun load(folder: File): Chat {
        val engine = Engine(runtimes, freeMemory)
        engine.load(folder, checkHashes = false) // they were compared when it was imported
        return EngineChat(engine)
    }
}

private class EngineChat(private val engine: Engine) : Chat {
    private val most = checkNotNull(engine.manifest).prompt.maxNewTokens

    override fun ask(picture: Picture, prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer =
        engine.ask(picture, prompt, minOf(maxTokens, most), onText = onText)

    override fun reply(prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer =
        engine.reply(prompt, minOf(maxTokens, most), onText = onText)

    override fun stop() = engine.stop()

    override fun close() = engine.close()
}
