package dev.vlmp.engine

import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import java.io.ByteArrayOutputStream
import java.util.PriorityQueue

private const val PATTERN =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/** Byte-level BPE, as bundles carry it: texts to ids and back. It changes nothing, and any thread may use it. */
class Tokenizer
private constructor(
    private val compose: Boolean,
    private val byteIds: IntArray,
    private val merges: Map<Long, Merge>,
    private val tokens: Map<Int, Token>,
    private val added: List<Added>,
) {
    private class Merge(val rank: Int, val id: Int)

    private class Token(val bytes: ByteArray, val special: Boolean)

    private class Added(val text: String, val id: Int, val special: Boolean)

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
        val bytes = ByteArrayOutputStream()
        for (id in ids) tokens[id]?.let { if (!it.special) bytes.write(it.bytes, 0, it.bytes.size) }
        return fromUtf8(bytes.toByteArray())
    }

    private fun encodePlain(text: String, ids: Ints) {
        val points = if (compose) Unicode.compose(codePoints(text)) else codePoints(text)
        val words = Words(points)
        var begin = 0
        while (begin < points.size) {
            val end = words.end(begin)
            encodeWord(utf8(points, begin, end), ids)
            begin = end
        }
    }

    /** Merges neighbours, the pair of lowest rank first, of equal ones the leftmost. By a heap: words may be long. */
    private fun encodeWord(bytes: ByteArray, ids: Ints) {
        val symbols = IntArray(bytes.size) { byteIds[bytes[it].toInt() and 0xFF] } // -1: merged into its left neighbour
        val before = IntArray(bytes.size) { it - 1 }
        val after = IntArray(bytes.size) { it + 1 }
        val candidates = PriorityQueue<Candidate>()
        val consider = { left: Int ->
            if (left >= 0 && after[left] < bytes.size) {
                val merge = merges[pair(symbols[left], symbols[after[left]])]
                if (merge != null) candidates.add(Candidate(merge.rank, left, merge.id))
            }
        }
        for (left in bytes.indices) consider(left)
        while (true) {
            val best = candidates.poll() ?: break
            val left = best.left
            if (symbols[left] < 0 || after[left] >= bytes.size) continue
            val right = after[left]
            val merge = merges[pair(symbols[left], symbols[right])]
            if (merge == null || merge.id != best.id) continue // a neighbour has been merged since
            symbols[left] = best.id
            symbols[right] = -1
            after[left] = after[right]
            if (after[left] < bytes.size) before[after[left]] = left
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
        fun parse(text: String, file: String): Tokenizer {
            val root = Field.parse(text, file, BadBundle.Kind.TOKENIZER)
            val compose = checkSettings(root)
            val characters = byteCharacters()
            val bytes = characters.withIndex().associate { (byte, character) -> Pair(character, byte.toByte()) }
            val model = root.at("model")
            val ids = HashMap<String, Int>()
            val tokens = HashMap<Int, Token>()
            for ((token, field) in model.at("vocab").entries()) {
                val id = field.int(0)
                if (tokens.put(id, Token(bytesOf(token, bytes), special = false)) != null)
                    field.refuse("is another token's id, too")
                ids[token] = id
            }
            val byteIds =
                IntArray(256) { byte ->
                    ids[characters[byte].toString()] ?: model.at("vocab").refuse("has no token for byte $byte")
                }
            val merges = HashMap<Long, Merge>()
            for ((rank, field) in model.at("merges").items().withIndex()) {
                val (left, right) = mergeParts(field)
                val idOf = { token: String ->
                    ids[token] ?: field.refuse("needs token ${quoted(token)}, which is not in the vocabulary")
                }
                merges[pair(idOf(left), idOf(right))] = Merge(rank, idOf(left + right))
            }
            val added = root.at("added_tokens").items().map { readAdded(it, ids, tokens, bytes) }
            return Tokenizer(compose, byteIds, merges, tokens, added)
        }

        /**
         * Raises [BadBundle] unless all but the vocabulary is as Qwen2 has it. Returns whether text is composed (NFC).
         */
        private fun checkSettings(root: Field): Boolean {
            val model = root.at("model")
            if (model.has("type")) model.at("type").choice("BPE")
            for (name in MODEL_SETTINGS) model.requireAbsent(name)
            root.at("pre_tokenizer").at("type").choice("Sequence")
            val steps = root.at("pre_tokenizer").at("pretokenizers").items()
            if (steps.size != 2) root.at("pre_tokenizer").refuse("must be a split and a byte level step")
            val (split, byteLevel) = steps
            split.at("type").choice("Split")
            split.at("pattern").requireValue(JsonObject().apply { addProperty("Regex", PATTERN) })
            split.at("behavior").choice("Isolated")
            split.at("invert").requireValue(JsonPrimitive(false))
            byteLevel.at("type").choice("ByteLevel")
            byteLevel.at("add_prefix_space").requireValue(JsonPrimitive(false))
            byteLevel.at("use_regex").requireValue(JsonPrimitive(false))
            root.at("decoder").at("type").choice("ByteLevel")
            if (!root.has("normalizer")) return false
            root.at("normalizer").at("type").choice("NFC")
            return true
        }

        /** Two parts of a merge: a list or, in older files, with a space between them. */
        private fun mergeParts(field: Field): Pair<String, String> {
            val parts = if (field.isText) field.text().split(' ') else field.items().map { it.text() }
            if (parts.size != 2) field.refuse("must be two tokens")
            return Pair(parts[0], parts[1])
        }

        private fun readAdded(
            field: Field,
            ids: HashMap<String, Int>,
            tokens: HashMap<Int, Token>,
            bytes: Map<Char, Byte>,
        ): Added {
            for (flag in ADDED_SETTINGS) field.requireAbsent(flag)
            val content = field.at("content").text()
            if (content.isEmpty()) field.at("content").refuse("is empty")
            val id = field.at("id").int(0)
            val known = ids[content]
            if (if (known != null) known != id else id in tokens) field.at("id").refuse("is not the token's own")
            val special = field.at("special").boolean()
            ids[content] = id
            tokens[id] = Token(bytesOf(content, bytes), special)
            return Added(content, id, special)
        }

        /** What a token stands for; one with a character that stands for no byte is taken as it is. */
        private fun bytesOf(token: String, bytes: Map<Char, Byte>): ByteArray {
            val result = ByteArray(token.length)
            for ((place, character) in token.withIndex()) {
                result[place] = bytes[character] ?: return codePoints(token).let { utf8(it, 0, it.size) }
            }
            return result
        }

        /** The printable character that stands for each byte: itself, or one from U+0100 on. */
        private fun byteCharacters(): CharArray {
            var next = '\u0100'
            return CharArray(256) { if (it in 0x21..0x7E || it >= 0xA1 && it != 0xAD) it.toChar() else next++ }
        }

        private fun pair(left: Int, right: Int) = left.toLong() shl 32 or right.toLong()

        private val MODEL_SETTINGS =
            listOf(
                "dropout",
                "unk_token",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "byte_fallback",
                "ignore_merges",
            )
        private val ADDED_SETTINGS = listOf("single_word", "lstrip", "rstrip", "normalized")
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
        if (text.length <= shown.length || !ended && text.endsWith('\uFFFD')) return ""
        return text.substring(shown.length).also { shown = text }
    }
}
