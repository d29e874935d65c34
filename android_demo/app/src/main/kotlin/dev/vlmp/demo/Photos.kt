package dev.vlmp.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Color
import android.graphics.ColorSpace
import android.media.ExifInterface
import android.net.Uri
import android.os.Build
import dev.vlmp.engine.Picture
import java.io.IOException

/** A photo as the model sees it, and a small one for the screen. [uri]: where it was read. */
class Photo(
    val name: String,
    val original: Pair<Int, Int>,
    val picture: Picture,
    val preview: Bitmap,
    val uri: Uri? = null,
)

/** More pixels than this are decoded at a half, a quarter, … of the size: a phone's memory holds no 100 megapixels. */
const val MAX_PIXELS = 12_500_000L
private const val PREVIEW_SIDE = 1024

/** Reads a photo. Throws [Refused] where it is none, IOException where it cannot be read. */
fun readPhoto(resolver: ContentResolver, uri: Uri): Photo {
    fun <T> opened(read: (java.io.InputStream) -> T): T =
        (resolver.openInputStream(uri) ?: throw Refused(R.string.photo_not_opened)).use(read)

    val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    opened { BitmapFactory.decodeStream(it, null, bounds) }
    if (bounds.outWidth <= 0 || bounds.outHeight <= 0) throw Refused(R.string.no_picture)
    val options = BitmapFactory.Options().apply {
        inSampleSize = sampleSize(bounds.outWidth, bounds.outHeight)
        inPreferredConfig = Bitmap.Config.ARGB_8888
        inPremultiplied = false
    }
    val decoded = opened { BitmapFactory.decodeStream(it, null, options) }
        ?: throw Refused(R.string.damaged_picture)
    val orientation = try {
        opened { ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1) }
    } catch (_: IOException) {
        1
    }
    val picture = pixelsOf(decoded).upright(orientation)
    decoded.recycle()
    return Photo(displayName(resolver, uri), Pair(bounds.outWidth, bounds.outHeight), picture, preview(picture), uri)
}

/** The smallest power of two by which a photo must be reduced. */
fun sampleSize(width: Int, height: Int): Int =
    generateSequence(1) { it * 2 }.first { width.toLong() * height / it / it <= MAX_PIXELS }

/**
 * Pixels as the file has them. `getPixels` converts colours to sRGB, so the bitmap is said to be that already; before
 * Android 10 this cannot be said, and colours of a wide gamut are converted.
 */
private fun pixelsOf(bitmap: Bitmap): Picture {
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) bitmap.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
    val argb = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    return Picture.fromArgb(bitmap.width, bitmap.height, argb)
}

private fun preview(picture: Picture): Bitmap {
    val colours = IntArray(picture.width * picture.height) { pixel ->
        fun value(channel: Int) = picture.rgb[3 * pixel + channel].toInt() and 0xFF
        Color.rgb(value(0), value(1), value(2))
    }
    val whole = Bitmap.createBitmap(colours, picture.width, picture.height, Bitmap.Config.ARGB_8888)
    val longest = maxOf(whole.width, whole.height)
    if (longest <= PREVIEW_SIDE) return whole
    val width = maxOf(1, whole.width * PREVIEW_SIDE / longest)
    val height = maxOf(1, whole.height * PREVIEW_SIDE / longest)
    return Bitmap.createScaledBitmap(whole, width, height, true)
}
