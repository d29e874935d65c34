package dev.vlmp.demo

import java.io.File

/** What the app asks of an engine: opens bundles. */
fun interface ChatLoader {
    /** Opens a bundle whose hashes were compared. Throws [Refused] with a line for the person who holds the phone. */
    fun load(folder: File): Chat
}

/** A loaded bundle and its conversation. One call at a time, except [stop], which any thread may call. */
interface Chat : AutoCloseable {
    /** Starts a conversation about a picture. [onText] gets the answer piece by piece. */
    fun ask(picture: Picture, prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer

    /** Next turn of it. */
    fun reply(prompt: String, maxTokens: Int, onText: (String) -> Unit): Answer

    /** Ends a turn within a token. The answer so far stays; without a turn it does nothing. */
    fun stop()
}

/** Pixels as the file has them, right side up: ARGB, row by row, alpha not multiplied in, no colours converted. */
class Picture(val width: Int, val height: Int, val argb: IntArray)

/** One turn. [stages] and [order] are those of the first turn, [order] the last stage's tokens as they were chosen. */
class Answer(
    val text: String,
    val tokens: Int,
    val end: End,
    val stages: List<IntArray>,
    val order: IntArray,
    val timings: Timings,
)

enum class End { FINISHED, STOPPED, NO_ROOM }

/** Milliseconds. A later turn has neither [preprocess] nor [vision]; its [prefill] is `extend`. */
class Timings(val preprocess: Double, val vision: Double, val prefill: Double, val decode: List<Double>) {
    val firstToken get() = preprocess + vision + prefill
    val decodeToken get() = if (decode.isEmpty()) null else decode.sum() / decode.size
}

/** What a person can mend, in words: no stack trace is of use. */
class Refused(message: String) : Exception(message)

/** Stands where the engine comes: this build opens no bundle. */
object NoEngine : ChatLoader {
    override fun load(folder: File): Chat = throw Refused("This build has no engine yet: it can keep bundles, not run them.")
}
