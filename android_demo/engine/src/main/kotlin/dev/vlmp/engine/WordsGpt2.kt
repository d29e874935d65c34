// Each digit alone, then GPT-2's pattern over what stands between them, matched by hand:
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Its third alternative never has anything to match then.
package dev.vlmp.engine

/** By the pattern of GPT-2. */
internal class WordsGpt2(private val points: IntArray) : Splitter {
    private enum class Kind {
        LETTER,
        DIGIT,
        SPACE,
        OTHER,
        END,
    }

    private val kinds = Array(points.size + 1) { if (it < points.size) kind(points[it]) else Kind.END }

    override fun end(begin: Int): Int {
        if (kinds[begin] == Kind.DIGIT) return begin + 1
        val contraction = contraction(begin)
        if (contraction > 0) return begin + contraction
        val first = if (points[begin] == ' '.code) begin + 1 else begin
        if (isWord(kinds[first])) return run(first)
        // White space: all of it but a last one that belongs to the next word, which no digit is.
        val end = run(begin)
        return if (isWord(kinds[end]) && end > begin + 1) end - 1 else end
    }

    private fun isWord(kind: Kind) = kind == Kind.LETTER || kind == Kind.OTHER

    /** Length of an English contraction in small letters, or 0. */
    private fun contraction(begin: Int): Int {
        if (points[begin] != '\''.code) return 0
        val next = { place: Int -> points.getOrNull(place)?.takeIf { it < 0x80 }?.toChar() ?: ' ' }
        return when ("${next(begin + 1)}${next(begin + 2)}") {
            "re",
            "ve",
            "ll" -> 3
            else -> if (next(begin + 1) in "stmd") 2 else 0
        }
    }

    /** End of what is of the same kind. */
    private fun run(begin: Int): Int {
        var end = begin
        while (kinds[end] == kinds[begin]) end++
        return end
    }

    private fun kind(point: Int) =
        when {
            Unicode.isLetter(point) -> Kind.LETTER
            Unicode.isNumber(point) || Unicode.isOtherNumber(point) -> Kind.DIGIT
            Unicode.isSpace(point) -> Kind.SPACE
            else -> Kind.OTHER
        }
}
