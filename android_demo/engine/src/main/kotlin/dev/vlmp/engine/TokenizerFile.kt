package dev.vlmp.engine

import com.google.gson.JsonElement
import com.google.gson.JsonParser

/** Qwen2's pattern, with what it says of digits. */
private fun pattern(digits: String) =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|$digits| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/** As [Tokenizer.parse] has it. */
internal fun readTokenizer(text: String, file: String): Tokenizer {
    val root = Field.parse(text, file, BadBundle.Kind.TOKENIZER)
    val settings = readSettings(root)
    val ofCharacters = settings.split == Split.NONE
    val model = root.at("model")
    val ids = HashMap<String, Int>()
    val tokens = HashMap<Int, Vocabulary.Token>()
    val characterIds = HashMap<Int, Int>()
    for ((token, field) in model.at("vocab").entries()) {
        val id = field.int(0)
        if (tokens.put(id, meaning(token, special = false, ofCharacters)) != null)
            field.refuse("is another token's id, too")
        ids[token] = id
        if (ofCharacters) codePoints(token).singleOrNull()?.let { characterIds[it] = id }
    }
    val words = if (settings.wholeWords) HashMap(ids) else emptyMap() // before added tokens
    val byteIds =
        IntArray(256) { byte ->
            val token = if (ofCharacters) "<0x%02X>".format(byte) else byteCharacters[byte].toString()
            ids[token] ?: model.at("vocab").refuse("has no token for byte $byte")
        }
    val merges = HashMap<Long, Vocabulary.Merge>()
    for ((rank, field) in model.at("merges").items().withIndex()) {
        val (left, right) = mergeParts(field)
        val idOf = { token: String ->
            ids[token] ?: field.refuse("needs token ${quoted(token)}, which is not in the vocabulary")
        }
        merges[mergeKey(idOf(left), idOf(right))] = Vocabulary.Merge(rank, idOf(left + right))
    }
    val added = root.at("added_tokens").items().map { readAdded(it, ids, tokens, ofCharacters) }
    return Tokenizer(settings, Vocabulary(byteIds, characterIds, words, tokens, merges, added))
}

/** Raises [BadBundle] unless all but the vocabulary is as one of the known kinds has it. */
private fun readSettings(root: Field): TokenizerSettings {
    val model = root.at("model")
    if (model.has("type")) model.at("type").choice("BPE")
    for (name in listOf("dropout", "continuing_subword_prefix", "end_of_word_suffix")) model.requireAbsent(name)
    if (model.has("byte_fallback") && model.at("byte_fallback").boolean()) {
        model.requireAbsent("ignore_merges")
        return TokenizerSettings(Split.NONE, strip = readCharacters(root))
    }
    val wholeWords = model.has("ignore_merges") && model.at("ignore_merges").boolean()
    val split = readSplit(root.at("pre_tokenizer"))
    root.at("decoder").at("type").choice("ByteLevel")
    val compose = root.has("normalizer")
    if (compose) root.at("normalizer").at("type").choice("NFC")
    return TokenizerSettings(split, compose, wholeWords)
}

/** Of a vocabulary of characters. Returns whether decoding drops a space at the beginning. */
private fun readCharacters(root: Field): Boolean {
    if (root.has("pre_tokenizer")) root.at("pre_tokenizer").refuse("must be null where there are tokens for bytes")
    root.at("normalizer").requireValue(json("{'type': 'Replace', 'pattern': {'String': ' '}, 'content': '$LINE'}"))
    root.at("decoder").at("type").choice("Sequence")
    val steps = root.at("decoder").at("decoders").items()
    if (steps.size !in 3..4) root.at("decoder").refuse("must have three or four steps")
    steps[0].requireValue(json("{'type': 'Replace', 'pattern': {'String': '$LINE'}, 'content': ' '}"))
    steps[1].at("type").choice("ByteFallback")
    steps[2].at("type").choice("Fuse")
    if (steps.size == 3) return false
    steps[3].requireValue(json("{'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}"))
    return true
}

private fun readSplit(field: Field): Split {
    field.at("type").choice("Sequence")
    val steps = field.at("pretokenizers").items()
    if (steps.size != 2) field.refuse("must be a split and a byte level step")
    val (split, byteLevel) = steps
    val byDigits = split.at("type").choice("Split", "Digits") == "Digits"
    byteLevel.at("type").choice("ByteLevel")
    byteLevel.at("add_prefix_space").requireValue(json("false"))
    byteLevel.at("use_regex").requireValue(json("$byDigits"))
    if (byDigits) {
        split.at("individual_digits").requireValue(json("true"))
        return Split.GPT2
    }
    split.at("behavior").choice("Isolated")
    split.at("invert").requireValue(json("false"))
    val digits = if (split.at("pattern").at("Regex").text() == pattern(THREE)) THREE else "\\p{N}"
    split.at("pattern").at("Regex").choice(pattern(digits))
    return if (digits == THREE) Split.LLAMA3 else Split.QWEN2
}

private const val THREE = "\\p{N}{1,3}"

private fun json(text: String): JsonElement = JsonParser.parseString(text.replace('\'', '"'))

/** Two parts of a merge: a list or, in older files, with a space between them. */
private fun mergeParts(field: Field): Pair<String, String> {
    val parts = if (field.isText) field.text().split(' ') else field.items().map { it.text() }
    if (parts.size != 2) field.refuse("must be two tokens")
    return Pair(parts[0], parts[1])
}

private fun readAdded(
    field: Field,
    ids: HashMap<String, Int>,
    tokens: HashMap<Int, Vocabulary.Token>,
    ofCharacters: Boolean,
): Vocabulary.Added {
    for (flag in listOf("single_word", "lstrip", "rstrip", "normalized")) field.requireAbsent(flag)
    val content = field.at("content").text()
    if (content.isEmpty()) field.at("content").refuse("is empty")
    val id = field.at("id").int(0)
    val known = ids[content]
    if (if (known != null) known != id else id in tokens) field.at("id").refuse("is not the token's own")
    val special = field.at("special").boolean()
    ids[content] = id
    tokens[id] = meaning(content, special, ofCharacters)
    return Vocabulary.Added(content, id, special)
}

private val BYTE = Regex("<0x([0-9A-Fa-f]{2})>")

/** What a token stands for. */
private fun meaning(token: String, special: Boolean, ofCharacters: Boolean): Vocabulary.Token {
    if (!ofCharacters) return Vocabulary.Token(bytesOf(token), special, isByte = false)
    val byte = BYTE.matchEntire(token)?.groupValues?.get(1)?.toInt(16)?.toByte()
    if (byte != null) return Vocabulary.Token(byteArrayOf(byte), special, isByte = true)
    return Vocabulary.Token(wholeUtf8(token.replace(LINE, ' ')), special, isByte = false)
}

/** Of a vocabulary of bytes; a token with a character that stands for no byte is taken as it is. */
private fun bytesOf(token: String): ByteArray {
    val result = ByteArray(token.length)
    for ((place, character) in token.withIndex()) result[place] = characterBytes[character] ?: return wholeUtf8(token)
    return result
}

private fun wholeUtf8(text: String): ByteArray = codePoints(text).let { utf8(it, 0, it.size) }

/** The printable character that stands for each byte: itself, or one from U+0100 on. */
private val byteCharacters: CharArray = run {
    var next = '\u0100'
    CharArray(256) { if (it in 0x21..0x7E || it >= 0xA1 && it != 0xAD) it.toChar() else next++ }
}

private val characterBytes =
    byteCharacters.withIndex().associate { (byte, character) -> Pair(character, byte.toByte()) }

/** Bytes as they are written in the vocabulary. */
internal fun inByteCharacters(bytes: ByteArray) =
    String(CharArray(bytes.size) { byteCharacters[bytes[it].toInt() and 0xFF] })

/** Two ids as a key. */
internal fun mergeKey(left: Int, right: Int) = left.toLong() shl 32 or right.toLong()
