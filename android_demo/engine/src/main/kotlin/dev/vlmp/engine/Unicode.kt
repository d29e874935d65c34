package dev.vlmp.engine

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
private const val SYLLABLES = 0xAC00
private const val LEADS = 0x1100
private const val VOWELS = 0x1161
private const val TAILS = 0x11A7
private const val LEAD_COUNT = 19
private const val VOWEL_COUNT = 21
private const val TAIL_COUNT = 28
private const val SYLLABLE_COUNT = LEAD_COUNT * VOWEL_COUNT * TAIL_COUNT
internal const val REPLACEMENT = 0xFFFD

/** Classes and NFC by the tables of [UnicodeTables]: the platform's are of another version on each phone. */
internal object Unicode {
    private val letters = Ranges(UnicodeTables.LETTERS)
    private val numbers = Ranges(UnicodeTables.NUMBERS)
    private val otherNumbers = Ranges(UnicodeTables.OTHER_NUMBERS)
    private val spaces = Ranges(UnicodeTables.SPACES)
    private val marks = UnicodeTables.MARKS.map { numbers(it) }
    private val markRanges = Ranges(marks.map { it[0] }, marks.map { it[1] })
    private val decompositions =
        UnicodeTables.DECOMPOSITIONS.map { numbers(it) }.associate { Pair(it[0], it.copyOfRange(1, it.size)) }
    private val compositions =
        UnicodeTables.COMPOSITIONS.map { numbers(it) }.associate { Pair(pair(it[0], it[1]), it[2]) }

    fun isLetter(point: Int) = letters.find(point) >= 0

    fun isNumber(point: Int) = numbers.find(point) >= 0

    /** What the library of tokenizers cuts out as digits beyond numbers. */
    fun isOtherNumber(point: Int) = otherNumbers.find(point) >= 0

    fun isSpace(point: Int) = spaces.find(point) >= 0

    /** Canonical combining class. */
    private fun combiningClass(point: Int): Int = markRanges.find(point).let { if (it < 0) 0 else marks[it][2] }

    /** NFC of code points. */
    fun compose(points: IntArray): IntArray = composed(sorted(decomposed(points)))

    private fun decomposed(points: IntArray): IntArray {
        val apart = Ints(points.size)
        for (point in points) {
            val syllable = point - SYLLABLES
            if (syllable in 0 until SYLLABLE_COUNT) {
                apart.add(LEADS + syllable / (VOWEL_COUNT * TAIL_COUNT))
                apart.add(VOWELS + syllable / TAIL_COUNT % VOWEL_COUNT)
                if (syllable % TAIL_COUNT != 0) apart.add(TAILS + syllable % TAIL_COUNT)
            } else {
                val parts = decompositions[point]
                if (parts == null) apart.add(point) else for (part in parts) apart.add(part)
            }
        }
        return apart.toArray()
    }

    /** Marks between two starters by their class, stably. */
    private fun sorted(points: IntArray): IntArray {
        var begin = 0
        while (begin < points.size) {
            var end = begin
            while (end < points.size && combiningClass(points[end]) != 0) end++
            if (end - begin > 1) {
                val run = points.slice(begin until end).sortedBy { combiningClass(it) }
                for ((place, point) in run.withIndex()) points[begin + place] = point
            }
            begin = end + 1
        }
        return points
    }

    private fun composed(points: IntArray): IntArray {
        val result = Ints(points.size)
        var starter = -1
        var blocked = 0 // class of the last mark that stayed after the starter
        for (point in points) {
            val own = combiningClass(point)
            if (starter >= 0 && (result.size == starter + 1 || blocked < own)) {
                val whole = composition(result[starter], point)
                if (whole != null) {
                    result[starter] = whole
                    continue
                }
            }
            if (own == 0) starter = result.size
            blocked = own
            result.add(point)
        }
        return result.toArray()
    }

    private fun composition(first: Int, second: Int): Int? {
        val lead = first - LEADS
        val vowel = second - VOWELS
        if (lead in 0 until LEAD_COUNT && vowel in 0 until VOWEL_COUNT)
            return SYLLABLES + (lead * VOWEL_COUNT + vowel) * TAIL_COUNT
        val syllable = first - SYLLABLES
        val tail = second - TAILS
        if (syllable in 0 until SYLLABLE_COUNT && syllable % TAIL_COUNT == 0 && tail in 1 until TAIL_COUNT)
            return first + tail
        return compositions[pair(first, second)]
    }

    private fun pair(first: Int, second: Int) = first.toLong() shl 32 or second.toLong()

    private fun numbers(entry: String) = entry.split(' ').map { it.toInt(36) }.toIntArray()

    /** Sorted ranges of code points. */
    private class Ranges(private val first: IntArray, private val last: IntArray) {
        constructor(first: List<Int>, last: List<Int>) : this(first.toIntArray(), last.toIntArray())

        constructor(entries: List<String>) : this(entries.map { numbers(it)[0] }, entries.map { numbers(it)[1] })

        /** Which range holds `point`; below 0: none. */
        fun find(point: Int): Int {
            val place = first.binarySearch(point)
            val before = if (place >= 0) place else -place - 2
            return if (before >= 0 && point <= last[before]) before else -1
        }
    }
}

/** A list of ints that grows. */
internal class Ints(capacity: Int) {
    private var values = IntArray(maxOf(capacity, 16))
    var size = 0
        private set

    fun add(value: Int) {
        if (size == values.size) values = values.copyOf(2 * size)
        values[size++] = value
    }

    operator fun get(place: Int) = values[place]

    operator fun set(place: Int, value: Int) {
        values[place] = value
    }

    fun toArray(): IntArray = values.copyOf(size)
}

/** Code points of a text; half a surrogate pair is U+FFFD. */
internal fun codePoints(text: String): IntArray {
    val points = Ints(text.length)
    var place = 0
    while (place < text.length) {
        val point = text.codePointAt(place)
        points.add(if (point in 0xD800..0xDFFF) REPLACEMENT else point)
        place += Character.charCount(point)
    }
    return points.toArray()
}

/** UTF-8 of code points `begin` .. `end`, the last one left out. */
internal fun utf8(points: IntArray, begin: Int, end: Int): ByteArray =
    String(points, begin, end - begin).toByteArray(Charsets.UTF_8)

/**
 * UTF-8 as text. What is broken becomes U+FFFD: one for each longest beginning of a character, one for any other byte.
 */
internal fun fromUtf8(bytes: ByteArray): String {
    val text = StringBuilder(bytes.size)
    var place = 0
    while (place < bytes.size) {
        val lead = bytes[place].toInt() and 0xFF
        val length =
            when {
                lead < 0x80 -> 1
                lead in 0xC2..0xDF -> 2
                lead in 0xE0..0xEF -> 3
                lead in 0xF0..0xF4 -> 4
                else -> 0
            }
        var point = if (length == 1) lead else lead and (0xFF shr length + 1)
        // The second byte excludes overlong forms, surrogates and what is above U+10FFFF.
        var low =
            when (lead) {
                0xE0 -> 0xA0
                0xF0 -> 0x90
                else -> 0x80
            }
        var high =
            when (lead) {
                0xED -> 0x9F
                0xF4 -> 0x8F
                else -> 0xBF
            }
        var read = 1
        while (read < length && place + read < bytes.size) {
            val byte = bytes[place + read].toInt() and 0xFF
            if (byte !in low..high) break
            point = point shl 6 or (byte and 0x3F)
            low = 0x80
            high = 0xBF
            read++
        }
        text.appendCodePoint(if (read == length) point else REPLACEMENT)
        place += read
    }
    return text.toString()
}
