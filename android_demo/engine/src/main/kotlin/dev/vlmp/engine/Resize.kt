// Resampling with Pillow 13's arithmetic: coefficients in double, then fixed point with 22 bits after the
// point; one axis after the other, rounded to 8 bits between them.
package dev.vlmp.engine

private const val BITS = 22

/** Pillow's filters, with antialiasing. Beyond [support] all weights are 0. */
enum class Resample(internal val support: Double, internal val weight: (Double) -> Double) {
    BILINEAR(1.0, { maxOf(0.0, 1 - Math.abs(it)) }),
    BICUBIC(2.0, ::cubic),
    LANCZOS(3.0, { if (it >= -3 && it < 3) sinc(it) * sinc(it / 3) else 0.0 }),
}

/** The same picture in [width] x [height] pixels. */
internal fun resize(picture: Picture, width: Int, height: Int, filter: Resample): Picture {
    val narrower = picture.width - width
    val lower = picture.height - height
    return if (lower > 0 && lower > 2L * narrower) {
        resizeRows(resizeColumns(picture, height, filter), width, filter)
    } else {
        resizeColumns(resizeRows(picture, width, filter), height, filter)
    }
}

private fun cubic(at: Double): Double {
    val x = Math.abs(at)
    return when {
        x < 1 -> (1.5 * x - 2.5) * x * x + 1
        x < 2 -> (((x - 5) * x + 8) * x - 4) * -0.5
        else -> 0.0
    }
}

private fun sinc(x: Double): Double = if (x == 0.0) 1.0 else Math.sin(x * Math.PI) / (x * Math.PI)

/** Which samples of a line make one of the new line: those from [first] on, with their weights. */
private class Window(val first: Int, val weights: IntArray)

private fun windows(from: Int, to: Int, filter: Resample): List<Window> {
    val scale = from.toDouble() / to
    val wider = maxOf(scale, 1.0)
    val support = filter.support * wider
    val step = 1.0 / wider
    return List(to) { place ->
        val center = (place + 0.5) * scale
        val first = maxOf(0, (center - support + 0.5).toInt())
        val end = minOf(from, (center + support + 0.5).toInt())
        val exact = DoubleArray(end - first) { filter.weight((first + it - center + 0.5) * step) }
        var sum = 0.0
        for (weight in exact) sum += weight
        Window(first, IntArray(exact.size) { fixed(if (sum != 0.0) exact[it] / sum else exact[it]) })
    }
}

private fun fixed(weight: Double): Int = ((if (weight < 0) -0.5 else 0.5) + weight * (1 shl BITS)).toInt()

private fun clipped(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()

private fun resizeRows(picture: Picture, width: Int, filter: Resample): Picture {
    if (picture.width == width) return picture
    val result = Picture(width, picture.height, ByteArray(3 * width * picture.height))
    val windows = windows(picture.width, width, filter)
    var to = 0
    for (y in 0 until picture.height) {
        for (window in windows) {
            for (channel in 0..2) {
                var from = 3 * (y * picture.width + window.first) + channel
                var sum = 1 shl BITS - 1
                for (weight in window.weights) {
                    sum += (picture.rgb[from].toInt() and 0xFF) * weight
                    from += 3
                }
                result.rgb[to++] = clipped(sum)
            }
        }
    }
    return result
}

private fun resizeColumns(picture: Picture, height: Int, filter: Resample): Picture {
    if (picture.height == height) return picture
    val line = 3 * picture.width
    val result = Picture(picture.width, height, ByteArray(line * height))
    val sums = IntArray(line)
    for ((y, window) in windows(picture.height, height, filter).withIndex()) {
        sums.fill(1 shl BITS - 1)
        for ((row, weight) in window.weights.withIndex()) {
            val from = (window.first + row) * line
            for (place in 0 until line) sums[place] += (picture.rgb[from + place].toInt() and 0xFF) * weight
        }
        for (place in 0 until line) result.rgb[y * line + place] = clipped(sums[place])
    }
    return result
}
