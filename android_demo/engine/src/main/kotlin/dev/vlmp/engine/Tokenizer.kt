package dev.vlmp.engine

import java.io.ByteArrayOutputStream
import java.util.PriorityQueue

/** What stands for a space in vocabularies of characters. */
internal const val LINE = '\u2581'

/** Between which words there are no merges. */
internal enum class Split {
    /** The vocabulary is of characters, not of bytes, and a text is one word. */
    NONE,
    /** Qwen2's pattern. */
    QWEN2,
    /** The same with digits by up to three. */
    LLAMA3,
    /** GPT-2's pattern, and each digit apart. */
    GPT2,
}

/** What of a tokenizer.json is not its vocabulary. */
internal class TokenizerSettings(
    val split: Split,
    /** NFC. */
    val compose: Boolean = false,
    /** A word of the vocabulary is one token, whatever merges say. */
    val wholeWords: Boolean = false,
    /** Decoding drops a space at the beginning. */
    val strip: Boolean = false,
)

/** The vocabulary of a tokenizer.json. */
internal class Vocabulary(
    /** Ids of the tokens of single bytes. */
    val byteIds: IntArray,
    /** Ids of single characters; empty where the vocabulary is of bytes. */
    val characterIds: Map<Int, Int>,
    /** Ids of whole words, which are written as in the file. */
    val words: Map<String, Int>,
    val tokens: Map<Int, Token>,
    val merges: Map<Long, Merge>,
    val added: List<Added>,
) {
    class Merge(val rank: Int, val id: Int)

    /** [isByte]: it is one byte of a vocabulary of characters. */
    class Token(val bytes: ByteArray, val special: Boolean, val isByte: Boolean)

    class Added(val text: String, val id: Int, val special: Boolean)
}

/** BPE, as bundles carry it: texts to ids and back. It changes nothing, and any thread may use it. */
class Tokenizer
internal constructor(private val settings: TokenizerSettings, private val vocabulary: Vocabulary) {
    private val added = vocabulary.added

    private val addedIds = added.associate { Pair(it.text, it.id) }

    /** By their first character, the longest first. */
    private val addedAt = added.sortedByDescending { it.text.length }.groupBy { it.text[0] }

    /** Texts of the special tokens. */
    val specialTokens: List<String> = added.filter { it.special }.map { it.text }

    /** Id of an added token, null where there is none of this text. */
    fun addedId(text: String): Int? = addedIds[text]

    /** Ids of a text in which added tokens are meant. */
    fun encode(text: String): IntArray {
        val ids = Ints(text.length)
        var plain = 0 // begin of what is not encoded yet
        var place = 0
        while (place < text.length) {
            val token = addedAt[text[place]]?.firstOrNull { text.startsWith(it.text, place) }
            if (token == null) {
                place++
                continue
            }
            encodePlain(text.substring(plain, place), ids)
            ids.add(token.id)
            place += token.text.length
            plain = place
        }
        encodePlain(text.substring(plain), ids)
        return ids.toArray()
    }

    /** Ids of a text in which nothing is an added token. */
    fun encodeAsText(text: String): IntArray {
        val ids = Ints(text.length)
        encodePlain(text, ids)
        return ids.toArray()
    }

    /** The text of ids, without special tokens and what is no token. */
    fun decode(ids: Collection<Int>): String {
        if (settings.split == Split.NONE) return decodeCharacters(ids)
        val bytes = ByteArrayOutputStream()
        for (id in ids) shown(id)?.let { bytes.write(it.bytes, 0, it.bytes.size) }
        return fromUtf8(bytes.toByteArray())
    }

    /** A run of tokens that are single bytes is characters as a whole, or all of it is broken. */
    private fun decodeCharacters(ids: Collection<Int>): String {
        val text = StringBuilder()
        val run = ByteArrayOutputStream()
        val endRun = {
            val bytes = run.toByteArray()
            val whole = fromUtf8(bytes)
            val points = codePoints(whole)
            if (utf8(points, 0, points.size).contentEquals(bytes)) text.append(whole)
            else repeat(bytes.size) { text.appendCodePoint(REPLACEMENT) }
            run.reset()
        }
        for (id in ids) {
            val token = shown(id) ?: continue
            if (token.isByte) {
                run.write(token.bytes, 0, 1)
            } else {
                endRun()
                text.append(fromUtf8(token.bytes))
            }
        }
        endRun()
        return if (settings.strip) text.removePrefix(" ").toString() else text.toString()
    }

    /**
     * Whether what comes next may change [text], which is the decoded [ids]: bytes of its last character are to come.
     * Where tokens that are single bytes follow one another, each may yet make all of them broken characters.
     */
    internal fun awaitsBytes(ids: Collection<Int>, text: String): Boolean =
        text.endsWith('\uFFFD') || ids.lastOrNull { shown(it) != null }?.let { shown(it) }?.isByte == true

    /** Null where it is left out of a text. */
    private fun shown(id: Int) = vocabulary.tokens[id]?.takeUnless { it.special }

    private fun encodePlain(text: String, ids: Ints) {
        val points = codePoints(text)
        if (settings.split == Split.NONE) return merge(characters(points), ids)
        val composed = if (settings.compose) Unicode.compose(points) else points
        val words = if (settings.split == Split.GPT2) WordsGpt2(composed) else Words(composed, settings.split)
        var begin = 0
        while (begin < composed.size) {
            val end = words.end(begin)
            encodeWord(utf8(composed, begin, end), ids)
            begin = end
        }
    }

    private fun encodeWord(bytes: ByteArray, ids: Ints) {
        if (settings.wholeWords) vocabulary.words[inByteCharacters(bytes)]?.let { return ids.add(it) }
        merge(IntArray(bytes.size) { vocabulary.byteIds[bytes[it].toInt() and 0xFF] }, ids)
    }

    /** Ids of single characters, and of the bytes of those that are not in the vocabulary. */
    private fun characters(points: IntArray): IntArray {
        val single = Ints(points.size)
        for ((place, point) in points.withIndex()) {
            val id = vocabulary.characterIds[if (point == ' '.code) LINE.code else point]
            if (id != null) single.add(id)
            else for (byte in utf8(points, place, place + 1)) single.add(vocabulary.byteIds[byte.toInt() and 0xFF])
        }
        return single.toArray()
    }

    /** Merges neighbours, the pair of lowest rank first, of equal ones the leftmost. By a heap: words may be long. */
    private fun merge(single: IntArray, ids: Ints) {
        val symbols = single.copyOf() // -1: merged into its left neighbour
        val before = IntArray(single.size) { it - 1 }
        val after = IntArray(single.size) { it + 1 }
        val candidates = PriorityQueue<Candidate>()
        val consider = { left: Int ->
            if (left >= 0 && after[left] < single.size) {
                val merge = vocabulary.merges[mergeKey(symbols[left], symbols[after[left]])]
                if (merge != null) candidates.add(Candidate(merge.rank, left, merge.id))
            }
        }
        for (left in single.indices) consider(left)
        while (true) {
            val best = candidates.poll() ?: break
            val left = best.left
            if (symbols[left] < 0 || after[left] >= single.size) continue
            val right = after[left]
            val merge = vocabulary.merges[mergeKey(symbols[left], symbols[right])]
            if (merge == null || merge.id != best.id) continue // a neighbour has been merged since
            symbols[left] = best.id
            symbols[right] = -1
            after[left] = after[right]
            if (after[left] < single.size) before[after[left]] = left
            consider(before[left])
            consider(left)
        }
        for (symbol in symbols) if (symbol >= 0) ids.add(symbol)
    }

    private class Candidate(val rank: Int, val left: Int, val id: Int) : Comparable<Candidate> {
        override fun compareTo(other: Candidate) =
            if (rank != other.rank) rank.compareTo(other.rank) else left.compareTo(other.left)
    }

    companion object {
        /**
         * Reads a tokenizer.json. [file] is named in messages.
         *
         * Raises [BadBundle] where it is none, or of another kind, which would give other ids.
         */
        fun parse(text: String, file: String): Tokenizer = readTokenizer(text, file)
    }
}

/** The text of an answer, piece by piece: no character of which bytes are still to come. */
internal class TextStream(private val tokenizer: Tokenizer) {
    /** All that was handed out. */
    var shown = ""
        private set

    /** What is new with all tokens so far, empty where nothing is. Once it has [ended], nothing is held back. */
    fun next(tokens: Collection<Int>, ended: Boolean): String {
        val text = tokenizer.decode(tokens)
        if (text.length <= shown.length || !ended && tokenizer.awaitsBytes(tokens, text)) return ""
        return text.substring(shown.length).also { shown = text }
    }
}
