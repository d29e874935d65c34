package dev.vlmp.engine

import java.nio.ByteBuffer

private const val MOST_PIXELS = 100_000_000L
private const val MOST_ASPECT = 200L

/** A photo: [rgb] holds red, green, blue of each pixel, rows from the top. */
class Picture(val width: Int, val height: Int, val rgb: ByteArray) {
    init {
        require(width > 0 && height > 0 && rgb.size.toLong() == 3L * width * height) {
            "$width x $height pixels, ${rgb.size} bytes"
        }
    }

    /** The same, upright. [orientation] is EXIF's, 1 to 8; another number is 1. */
    fun upright(orientation: Int): Picture {
        if (orientation !in 2..8) return this
        val across = orientation >= 5 // rows become columns
        val fromRight = orientation in setOf(2, 3, 7, 8)
        val fromBelow = orientation in setOf(3, 4, 6, 7)
        val turned = Picture(if (across) height else width, if (across) width else height, ByteArray(rgb.size))
        for (y in 0 until turned.height) {
            for (x in 0 until turned.width) {
                val column = if (across) y else x
                val row = if (across) x else y
                val fromX = if (fromRight) width - 1 - column else column
                val fromY = if (fromBelow) height - 1 - row else row
                System.arraycopy(rgb, 3 * (fromY * width + fromX), turned.rgb, 3 * (y * turned.width + x), 3)
            }
        }
        return turned
    }

    companion object {
        /**
         * From Android's pixels, as `Bitmap.getPixels` gives them: alpha (not multiplied in), red, green, blue in each
         * int. Alpha lies over white.
         */
        fun fromArgb(width: Int, height: Int, argb: IntArray): Picture {
            val picture = Picture(width, height, ByteArray(3 * width * height))
            for ((place, pixel) in argb.withIndex()) {
                val alpha = pixel ushr 24
                for (channel in 0..2) {
                    picture.rgb[3 * place + channel] = overWhite(pixel shr 16 - 8 * channel and 0xFF, alpha).toByte()
                }
            }
            return picture
        }

        /** A value over white, both of 8 bits, as Pillow composites. */
        private fun overWhite(value: Int, alpha: Int): Int {
            if (alpha == 0) return 255
            val share = alpha * 128 // of 255 * 128
            val sum = value * share + 255 * (32640 - share) + 16384
            return ((sum shr 8) + sum shr 8) shr 7
        }

        /**
         * Refuses a photo before it is decoded: more than 100 megapixels, or hardly more than a line.
         *
         * Raises [BadPicture].
         */
        fun checkSize(width: Long, height: Long) {
            if (width * height > MOST_PIXELS) {
                throw BadPicture(
                    BadPicture.Kind.SIZE,
                    "The photo has $width x $height pixels: at most ${MOST_PIXELS / 1_000_000} megapixels are read.",
                )
            }
            if (maxOf(width, height) > MOST_ASPECT * minOf(width, height)) {
                throw BadPicture(
                    BadPicture.Kind.SHAPE,
                    "The photo has $width x $height pixels: " +
                        "one side may be at most $MOST_ASPECT times as long as the other.",
                )
            }
        }
    }
}

/** Where a photo lies in the model's picture, in pixels. */
class Placement(val width: Int, val height: Int, val left: Int, val top: Int)

/** Where a photo of [width] x [height] pixels lies in the picture of [spec]. */
fun placement(width: Int, height: Int, spec: ImageSpec): Placement {
    if (!spec.pad || width.toLong() * spec.height == height.toLong() * spec.width)
        return Placement(spec.width, spec.height, 0, 0)
    val scale = minOf(spec.width.toDouble() / width, spec.height.toDouble() / height)
    val fittedWidth = Math.rint(width * scale).toInt().coerceIn(1, spec.width) // rint: half to even
    val fittedHeight = Math.rint(height * scale).toInt().coerceIn(1, spec.height)
    return Placement(fittedWidth, fittedHeight, (spec.width - fittedWidth) / 2, (spec.height - fittedHeight) / 2)
}

/**
 * The picture that the model sees: resized, with bars where the aspect ratio differs and [spec] pads. Raises
 * [BadPicture].
 */
fun fit(picture: Picture, spec: ImageSpec): Picture {
    Picture.checkSize(picture.width.toLong(), picture.height.toLong())
    val place = placement(picture.width, picture.height, spec)
    val inner = resize(picture, place.width, place.height, spec.resample)
    if (place.width == spec.width && place.height == spec.height) return inner
    val canvas =
        Picture(spec.width, spec.height, ByteArray(3 * spec.width * spec.height) { spec.padRgb[it % 3].toByte() })
    for (y in 0 until inner.height) {
        System.arraycopy(
            inner.rgb,
            3 * y * inner.width,
            canvas.rgb,
            3 * ((place.top + y) * canvas.width + place.left),
            3 * inner.width,
        )
    }
    return canvas
}

/** The input of `vision`: float32 [1, 3, height, width], values 0..255. Raises [BadPicture]. */
internal fun toPixels(picture: Picture, spec: ImageSpec): ByteBuffer {
    val fitted = fit(picture, spec)
    val area = spec.width * spec.height
    val buffer = directBuffer(3 * area)
    val pixels = buffer.asFloatBuffer()
    for (channel in 0..2) {
        for (pixel in 0 until area) pixels.put(
            channel * area + pixel,
            (fitted.rgb[3 * pixel + channel].toInt() and 0xFF).toFloat(),
        )
    }
    return buffer
}
