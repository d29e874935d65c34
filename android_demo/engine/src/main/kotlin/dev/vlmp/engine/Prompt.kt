package dev.vlmp.engine

internal const val MARK = "{prompt}" // stands for the user's words in a template

/**
 * Ids of a template with the user's words in it.
 *
 * What a user types is text, whatever it looks like, unless [controlTokens] are meant. [most]: ids that have room.
 * Raises [BadPrompt].
 */
internal fun encodePrompt(
    tokenizer: Tokenizer,
    manifest: Manifest,
    template: String,
    words: String,
    most: Int,
    controlTokens: Boolean,
): IntArray {
    val listed = manifest.prompt.controlTokens
    val control = if (controlTokens) emptyList() else listed.ifEmpty { tokenizer.specialTokens }
    val ids = encodeTurn(tokenizer, template, words, control)
    if (ids.any { it >= manifest.vocabSize }) {
        throw BadPrompt(
            BadPrompt.Kind.NO_TOKEN,
            "The question has a token that this bundle's model does not know: reword it.",
        )
    }
    val around = encodeTurn(tokenizer, template, "", emptyList()).size
    if (ids.size > most) {
        val (own, room) = Pair(ids.size - around, maxOf(0, most - around))
        throw BadPrompt(
            BadPrompt.Kind.TOO_LONG,
            "The question has $own tokens, this bundle takes up to $room: shorten it.",
            own,
            room,
        )
    }
    return ids
}

/** Raises [BadPrompt] where there is nothing to encode: white space only, or no Unicode text. */
internal fun checkWords(words: String) {
    val points = codePoints(words)
    if (points.all { Unicode.isSpace(it) || it in 0x1C..0x1F }) {
        throw BadPrompt(BadPrompt.Kind.EMPTY, "The question is empty: ask something about the picture.")
    }
    if (String(points, 0, points.size) != words) {
        throw BadPrompt(BadPrompt.Kind.NO_TEXT, "The question holds half a character: type it again.")
    }
}

/** The same without limits. [control]: tokens that are text where the user types them. */
internal fun encodeTurn(tokenizer: Tokenizer, template: String, words: String, control: List<String>): IntArray {
    val ids = Ints(64)
    for ((place, piece) in filled(template, cut(words, control)).withIndex()) {
        val typed = place % 2 == 1
        for (id in if (typed) tokenizer.encodeAsText(piece) else tokenizer.encode(piece)) ids.add(id)
    }
    val meant = control.mapNotNull { tokenizer.addedId(it) }.toSet()
    val found = ids.toArray().filter { it in meant }
    if (found != tokenizer.encode(filled(template, listOf("")).single()).filter { it in meant }) {
        throw BadPrompt(
            BadPrompt.Kind.CONTROL_TOKEN,
            "The question is no plain text to this bundle's tokenizer: reword it.",
        )
    }
    return ids.toArray()
}

/** Text, control token, text, ..., text. Of several tokens that begin at one place the longest is taken. */
private fun cut(words: String, control: List<String>): List<String> {
    val longestFirst = control.sortedByDescending { it.length }
    val pieces = ArrayList<String>()
    var plain = 0
    var place = 0
    while (place < words.length) {
        val token = longestFirst.firstOrNull { words.startsWith(it, place) }
        if (token == null) {
            place++
            continue
        }
        pieces += words.substring(plain, place)
        pieces += token
        place += token.length
        plain = place
    }
    return pieces + words.substring(plain)
}

/** The template with these pieces in the place of each mark, cut at the control tokens alike. */
private fun filled(template: String, pieces: List<String>): List<String> {
    val all = ArrayList<String>()
    var open = StringBuilder()
    for ((number, part) in template.split(MARK).withIndex()) {
        if (number > 0) {
            open.append(pieces.first())
            for (piece in pieces.drop(1)) {
                all += open.toString()
                open = StringBuilder(piece)
            }
        }
        open.append(part)
    }
    return all + open.toString()
}
