package dev.vlmp.engine

import com.google.gson.JsonObject
import java.awt.image.BufferedImage
import java.io.File
import java.io.IOException
import javax.imageio.ImageIO
import javax.imageio.ImageReader
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

/** Fitting against the conformance files. Decoding is the platform's: here ImageIO, in [DesktopPicture]. */
class PictureTest {
    @TestFactory
    fun `fitted pictures`(): List<DynamicTest> =
        ConformanceFiles.cases("picture/cases.json").map { case ->
            dynamicTest(case.text("name")) {
                val photo = DesktopPicture.read(File(ConformanceFiles.folder, "picture/${case.text("file")}"))
                val wanted = ConformanceFiles.bytes("picture/${case.text("fitted")}")
                val nearest =
                    orientations(case.text("file")).minOf { farthest(wanted, fit(photo.upright(it), spec(case)).rgb) }
                assertTrue(nearest <= case.int("most"), "off by $nearest")
            }
        }

    @TestFactory
    fun `refused pictures`(): List<DynamicTest> =
        ConformanceFiles.json("picture/cases.json")
            .list("refused")
            .map { it.asJsonObject }
            .map { case ->
                dynamicTest(case.text("file")) {
                    val read = { DesktopPicture.read(File(ConformanceFiles.folder, "picture/${case.text("file")}")) }
                    when (val reason = case.text("refused")) {
                        "unreadable" -> assertThrows(IOException::class.java) { read() }
                        else ->
                            assertEquals(reason.uppercase(), assertThrows(BadPicture::class.java) { read() }.kind.name)
                    }
                }
            }

    @Test
    fun `pixels go channel by channel`() {
        val picture = Picture(2, 1, byteArrayOf(1, 2, 3, -1, -2, -3))
        val spec = ImageSpec(1, 2, pad = true, intArrayOf(0, 0, 0), Resample.BICUBIC, 1, segments = emptyList())
        assertArrayEquals(floatArrayOf(1f, 255f, 2f, 254f, 3f, 253f), toPixels(picture, spec).floats())
    }

    @Test
    fun `a photo of other sizes than it says is refused`() {
        assertThrows(IllegalArgumentException::class.java) { Picture(2, 2, ByteArray(11)) }
    }

    private fun spec(case: JsonObject): ImageSpec {
        val padRgb = case.get("pad_rgb").ints().toIntArray()
        return ImageSpec(
            case.int("height"),
            case.int("width"),
            case.text("fit") == "pad",
            padRgb,
            Resample.valueOf(case.text("resample").uppercase()),
            visualTokens = 1,
            segments = emptyList(),
        )
    }

    private fun farthest(wanted: ByteArray, found: ByteArray): Int {
        assertEquals(wanted.size, found.size)
        return wanted.indices.maxOf { Math.abs((wanted[it].toInt() and 0xFF) - (found[it].toInt() and 0xFF)) }
    }

    /**
     * What EXIF and XMP say is the platform's to read. Files that are about nothing else are named after it; of those
     * with odd blocks one of all eight has to fit.
     */
    private fun orientations(file: String): Iterable<Int> {
        val turn = Regex("turn-(\\d)").find(file)
        return if (turn != null) listOf(turn.groupValues[1].toInt())
        else if ("exif" in file || "xmp" in file) 1..8 else listOf(1)
    }
}

/** Stands for Android's decoder: samples as the file has them, brought to 8 bits as docs/bundle.md says. */
object DesktopPicture {
    /** Raises [BadPicture] before it decodes, and IOException on what cannot be read. */
    fun read(file: File): Picture {
        val stream = ImageIO.createImageInputStream(file) ?: throw IOException("$file cannot be opened")
        stream.use {
            val reader =
                ImageIO.getImageReaders(stream).asSequence().firstOrNull() ?: throw IOException("$file is no picture")
            try {
                reader.input = stream
                Picture.checkSize(reader.getWidth(0).toLong(), reader.getHeight(0).toLong())
                var warned: String? = null
                reader.addIIOReadWarningListener { _, warning -> warned = warning }
                val image = reader.read(0)
                if (warned != null) throw IOException("$file: $warned")
                return picture(image, clearColour(reader))
            } catch (error: RuntimeException) {
                throw IOException("$file cannot be read", error)
            } finally {
                reader.dispose()
            }
        }
    }

    private fun picture(image: BufferedImage, clear: IntArray?): Picture {
        val argb = IntArray(image.width * image.height)
        val raster = image.raster
        val bands = raster.numBands
        val wide = raster.sampleModel.getSampleSize(0) == 16
        val grey = bands == 1 || bands == 2 && clear != null // of which ImageIO makes grey with alpha
        for (place in argb.indices) {
            val samples = raster.getPixel(place % image.width, place / image.width, null as IntArray?)
            val eight = { value: Int ->
                if (!wide) value else if (grey) Math.rint(value * (255 / 65535.0)).toInt() else value shr 8
            }
            argb[place] =
                when {
                    image.colorModel is java.awt.image.IndexColorModel -> image.colorModel.getRGB(samples[0])
                    clear != null && samples.contentEquals(clear) -> 0
                    else -> {
                        val top = (1 shl raster.sampleModel.getSampleSize(0)) - 1
                        val scaled = samples.map { if (top < 255) it * 255 / top else eight(it) }
                        val alpha = if (bands % 2 == 0) scaled.last() else 255
                        val channel = { number: Int -> scaled[if (bands < 3) 0 else number] }
                        alpha shl 24 or (channel(0) shl 16) or (channel(1) shl 8) or channel(2)
                    }
                }
        }
        return Picture.fromArgb(image.width, image.height, argb)
    }

    /** A PNG's clear colour (tRNS) of grey or RGB, in samples as the file has them. */
    private fun clearColour(reader: ImageReader): IntArray? {
        if (reader.formatName != "png") return null
        val root = reader.getImageMetadata(0).getAsTree("javax_imageio_png_1.0")
        val chunk =
            (0 until root.childNodes.length).map { root.childNodes.item(it) }.firstOrNull { it.nodeName == "tRNS" }
                ?: return null
        val entry = chunk.firstChild
        val number = { name: String -> entry.attributes.getNamedItem(name).nodeValue.toInt() }
        return when (entry.nodeName) {
            "tRNS_Grayscale" -> intArrayOf(number("gray"))
            "tRNS_RGB" -> intArrayOf(number("red"), number("green"), number("blue"))
            else -> null
        }
    }
}
