package dev.vlmp.engine

/** Why an answer ended: an end token, the limit, full caches, or somebody's `stop`. */
enum class End {
    FINISHED,
    LIMIT,
    FULL,
    STOPPED,
}

/**
 * One turn. [tokens] with the end token, if one came; none if it was stopped before the first one.
 *
 * [stages]: visual tokens that each stage has kept, ascending; the last is what is left. [order]: the last stage's as
 * they were chosen. Later turns have none of both.
 */
class Answer(
    val text: String,
    val tokens: List<Int>,
    val end: End,
    val stages: List<IntArray>,
    val order: IntArray,
    val timings: Timings,
) {
    /** What is left after the last stage. */
    val kept: IntArray
        get() = stages.lastOrNull() ?: IntArray(0)
}

/** Where the time went, in milliseconds; 0 of what did not happen. [prefillMs] of a later turn is that of `extend`. */
class Timings(val preprocessMs: Double, val visionMs: Double, val prefillMs: Double, val decodeMs: List<Double>) {
    /** From the photo to the first token, without loading. */
    val firstTokenMs: Double
        get() = preprocessMs + visionMs + prefillMs
}

/**
 * Questions about a picture, and answers: the host loop of docs/bundle.md.
 *
 * One turn at a time, on a thread that may be busy for seconds; [stop] may come from any other. A turn that is refused
 * changes nothing. [clock]: nanoseconds.
 */
class Chat(val session: Session, private val tokenizer: Tokenizer, private val clock: () -> Long = System::nanoTime) {
    private val spec = session.manifest.prompt

    @Volatile private var running: Stop? = null // of the turn that runs

    /** Last token of the answer, where the caches do not hold it yet. */
    var unfed: Int? = null
        private set

    /**
     * Answers a question about [picture], which starts a conversation.
     *
     * [limit]: most tokens of the answer, the bundle's own limit if null. [onText] gets the answer piece by piece, on
     * this thread. [controlTokens]: such tokens in [words] are meant; otherwise all of it is text. [stop] ends the
     * turn, as [Chat.stop] does. Stopped before its first token, it leaves no picture.
     *
     * Raises [BadPrompt], [BadPicture], [BadTurn], [RuntimeFailure].
     */
    fun ask(
        picture: Picture,
        words: String,
        limit: Int? = null,
        controlTokens: Boolean = false,
        sampler: Sampler = Greedy,
        stop: Stop = Stop(),
        onText: (String) -> Unit = {},
    ): Answer =
        turn(stop) {
            checkWords(words)
            val most = checkedLimit(limit)
            val ids = encodePrompt(tokenizer, session.manifest, spec.first, words, spec.textLen, controlTokens)
            val laps = Laps(clock)
            val telling = Telling(most, sampler, stop, laps, onText)
            try {
                val pixels = laps.time(Lap.PREPROCESS) { toPixels(picture, session.manifest.image) }
                val seen = laps.time(Lap.VISION) { session.vision(pixels, stop) }
                unfed = null
                val first = laps.time(Lap.PREFILL) { session.prefill(ids, seen, stop) }
                telling.prefilled = first
                telling.decode(first.logits)
            } catch (_: Stopped) {
                telling.end = End.STOPPED
                if (telling.tokens.isEmpty()) reset()
            }
            telling.answer()
        }

    /**
     * Answers a further question about the same picture. Parameters and errors as [ask] has them. Stopped before its
     * first token, it leaves the conversation as it was.
     */
    fun reply(
        words: String,
        limit: Int? = null,
        controlTokens: Boolean = false,
        sampler: Sampler = Greedy,
        stop: Stop = Stop(),
        onText: (String) -> Unit = {},
    ): Answer =
        turn(stop) {
            if (session.past == 0) session.checkRoom(1)
            checkWords(words)
            val most = checkedLimit(limit)
            val own = encodePrompt(tokenizer, session.manifest, spec.following, words, spec.textLen - 1, controlTokens)
            val ids = intArrayOf(spec.endTextId) + own
            val before = Pair(session.progress, unfed)
            session.checkRoom(ids.size + if (unfed == null) 0 else 1)
            val laps = Laps(clock)
            val telling = Telling(most, sampler, stop, laps, onText)
            try {
                val logits =
                    laps.time(Lap.PREFILL) {
                        unfed?.let { session.decode(it, stop) }
                        unfed = null
                        session.extend(ids, stop)
                    }
                telling.decode(logits)
            } catch (_: Stopped) {
                telling.end = End.STOPPED
            } finally {
                if (telling.tokens.isEmpty()) {
                    session.rewind(before.first)
                    unfed = before.second
                }
            }
            telling.answer()
        }

    /**
     * Ends the turn that runs, within a token: it returns what it has so far. Without a turn it does nothing.
     *
     * Any thread may call it at any time, and so may `onText`. It waits for nothing.
     */
    fun stop() {
        running?.ask()
    }

    /** Forgets the conversation. */
    fun reset() {
        session.reset()
        unfed = null
    }

    private fun turn(stop: Stop, run: () -> Answer): Answer {
        synchronized(this) {
            if (running != null)
                throw BadTurn(BadTurn.Kind.BUSY, "Another question is being answered: wait for it, or stop it.")
            running = stop
        }
        try {
            return run()
        } finally {
            running = null
        }
    }

    private fun checkedLimit(limit: Int?): Int {
        val most = spec.maxNewTokens
        if (limit != null && limit !in 1..most) {
            throw BadTurn(BadTurn.Kind.LIMIT, "An answer of $limit tokens: this bundle allows 1 to $most.", most = most)
        }
        return limit ?: most
    }

    /** An answer that is on its way. */
    private inner class Telling(
        private val limit: Int,
        private val sampler: Sampler,
        private val stop: Stop,
        private val laps: Laps,
        private val onText: (String) -> Unit,
    ) {
        val tokens = ArrayList<Int>()
        var end = End.STOPPED
        var prefilled: Prefilled? = null
        private val text = TextStream(tokenizer)

        /** From the logits of the first token to the last token. */
        fun decode(first: FloatArray) {
            var logits = first
            while (true) {
                val token = sampler.sample(logits)
                tokens += token
                val isEnd = token in spec.endIds
                unfed = if (isEnd) null else token
                end =
                    when {
                        isEnd -> End.FINISHED
                        tokens.size == limit -> End.LIMIT
                        session.room == 0 -> End.FULL
                        else -> End.STOPPED
                    }
                show(end != End.STOPPED)
                if (end != End.STOPPED || stop.asked) return
                logits = laps.time(Lap.DECODE) { session.decode(token, stop) }
            }
        }

        fun answer(): Answer {
            show(ended = true)
            val first = prefilled
            return Answer(
                text.shown,
                tokens,
                end,
                first?.stages ?: emptyList(),
                first?.order ?: IntArray(0),
                laps.timings(),
            )
        }

        private fun show(ended: Boolean) {
            val piece = text.next(tokens, ended)
            if (piece.isNotEmpty()) onText(piece)
        }
    }
}

private enum class Lap {
    PREPROCESS,
    VISION,
    PREFILL,
    DECODE,
}

/** Milliseconds of each phase so far. */
private class Laps(private val clock: () -> Long) {
    private val ms = Lap.values().associate { Pair(it, ArrayList<Double>()) }

    fun <Made> time(lap: Lap, call: () -> Made): Made {
        val start = clock()
        val made = call()
        ms.getValue(lap) += (clock() - start) / 1e6
        return made
    }

    fun timings() = Timings(sum(Lap.PREPROCESS), sum(Lap.VISION), sum(Lap.PREFILL), ms.getValue(Lap.DECODE))

    private fun sum(lap: Lap) = ms.getValue(lap).sum()
}
