package dev.vlmp.engine

/** Chooses the next token. One goes on through all turns, also of another picture; after `reset` take a new one. */
fun interface Sampler {
    /** A token by logits [V], all of them finite. */
    fun sample(logits: FloatArray): Int
}

/** The first of the largest logits. */
object Greedy : Sampler {
    override fun sample(logits: FloatArray): Int {
        var best = 0
        for (token in logits.indices) if (logits[token] > logits[best]) best = token
        return best
    }
}

/**
 * Draws from the smallest set of likeliest tokens whose shares reach [topP], 0 to 1. The same seed gives the same
 * answer as in the C++ runner. [temperature] 0 is greedy.
 */
class Nucleus(private val temperature: Double, private val topP: Double, seed: Long) : Sampler {
    private val random = Mt19937(seed)

    init {
        require(temperature >= 0 && temperature <= 100) { "temperature $temperature: must be from 0 to 100" }
        require(topP >= 0 && topP <= 1) { "topP $topP: must be from 0 to 1" }
    }

    override fun sample(logits: FloatArray): Int {
        if (temperature == 0.0) return Greedy.sample(logits)
        val order = falling(logits)
        val top = logits[order.first()].toDouble()
        val weights = DoubleArray(order.size) { Math.exp((logits[order[it]] - top) / temperature) }
        var sum = 0.0
        for (weight in weights) sum += weight
        val share = topP * sum
        var nucleus = 0.0
        var count = 0
        while (count < weights.size && (count == 0 || nucleus < share)) nucleus += weights[count++]
        var rest = nucleus * (random.next() ushr 11).toDouble() * TWO_TO_MINUS_53
        for (place in 0 until count) {
            rest -= weights[place]
            if (rest < 0) return order[place]
        }
        return order[count - 1]
    }

    /** Tokens by their logits, falling; equal ones by id. Sorted as numbers, since a vocabulary has 150,000 tokens. */
    private fun falling(logits: FloatArray): IntArray {
        val keys =
            LongArray(logits.size) { token ->
                val bits = (logits[token] + 0f).toRawBits() // + 0: -0 equals 0
                val rising = bits xor (bits shr 31 and Int.MAX_VALUE) // compares as the floats do
                rising.inv().toLong() shl 32 or token.toLong()
            }
        keys.sort()
        return IntArray(keys.size) { keys[it].toInt() }
    }

    private companion object {
        const val TWO_TO_MINUS_53 = 1.0 / (1L shl 53)
    }
}

/** C++'s `mt19937_64`. */
internal class Mt19937(seed: Long) {
    private val state = LongArray(SIZE)
    private var place = SIZE

    init {
        state[0] = seed
        for (index in 1 until SIZE) {
            val before = state[index - 1]
            state[index] = 6364136223846793005L * (before xor (before ushr 62)) + index
        }
    }

    fun next(): Long {
        if (place == SIZE) refill()
        var value = state[place++]
        value = value xor (value ushr 29 and 0x5555555555555555L)
        value = value xor (value shl 17 and 0x71D67FFFEDA60000L)
        value = value xor (value shl 37 and -0x8112000000000L) // 0xFFF7EEE000000000
        return value xor (value ushr 43)
    }

    private fun refill() {
        for (index in 0 until SIZE) {
            val both = (state[index] and UPPER) or (state[(index + 1) % SIZE] and UPPER.inv())
            val twist = if (both and 1L == 1L) MATRIX else 0L
            state[index] = state[(index + MIDDLE) % SIZE] xor (both ushr 1) xor twist
        }
        place = 0
    }

    private companion object {
        const val SIZE = 312
        const val MIDDLE = 156
        const val UPPER = -0x80000000L // all but the lower 31 bits
        const val MATRIX = -0x4AFD90A55699E617L // 0xB5026F5AA96619E9
    }
}
