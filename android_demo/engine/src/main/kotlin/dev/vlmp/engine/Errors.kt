package dev.vlmp.engine

/** Something that whoever uses the engine can mend. Its message is one line for people. */
sealed class EngineException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** A bundle that is not run. [kind] says which check refused it. */
class BadBundle(val kind: Kind, message: String, cause: Throwable? = null) : EngineException(message, cause) {
    /** What is wrong: see "Check before you load" in docs/bundle.md. */
    enum class Kind {
        UNREADABLE,
        VERSION,
        TARGET,
        FIELD,
        STAGES,
        TENSORS,
        NAME,
        UNLISTED,
        MISSING,
        SIZE,
        HASH,
        TOKENIZER,
        RUNTIME,
    }
}

/** A phone without room for a bundle: it needs [neededBytes], and [freeBytes] are free. */
class TooLittleMemory(val neededBytes: Long, val freeBytes: Long, message: String) : EngineException(message)

/**
 * Words that are no question to this bundle. [tokens] and [most]: of a prompt that is too long, its tokens and the
 * limit.
 */
class BadPrompt(val kind: Kind, message: String, val tokens: Int = 0, val most: Int = 0) : EngineException(message) {
    /**
     * What is wrong. CONTROL_TOKEN: the tokenizer makes a control token of plain text. NO_TEXT: half a surrogate pair.
     * NO_TOKEN: the tokenizer has more tokens than the model.
     */
    enum class Kind {
        EMPTY,
        TOO_LONG,
        CONTROL_TOKEN,
        NO_TEXT,
        NO_TOKEN,
    }
}

/** A photo that is refused. */
class BadPicture(val kind: Kind, message: String) : EngineException(message) {
    /** SIZE: more than 100 megapixels. SHAPE: one side more than 200 times the other. */
    enum class Kind {
        SIZE,
        SHAPE,
    }
}

/**
 * A call that does not fit the state of the chat; nothing has changed. [needed], [most]: tokens, where that is the
 * reason.
 */
class BadTurn(val kind: Kind, message: String, val needed: Int = 0, val most: Int = 0) : EngineException(message) {
    /** Why. BUSY: another turn is running. CLOSED: nothing is loaded. */
    enum class Kind {
        NO_IMAGE,
        FULL,
        LIMIT,
        BUSY,
        CLOSED,
    }
}

/** The runtime failed in a call, or returned numbers that are none. The conversation is as it was before that call. */
class RuntimeFailure(message: String, cause: Throwable? = null) : EngineException(message, cause)

/** A text from outside, as it may stand in a line: short, and without control characters. */
internal fun quoted(text: String): String {
    val short = if (text.length > 80) text.take(80) + "..." else text
    return "'" +
        String(
            CharArray(short.length) { if (short[it].isISOControl() || short[it].isSurrogate()) '?' else short[it] }
        ) +
        "'"
}

/** The message of another library's error, as one line. */
internal fun oneLine(error: Throwable): String {
    val text = (error.message ?: error.javaClass.simpleName).lineSequence().map { it.trim() }.filter { it.isNotEmpty() }
    return text.joinToString(" ").take(300)
}
