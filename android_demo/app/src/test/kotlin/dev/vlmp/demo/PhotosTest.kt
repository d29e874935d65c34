package dev.vlmp.demo

import android.graphics.Bitmap
import android.net.Uri
import dev.vlmp.engine.Picture
import java.io.DataOutputStream
import java.io.File
import java.util.zip.CRC32
import java.util.zip.Deflater
import java.util.zip.DeflaterOutputStream
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TestApp::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PhotosTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private fun read(file: File) = readPhoto(app.contentResolver, Uri.fromFile(file))

    @Test
    fun pixelsAreThoseOfTheFile() {
        val pixels = intArrayOf(0xFFFF0000.toInt(), 0xFF00FF00.toInt(), 0xFF0000FF.toInt(), 0x80102030.toInt(), -1, 0xFF123456.toInt())
        val bitmap = Bitmap.createBitmap(3, 2, Bitmap.Config.ARGB_8888).apply {
            isPremultiplied = false
            setPixels(pixels, 0, 3, 0, 0, 3, 2)
        }
        val file = temporary.newFile("six.png")
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
        val photo = read(file)
        assertEquals(Pair(3, 2), photo.original)
        assertArrayEquals(Picture.fromArgb(3, 2, pixels).rgb, photo.picture.rgb)
    }

    @Test
    fun aHundredMegapixelsAreDecodedSmaller() {
        val photo = read(greyPng(10_000, 10_000))
        assertEquals(Pair(10_000, 10_000), photo.original)
        assertEquals(2500, photo.picture.width)
        assertTrue(photo.preview.width <= 1024)
        assertEquals(1, sampleSize(4000, 3000))
        assertEquals(2, sampleSize(4001, 3200))
    }

    @Test
    fun whatIsNoPictureIsRefused() {
        val file = temporary.newFile("text.jpg").apply { writeText("not a picture") }
        assertEquals("This is no picture that Android can read.", assertThrows(Refused::class.java) { read(file) }.said)
    }

    private fun greyPng(width: Int, height: Int): File = temporary.newFile("large.png").also { file ->
        val packed = java.io.ByteArrayOutputStream()
        DeflaterOutputStream(packed, Deflater(Deflater.BEST_SPEED)).use { rows -> repeat(height) { rows.write(ByteArray(width + 1)) } }
        DataOutputStream(file.outputStream().buffered()).use { output ->
            fun chunk(name: String, data: ByteArray) {
                val body = name.toByteArray() + data
                output.writeInt(data.size)
                output.write(body)
                output.writeInt(CRC32().apply { update(body) }.value.toInt())
            }
            output.write(byteArrayOf(137.toByte(), 80, 78, 71, 13, 10, 26, 10))
            val header = java.nio.ByteBuffer.allocate(13).putInt(width).putInt(height).put(byteArrayOf(8, 0, 0, 0, 0))
            chunk("IHDR", header.array())
            chunk("IDAT", packed.toByteArray())
            chunk("IEND", ByteArray(0))
        }
    }
}
