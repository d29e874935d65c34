// Qwen2's pattern, matched by hand, since regexes and their Unicode versions differ from phone to phone. That of Llama
// 3 and LFM2 has \p{N}{1,3} for \p{N}.
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// The first alternative that matches wins; together they match every character.
package dev.vlmp.engine

private const val LETTER = 0
private const val NUMBER = 1
private const val SPACE = 2
private const val NEWLINE = 3
private const val OTHER = 4

/** Cuts a text into words. */
internal interface Splitter {
    /** End of the word that begins at [begin]. */
    fun end(begin: Int): Int
}

/** By the pattern of Qwen2 or Llama 3. */
internal class Words(private val points: IntArray, split: Split) : Splitter {
    private val digits = if (split == Split.LLAMA3) 3 else 1
    private val kinds = IntArray(points.size) { kind(points[it]) }

    override fun end(begin: Int): Int {
        val contraction = contraction(begin)
        val kind = kinds[begin]
        return when {
            contraction > 0 -> begin + contraction
            kind == LETTER -> run(begin, LETTER)
            kind == NUMBER -> numberEnd(begin)
            kind != NEWLINE && at(begin + 1, LETTER) -> run(begin + 1, LETTER)
            kind == OTHER -> run(run(begin, OTHER), NEWLINE)
            points[begin] == ' '.code && at(begin + 1, OTHER) -> run(run(begin + 1, OTHER), NEWLINE)
            else -> blankEnd(begin)
        }
    }

    /** Length of an English contraction, or 0. */
    private fun contraction(begin: Int): Int {
        if (points[begin] != '\''.code || begin + 1 == points.size) return 0
        val first = folded(points[begin + 1])
        if (first in "stmd") return 2
        if (begin + 2 == points.size) return 0
        val second = folded(points[begin + 2])
        return if ("$first$second" in CONTRACTIONS) 3 else 0
    }

    private fun numberEnd(begin: Int): Int {
        var end = begin + 1
        while (end < begin + digits && at(end, NUMBER)) end++
        return end
    }

    /** White space: up to its last newline; else all of it but a last one that belongs to the next word. */
    private fun blankEnd(begin: Int): Int {
        var end = begin
        var newline = begin
        while (at(end, SPACE) || at(end, NEWLINE)) if (kinds[end++] == NEWLINE) newline = end
        return when {
            newline > begin -> newline
            end == points.size || end == begin + 1 -> end
            else -> end - 1
        }
    }

    private fun at(place: Int, kind: Int) = place < kinds.size && kinds[place] == kind

    private fun run(begin: Int, kind: Int): Int {
        var end = begin
        while (at(end, kind)) end++
        return end
    }

    private fun folded(point: Int): Char =
        when (point) {
            0x17F -> 's' // the long s
            in 'A'.code..'Z'.code -> (point + 0x20).toChar()
            in 0..0x7F -> point.toChar()
            else -> '\u0000'
        }

    private fun kind(point: Int) =
        when {
            point == '\r'.code || point == '\n'.code -> NEWLINE
            Unicode.isSpace(point) -> SPACE
            Unicode.isLetter(point) -> LETTER
            Unicode.isNumber(point) -> NUMBER
            else -> OTHER
        }

    private companion object {
        val CONTRACTIONS = setOf("re", "ve", "ll")
    }
}
